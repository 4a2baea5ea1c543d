from typing import Any

from django.http import HttpResponse
from django.utils.translation import gettext as _
from ninja import Router, Status

from accounts import errors
from accounts.http import AuthenticatedRequest, caller
from accounts.models import User
from accounts.services.account import email_addresses
from accounts.services.profile import profiles
from api.repeats import repeatable
from api.security import AccessToken
from api.v1 import schemas
from api.v1.document import headers
from api.v1.responses import BODY, KEY, PASSWORD, TOKEN, answers, versions

router = Router(tags=["me"], auth=AccessToken())

_ETAG = {200: headers("ETag")}
_ETAGS = {**_ETAG, 304: headers("ETag")}
_IF_MATCH = {
    "in": "header", "name": "If-Match", "required": False, "schema": {"type": "string"},
    "description": "The ETag that was read. 412 if the profile has changed since.",
}  # fmt: skip
_IF_NONE_MATCH = {
    "in": "header", "name": "If-None-Match", "required": False, "schema": {"type": "string"},
    "description": "The ETag that was read. 304 if the answer is still the same.",
}  # fmt: skip


def _with_etag(user: User, response: HttpResponse) -> User:
    response["ETag"] = user.version  # VersionedAPI.create_response makes a tag of it
    return user


@router.get(
    "/me",
    operation_id="getProfile",
    **answers(
        {200: schemas.ProfileOut, 304: None},
        *TOKEN,
        extra={"responses": _ETAGS, "parameters": [_IF_NONE_MATCH]},
    ),
)
def get_profile(request: AuthenticatedRequest, response: HttpResponse) -> User:
    """Get the profile of the signed-in user.

    Its `ETag` is for `If-Match` of `updateProfile`, and for `If-None-Match`."""
    return _with_etag(request.user, response)


@router.patch(
    "/me",
    operation_id="updateProfile",
    **answers(
        {200: schemas.ProfileOut},
        *TOKEN,
        *BODY,
        errors.UsernameTaken,
        errors.ProfileChanged,
        errors.UsernameChangeLimited,
        errors.MfaRequired,
        extra={"responses": _ETAG, "parameters": [_IF_MATCH]},
    ),
)
def update_profile(request: AuthenticatedRequest, response: HttpResponse, payload: schemas.ProfileIn) -> User:
    """Change the profile.

    Username, names, gender, language and time zone: only what is sent. A username can change twice in 30 days. After
    412, get the profile again before you repeat the change."""
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


@router.get("/me/email", operation_id="getMyEmail", **answers({200: schemas.EmailOut}, *TOKEN))
def get_my_email(request: AuthenticatedRequest) -> dict[str, Any]:
    """Get the state of the email address.

    The address, the one that waits to be verified, and what became of the email with the code."""
    return schemas.email(request.user, email_addresses.progress(request.user))


@router.post(
    "/me/email",
    operation_id="requestEmailChange",
    **answers({202: schemas.AcceptedOut}, *TOKEN, *BODY, *KEY, *PASSWORD, errors.RecentSignInNeeded),
)
@repeatable
def request_email_change(request: AuthenticatedRequest, payload: schemas.ChangeEmailIn) -> Status[Any]:
    """Request another email address.

    A code is emailed to it. It takes effect with `confirmMyEmail`. An account without a password sends none, within 10
    minutes after this device signed in."""
    email_addresses.request_change(
        user=request.user, session=request.user_session, caller=caller(request), **payload.model_dump()
    )
    return Status(202, {"detail": _("Enter the code we emailed to the new address.")})


@router.post("/me/email/cancel", operation_id="cancelEmailChange", **answers({200: schemas.EmailOut}, *TOKEN))
def cancel_email_change(request: AuthenticatedRequest) -> dict[str, Any]:
    """Cancel a change of the email address.

    The code and the link for `pending_email` stop working. 200 if no change is pending, too."""
    email_addresses.cancel_change(user=request.user, session=request.user_session, caller=caller(request))
    return schemas.email(request.user, email_addresses.progress(request.user))


@router.post(
    "/me/email/confirm",
    operation_id="confirmMyEmail",
    **answers({200: schemas.ProfileOut}, *TOKEN, *BODY, *KEY, errors.InvalidCode, errors.RateLimited),
)
@repeatable
def confirm_my_email(request: AuthenticatedRequest, response: HttpResponse, payload: schemas.CodeIn) -> User:
    """Verify the email address.

    The address of the sign-up, or the new one. The first account that verifies an address owns it; other claims on it
    lapse."""
    user = email_addresses.confirm_mine(user=request.user, code=payload.code, caller=caller(request))
    return _with_etag(user, response)
