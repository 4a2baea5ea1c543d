"""How log lines look."""

import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import kombu.exceptions
import redis
from billiard.exceptions import RestartFreqExceeded
from django.http import HttpRequest

from accounts.lib import postgres
from accounts.lib.log_lines import Fields, ids_of, one_line, operation_of, request_ids, without_keys

trace_id: Callable[[], str] = str  # project/tracing.py knows one


class Formatter(logging.Formatter):
    """Each line with the ids of its request, or of the request that its task comes from, and without keys of links."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name} {ids} {message}", style="{")

    def format(self, record: logging.LogRecord) -> str:
        record.ids = ids_of(*request_ids()) or "-"
        # Only a line of ours begins at the edge: the words of an error may be anybody's.
        return without_keys(super().format(record)).replace("\n", "\n  ")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        record.message = one_line(record.message)
        line, trace = super().formatMessage(record), trace_id()
        return f"{line} trace_id={trace}" if trace else line

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        return "\n".join(map(one_line, super().formatException(ei).split("\n")))


class JsonFormatter(Formatter):
    """The same line as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        fields = record.args if isinstance(record.args, Fields) else {}
        request_id, caller_id = request_ids()
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.msg.partition(" ")[0] if fields else without_keys(one_line(record.getMessage())),
            "request_id": request_id,
            "caller_id": caller_id,
            "trace_id": trace_id(),
            **fields,
        }
        if record.exc_info:
            line["exception"] = without_keys(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = without_keys(record.stack_info)
        return json.dumps({name: value for name, value in line.items() if value not in (None, "")})


def formatter() -> Formatter:
    """For granian, which writes before there are settings (project/granian_log.json)."""
    return JsonFormatter() if os.environ.get("LOG_FORMAT") == "json" else Formatter()


class Outages(logging.Filter):
    """An outage is one line a second at most, without a traceback, whatever the number of requests and tasks that meet
    it. Beat and the worker try the broker all the time: one a minute. So do scanners with foreign host names."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "status_code", 0) == HTTPStatus.SERVICE_UNAVAILABLE:
            return False  # Django's own line for each answer; why it is so has been said
        request = getattr(record, "request", None)
        if record.name == "django.request" and isinstance(request, HttpRequest):  # Django's line has what was typed
            record.msg, record.args = "failed operation=%s", (operation_of(request),)
        if record.name.startswith("django.security."):  # a request that no page sends, such as one of a thousand fields
            record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
        error = record.exc_info[1] if record.exc_info else None
        if record.name == _WRONG_HOST and isinstance(request, HttpRequest):
            record.msg = "refused code=%(code)s reason=%(reason)r host=%(host)s"
            why = "not in ALLOWED_HOSTS (said once a minute)"
            record.args = Fields(code="wrong_host", reason=why, host=_host(request))
            return self._is_due(_WRONG_HOST, 60.0)
        if postgres.is_away(error):
            server, pause = "Postgres", 1.0
        elif _is_about_the_broker(record, error):
            server, pause = "The broker", 60.0
        else:
            return True
        # Not the rest of the message, which may hold a row.
        why = str(error or record.getMessage()).partition("\n")[0]
        record.msg, record.args = "%s does not do its work: %s", (server, why)
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return self._is_due(server, pause)

    def _is_due(self, subject: str, pause: float) -> bool:
        with self._lock:
            if time.monotonic() < self._next.get(subject, 0.0):
                return False
            self._next[subject] = time.monotonic() + pause
        return True


_WRONG_HOST = "django.security.DisallowedHost"


def _host(request: HttpRequest) -> str:
    """The host that was asked for, if it looks like one. A stranger may have sent anything."""
    host = request.META.get("HTTP_HOST", "")
    return host if re.fullmatch(r"[A-Za-z0-9.-]{1,60}(:\d{1,5})?", host) else "?"


_BROKER = (redis.RedisError, kombu.exceptions.KombuError, RestartFreqExceeded)


# How Celery's worker and beat say that they could not reach it, whatever the error was.
_BROKER_LINES = ("consumer: Cannot connect to", "Message Error: ")


def _is_about_the_broker(record: logging.LogRecord, error: BaseException | None) -> bool:
    return isinstance(error, _BROKER) or str(record.msg).startswith(_BROKER_LINES)
