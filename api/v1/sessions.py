from uuid import UUID

from ninja import Query, Router, Status

from accounts import errors
from accounts.http import AuthenticatedRequest, caller
from accounts.services.sessions import sessions
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import TOKEN, answers

router = Router(tags=["devices"], auth=AccessToken())


@router.get(
    "/me/sessions",
    operation_id="listSessions",
    **answers({200: schemas.SessionsOut}, *TOKEN, errors.InvalidInput, errors.InvalidCursor),
)
def list_sessions(request: AuthenticatedRequest, page: Query[schemas.SessionPageIn]) -> sessions.Page:
    """List the signed-in devices.

    Browsers and apps, the one used last first. All of them, unless `page_size` asks for fewer."""
    # Apps of 1.0 to 1.2 send a `next` of null back as this word, and are answered.
    cursor = "" if page.cursor == "None" else page.cursor
    return sessions.list_page(request.user, size=page.page_size, cursor=cursor)


@router.delete(
    "/me/sessions/{session_id}",
    operation_id="endSession",
    **answers({204: None}, *TOKEN, errors.InvalidInput, errors.SessionNotFound),
)
def end_session(request: AuthenticatedRequest, session_id: UUID) -> Status[None]:
    """Sign one device out.

    Its tokens are refused from now on."""
    sessions.end(user=request.user, session_id=session_id, caller=caller(request))
    return Status(204, None)


@router.delete("/me/sessions", operation_id="endOtherSessions", **answers({204: None}, *TOKEN))
def end_other_sessions(request: AuthenticatedRequest) -> Status[None]:
    """Sign out every other device.

    This one stays signed in."""
    sessions.end_others(user=request.user, keep=request.user_session.id, caller=caller(request))
    return Status(204, None)
