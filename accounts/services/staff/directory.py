"""The directory: pages of ids and public profiles for everybody, and for staff a search and a copy of the list. No
query reads further than its page, whichever page it is; a search that would is given up."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.lookups import TrigramWordSimilar
from django.contrib.postgres.search import TrigramWordDistance
from django.db import OperationalError, connections, transaction
from django.db.models import F, Q, QuerySet, TextField, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, NullIf
from psycopg2.errors import QueryCanceled

from accounts.caller import Caller
from accounts.errors import DirectoryClosed, SearchTooBroad, UserNotFound
from accounts.lib import replica, timestamps
from accounts.models import Displayed, User
from accounts.services.credentials import identifiers
from accounts.services.security import audit, cursors, rate_limits
from accounts.services.staff import counts

# --- Ids, for everybody -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    user_ids: Sequence[str]
    counts: Mapping[str, int]  # of all active users, by gender
    next: str | None


def list_ids(*, viewer: User, limit: int, cursor: str | None) -> Page:
    """Ids of the active users in the order of their sign-up, a page at a time by key, and exact counts. Raises
    DirectoryClosed, InvalidCursor."""
    _admit(viewer)
    after = cursors.read("users", cursor) if cursor else UUID(int=0)
    return replica.read(lambda using: _ids(after, limit, using))


def _ids(after: UUID, limit: int, using: str) -> Page:
    with connections[using].cursor() as sql:
        # As text: a thousand UUID objects, only to be written out again, would take longer than the query. Ordered by
        # the column's full name, because a bare `id` would be that text: all users would be read and sorted.
        sql.execute(
            "SELECT id::text FROM accounts_user WHERE is_active AND id > %s ORDER BY accounts_user.id LIMIT %s",
            [after, limit + 1],
        )
        ids = [row[0] for row in sql.fetchall()]
    more = len(ids) > limit
    ids = ids[:limit]
    by_gender = counts.active_by_gender(using=using)
    return Page(ids, by_gender, cursors.write("users", UUID(ids[-1])) if more else None)


def _admit(viewer: User) -> None:
    if settings.DIRECTORY_ACCESS == "staff" and not viewer.is_staff:
        raise DirectoryClosed


# --- Public profiles, for everybody -------------------------------------------------------------------------


@dataclass(frozen=True)
class PublicProfile:
    """What people may know of each other. The names are empty unless the operator shows them (DIRECTORY_NAMES)."""

    id: UUID
    username: str
    username_display: str
    first_name: str
    last_name: str
    picture: str
    picture_placeholder: str


def public_profiles(*, viewer: User, user_ids: Sequence[UUID], caller: Caller) -> Sequence[PublicProfile]:
    """Those of active users, in the order of the ids; nobody else is in it. Raises DirectoryClosed, RateLimited."""
    _admit(viewer)
    rate_limits.count_address("people_per_ip", caller=caller)
    found = {profile.id: profile for profile in replica.read(lambda using: _profiles(user_ids, using))}
    return [found[user_id] for user_id in dict.fromkeys(user_ids) if user_id in found]


def public_profile(*, viewer: User, user_id: UUID, caller: Caller) -> PublicProfile:
    """Raises DirectoryClosed, RateLimited, and UserNotFound for an id that was never there as for one that was switched
    off."""
    for profile in public_profiles(viewer=viewer, user_ids=[user_id], caller=caller):
        return profile
    raise UserNotFound


def _profiles(user_ids: Sequence[UUID], using: str) -> Sequence[PublicProfile]:
    names = ("first_name", "last_name") if settings.DIRECTORY_NAMES else (Value(""), Value(""))
    display = Coalesce(NullIf("username_typed", Value("")), "username")  # as User.username_display
    users = User.objects.using(using).active().filter(id__in=user_ids)
    columns = ("id", "username", display, *names, "picture", "picture_placeholder")
    return [PublicProfile(*row) for row in users.values_list(*columns)]


# --- People, for staff --------------------------------------------------------------------------------------

PAGE = 50
PATIENCE = 3000  # milliseconds for one search


@dataclass(frozen=True)
class Person(Displayed):
    id: UUID
    username: str
    email: str
    email_verified: bool
    first_name: str
    last_name: str
    gender: str
    language: str
    is_active: bool
    is_staff: bool
    created_at: datetime
    username_typed: str


_COLUMNS = tuple(column.name for column in fields(Person))


@dataclass(frozen=True)
class Filters:
    """None, and "" for the gender: no filter."""

    gender: str = ""
    is_active: bool | None = None
    email_verified: bool | None = None
    is_staff: bool | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        return {
            column.name: value for column in fields(self) if (value := getattr(self, column.name)) not in ("", None)
        }


@dataclass(frozen=True)
class Found:
    people: Sequence[Person]
    next: str | None = None  # of the whole list; a search has one page
    more: bool = False  # a search found more than its page
    similar: bool = False  # nothing was found but names that are spelled similarly


def search(*, viewer: User, text: str = "", filters: Filters, cursor: str | None = None) -> Found:
    """The list, the newest first. With a text, the best matches of username, address, id or name: those that start with
    it, then those that contain it, and only if there are none those that are spelled similarly.

    Raises DirectoryClosed, InvalidCursor, SearchTooBroad."""
    if not viewer.has_perm("accounts.view_user"):
        raise DirectoryClosed
    text = identifiers.fold_login(text)
    if not text:
        before = cursors.read("people", cursor) if cursor else None
        return replica.read(lambda using: _list(filters, before, using))
    return replica.read(lambda using: _search(text, filters, using))


def _list(filters: Filters, before: UUID | None, using: str) -> Found:
    found = _filtered(filters, using).order_by("-id")
    if before:
        found = found.filter(id__lt=before)
    people = _people(found, PAGE + 1, using)
    more = len(people) > PAGE
    return Found(people[:PAGE], cursors.write("people", people[PAGE - 1].id) if more else None)


def _search(text: str, filters: Filters, using: str) -> Found:
    everybody = _filtered(filters, using)
    ways: list[QuerySet[User]] = [
        everybody.filter(username__startswith=text).order_by("username"),
        everybody.filter(email__startswith=text).order_by("email"),
    ]
    if _uuid(text) or _is_long(text):
        ways.append(_meant(everybody, text))
    people: dict[UUID, Person] = {}
    for way in ways:
        if len(people) <= PAGE:
            people |= {person.id: person for person in _people(way, PAGE + 1, using) if person.id not in people}
    if people or not _is_long(text):
        return Found(list(people.values())[:PAGE], more=len(people) > PAGE)
    near = everybody.alias(searched=_searched()).filter(TrigramWordSimilar(F("searched"), text))
    return Found(_people(near.order_by(TrigramWordDistance(text, F("searched"))), PAGE, using), similar=True)


SHORTEST = 3  # letters of a word that the index of trigrams can find


def _searched() -> RawSQL:
    """The text of the index user_searched (migration 0013), letter by letter."""
    columns = " || ' ' || ".join(
        f'"accounts_user"."{name}"' for name in ("username", "first_name", "last_name", "email")
    )
    return RawSQL(f"lower({columns})", [], output_field=TextField())  # noqa: S611 - no input in it


def _is_long(text: str) -> bool:
    return any(len(word) >= SHORTEST for word in text.split())


def _meant(people: QuerySet[User], text: str) -> QuerySet[User]:
    """Users who have every word somewhere in their names or address; for a text of few letters, users whose username or
    address starts with it."""
    if user_id := _uuid(text):
        return people.filter(id=user_id)
    if text and not _is_long(text):
        return people.filter(Q(username__startswith=text) | Q(email__startswith=text))
    found = people.alias(searched=_searched())
    for word in text.split():
        found = found.filter(searched__contains=word)
    return found


def _filtered(filters: Filters, using: str) -> QuerySet[User]:
    return User.objects.using(using).filter(**filters.chosen)


def _people(found: QuerySet[User], most: int, using: str) -> Sequence[Person]:
    with _patience(using):
        return [Person(*row) for row in found.values_list(*_COLUMNS)[:most]]


@contextmanager
def _patience(using: str) -> Iterator[None]:
    """Postgres gives up in time: filters that match hardly any user, or letters that are in every name, could make it
    read ten million rows."""
    try:
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = %s", [PATIENCE])
            yield
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise SearchTooBroad from None
        raise


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


# --- A copy of the list, for staff --------------------------------------------------------------------------

BATCH = 2000


def export(*, viewer: User, text: str = "", filters: Filters, caller: Caller) -> Iterator[bytes]:
    """Every match of the search as CSV, a batch at a time, so that no transaction stays open and memory stays small,
    however many there are. The viewer's security log records it. Raises DirectoryClosed."""
    if not viewer.has_perm("accounts.export_user"):
        raise DirectoryClosed("may not export")
    chosen = sorted(filters.chosen) + (["text"] if text else [])
    audit.record(audit.Kind.DIRECTORY_EXPORTED, user=viewer, caller=caller, filters=chosen)
    return _lines(identifiers.fold_login(text), filters)


def _lines(text: str, filters: Filters) -> Iterator[bytes]:
    yield "\ufeff".encode()  # else Excel assumes another encoding
    yield _csv([_COLUMNS])
    after = UUID(int=0)
    while batch := replica.read(partial(_batch, after, text, filters)):
        yield _csv([getattr(person, column) for column in _COLUMNS] for person in batch)
        after = batch[-1].id


def _batch(after: UUID, text: str, filters: Filters, using: str) -> Sequence[Person]:
    found = _meant(_filtered(filters, using), text).filter(id__gt=after).order_by("id")
    return [Person(*row) for row in found.values_list(*_COLUMNS)[:BATCH]]


def _csv(rows: Any) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue().encode()


def _cell(value: object) -> str:
    """A spreadsheet would run a name that starts like a formula, so it becomes text. Also in the middle: a spreadsheet
    that splits at another character than the comma makes a cell of what follows there."""
    if isinstance(value, bool):
        return str(int(value))
    text = _INNER_FORMULA.sub("'", timestamps.text(value) if isinstance(value, datetime) else str(value))
    return f"'{text}" if text.lstrip().startswith(_FORMULA) or text.startswith(("\t", "\r", "\n")) else text


_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four in full width
_INNER_FORMULA = re.compile(rf'(?<=[;|\t\r\n])(?=[\s"]*[{"".join(map(re.escape, _FORMULA))}])')
