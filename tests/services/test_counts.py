"""The kept counts: exact whatever writes, nobody waits for anybody, and broken ones are told and mended."""

import io
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils.timezone import now

from accounts.caller import NOBODY, Caller
from accounts.models import TRIGGERS, Event, Gender, User, UserCount
from accounts.services.account import deletion, email_addresses, signup, users
from accounts.services.profile import profiles
from accounts.services.security import audit
from accounts.services.staff import counts, imports
from tests.conftest import PASSWORD, Mailbox, make_user
from tests.threads import at_once, each_at_once


def sql(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def total() -> int:
    return sum(kind.count for kind in counts.users())


def test_the_triggers_are_those_that_the_models_name(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgname, pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal")
        found = {
            name: definition.removeprefix(f"CREATE TRIGGER {name} ")
            .partition(" FOR EACH STATEMENT ")[0]
            .replace("public.", "")
            for name, definition, enabled in cursor.fetchall()
            if enabled == "O"
        }
    assert found == TRIGGERS


def test_counts_do_not_depend_on_the_search_path_of_who_writes(db: None) -> None:
    """A restore of data alone and some tools write with an empty one."""
    before = total()
    make_user("dora")
    sql("SET LOCAL search_path = ''")
    sql("UPDATE public.accounts_user SET is_active = false WHERE username = 'dora'")
    sql("SET LOCAL search_path = public")
    assert (total(), counts.check()) == (before + 1, [])


# --- Whatever writes ----------------------------------------------------------------------------------------


def sign_up(caller: Caller) -> None:
    signup.sign_up(username="dora", email="dora@example.com", password=PASSWORD, gender="female", caller=caller)


def change_gender(caller: Caller) -> None:
    profiles.update(user=User.objects.get(username="bob"), changes={"gender": "unspecified"}, caller=caller)


def switch_off(caller: Caller) -> None:
    users.set_active(user=User.objects.get(username="bob"), active=False, caller=caller)


def switch_off_and_on(caller: Caller) -> None:
    for active in (False, True):
        users.set_active(user=User.objects.get(username="bob"), active=active, caller=caller)


def bring_over(caller: Caller) -> None:
    lines = [json.dumps({"email": f"n{number}@example.com", "email_verified": True}).encode() for number in range(5)]
    assert sum(report.made for report in imports.run(lines, apply=True, caller=NOBODY)) == 5


def only_look_whether_they_could_be_brought_over(caller: Caller) -> None:
    list(imports.run([b'{"email": "n@example.com"}'], apply=False, caller=NOBODY))


def erase(caller: Caller) -> None:
    User.objects.filter(username="bob").update(deletes_at=now())
    assert deletion.erase_due() == 1


def remove_unverified(caller: Caller) -> None:
    long_ago = now() - timedelta(days=400)
    User.objects.filter(username="carol").update(created_at=long_ago, updated_at=long_ago)
    assert users.remove_unverified() == 1


def add_many(caller: Caller) -> None:
    User.objects.bulk_create(
        User(username=f"u{number}", username_skeleton=f"u{number}", gender=Gender.values[number % 3])
        for number in range(100)
    )


def copy(caller: Caller) -> None:
    rows = io.StringIO(
        "".join(
            f"0199aaaa-0000-7000-8000-{number:012d}\tx\tf\tc{number}\tc{number}\t\tf\t\t\tmale\t\tt\tf\tnow\tnow\n"
            for number in range(1000)
        )
    )
    with connection.cursor() as cursor:
        cursor.cursor.copy_expert(
            "COPY accounts_user (id, password, is_superuser, username, username_skeleton, email, email_verified,"
            " first_name, last_name, gender, picture, is_active, is_staff, created_at, updated_at) FROM STDIN",
            rows,
        )


def change_all_by_hand(caller: Caller) -> None:
    sql(
        "UPDATE accounts_user SET is_active = NOT is_active,"
        " gender = CASE gender WHEN 'male' THEN 'female' ELSE 'male' END"
    )


def swap_two_by_hand(caller: Caller) -> None:
    sql("UPDATE accounts_user SET email_verified = username = 'carol' WHERE username IN ('bob', 'carol')")


def insert_or_update(caller: Caller) -> None:
    sql("INSERT INTO accounts_user SELECT * FROM accounts_user ON CONFLICT (id) DO UPDATE SET gender = 'unspecified'")


def change_nothing_that_counts(caller: Caller) -> None:
    User.objects.update(first_name="Nobody")


def fail_halfway(caller: Caller) -> None:
    with transaction.atomic():
        make_user("eve")
        User.objects.filter(username="bob").delete()
        transaction.set_rollback(True)


WRITES = [
    sign_up, change_gender, switch_off, switch_off_and_on, bring_over, only_look_whether_they_could_be_brought_over,
    erase, remove_unverified, add_many, copy, change_all_by_hand, swap_two_by_hand, insert_or_update,
    change_nothing_that_counts, fail_halfway,
]  # fmt: skip


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_counts_are_exact_whatever_writes(
    alice: User, bob: User, carol: User, caller: Caller, write: Callable[[Caller], None]
) -> None:
    assert counts.check() == []
    write(caller)
    assert counts.check() == []
    real = {gender: User.objects.filter(gender=gender, is_active=True).count() for gender in Gender.values}
    assert counts.active_by_gender() == real
    assert total() == User.objects.count()


def test_a_proved_address_is_counted_as_one(carol: User, caller: Caller, mailbox: Mailbox) -> None:
    assert [(kind.email_verified, kind.count) for kind in counts.users() if kind.count] == [(False, 1)]
    email_addresses.send_confirmation(carol, carol.email, caller=caller)
    email_addresses.confirm_mine(user=carol, code=mailbox.code(carol.email), caller=caller)
    assert [(kind.email_verified, kind.count) for kind in counts.users() if kind.count] == [(True, 1)]
    assert counts.check() == []


@pytest.mark.django_db(transaction=True)
def test_an_emptied_table_counts_nobody() -> None:
    make_user("eve")
    sql("TRUNCATE accounts_user CASCADE")
    assert counts.users() == []
    make_user("eve")
    assert counts.check() == []


# --- Nobody waits -------------------------------------------------------------------------------------------

MANY = 25


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_anybody() -> None:
    """All of them have made their user before the first one commits: one who waited would break the barrier."""
    barrier = threading.Barrier(MANY, timeout=300)
    numbers = iter(range(1000))

    def sign_up() -> None:
        with transaction.atomic():
            name = f"crowd{next(numbers)}"
            user = User.objects.create(username=name, username_skeleton=name, gender=Gender.FEMALE)
            Event.objects.create(kind=audit.Kind.USER_SIGNED_UP, user=user)
            barrier.wait()

    for _ in range(2):
        assert at_once(MANY, sign_up) == [None] * MANY
    assert counts.active_by_gender()["female"] == 2 * MANY
    assert counts.events_by_day([audit.Kind.USER_SIGNED_UP], since=now().date()) == {
        ("user.signed_up", now().date()): 2 * MANY
    }
    assert UserCount.objects.count() <= MANY, "a piece that is free is used again"


@pytest.mark.django_db(transaction=True)
def test_two_that_count_in_opposite_order_do_not_lock_each_other_out() -> None:
    for gender in Gender.values:
        make_user(f"first-{gender}", gender=gender)  # so that there is one piece of each
    barrier = threading.Barrier(2, timeout=300)

    def make(*genders: Gender) -> Callable[[], None]:
        def work() -> None:
            with transaction.atomic():
                for gender in genders:
                    make_user(f"{genders[0]}-{gender}", gender=gender)
                    barrier.wait()

        return work

    works = [make(Gender.FEMALE, Gender.MALE), make(Gender.MALE, Gender.FEMALE)]
    assert each_at_once(works) == [None] * 2
    assert counts.active_by_gender() == {"female": 3, "male": 3, "unspecified": 1}


# --- Checking and mending -----------------------------------------------------------------------------------


def command(**options: Any) -> str:
    out = io.StringIO()
    call_command("count_users", stdout=out, **options)
    return out.getvalue()


def test_right_counts_are_said_to_be_right(alice: User, bob: User) -> None:
    assert command() == "Correct: 2 users.\n"


def test_broken_counts_are_told_and_mended(alice: User, bob: User, carol: User) -> None:
    UserCount.objects.filter(gender="female").delete()
    UserCount.objects.create(gender="male", is_active=True, email_verified=True, count=41)
    out = io.StringIO()
    with pytest.raises(CommandError, match="--mend"):
        call_command("count_users", stdout=out)
    assert out.getvalue() == "female, active, confirmed: 1 too few\nmale, active, confirmed: 41 too many\n"
    assert counts.active_by_gender() == {"female": 0, "male": 42, "unspecified": 1}
    assert command(mend=True).endswith("Corrected: 3 users.\n")
    assert counts.active_by_gender() == {"female": 1, "male": 1, "unspecified": 1}
    assert command(mend=True) == "Correct: 3 users.\n"


@pytest.mark.django_db(transaction=True)
def test_mending_takes_nobody_at_work_for_a_fault() -> None:
    UserCount.objects.create(gender="male", is_active=True, email_verified=True, count=7)
    barrier = threading.Barrier(3)
    numbers = iter(range(1000))

    def work() -> None:
        mine = next(numbers)
        barrier.wait()
        for number in range(20):
            if mine == 0:
                counts.repair()
            else:
                make_user(f"u{mine}x{number}")

    assert at_once(3, work) == [None] * 3
    assert counts.check() == []
    assert total() == 40


# --- Days ---------------------------------------------------------------------------------------------------


def test_events_are_counted_by_kind_and_day_in_utc(db: None, caller: Caller) -> None:
    audit.record(audit.Kind.SESSION_STARTED, user=None, caller=caller)
    audit.record(audit.Kind.LOGIN_FAILED, user=None, caller=caller)
    late = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    Event.objects.bulk_create(
        [
            Event(kind="session.started", created_at=late),
            Event(kind="session.started", created_at=late + timedelta(hours=1)),
        ]
    )
    found = counts.events_by_day(["session.started"], since=late.date())
    assert found == {
        ("session.started", late.date()): 1,
        ("session.started", late.date() + timedelta(days=1)): 1,
        ("session.started", now().date()): 1,
    }
    Event.objects.all().delete()
    assert counts.events_by_day(["session.started"], since=late.date()) == found, "they outlive the events"
