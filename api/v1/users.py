import json
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from ninja import Query, Router

from accounts import errors
from accounts.http import AuthenticatedRequest, caller
from accounts.services.staff import directory
from accounts.services.staff.directory import PublicProfile
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import TOKEN, answers

router = Router(tags=["directory"], auth=AccessToken())


@router.get(
    "/users",
    operation_id="listUsers",
    **answers({200: schemas.UsersOut}, *TOKEN, errors.InvalidInput, errors.InvalidCursor, errors.DirectoryClosed),
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


SHOWN = (*TOKEN, errors.InvalidInput, errors.DirectoryClosed, errors.RateLimited)


@router.get("/users/by-ids", operation_id="getUsers", **answers({200: schemas.PublicProfilesOut}, *SHOWN))
def get_users(request: AuthenticatedRequest, response: HttpResponse, query: Query[schemas.IdsIn]) -> dict[str, Any]:
    """Get the public profiles of up to 100 users.

    In the order of the ids. Users that `getUser` would not find are left out. 403 as there."""
    _may_be_kept(response)
    return {"users": directory.public_profiles(viewer=request.user, user_ids=query.ids, caller=caller(request))}


@router.get(
    "/users/{user_id}",
    operation_id="getUser",
    **answers({200: schemas.PublicProfileOut}, *SHOWN, errors.UserNotFound),
)
def get_user(request: AuthenticatedRequest, response: HttpResponse, user_id: UUID) -> PublicProfile:
    """Get the public profile of a user.

    404 also for a user who was switched off or erased. 403 if the operator shows people to staff alone."""
    _may_be_kept(response)
    return directory.public_profile(viewer=request.user, user_id=user_id, caller=caller(request))


def _may_be_kept(response: HttpResponse) -> None:
    """By the app that asked: a list of people asks for the same few again and again."""
    response["Cache-Control"], response["Vary"] = "private, max-age=60", "Authorization"
