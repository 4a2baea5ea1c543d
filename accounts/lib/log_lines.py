"""What a line of the log may say, and what it must not."""

import re
from typing import Any

from django.http import HttpRequest
from django_guid import get_guid


class Fields(dict[str, Any]):
    """The values of a line: `log.info("refused code=%(code)s", Fields(code=code))`. As JSON (project/logs.py) each is a
    field. Only these are: libraries hand the log whole requests, arguments of tasks and parameters of statements."""


OTHER = "other"


def operation_of(request: HttpRequest) -> str:
    """What was asked for, in one of a few hundred words and never with anything of a person: the operation_id of the
    API (api/v1/responses.py leaves it here), else the name of the URL."""
    if operation_id := getattr(request, "operation_id", ""):
        return str(operation_id)
    met = request.resolver_match
    return met.view_name if met and met.url_name else OTHER


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def one_line(text: str) -> str:
    """What somebody may have typed begins no line of its own, and does nothing to a terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


# Links carry their key in the path.
_KEY = re.compile(r"(/account/(?:password/reset/key|confirm-email|email/undo|delete/undo)/)\S+")


def without_keys(text: str) -> str:
    """One line, or the lines of a traceback, without the keys of links."""
    return _KEY.sub(r"\1***", text)


def ids_of(request_id: str, caller_id: str) -> str:
    """Both ids of a request as one, which travels with its tasks."""
    return f"{request_id}/{caller_id}" if caller_id else request_id


def request_ids() -> tuple[str, str]:
    """Of the request that is answered here, or that this task comes from: our id, and the one that the caller sent."""
    request_id, _, caller_id = (get_guid() or "").partition("/")
    return request_id, caller_id
