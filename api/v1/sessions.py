from typing import Any
from uuid import UUID

from ninja import Router, Status

from accounts import errors
from accounts.http import AuthenticatedRequest, caller
from accounts.services.sessions import sessions
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import TOKEN, responses

router = Router(tags=["devices"], auth=AccessToken())


@router.get("/me/sessions", operation_id="listSessions", response=responses({200: schemas.SessionsOut}, *TOKEN))
def list_sessions(request: AuthenticatedRequest) -> dict[str, Any]:
    """List the signed-in devices.

    Browsers and apps, the one used last first."""
    return {"sessions": sessions.list_for(request.user), "next": None}


@router.delete(
    "/me/sessions/{session_id}",
    operation_id="endSession",
    response=responses({204: None}, *TOKEN, errors.InvalidInput, errors.SessionNotFound),
)
def end_session(request: AuthenticatedRequest, session_id: UUID) -> Status[None]:
    """Sign one device out.

    Its tokens are refused from now on."""
    sessions.end(user=request.user, session_id=session_id, caller=caller(request))
    return Status(204, None)


@router.delete("/me/sessions", operation_id="endOtherSessions", response=responses({204: None}, *TOKEN))
def end_other_sessions(request: AuthenticatedRequest) -> Status[None]:
    """Sign out every other device.

    This one stays signed in."""
    sessions.end_others(user=request.user, keep=request.user_session.id, caller=caller(request))
    return Status(204, None)
