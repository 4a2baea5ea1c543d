"""Removing objects from the bucket, which only the database that owns it may do.

A copy of the database (the rehearsal of a restore, staging) may have the key of the same bucket. It would remove the
pictures that people have chosen since. So the object `owner` and a row of ours hold the same token, and the owner
renews it every five minutes: an older copy knows only an earlier token, and removes nothing.

A copy of this very moment knows the newest token. But it runs on another Postgres: one that has not renewed the token
itself waits until nobody has for QUIET. After a restart or a failover of Postgres the owner waits as well. How old the
token is says the storage, by its own clock: those of two machines may differ by more than QUIET."""

import logging
import secrets
from collections.abc import Callable
from datetime import timedelta
from enum import Enum
from typing import TypeVar

from celery import shared_task
from django.db import connection, transaction
from django.db.models import Model, QuerySet

from accounts.lib.storage import bucket
from accounts.models import BucketOwner

log = logging.getLogger(__name__)

Row = TypeVar("Row", bound=Model)

KEY = "owner"
RENEWED_AFTER = timedelta(minutes=2)  # so that each run of the schedule renews it, every five minutes
QUIET = timedelta(minutes=15)  # three of these runs


class Owner(Enum):
    """Who owns the bucket, in words for an operator."""

    THIS = "this database owns the bucket"
    NOBODY = "nobody owns the bucket yet"
    WAITING = "this database owns the bucket once no other has renewed that for 15 minutes (docs/backup.md)"
    OTHER = "another database owns the bucket: nothing is removed from it, and no account is erased (docs/backup.md)"


def owner() -> Owner:
    """Changes nothing. Raises what `bucket.ERRORS` names."""
    return _judge(_read())


@shared_task(name="accounts.renew_bucket_owner")
def may_remove() -> bool:
    """Everything that removes an object asks this first, as does what must not be done by two databases. The schedule
    asks so that the token is renewed."""
    try:
        return claim() is Owner.THIS
    except bucket.ERRORS as error:
        log.warning("nothing is removed from the bucket for now: %s", type(error).__name__)
        return False


def claim() -> Owner:
    """Who owns the bucket; if it is this database or nobody, the token is renewed when that is due. Raises what
    `bucket.ERRORS` names."""
    said = _read()
    found = _judge(said)
    if said is None:
        take()
        return _judge(_read())  # another may have taken it at the same moment
    if found is Owner.THIS and said[1] > RENEWED_AFTER:
        _renew(said[0])
    return found


def take() -> None:
    """Own the bucket from now on, also if another database has it. Raises what `bucket.ERRORS` names."""
    _renew(None)


Said = tuple[str, timedelta]  # the token in the bucket, and its age


def _read() -> Said | None:
    found = bucket.get(KEY)
    if found is None:
        return None
    with found.body as body:
        return body.read(100).decode(errors="replace"), found.age


def _judge(said: Said | None) -> Owner:
    if said is None:
        return Owner.NOBODY
    token, age = said
    row = BucketOwner.objects.first()
    if row is None or token not in {row.token, row.next_token} - {""}:
        return Owner.OTHER
    return Owner.THIS if row.server == _server() or age > QUIET else Owner.WAITING


def _renew(said: str | None) -> None:
    """The next token is committed before it is put into the bucket. So a worker that dies in between loses nothing, and
    of several at once each puts the same."""
    with transaction.atomic():
        row, _ = BucketOwner.objects.select_for_update().get_or_create(id=1)
        if said is None or said == row.next_token:
            row.token, row.next_token = row.next_token, secrets.token_hex(16)
        row.server = _server()
        row.save()
    with transaction.atomic():
        row = BucketOwner.objects.select_for_update().get(id=1)
        bucket.put(KEY, row.next_token.encode(), content_type="text/plain", cache_control="no-store")


def _server() -> str:
    """Of this database in this run of Postgres. No copy has the same: its server was started at another moment."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT concat(oid, ' ', extract(epoch FROM pg_postmaster_start_time())) FROM pg_database"
            " WHERE datname = current_database()"
        )
        return str(cursor.fetchone()[0])


AT_MOST = 500  # rows in one go


def remove_with_rows(rows: QuerySet[Row], remove: Callable[[Row], bool]) -> int:
    """In the worker: `remove` the object of each row from the bucket, and then the row where it says so, so that no
    crash leaves an object that no row names. What fails is tried again by the schedule. The number of rows removed."""
    if not (rows.exists() and may_remove()):
        return 0
    count = 0
    for _ in range(AT_MOST):
        with transaction.atomic():
            row = rows.select_for_update(skip_locked=True).first()
            if row is None:
                break
            try:
                done = remove(row)
            except bucket.ERRORS as error:
                log.warning("an object stays in the bucket for now: %s", type(error).__name__)
                break
            if done:
                row.delete()
                count += 1
    return count
