"""How log lines look."""

import logging
import re
import threading
import time
from types import TracebackType

import kombu.exceptions
import redis
from django_guid import get_guid

from accounts.lib import postgres

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


class Outages(logging.Filter):
    """Of an outage one line a second, without a traceback, whatever the number of requests and tasks that meet it."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or (found := _outage(error)) is None:
            return True
        server, pause = found
        with self._lock:
            if time.monotonic() < self._next.get(server, 0.0):
                return False
            self._next[server] = time.monotonic() + pause
        record.msg, record.args = "%s does not do its work: %s", (server, postgres.first_line(error))
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


_BROKER = (redis.RedisError, kombu.exceptions.KombuError)


def _outage(error: BaseException) -> tuple[str, float] | None:
    """Which server it is about, and the seconds until the next line."""
    if postgres.is_away(error):
        return "Postgres", 1.0
    if isinstance(error, _BROKER) or isinstance(error.__context__, _BROKER):
        return "The broker", 60.0
    return None
