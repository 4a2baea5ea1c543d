from ninja import Query, Router

from accounts import errors
from accounts.http import AuthenticatedRequest
from accounts.services.security import audit
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import TOKEN, answers

router = Router(tags=["security log"], auth=AccessToken())


@router.get(
    "/me/events",
    operation_id="listEvents",
    **answers({200: schemas.EventsOut}, *TOKEN, errors.InvalidInput, errors.InvalidCursor),
)
def list_events(request: AuthenticatedRequest, page: Query[schemas.PageIn]) -> audit.Page:
    """List the security log.

    The user's own, failed sign-ins included, the newest first."""
    return audit.list_for(request.user, limit=page.limit, cursor=page.cursor or None)
