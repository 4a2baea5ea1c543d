import json
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from ninja import Query, Router

from accounts.http import AuthenticatedRequest
from accounts.services.staff import directory
from accounts.services.staff.directory import PublicProfile
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import responses

router = Router(tags=["directory"], auth=AccessToken())


@router.get("/users", operation_id="listUsers", response=responses({200: schemas.UsersOut}, 400, 401, 403, 422))
def list_users(request: AuthenticatedRequest, page: Query[schemas.IdPageIn]) -> HttpResponse:
    """Ids of all active users, the oldest first, with exact counts of all of them on every page."""
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


@router.get(
    "/users/by-ids", operation_id="getUsers", response=responses({200: schemas.PublicProfilesOut}, 401, 403, 422)
)
def get_users(request: AuthenticatedRequest, response: HttpResponse, query: Query[schemas.IdsIn]) -> dict[str, Any]:
    """The public profiles of up to 100 users, in the order of the ids. Whoever `getUser` would not find is left out."""
    _may_be_kept(response)
    return {"users": directory.public_profiles(viewer=request.user, user_ids=query.ids)}


@router.get(
    "/users/{user_id}", operation_id="getUser", response=responses({200: schemas.PublicProfileOut}, 401, 403, 404, 422)
)
def get_user(request: AuthenticatedRequest, response: HttpResponse, user_id: UUID) -> PublicProfile:
    """The public profile of a user. 404 for someone who was switched off or erased too."""
    _may_be_kept(response)
    return directory.public_profile(viewer=request.user, user_id=user_id)


def _may_be_kept(response: HttpResponse) -> None:
    """By the app that asked: a list of people asks for the same few again and again."""
    response["Cache-Control"], response["Vary"] = "private, max-age=60", "Authorization"
