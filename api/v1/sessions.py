from uuid import UUID

from ninja import Query, Router, Status

from accounts.http import AuthenticatedRequest, caller
from accounts.services.sessions import sessions
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import responses

router = Router(tags=["devices"], auth=AccessToken())


@router.get("/me/sessions", operation_id="listSessions", response=responses({200: schemas.SessionsOut}, 400, 401, 422))
def list_sessions(request: AuthenticatedRequest, page: Query[schemas.SessionPageIn]) -> sessions.Page:
    """Browsers and apps that are signed in, the one used last first. All of them, unless `page_size` asks for fewer."""
    # Apps of 1.0 to 1.2 send a `next` of null back as this word, and are answered.
    cursor = "" if page.cursor == "None" else page.cursor
    return sessions.list_page(request.user, size=page.page_size, cursor=cursor)


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
