from typing import Any
from uuid import UUID

from ninja import Router, Status

from accounts.http import AuthenticatedRequest, caller
from accounts.services.sessions import sessions
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import responses

router = Router(tags=["devices"], auth=AccessToken())


@router.get("/me/sessions", operation_id="listSessions", response=responses({200: schemas.SessionsOut}, 401))
def list_sessions(request: AuthenticatedRequest) -> dict[str, Any]:
    """Browsers and apps that are signed in, the one used last first."""
    return {"sessions": sessions.list_for(request.user), "next": None}


@router.delete("/me/sessions/{session_id}", operation_id="endSession", response=responses({204: None}, 401, 404, 422))
def end_session(request: AuthenticatedRequest, session_id: UUID) -> Status[None]:
    """Sign one device out, at once."""
    sessions.end(user=request.user, session_id=session_id, caller=caller(request))
    return Status(204, None)


@router.delete("/me/sessions", operation_id="endOtherSessions", response=responses({204: None}, 401))
def end_other_sessions(request: AuthenticatedRequest) -> Status[None]:
    """Sign out every device but this one."""
    sessions.end_others(user=request.user, keep=request.user_session.id, caller=caller(request))
    return Status(204, None)
