"""Exact numbers without a scan. Triggers keep them in the transaction that changes them, whatever writes: a rule,
COPY, somebody at psql (migration 0010). A number is kept in pieces, so that no transaction waits for another: each
takes a piece that is not locked, or adds one. Reading adds up a few dozen rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from django.db import connection, connections
from django.db.models import Sum

from accounts.models import EventCount, Gender


@dataclass(frozen=True)
class Users:
    gender: str
    is_active: bool
    email_verified: bool
    count: int


def users(*, using: str = "default") -> Sequence[Users]:
    """Everybody, by kind."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT gender, is_active, email_verified, sum(count)::bigint FROM accounts_usercount GROUP BY 1, 2, 3"
        )
        return [Users(*row) for row in cursor.fetchall()]


def active_by_gender(*, using: str = "default") -> Mapping[str, int]:
    found = dict.fromkeys(Gender.values, 0)
    for kind in users(using=using):
        if kind.is_active:
            found[kind.gender] += kind.count
    return found


def events_by_day(kinds: Iterable[str], *, since: date, using: str = "default") -> Mapping[tuple[str, date], int]:
    """{(kind, day): events} since that day (UTC), where there were any."""
    found = EventCount.objects.using(using).filter(kind__in=kinds, day__gte=since)
    return {(kind, day): count for kind, day, count in found.values_list("kind", "day").annotate(Sum("count"))}


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
