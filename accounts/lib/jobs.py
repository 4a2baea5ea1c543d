"""Telling the worker that there is work. The work itself always stands in Postgres, so a lost bell loses
nothing: the sweep finds it a few seconds later."""

import logging
import time

from celery import Task
from django.db import transaction

log = logging.getLogger(__name__)

PAUSE = 5.0  # seconds after a failure before the broker is asked again, so that no request waits for it in vain
EXPIRES = 300  # seconds, after which the sweep has found the work long ago
_away_until = 0.0


def enqueue(task: "Task[[], object]") -> None:
    """Run this task once the change is committed."""
    transaction.on_commit(lambda: _notify(task), robust=True)


def _notify(task: "Task[[], object]") -> None:
    global _away_until  # noqa: PLW0603 - one for the process
    if time.monotonic() < _away_until:
        return
    try:
        task.apply_async(retry=False, expires=EXPIRES)
    except Exception as error:  # noqa: BLE001 - kombu lets many kinds through; none of them may turn a committed change into an error
        _away_until = time.monotonic() + PAUSE
        log.warning("the worker could not be told of %s (%s); the sweep will find it", task.name, type(error).__name__)
