"""The one work queue: rows that wait in a table of ours or of a library, each claimed by one worker for a while.

A worker holds no lock while it works. If it dies, its row is claimed again when the lease is over; if it only was slow
and the row is another's by then, `finish` and `retry_later` change nothing."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Manager, Model, Q, QuerySet

from accounts.lib.clock import now

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, kw_only=True)
class Queue(Generic[Row]):
    """The `rows` that are `waiting`. `until` is the column with the end of the lease, `not_before` the one with the end
    of a pause (they may be one); `on_claim` and `returning` are SQL for the statement that claims."""

    rows: Manager[Row]
    waiting: Q
    until: str = "claimed_until"
    not_before: str = "claimed_until"
    order: tuple[str, ...] = ("id",)
    on_claim: str = "tries = tries + 1"
    returning: str = ""

    def due(self, *also: Q) -> QuerySet[Row]:
        """Those that a worker may claim now."""
        free = [Q(**{name: None}) | Q(**{f"{name}__lte": now()}) for name in {self.until, self.not_before}]
        return self.rows.filter(self.waiting, *free, *also)

    def claim(self, *also: Q, lease: timedelta, unless: Callable[[], bool] = lambda: False) -> Row | None:
        """The first that is due, taken by this worker until the end of the lease.

        In a transaction, so that a worker which never hears of its row has not taken it."""
        chosen = self.due(*also).order_by(*self.order).values("pk")[:1].query
        first, values = chosen.sql_with_params()
        changes = ", ".join(filter(None, [f"{self.until} = %s", self.on_claim]))
        rows = self.rows.raw(
            f"UPDATE {chosen.get_meta().db_table} SET {changes} "  # noqa: S608 - all of it is ours
            f"WHERE {chosen.get_meta().pk.column} = ({first} FOR UPDATE SKIP LOCKED) RETURNING *{self.returning}",
            [now() + lease, *values],
        )
        row = None
        try:
            with transaction.atomic():
                row = None if unless() else next(iter(rows), None)
        except (OperationalError, InterfaceError):
            if row is not None:  # and it may have taken it
                threading.Thread(target=self._give_back, args=(row,), daemon=True).start()
            raise
        return row

    def _give_back(self, row: Row) -> None:
        """As soon as Postgres is there again."""
        while True:
            try:
                self.release(row)
                return
            except (OperationalError, InterfaceError):
                time.sleep(1)
            finally:
                connection.close()

    def mine(self, row: Row) -> QuerySet[Row]:
        """The row, as long as the lease is still this worker's."""
        lease = {self.until: getattr(row, self.until)}
        return self.rows.filter(self.waiting, pk=row.pk, **lease)

    def finish(self, row: Row, **changes: object) -> bool:
        """Write what became of it. False where the lease is another's, or the row no longer waits."""
        return bool(self.mine(row).update(**changes))

    def retry_later(self, row: Row, pause: timedelta, **changes: object) -> bool:
        """Let it wait, and then another worker may claim it."""
        return bool(self.mine(row).update(**{self.not_before: now() + pause}, **changes))

    def release(self, row: Row) -> None:
        """End the lease, whatever became of the row."""
        until = {self.until: getattr(row, self.until)}
        self.rows.filter(pk=row.pk, **until).update(**{self.until: None})
