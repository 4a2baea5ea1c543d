from typing import Any

from django.http import HttpResponse
from django.utils.translation import gettext as _
from ninja import Router, Status

from accounts.http import AuthenticatedRequest, caller
from accounts.models import User
from accounts.services.account import email_addresses
from accounts.services.profile import profiles
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import BODY, responses, versions

router = Router(tags=["me"], auth=AccessToken())

_TEXT = {"type": "string"}
_ETAG: dict[str, Any] = {
    "headers": {"ETag": {"description": "For If-Match of a later PATCH, and If-None-Match.", "schema": _TEXT}}
}
_IF_MATCH = {
    "in": "header", "name": "If-Match", "required": False, "schema": _TEXT,
    "description": "The ETag that was read: 412 where the profile was changed since.",
}  # fmt: skip
_IF_NONE_MATCH = {
    "in": "header", "name": "If-None-Match", "required": False, "schema": _TEXT,
    "description": "The ETag that was read: 304 where the answer is still the same.",
}  # fmt: skip


def _with_etag(user: User, response: HttpResponse) -> User:
    response["ETag"] = user.version  # VersionedAPI.create_response makes a tag of it
    return user


@router.get(
    "/me",
    operation_id="getProfile",
    response=responses({200: schemas.ProfileOut, 304: None}, 401),
    openapi_extra={"responses": {200: _ETAG}, "parameters": [_IF_NONE_MATCH]},
)
def get_profile(request: AuthenticatedRequest, response: HttpResponse) -> User:
    """The signed-in user."""
    return _with_etag(request.user, response)


@router.patch(
    "/me",
    operation_id="updateProfile",
    response=responses({200: schemas.ProfileOut}, *BODY, 401, 409, 412, 429),
    openapi_extra={"responses": {200: _ETAG}, "parameters": [_IF_MATCH]},
)
def update_profile(request: AuthenticatedRequest, response: HttpResponse, payload: schemas.ProfileIn) -> User:
    """Change username, names, gender, language or time zone."""
    given = request.headers.get("If-Match", "*")
    changes = payload.model_dump(exclude_unset=True)
    if changes.get("username") == request.user.username:
        del changes["username"]  # an app that sends all it has read does not mean "without capitals"
    user = profiles.update(
        user=request.user,
        changes=changes,
        versions=None if given.strip() == "*" else versions(given),
        caller=caller(request),
        session=request.user_session,
    )
    return _with_etag(user, response)


@router.get("/me/email", operation_id="getMyEmail", response=responses({200: schemas.EmailOut}, 401))
def get_my_email(request: AuthenticatedRequest) -> dict[str, Any]:
    """The address, the one that waits for its proof, and what became of the mail with the code."""
    return schemas.email(request.user, email_addresses.progress(request.user))


@router.post(
    "/me/email",
    operation_id="requestEmailChange",
    response=responses({202: schemas.AcceptedOut}, *BODY, 401, 403, 429, 503),
)
def request_email_change(request: AuthenticatedRequest, payload: schemas.ChangeEmailIn) -> Status[Any]:
    """Ask for another address. It takes effect with `confirmMyEmail`."""
    email_addresses.request_change(
        user=request.user, session=request.user_session, caller=caller(request), **payload.model_dump()
    )
    return Status(202, {"detail": _("Enter the code we emailed to the new address.")})


@router.post("/me/email/cancel", operation_id="cancelEmailChange", response=responses({200: schemas.EmailOut}, 401))
def cancel_email_change(request: AuthenticatedRequest) -> dict[str, Any]:
    """Keep the present address: the code and the link for `pending_email` stop working. 200 if none is pending too."""
    email_addresses.cancel_change(user=request.user, session=request.user_session, caller=caller(request))
    return schemas.email(request.user, email_addresses.progress(request.user))


@router.post(
    "/me/email/confirm", operation_id="confirmMyEmail", response=responses({200: schemas.ProfileOut}, *BODY, 401, 429)
)
def confirm_my_email(request: AuthenticatedRequest, response: HttpResponse, payload: schemas.CodeIn) -> User:
    """Prove the claimed or the new address. The first who proves an address holds it; other claims on it lapse."""
    user = email_addresses.confirm_mine(user=request.user, code=payload.code, caller=caller(request))
    return _with_etag(user, response)
