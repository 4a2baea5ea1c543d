"""Which statuses an operation declares, and the document that tells them."""

import json
import re
from functools import cache
from hashlib import blake2s
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema
from ninja.renderers import JSONRenderer
from ninja.responses import NinjaJSONEncoder

from accounts.lib import timestamps
from api.v1.schemas import ProblemOut

# A body can be malformed, without a length, too large, of another type, or have wrong fields.
BODY = (400, 411, 413, 415, 422)


def responses(success: dict[int, Any], *statuses: int) -> dict[int, Any]:
    """What an operation can answer: its own, and problems. Any can meet 500, and 503 while Postgres is away."""
    return {**success, **dict.fromkeys(sorted({*statuses, 500, 503}), ProblemOut)}


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


class VersionedAPI(NinjaAPI):
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
        """The document says of problems what they are: application/problem+json."""
        return self._schema(path_prefix or self.get_root_path(path_params or {}))

    @cache  # noqa: B019 - an API lives as long as its process; anybody may ask, and each time would take 100 ms of CPU
    def _schema(self, path_prefix: str) -> OpenAPISchema:
        schema = super().get_openapi_schema(path_prefix=path_prefix)
        for operations in schema["paths"].values():
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    if int(status) >= 400:
                        response["content"] = {"application/problem+json": response["content"]["application/json"]}
        # ninja takes query schemas apart and leaves their types, which nothing uses.
        types = schema["components"]["schemas"]
        used = json.dumps(schema, default=str)
        for name in [name for name in types if f'"#/components/schemas/{name}"' not in used]:
            del types[name]
        # Generated clients send the default of a body's field: a PATCH of one name would empty the other.
        for shape in types.values():
            for field in shape.get("properties", {}).values():
                field.pop("default", None)
                if len(field.get("allOf", ())) == 1:  # how pydantic puts a default beside a name
                    field.update(field.pop("allOf")[0])
        return schema
