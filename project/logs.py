"""How log lines look."""

import logging
import re
from types import TracebackType

from django_guid import get_guid

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
# Postgres adds the whole row that it refused, with password hash and address.
_ROW = re.compile(r"^(DETAIL|CONTEXT|HINT): .*$", re.MULTILINE)


class Formatter(logging.Formatter):
    """Each line with the id of its request, or of the request that its task comes from. Tracebacks without the contents
    of rows."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name} {request_id} {message}", style="{")

    def format(self, record: logging.LogRecord) -> str:
        record.request_id = get_guid() or "-"
        return super().format(record)

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's own name
        return _ROW.sub(r"\1: (left out)", super().formatException(ei))
