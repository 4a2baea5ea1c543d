"""A write whose answer was lost can be asked again (Idempotency-Key; services/security/kept_answers.py)."""

import json
import re
from collections.abc import Callable
from functools import wraps
from types import MethodType
from typing import Any, TypeVar, cast

from django.http import HttpRequest, HttpResponse
from ninja.decorators import decorate_view
from ninja.operation import Operation
from ninja.utils import contribute_operation_callback

from accounts.errors import AccountError, IdentityUnknown, MfaRequired
from accounts.services.security import kept_answers
from accounts.services.security.kept_answers import Asked
from api import errors
from api.security import AccessToken

View = TypeVar("View", bound=Callable[..., Any])
Run = Callable[..., HttpResponse]

# As the draft has it (a string in quotes), or bare, as most clients send it. A short one could be guessed.
_KEY = re.compile(r'("?)([!#-\[\]-~]{16,128})\1')
_HEADER = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "schema": {"type": "string"},
    "description": "A new UUID for each request (16 to 128 characters). If its answer is lost, send the same again "
    "within a day.",
}


def repeatable(view: View) -> View:
    """Under the decorator of an operation, which declares what can be refused of a key (`KEY` in responses.py)."""
    contribute_operation_callback(view, _declare)
    return decorate_view(_answer_once)(view)


def _declare(operation: Operation) -> None:
    extra = operation.openapi_extra or {}
    operation.openapi_extra = {**extra, "parameters": [*extra.get("parameters", ()), _HEADER]}


def _answer_once(run: Run) -> Run:
    operation = cast("Operation", cast("MethodType", run).__self__)

    @wraps(run)
    def answer(request: HttpRequest, **values: Any) -> HttpResponse:
        if "HTTP_IDEMPOTENCY_KEY" not in request.META:
            return run(request, **values)
        try:
            # In the account's name: a key that two apps chose opens nothing of the other's.
            account = str(AccessToken()(request).id) if operation.auth_callbacks else ""
            asked = _read(request, account)
            kept = kept_answers.begin(asked)
        except AccountError as error:
            return errors.refuse(request, error)
        return _repeat(request, kept) if kept else _keep(request, asked, run(request, **values))

    return answer


def _read(request: HttpRequest, account: str) -> Asked:
    found = _KEY.fullmatch(request.META["HTTP_IDEMPOTENCY_KEY"])
    if found is None:
        raise errors.InvalidIdempotencyKey
    try:
        body = json.dumps(json.loads(request.body), sort_keys=True)  # some apps order it anew each time
    except (ValueError, RecursionError):
        body = ""  # it will be refused
    return Asked(f"{request.method} {request.path} {account}", found[2], body)


def _keep(request: HttpRequest, asked: Asked, response: HttpResponse) -> HttpResponse:
    """Refusals are not kept, since they did nothing; but before these two a code or a state was used up."""
    body = response.content.decode()
    inside = json.loads(body or "{}")
    if response.status_code >= 400 and inside["code"] not in {MfaRequired.code, IdentityUnknown.code}:
        kept_answers.forget(asked)
        return response
    answer = {"status": response.status_code, "headers": dict(response.headers), "body": body}
    user = inside["user"]["id"] if "user" in inside else getattr(getattr(request, "user", None), "id", None)
    kept_answers.keep(asked, json.dumps(answer).encode(), user_id=user)
    return response


def _repeat(request: HttpRequest, kept: bytes) -> HttpResponse:
    answer = json.loads(kept)
    body = answer["body"]
    if answer["status"] >= 400:
        body = json.dumps({**json.loads(body), "request_id": getattr(request, "id", "")})
    return HttpResponse(body, status=answer["status"], headers=answer["headers"])
