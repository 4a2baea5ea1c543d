"""Notifying the worker that there is work. The work itself is always in Postgres, so a notification that is lost
loses nothing: the worker polls every few seconds.

One costs a millisecond of CPU, as much as the rest of a request for an email, and the worker looks for all work at
each. So a process sends one at once, and one more for whatever else comes within the next 50 ms."""

import contextvars
import logging
import threading
import time

from celery import Task, current_app
from django.db import transaction

from accounts.lib.breaker import Breaker

log = logging.getLogger(__name__)

EXPIRES = 300  # seconds, after which polling has found the work long ago
WINDOW = 0.05  # seconds
broker = Breaker(pause=5.0)

_lock = threading.Lock()
_sends: dict[str, float] = {}  # when each task's last notification was sent, or its next one will be


def enqueue(task: "Task[[], object] | str") -> None:
    """Run this task once the change is committed. By its name where the rule is below the task's module."""
    transaction.on_commit(lambda: _notify_soon(task), robust=True)


def _notify_soon(task: "Task[[], object] | str") -> None:
    name, at = task if isinstance(task, str) else task.name, time.monotonic()
    with _lock:
        last = _sends.get(name, 0.0)
        if last > at:
            return  # the next one tells of this work too
        wait = max(0.0, last + WINDOW - at)
        _sends[name] = at + wait
    if wait:
        # With the id of this request.
        threading.Timer(wait, contextvars.copy_context().run, [_notify, task]).start()
    else:
        _notify(task)


def _notify(task: "Task[[], object] | str") -> None:
    if not broker.may_ask():
        return
    try:
        if isinstance(task, str):
            current_app.send_task(task, retry=False, expires=EXPIRES)
        else:
            task.apply_async(retry=False, expires=EXPIRES)
    except Exception as error:  # noqa: BLE001 - kombu lets many kinds through; none of them may turn a committed change into an error
        broker.failed()
        name = task if isinstance(task, str) else task.name
        log.warning("the worker could not be notified of %s (%s); it will poll", name, type(error).__name__)
    else:
        broker.worked()
