"""The one parser: a JSON object in UTF-8, of sane depth, and nothing else."""

from typing import Any

from django.http import HttpRequest
from ninja.parser import Parser

from accounts.errors import AccountError, FieldError, InvalidInput
from accounts.lib import strict_json
from api.errors import MalformedBody, UnsupportedMediaType


class StrictParser(Parser):
    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        """ninja turns whatever is raised here into its own error, so what is wrong is left on the request
        (`api.errors.install` reads it)."""
        try:
            return _parse(request)
        except AccountError as error:
            request.body_error = error  # type: ignore[attr-defined]
            raise


def _parse(request: HttpRequest) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise UnsupportedMediaType(request.content_type or "none")
    try:
        value = strict_json.loads(request.body.decode("utf-8"))
    except strict_json.DuplicateFields as error:
        raise InvalidInput([FieldError(name, "duplicate_field") for name in error.names]) from None
    except (ValueError, RecursionError) as error:
        raise MalformedBody(type(error).__name__) from None
    if not isinstance(value, dict):
        raise MalformedBody("not an object")
    return value
