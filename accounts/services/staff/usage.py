"""How often each version of the API is called, and by which version of the app: an operator must know that before an
old one ends. Counted in the process and added up in Postgres, by a request whose answer is out already."""

import logging
import re
import threading
import time
from collections import Counter
from datetime import date, timedelta
from multiprocessing import util
from typing import Any

from django.conf import settings
from django.core.signals import request_finished
from django.db import Error, connection, transaction
from django.db.models import QuerySet, Sum
from django.dispatch import receiver
from django.utils.timezone import now

from accounts.models import ApiUse

log = logging.getLogger(__name__)

INTERVAL = 10.0  # seconds; as much, and the calls after the last request, is lost when a process is killed
MOST = 500  # app versions a day: the header is anybody's to write, and must not fill a table
OTHER = "other"  # those beyond, and what is no version
_APP_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}\Z")

_counts: Counter[tuple[str, str]] = Counter()
_lock = threading.Lock()
_due_at = 0.0


def count(version: str, app_version: str) -> None:
    """One more call of this version of the API, from an app that says it is of `app_version` ("" says nothing)."""
    name = app_version if not app_version or _APP_VERSION.match(app_version) else OTHER
    with _lock:
        if (version, name) not in _counts and len(_counts) >= MOST:
            name = OTHER
        _counts[version, name] += 1


@receiver(request_finished)
def _add_up_when_due(**_: object) -> None:
    """The server has sent the answer."""
    if time.monotonic() >= _due_at:
        _try_to_add_up()


def _try_to_add_up() -> None:
    global _due_at  # noqa: PLW0603 - one for the process
    _due_at = time.monotonic() + INTERVAL
    try:
        if settings.COUNT_API_USE:
            add_up()
    except Error as error:
        log.warning("calls are counted later: %s", type(error).__name__)


# At the end of the process too. granian forks its workers, and atexit knows nothing of their end.
util.Finalize(None, _try_to_add_up, exitpriority=0)


def add_up() -> None:
    """Write what this process has counted since the last time. If that fails, it is counted again."""
    with _lock:
        counts = _counts.copy()
        _counts.clear()
    try:
        if counts:
            _write(counts)
    except Error:
        with _lock:
            _counts.update(counts)
        raise


@transaction.atomic
def _write(counts: Counter[tuple[str, str]]) -> None:
    day = now().date()
    known = set(ApiUse.objects.filter(day=day).values_list("version", "app_version"))
    # In one order, so that no two processes wait for each other.
    for (version, app_version), calls in sorted(counts.items()):
        key = (version, app_version)
        if key not in known and len(known) >= MOST:
            key = (version, OTHER)
        known.add(key)
        _add(day, *key, calls)


def _add(day: date, version: str, app_version: str, calls: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_apiuse AS a (day, version, app_version, calls) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (day, version, app_version) DO UPDATE SET calls = a.calls + excluded.calls",
            [day, version, app_version, calls],
        )


def by_version(*, days: int) -> QuerySet[Any, Any]:
    """{version, app_version, calls} of the last days, the most called first."""
    found = ApiUse.objects.filter(day__gt=now().date() - timedelta(days=days)).values("version", "app_version")
    return found.annotate(calls=Sum("calls")).order_by("version", "-calls")


def prune() -> int:
    deleted, _ = ApiUse.objects.filter(day__lt=(now() - settings.EVENT_RETENTION).date()).delete()
    return deleted
