"""The directory: every active user once, in order, with exact counts, and no cursor but our own; the search and the
copy of staff; and a replica that is asked where there is one."""

import base64
import csv
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.db import InterfaceError, OperationalError, ProgrammingError, connection, connections
from django.db.migrations.loader import MigrationLoader
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from accounts import migrations
from accounts.caller import Caller
from accounts.errors import DirectoryClosed, InvalidCursor, SearchTooBroad
from accounts.lib import replica, sealing
from accounts.models import Event, Gender, User
from accounts.services.staff import directory
from accounts.services.staff.directory import Filters, Found
from tests.conftest import make_user


def crowd(count: int) -> list[str]:
    genders = list(Gender.values)
    made = User.objects.bulk_create(
        User(
            username=f"crowd{number}",
            username_skeleton=f"crowd{number}",
            email=f"crowd{number}@example.com",
            gender=genders[number % 3],
        )
        for number in range(count)
    )
    return sorted(str(user.id) for user in made)


def everybody(viewer: User, limit: int) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    for _ in range(100):
        page = directory.list_ids(viewer=viewer, limit=limit, cursor=cursor)
        assert len(page.user_ids) <= limit
        found += page.user_ids
        if page.next is None:
            return found
        cursor = page.next
    raise AssertionError("the pages never end")


@pytest.mark.parametrize("limit", [1, 2, 7, 25, 26, 27, 100])
def test_the_pages_give_everybody_once_in_order(bob: User, limit: int) -> None:
    expected = sorted([str(bob.id), *crowd(25)])
    assert everybody(bob, limit) == expected


def test_who_signs_up_between_two_pages_moves_nobody(bob: User) -> None:
    ids = sorted([str(bob.id), *crowd(3)])
    first = directory.list_ids(viewer=bob, limit=2, cursor=None)
    late = make_user("late")
    second = directory.list_ids(viewer=bob, limit=10, cursor=first.next)
    assert [*first.user_ids, *second.user_ids] == [*ids, str(late.id)]


def test_a_cursor_works_though_its_user_is_gone(bob: User) -> None:
    ids = sorted([str(bob.id), *crowd(3)])
    first = directory.list_ids(viewer=bob, limit=2, cursor=None)
    User.objects.filter(id=ids[1]).delete()
    assert list(directory.list_ids(viewer=bob, limit=10, cursor=first.next).user_ids) == ids[2:]


def test_counts_are_of_all_active_users_by_gender(bob: User, alice: User) -> None:
    crowd(6)
    User.objects.filter(username="crowd0").update(is_active=False)  # female
    page = directory.list_ids(viewer=bob, limit=1, cursor=None)
    assert page.counts == {"female": 2, "male": 3, "unspecified": 2}
    assert len(everybody(bob, 3)) == sum(page.counts.values())


def test_a_gender_that_nobody_has_is_nought(bob: User) -> None:
    assert directory.list_ids(viewer=bob, limit=1, cursor=None).counts == {"female": 0, "male": 1, "unspecified": 0}


def test_refuses_bob_where_only_staff_may_list(alice: User, bob: User, settings: Settings) -> None:
    settings.DIRECTORY_ACCESS = "staff"
    with pytest.raises(DirectoryClosed):
        directory.list_ids(viewer=bob, limit=10, cursor=None)
    assert len(directory.list_ids(viewer=alice, limit=10, cursor=None).user_ids) == 2


@pytest.mark.parametrize(
    "cursor", ["x", "é", "\x00", "\ud800", "A" * 43, "A" * 44, "A" * 10_000, "====", "null", "-_" * 21 + "A", " "]
)
def test_refuses_a_cursor_that_was_not_given_out_here(bob: User, cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        directory.list_ids(viewer=bob, limit=10, cursor=cursor)


def test_refuses_a_cursor_that_was_touched(bob: User) -> None:
    crowd(3)
    cursor = directory.list_ids(viewer=bob, limit=2, cursor=None).next
    assert cursor is not None
    for place in (0, 10, 25, 40):
        other = "A" if cursor[place] != "A" else "B"
        with pytest.raises(InvalidCursor):
            directory.list_ids(viewer=bob, limit=2, cursor=cursor[:place] + other + cursor[place + 1 :])
    with pytest.raises(InvalidCursor):
        directory.list_ids(viewer=bob, limit=2, cursor=cursor + "A")


def test_refuses_a_cursor_made_with_another_purpose(bob: User) -> None:
    last = uuid4().bytes
    forged = base64.urlsafe_b64encode(last + sealing.mac("refresh token", last)[:16]).rstrip(b"=").decode()
    with pytest.raises(InvalidCursor):
        directory.list_ids(viewer=bob, limit=2, cursor=forged)


def test_a_page_is_a_walk_along_an_index(bob: User) -> None:
    with CaptureQueriesContext(connection) as queries:
        directory.list_ids(viewer=bob, limit=10, cursor=None)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute(f"EXPLAIN {queries[0]['sql']}")
        plan = " ".join(line for (line,) in cursor.fetchall())
    assert "using user_active_ids" in plan
    assert "Sort" not in plan


# --- The search of staff ------------------------------------------------------------------------------------

ANYBODY = Filters()


def names(found: Found) -> list[str]:
    return [person.username for person in found.people]


def search(viewer: User, text: str, **filters: Any) -> list[str]:
    return names(directory.search(viewer=viewer, text=text, filters=Filters(**filters)))


@pytest.fixture
def crew(alice: User, bob: User) -> None:
    make_user("rosalind", first_name="Rosalind", last_name="Anderson", gender=Gender.FEMALE)
    make_user("lind", first_name="Karl", last_name="Lindqvist", gender=Gender.MALE)
    make_user("zoe", first_name="Zoë", last_name="O'Brien-100%", verified=False)
    make_user("gone", first_name="Rosalind", is_active=False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("lind", ["lind", "gone", "rosalind"]),  # who begins so comes first
        ("LIND", ["lind", "gone", "rosalind"]),
        ("  lindq ", ["lind"]),
        ("rosalind anderson", ["rosalind"]),
        ("anderson ros", ["rosalind"]),
        ("zoë", ["zoe"]),
        ("zo", ["zoe"]),
        ("osal", ["gone", "rosalind"]),
        ("os", []),  # two letters: the beginning alone
        ("zoe@", ["zoe"]),
        ("100%", ["zoe"]),
        ("o'brien", ["zoe"]),
        ("a_i", []),  # not a pattern of LIKE
        ("Andersen", ["rosalind"]),  # nobody; spelled nearly so
        ("xyzzy", []),
    ],
)
def test_people_are_found_by_name_username_and_address(alice: User, crew: None, text: str, found: list[str]) -> None:
    got = search(alice, text)
    assert got[:1] == found[:1] or text == "osal"
    assert sorted(got) == sorted(found)


def test_a_person_is_found_by_id(alice: User, bob: User) -> None:
    assert search(alice, str(bob.id)) == ["bob"]
    assert search(alice, str(bob.id).upper()) == ["bob"]
    assert search(alice, str(uuid4())) == []


def test_similar_spelling_is_said_to_be_that(alice: User, crew: None) -> None:
    assert directory.search(viewer=alice, text="andersen", filters=ANYBODY).similar
    assert not directory.search(viewer=alice, text="anderson", filters=ANYBODY).similar


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"gender": "female"}, ["alice", "rosalind"]),
        ({"is_active": False}, ["gone"]),
        ({"email_verified": False}, ["zoe"]),
        ({"is_staff": True}, ["alice"]),
        ({"gender": "unspecified", "is_active": True, "email_verified": True}, []),
    ],
)
def test_filters_leave_the_others_out(alice: User, crew: None, filters: dict[str, Any], found: list[str]) -> None:
    assert sorted(search(alice, "", **filters)) == found
    for name in found:
        assert name in search(alice, name, **filters)
    assert "bob" not in search(alice, "bob", **filters)


def test_the_list_goes_by_pages_from_the_newest(alice: User) -> None:
    everybody = [*crowd(2 * directory.PAGE + 3), str(alice.id)]
    found: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        page = directory.search(viewer=alice, filters=ANYBODY, cursor=cursor)
        found += [str(person.id) for person in page.people]
        cursor = page.next
    assert cursor is None
    assert found == sorted(everybody, reverse=True)


def test_a_search_has_one_page_and_says_that_there_are_more(alice: User) -> None:
    crowd(directory.PAGE + 1)
    found = directory.search(viewer=alice, text="crowd", filters=ANYBODY)
    assert (len(found.people), found.more, found.next) == (directory.PAGE, True, None)


def test_a_cursor_of_the_ids_is_none_of_the_people(alice: User, bob: User) -> None:
    cursor = directory.list_ids(viewer=bob, limit=1, cursor=None).next
    with pytest.raises(InvalidCursor):
        directory.search(viewer=alice, filters=ANYBODY, cursor=cursor)


def test_search_refuses_bob_and_staff_without_the_right(alice: User, bob: User) -> None:
    bob.is_staff = True
    with pytest.raises(DirectoryClosed):
        directory.search(viewer=bob, filters=ANYBODY)
    bob.user_permissions.add(Permission.objects.get(codename="view_user"))
    assert search(User.objects.get(id=bob.id), "alice") == ["alice"]


def test_a_search_that_takes_too_long_is_given_up(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "PATIENCE", 100)
    with connection.cursor() as cursor, pytest.raises(SearchTooBroad), directory._patience("default"):
        cursor.execute("SELECT pg_sleep(2)")
    assert search(alice, "alice") == ["alice"], "the connection is as before"


def test_no_search_reads_the_whole_table(alice: User) -> None:
    """As Postgres would do it with many rows: it may not choose the scan where an index can answer."""
    people = User.objects.using("default")
    for query in (
        directory._meant(people, "lindqvist"),
        directory._meant(people, "lindq ros"),
        directory._meant(people, "zo"),
        people.filter(username__startswith="lind").order_by("username"),
        people.filter(email__startswith="lind").order_by("email"),
        people.order_by("-id")[:50],
        people.filter(is_staff=True).order_by("-id")[:50],
    ):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
        assert "Seq Scan" not in query.explain()


def test_where_the_extension_may_not_be_made_the_migration_says_what_to_do(db: None) -> None:
    (name,) = [path.stem for path in Path(migrations.__path__[0]).glob("*_directory_of_staff.py")]
    migration = import_module(f"accounts.migrations.{name}")
    with connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION pg_trgm CASCADE; CREATE ROLE clerk; SET LOCAL ROLE clerk")
        with pytest.raises(RuntimeError, match=r"administrator(.|\n)*CREATE EXTENSION pg_trgm;"):
            migration.make_trigrams(None, SimpleNamespace(connection=connection))
        cursor.execute("RESET ROLE")
        migration.make_trigrams(None, SimpleNamespace(connection=connection))
        migration.make_trigrams(None, SimpleNamespace(connection=connection))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("part", "made"),
    [
        ("search_of_staff", ["user_staff_ids", "user_inactive_ids", "user_searched"]),
        ("pictures_in_use", ["user_picture"]),
    ],
)
def test_an_index_whose_making_was_interrupted_is_made_anew(part: str, made: list[str]) -> None:
    named = "indexrelid::regclass::text = ANY(%s)"
    loader = MigrationLoader(connection)
    (migration,) = [found for (_app, name), found in loader.disk_migrations.items() if name.endswith(part)]
    state = loader.project_state(migration.dependencies)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE pg_index SET indisvalid = false WHERE {named}", [made])  # noqa: S608
        assert cursor.rowcount == len(made)
        with connection.schema_editor(atomic=False) as editor:
            migration.apply(state, editor)
        cursor.execute(f"SELECT count(*) FROM pg_index WHERE indisvalid AND {named}", [made])  # noqa: S608
        assert cursor.fetchone() == (len(made),)


# --- The copy of staff --------------------------------------------------------------------------------------


def exported(viewer: User, caller: Caller, text: str = "", **filters: Any) -> list[dict[str, str]]:
    lines = b"".join(directory.export(viewer=viewer, text=text, filters=Filters(**filters), caller=caller))
    return list(csv.DictReader(io.StringIO(lines.decode("utf-8-sig"))))


def test_a_copy_has_everybody_however_many_batches(
    alice: User, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "BATCH", 7)
    ids = sorted([*crowd(20), str(alice.id)])
    rows = exported(alice, caller)
    assert [row["id"] for row in rows] == ids
    assert rows[0]["username"] == "alice"
    assert (rows[0]["email_verified"], rows[0]["is_active"]) == ("1", "1")
    assert not any("password" in name for name in rows[0])


def test_a_copy_has_what_the_search_means(alice: User, crew: None, caller: Caller) -> None:
    assert sorted(row["username"] for row in exported(alice, caller, "lind")) == ["gone", "lind", "rosalind"]
    assert [row["username"] for row in exported(alice, caller, "lind", gender="male")] == ["lind"]
    assert [row["username"] for row in exported(alice, caller, "zo")] == ["zoe"]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\uff1d1"])
def test_no_cell_is_a_formula(alice: User, bob: User, caller: Caller, name: str) -> None:
    User.objects.filter(id=bob.id).update(first_name=name, last_name='a "quoted", name')
    row = exported(alice, caller, "bob")[0]
    assert row["first_name"] == f"'{name}"
    assert row["last_name"] == 'a "quoted", name'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Ada;=cmd|' /C calc'!A0;", "Ada;'=cmd|' /C calc'!A0;"),
        ("Ada; +1;;-1", "Ada;' +1;;'-1"),
        ('Ada;"=1"', 'Ada;\'"=1"'),
        ("Ada\t@x", "Ada\t'@x"),
        ("Ada|\uff1d1", "Ada|'\uff1d1"),
        ("Ada\n=1", "Ada\n'=1"),
        (";=1", ";'=1"),
        ("a-b; c=d | e", "a-b; c=d | e"),
    ],
)
def test_no_part_of_a_cell_is_a_formula_wherever_a_spreadsheet_splits(
    alice: User, bob: User, caller: Caller, name: str, text: str
) -> None:
    User.objects.filter(id=bob.id).update(first_name=name)
    assert exported(alice, caller, "bob")[0]["first_name"] == text


def test_a_copy_stands_in_the_log_of_whoever_took_it_before_its_first_line(alice: User, caller: Caller) -> None:
    directory.export(viewer=alice, text="secret@example.com", filters=Filters(gender="male"), caller=caller)
    event = Event.objects.get(kind="directory.exported")
    assert (event.user, event.data) == (alice, {"filters": ["gender", "text"]})


def test_export_refuses_bob_and_staff_who_may_only_look(bob: User, caller: Caller) -> None:
    bob.is_staff = True
    bob.save()
    bob.user_permissions.add(Permission.objects.get(codename="view_user"))
    with pytest.raises(DirectoryClosed):
        directory.export(viewer=User.objects.get(id=bob.id), filters=ANYBODY, caller=caller)
    assert not Event.objects.exists()


# --- The replica --------------------------------------------------------------------------------------------


@pytest.fixture
def with_replica() -> Iterator[None]:
    connections.databases["replica"] = connections.databases["default"]
    replica.breaker.worked()
    yield
    del connections.databases["replica"]
    replica.breaker.worked()


def test_a_replica_is_asked_where_there_is_one(with_replica: None) -> None:
    assert replica.read(lambda using: using) == "replica"


def test_without_a_replica_the_primary_is_asked() -> None:
    assert replica.read(lambda using: using) == "default"


@pytest.mark.parametrize("error", [OperationalError, InterfaceError, ProgrammingError])
def test_while_the_replica_is_away_or_behind_the_primary_answers(
    with_replica: None, caplog: pytest.LogCaptureFixture, error: type[Exception]
) -> None:
    asked: list[str] = []

    def work(using: str) -> str:
        asked.append(using)
        if using == "replica":
            raise error
        return "of the primary"

    with caplog.at_level(logging.WARNING):
        assert [replica.read(work) for _ in range(3)] == ["of the primary"] * 3
    assert asked == ["replica", "default", "default", "default"], "once, and then it is left alone for a while"
    assert [record.getMessage() for record in caplog.records] == [
        f"the replica does not answer ({error.__name__}); the primary does"
    ]
    replica.breaker.worked()
    assert replica.read(lambda using: using) == "replica"


ADDRESS = "postgres://reader:secret@db2.example:5432/name"


def test_what_the_address_of_the_replica_asks_for_stays_beside_the_time_limits() -> None:
    script = """
import importlib, json, os
from project import settings
for query in ("", "?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=1"):
    os.environ["DATABASE_REPLICA_URL"] = os.environ["ADDRESS"] + query
    print(json.dumps(importlib.reload(settings).DATABASES["replica"]["OPTIONS"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "ADDRESS": ADDRESS},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
    )
    plain, asking = map(json.loads, done.stdout.splitlines())
    for options in (plain, asking):
        assert {"keepalives_idle", "keepalives_interval", "keepalives_count"} <= options.keys()
        assert options["tcp_user_timeout"] == 10_000
    assert plain["connect_timeout"] == 3
    assert (asking["sslmode"], asking["sslrootcert"], asking["connect_timeout"]) == ("verify-full", "/ca.pem", 1)
