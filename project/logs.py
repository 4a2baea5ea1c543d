"""How log lines look."""

import logging
import re
import threading
import time
from http import HTTPStatus
from types import TracebackType

import kombu.exceptions
import redis
from billiard.exceptions import RestartFreqExceeded
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
    """An outage is one line a second at most, without a traceback, whatever the number of requests and tasks that meet
    it. Beat and the worker try the broker all the time: one a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "status_code", 0) == HTTPStatus.SERVICE_UNAVAILABLE:
            return False  # Django's own line for each answer; why it is so has been said
        if record.name.startswith("django.security."):  # a request that no page sends, such as one of a thousand fields
            record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
        error = record.exc_info[1] if record.exc_info else None
        if postgres.is_away(error):
            server, pause = "Postgres", 1.0
        elif _is_about_the_broker(record, error):
            server, pause = "The broker", 60.0
        else:
            return True
        with self._lock:
            if time.monotonic() < self._next.get(server, 0.0):
                return False
            self._next[server] = time.monotonic() + pause
        # Not the rest of the message, which may hold a row.
        why = str(error or record.getMessage()).partition("\n")[0]
        record.msg, record.args = "%s does not do its work: %s", (server, why)
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


_BROKER = (redis.RedisError, kombu.exceptions.KombuError, RestartFreqExceeded)


# How Celery's worker and beat say that they could not reach it, whatever the error was.
_BROKER_LINES = ("consumer: Cannot connect to", "Message Error: ")


def _is_about_the_broker(record: logging.LogRecord, error: BaseException | None) -> bool:
    return isinstance(error, _BROKER) or str(record.msg).startswith(_BROKER_LINES)
