"""Exact numbers without a scan. Triggers keep them in the transaction that changes them, whatever writes: a rule,
COPY, somebody at psql (migration 0010). A number stands in pieces, so that nobody waits for anybody: each
transaction takes a piece that nobody holds, or makes another. Reading adds up a few dozen rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from django.db import connection, connections

from accounts.models import Gender


@dataclass(frozen=True)
class Users:
    """Of one kind, and how many."""

    gender: str
    is_active: bool
    email_verified: bool
    count: int


_USERS = """
    SELECT gender, is_active, email_verified, sum(count)::bigint FROM accounts_usercount GROUP BY 1, 2, 3
"""


def users(*, using: str = "default") -> Sequence[Users]:
    """Everybody, by kind."""
    with connections[using].cursor() as cursor:
        cursor.execute(_USERS)
        return [Users(*row) for row in cursor.fetchall()]


def active_by_gender(*, using: str = "default") -> Mapping[str, int]:
    found = dict.fromkeys(Gender.values, 0)
    for kind in users(using=using):
        if kind.is_active:
            found[kind.gender] += kind.count
    return found


# --- Days ---------------------------------------------------------------------------------------------------


def events_by_day(kinds: Iterable[str], *, since: date, using: str = "default") -> Mapping[tuple[str, date], int]:
    """{(kind, day): events} since that day (UTC), where there were any."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT kind, day, sum(count)::bigint FROM accounts_eventcount"
            " WHERE kind = ANY(%s) AND day >= %s GROUP BY 1, 2",
            [[str(kind) for kind in kinds], since],
        )
        return {(kind, day): count for kind, day, count in cursor.fetchall()}


# --- Checking -----------------------------------------------------------------------------------------------

# One statement sees the users and their counts at the same moment, so nobody is locked and nobody's change is taken
# for a fault.
_FAULTS = """
    SELECT gender, is_active, email_verified, sum(n)::bigint AS fault FROM (
        SELECT gender, is_active, email_verified, count(*) AS n FROM accounts_user GROUP BY 1, 2, 3
        UNION ALL SELECT gender, is_active, email_verified, -count FROM accounts_usercount
    ) AS compared GROUP BY 1, 2, 3 HAVING sum(n) <> 0
"""


def check() -> Sequence[Users]:
    """By how many the counts of each kind are short (negative: too high). Reads the whole table of users."""
    with connection.cursor() as cursor:
        cursor.execute(_FAULTS)
        return [Users(*row) for row in cursor.fetchall()]


def repair() -> Sequence[Users]:
    """Repair the counts and return the corrections. Safe under concurrent writes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_usercount (gender, is_active, email_verified, count)"
            f" {_FAULTS} RETURNING gender, is_active, email_verified, count"
        )
        return [Users(*row) for row in cursor.fetchall()]
