"""What an operation can answer, and how."""

import inspect
import re
from collections import defaultdict
from collections.abc import Callable
from functools import cache, wraps
from hashlib import blake2s
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI, Router
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation
from ninja.renderers import JSONRenderer
from ninja.responses import NinjaJSONEncoder

from accounts import errors
from accounts.errors import AccountError
from accounts.http import ServiceUnavailable
from accounts.lib import timestamps
from api.errors import (
    CASES,
    BodyTooLarge,
    InvalidIdempotencyKey,
    LengthRequired,
    MalformedBody,
    ServerError,
    UnsupportedMediaType,
)
from api.v1 import document

# What can be refused of an access token, of a body, of an Idempotency-Key (api/repeats.py), of a password that is asked
# for, of what a sign-in provider says, and before a change that could lock the owner out.
TOKEN = (errors.InvalidToken, errors.TokenExpired, errors.SessionRevoked)
BODY = (MalformedBody, LengthRequired, BodyTooLarge, UnsupportedMediaType, errors.InvalidInput)
KEY = (InvalidIdempotencyKey, errors.RequestInProgress, errors.IdempotencyKeyReused)
PASSWORD = (errors.WrongPassword, errors.MfaRequired, errors.RateLimited, errors.Overloaded)
PROVIDER = (errors.ProviderUnknown, errors.ProviderUnavailable, errors.InvalidIdToken, errors.InvalidTicket)
# Of what wants a proof of work over a limit (services/security/proofs.py).
PROOF = {
    "parameters": [
        {
            "in": "header",
            "name": "X-Proof",
            "required": False,
            "schema": {"type": "string"},
            "description": "After `challenge_required`: the `prefix` of its `challenge`, followed by the number.",
        }
    ]
}
RECENT = (errors.RecentSignInNeeded, errors.MfaRequired)


def answers(
    success: dict[int, Any], *refusals: type[AccountError], extra: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What an operation can answer: its own, and these refusals. Any can fail, and meet a Postgres that is away.

    `extra` goes into its part of the document, as the codes do (document.py). A refusal has no shape of ninja's own: it
    would make one for each status of each operation, 300 in all, 7 MB of each process."""
    codes: dict[int, set[str]] = defaultdict(set)
    always: tuple[type[AccountError], ...] = (ServerError, ServiceUnavailable)
    for kind in refusals + always:
        codes[CASES[kind].status].add(kind.code)
    told = {status: sorted(found) for status, found in sorted(codes.items())}
    return {"response": success | dict.fromkeys(told), "openapi_extra": {**(extra or {}), document.REFUSALS: told}}


class Encoder(timestamps.Encoder, NinjaJSONEncoder):
    pass


class Renderer(JSONRenderer):
    encoder_class = Encoder


# A tag is "version.digest": what a change of the profile is checked against, and what is in the answer, such as signed
# addresses. Proxies that compress write W/ before it or their method behind it.
_TAG = re.compile(r'(?:W/)?"?(([0-9a-f]+)(?:\.[0-9a-f]{16})?)')


def _tags(header: str) -> list[re.Match[str]]:
    return [found for tag in header.split(",") if (found := _TAG.match(tag.strip()))]


def versions(header: str) -> set[str]:
    """The versions that an If-Match names."""
    return {tag[2] for tag in _tags(header)}


def _named(run: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Leave the id of the operation on its request (log_lines.operation_of)."""
    operation_id = inspect.unwrap(run).__self__.operation_id

    @wraps(run)
    def answer(request: HttpRequest, **values: Any) -> HttpResponse:
        request.operation_id = operation_id  # type: ignore[attr-defined]
        return run(request, **values)

    return answer


class VersionedAPI(NinjaAPI):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_decorator(_named, mode="view")

    def get_operation_url_name(self, operation: Operation, router: Router) -> str:
        """What a request is called that no operation answers, because of its method (api/middleware.py)."""
        return str(operation.operation_id)

    def create_response(self, request: HttpRequest, data: Any, **options: Any) -> HttpResponse:
        """An operation names the version in ETag; an app that has this very answer already gets 304."""
        response = super().create_response(request, data, **options)
        if "ETag" not in response:
            return response
        tag = f"{response['ETag']}.{blake2s(response.content, digest_size=8).hexdigest()}"
        response["ETag"] = f'"{tag}"'
        if request.method == "GET" and tag in {known[1] for known in _tags(request.headers.get("If-None-Match", ""))}:
            response.status_code, response.content = HTTPStatus.NOT_MODIFIED, b""
            del response["Content-Type"]
        return response

    def create_temporal_response(self, request: HttpRequest) -> HttpResponse:
        """Every answer of an operation carries tokens or personal data unless it says otherwise."""
        response = super().create_temporal_response(request)
        response["Cache-Control"] = "no-store"
        return response

    def get_openapi_schema(self, *, path_prefix: str | None = None, path_params: Any = None) -> OpenAPISchema:
        return self._schema(path_prefix or self.get_root_path(path_params or {}))

    @cache  # noqa: B019 - an API lives as long as its process; anybody may ask, and each time would take 100 ms of CPU
    def _schema(self, path_prefix: str) -> OpenAPISchema:
        schema = super().get_openapi_schema(path_prefix=path_prefix)
        document.complete(schema)
        return schema
