"""Notifying the worker that there is work. The work itself always stands in Postgres, so a notification that is lost
loses nothing: the worker polls every few seconds."""

import logging

from celery import Task, current_app
from django.db import transaction

from accounts.lib.breaker import Breaker

log = logging.getLogger(__name__)

EXPIRES = 300  # seconds, after which polling has found the work long ago
broker = Breaker(pause=5.0)


def enqueue(task: "Task[[], object] | str") -> None:
    """Run this task once the change is committed. By its name where the rule stands below the task's module."""
    transaction.on_commit(lambda: _notify(task), robust=True)


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
