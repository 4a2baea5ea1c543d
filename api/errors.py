"""What an app should do about each AccountError, and the one error body (RFC 9457)."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation, TooManyFilesSent
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.utils import translation
from django.utils.translation import gettext_lazy as _
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from accounts import errors
from accounts.errors import (
    AccountError,
    ChallengeRequired,
    FieldError,
    IdentityUnknown,
    InvalidInput,
    MfaRequired,
    Puzzle,
    RateLimited,
)
from accounts.http import STATUSES, ServiceUnavailable, log_refusal
from accounts.lib import postgres
from accounts.lib.log_lines import Fields, operation_of, request_ids
from accounts.services.security import rate_limits

log = logging.getLogger(__name__)


class Action(StrEnum):
    """What the app should do."""

    RETRY = "retry"
    REFRESH = "refresh"
    SIGN_IN = "sign_in"
    REAUTHENTICATE = "reauthenticate"
    FIX_INPUT = "fix_input"
    UPDATE_APP = "update_app"
    NONE = "none"


class RequestError(AccountError):
    """What can be wrong with a request before any rule sees it."""


class MalformedBody(RequestError):
    code = "malformed_body"
    message = _("The body must be one JSON object in UTF-8.")


class LengthRequired(RequestError):
    code = "length_required"
    message = _("Send the body with a Content-Length, not in chunks.")


class UnsupportedMediaType(RequestError):
    code = "unsupported_media_type"
    message = _("Send application/json (or multipart/form-data, where a file is uploaded).")


class BodyTooLarge(RequestError):
    code = "body_too_large"
    message = _("The body is too large.")


class InvalidIdempotencyKey(RequestError):
    code = "invalid_idempotency_key"
    message = _("The Idempotency-Key must have 16 to 128 characters. Use a new UUID for each request.")


class NotFound(RequestError):
    code = "not_found"
    message = _("There's nothing at this address.")


class MethodNotAllowed(RequestError):
    code = "method_not_allowed"
    message = _("This address doesn't accept that method.")


class ServerError(RequestError):
    code = "server_error"
    message = _("Something went wrong on our side. We've logged it. Try again later.")


@dataclass(frozen=True)
class Case:
    status: int
    action: Action


_REQUEST_STATUSES: dict[type[AccountError], int] = {
    MalformedBody: 400,
    LengthRequired: 411,
    UnsupportedMediaType: 415,
    BodyTooLarge: 413,
    InvalidIdempotencyKey: 400,
    NotFound: 404,
    MethodNotAllowed: 405,
    ServerError: 500,
}
# What most refusals of a status ask of an app; the others ask for nothing.
_USUAL = {
    **dict.fromkeys((400, 413, 415, 422), Action.FIX_INPUT),
    401: Action.SIGN_IN,
    **dict.fromkeys((412, 429, 500, 503), Action.RETRY),
}
_ACTIONS: dict[type[AccountError], Action] = {
    errors.EmailInUse: Action.FIX_INPUT,
    errors.EmailNotVerified: Action.FIX_INPUT,
    errors.InvalidCredentials: Action.FIX_INPUT,
    errors.InvalidToken: Action.REFRESH,
    errors.MfaRequired: Action.UPDATE_APP,  # for apps that do not know the code
    errors.RecentSignInNeeded: Action.REAUTHENTICATE,
    errors.RequestInProgress: Action.RETRY,
    errors.TokenExpired: Action.REFRESH,
    errors.TooManyIdentities: Action.FIX_INPUT,
    errors.TooManyPasskeys: Action.FIX_INPUT,
    errors.UsernameTaken: Action.FIX_INPUT,
    errors.WrongPassword: Action.FIX_INPUT,
}
CASES = {
    kind: Case(status, _ACTIONS.get(kind, _USUAL.get(status, Action.NONE)))
    for kind, status in (STATUSES | _REQUEST_STATUSES).items()
}


def problem(request: HttpRequest, error: AccountError) -> HttpResponse:
    """The one answer."""
    status, retry_after = CASES[type(error)].status, getattr(error, "retry_after", None)
    response = JsonResponse(_body(request, error), status=status, content_type="application/problem+json")
    response["Cache-Control"] = "no-store"
    if retry_after:
        response["Retry-After"] = str(retry_after)
    if isinstance(error, RateLimited) and (limit := rate_limits.limits().get(error.limit)):
        # draft-ietf-httpapi-ratelimit-headers
        response["RateLimit-Policy"] = f'"{limit.name}";q={limit.amount};w={limit.seconds}'
        response["RateLimit"] = f'"{limit.name}";r=0;t={error.retry_after}'
    if status == HTTPStatus.UNAUTHORIZED:
        kind = "invalid_request" if isinstance(error, errors.InvalidCredentials) else "invalid_token"
        response["WWW-Authenticate"] = f'Bearer error="{kind}"'
    return response


def _body(request: HttpRequest, error: AccountError) -> dict[str, Any]:
    case = CASES[type(error)]
    body: dict[str, Any] = {
        "type": f"{settings.PUBLIC_URL}/api/errors#{error.code}",
        "title": HTTPStatus(case.status).phrase,
        "status": case.status,
        "code": error.code,
        "detail": str(error.message),
        "request_id": getattr(request, "id", ""),
        "action": case.action,
    }
    if found := list(_wrong_fields(error)):
        body["errors"] = found
    if retry_after := getattr(error, "retry_after", None):
        body["retry_after"] = retry_after
    if isinstance(error, MfaRequired | IdentityUnknown):
        body["ticket"] = error.ticket
    if isinstance(error, IdentityUnknown):
        body["suggestion"] = error.suggestion
    if isinstance(error, ChallengeRequired):
        body["challenge"] = error.challenge
    return body


def example(kind: type[AccountError]) -> dict[str, Any]:
    """What such a refusal looks like, for the document."""
    request, error = HttpRequest(), sample(kind)
    request.id = "4f0b3f7c8d1e4a52b6c90d7e8f1a2b3c"  # type: ignore[attr-defined]
    with translation.override("en"):
        return _body(request, error) | {"type": f"https://accounts.example.com/api/errors#{kind.code}"}


# Its number is 4711.
_PUZZLE: Puzzle = {
    "algorithm": "SHA-256",
    "prefix": "9bYq0c3mT1xpm7uQAABOIC3hE0yM5m1oKq2R8vXcW7A.",
    "target": "dcb5f2c2e51cbed6a0065f7166be5a8cce6afacd28f189fb2b361219d443b013",
    "max": 20_000,
    "expires_in": 600,
}


def sample(kind: type[AccountError]) -> AccountError:
    """One of this kind, whatever it needs to be made."""
    if issubclass(kind, ChallengeRequired):
        return kind(1800, challenge=_PUZZLE)
    if issubclass(kind, RateLimited):
        return kind(60)
    if issubclass(kind, InvalidInput):
        return kind([FieldError("username", "username_reserved")])
    if issubclass(kind, MfaRequired):
        return kind("eyJ1Ijoi…")
    if issubclass(kind, IdentityUnknown):
        return kind(
            "eyJzYWlkIjoi…", {"username": "ada", "first_name": "Ada", "last_name": "", "email": "ada@gmail.com"}
        )
    return kind()


# Of a page: it shows these beside a field, but the field is not what is wrong.
NO_FIELD = (errors.RecentSignInNeeded, errors.StorageUnavailable)
# Of the few fields that the API calls otherwise than the pages.
FIELDS = {"picture": "file"}


def _wrong_fields(error: AccountError) -> Iterator[dict[str, str]]:
    """`errors` of a problem: each field that the person can correct."""
    if isinstance(error, InvalidInput):
        for item in error.errors:
            yield {"field": item.field, "code": item.code, "detail": str(item.message)}
    elif error.field and not isinstance(error, NO_FIELD):
        yield {
            "field": FIELDS.get(error.field, error.field),
            "code": error.field_code,
            "detail": str(error.message),
        }


def refuse(request: HttpRequest, error: AccountError) -> HttpResponse:
    """The answer to a refusal, which is logged here and nowhere else."""
    log_refusal(request, error)
    return problem(request, error)


def no_such_path(request: HttpRequest) -> HttpResponse:
    return refuse(request, NotFound())


# --- ninja's own errors in the same form --------------------------------------------------------------------

# pydantic's kinds of error, as codes that last.
KINDS: dict[str, str] = {
    "missing": "required",
    "extra_forbidden": "unknown_field",
    "string_type": "not_a_string",
    "string_too_short": "too_short",
    "string_too_long": "too_long",
    "too_short": "too_short",
    "too_long": "too_long",
    "string_unicode": "invalid_characters",
    "characters": "invalid_characters",
    "uuid_parsing": "not_a_uuid",
    "int_parsing": "not_a_number",
    "out_of_range": "out_of_range",
    "enum": "unknown_choice",
    "literal_error": "unknown_choice",
}
_PLACES = {"body", "query", "path", "form", "file", "header", "data", "payload", "page"}


def _field_errors(found: Sequence[dict[str, Any]]) -> list[FieldError]:
    out = []
    for item in found:
        names = [str(part) for part in item["loc"] if str(part) not in _PLACES]
        bounds = item.get("ctx", {})
        n = bounds.get("n", bounds.get("min_length", bounds.get("max_length")))
        out.append(FieldError(".".join(names) or "body", KINDS.get(item["type"], "invalid"), n, bounds.get("most")))
    return out


def install(api: NinjaAPI) -> None:
    """Every error that leaves this API has the one form."""

    def account_error(request: HttpRequest, error: AccountError) -> HttpResponse:
        return refuse(request, error)

    def validation_error(request: HttpRequest, error: ValidationError) -> HttpResponse:
        # From the rules, for the fields whose shape is right (api/v1/mistakes.py).
        also_wrong: list[FieldError] = getattr(request, "also_wrong", [])
        return refuse(request, InvalidInput([*_field_errors(error.errors), *also_wrong]))

    def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
        # From StrictParser, behind ninja's own words.
        return refuse(request, getattr(request, "body_error", None) or MalformedBody(str(error)))

    def not_found(request: HttpRequest, error: Http404) -> HttpResponse:
        return refuse(request, NotFound())

    handlers: dict[type[Exception], Callable[[HttpRequest, Any], HttpResponse]] = {
        AccountError: account_error,
        ValidationError: validation_error,
        HttpError: http_error,
        Http404: not_found,
        Exception: server_error,
    }
    for kind, handler in handlers.items():
        api.add_exception_handler(kind, handler)


def server_error(request: HttpRequest, error: Exception) -> HttpResponse:
    """Errors of Django's own parsing are the caller's; everything else is ours, with its traceback in the log (of an
    outage a line: project/logs.py)."""
    if isinstance(error, RequestDataTooBig | TooManyFilesSent):
        return refuse(request, BodyTooLarge(type(error).__name__))
    if isinstance(error, MultiPartParserError | SuspiciousOperation | UnicodeError):
        return refuse(request, MalformedBody(type(error).__name__))
    log.exception(
        "unforeseen operation=%(operation)s request_id=%(request_id)s",
        Fields(operation=operation_of(request), request_id=request_ids()[0] or "-"),
    )
    return problem(request, ServiceUnavailable() if postgres.is_away(error) else ServerError())
