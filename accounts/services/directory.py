"""The directory: pages of ids for everybody. Nothing here walks further than its page, whichever page it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import connection

from accounts.errors import DirectoryClosed
from accounts.models import User
from accounts.services import counts, cursors


@dataclass(frozen=True)
class Page:
    user_ids: Sequence[str]
    counts: Mapping[str, int]  # of all active users, by gender
    next: str | None


def list_ids(*, viewer: User, limit: int, cursor: str | None) -> Page:
    """Ids of the active users in the order of their sign-up, a page at a time by key, and exact counts. Raises
    DirectoryClosed, InvalidCursor."""
    if settings.DIRECTORY_ACCESS == "staff" and not viewer.is_staff:
        raise DirectoryClosed
    after = cursors.read("users", cursor) if cursor else UUID(int=0)
    with connection.cursor() as sql:
        # As text: making a thousand UUID objects only to write them out again takes longer than the query.
        sql.execute(
            "SELECT id::text FROM accounts_user WHERE is_active AND id > %s ORDER BY id LIMIT %s", [after, limit + 1]
        )
        ids = [row[0] for row in sql.fetchall()]
    more = len(ids) > limit
    ids = ids[:limit]
    return Page(ids, counts.active_by_gender(), cursors.write("users", UUID(ids[-1])) if more else None)
