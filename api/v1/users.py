import json

from django.http import HttpResponse
from ninja import Query, Router

from accounts import errors
from accounts.http import AuthenticatedRequest
from accounts.services.staff import directory
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import TOKEN, responses

router = Router(tags=["directory"], auth=AccessToken())


@router.get(
    "/users",
    operation_id="listUsers",
    response=responses(
        {200: schemas.UsersOut}, *TOKEN, errors.InvalidInput, errors.InvalidCursor, errors.DirectoryClosed
    ),
)
def list_users(request: AuthenticatedRequest, page: Query[schemas.IdPageIn]) -> HttpResponse:
    """List the ids of all active users.

    The oldest first, with exact counts of all of them on every page. The operator decides who may ask."""
    found = directory.list_ids(viewer=request.user, limit=page.limit, cursor=page.cursor or None)
    body = {
        "user_ids": found.user_ids,
        **{f"count_{gender}": count for gender, count in found.counts.items()},
        "next": found.next,
    }
    # Straight to JSON: pydantic would take ten times as long for a page of ids.
    response = HttpResponse(json.dumps(body), content_type="application/json; charset=utf-8")
    response["Cache-Control"] = "no-store"
    return response
