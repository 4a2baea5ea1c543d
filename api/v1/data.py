from typing import Any

from ninja import Router, Status

from accounts.http import AuthenticatedRequest, caller
from accounts.services.account import deletion, export
from accounts.services.profile import exports
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import BODY, responses

router = Router(tags=["data"], auth=AccessToken())


@router.post("/me/export", operation_id="requestExport", response=responses({202: schemas.ExportOut}, 401, 429))
def request_export(request: AuthenticatedRequest) -> Status[Any]:
    """Ask for a copy of everything that is kept about the signed-in user. One is made at a time: asked for again, it
    is the same one."""
    return Status(202, schemas.export(export.request(user=request.user, caller=caller(request))))


@router.get("/me/export", operation_id="getExport", response=responses({200: schemas.ExportOut}, 401))
def get_export(request: AuthenticatedRequest) -> dict[str, Any]:
    """How far the newest copy is, and where to download it."""
    return schemas.export(exports.latest(request.user))


@router.post(
    "/me/deletion",
    operation_id="requestDeletion",
    response=responses({202: schemas.DeletionOut}, *BODY, 401, 403, 409, 429, 503),
)
def request_deletion(request: AuthenticatedRequest, payload: schemas.DeletionIn) -> Status[Any]:
    """Plan the deletion of the account, with the password or soon after this device signed in. Until that moment
    everything works as before and `cancelDeletion` takes it back; then the account is erased."""
    erased_on = deletion.request(
        user=request.user, session=request.user_session, password=payload.password, caller=caller(request)
    )
    return Status(202, {"erased_on": erased_on})


@router.get("/me/deletion", operation_id="getDeletion", response=responses({200: schemas.DeletionOut}, 401))
def get_deletion(request: AuthenticatedRequest) -> dict[str, Any]:
    """Whether and for when the deletion of the account is planned."""
    return {"erased_on": request.user.deletes_at}


@router.delete("/me/deletion", operation_id="cancelDeletion", response=responses({204: None}, 401))
def cancel_deletion(request: AuthenticatedRequest) -> Status[None]:
    """Keep the account. 204 where no deletion is planned too."""
    deletion.cancel(user=request.user, caller=caller(request))
    return Status(204, None)
