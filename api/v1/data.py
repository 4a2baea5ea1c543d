from typing import Any

from ninja import Router, Status

from accounts import errors
from accounts.http import AuthenticatedRequest, caller
from accounts.services.account import deletion, export
from accounts.services.profile import exports
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import BODY, PASSWORD, TOKEN, answers

router = Router(tags=["data"], auth=AccessToken())


@router.post(
    "/me/export", operation_id="requestExport", **answers({202: schemas.ExportOut}, *TOKEN, errors.RateLimited)
)
def request_export(request: AuthenticatedRequest) -> Status[Any]:
    """Request a copy of all data.

    Of everything that is kept about the signed-in user. One copy is made at a time: a second request gets the same
    one."""
    return Status(202, schemas.export(export.request(user=request.user, caller=caller(request))))


@router.get("/me/export", operation_id="getExport", **answers({200: schemas.ExportOut}, *TOKEN))
def get_export(request: AuthenticatedRequest) -> dict[str, Any]:
    """Get the state of the copy.

    With an address to download it from when it is ready."""
    return schemas.export(exports.latest(request.user))


@router.post(
    "/me/deletion",
    operation_id="requestDeletion",
    **answers({202: schemas.DeletionOut}, *TOKEN, *BODY, *PASSWORD, errors.RecentSignInNeeded, errors.LastSuperuser),
)
def request_deletion(request: AuthenticatedRequest, payload: schemas.DeletionIn) -> Status[Any]:
    """Plan the deletion of the account.

    With the password, or within 10 minutes after this device signed in. Until then everything works as before and
    `cancelDeletion` keeps the account. After that it is erased."""
    erased_on = deletion.request(
        user=request.user, session=request.user_session, password=payload.password, caller=caller(request)
    )
    return Status(202, {"erased_on": erased_on})


@router.get("/me/deletion", operation_id="getDeletion", **answers({200: schemas.DeletionOut}, *TOKEN))
def get_deletion(request: AuthenticatedRequest) -> dict[str, Any]:
    """Get the planned deletion.

    When the account will be erased, if that is planned."""
    return {"erased_on": request.user.deletes_at}


@router.delete("/me/deletion", operation_id="cancelDeletion", **answers({204: None}, *TOKEN))
def cancel_deletion(request: AuthenticatedRequest) -> Status[None]:
    """Keep the account.

    Cancels the planned deletion. 204 if none is planned too."""
    deletion.cancel(user=request.user, caller=caller(request))
    return Status(204, None)
