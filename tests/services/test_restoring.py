"""After a restored backup: what Postgres forgot is done again, once the operator says so.

Here the rows are put back by hand. tests/outages/test_restore.py restores a real backup."""

import io
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils.timezone import now
from post_office.models import STATUS, Email
from pytest_django import Settings

from accounts.caller import NOBODY, Caller
from accounts.lib import sealing
from accounts.lib.storage import bucket
from accounts.models import Challenge, DiscardedPicture, Event, ReservedUsername, Tombstone, User
from accounts.services import mail
from accounts.services.account import deletion, email_requests, password_resets
from accounts.services.credentials import challenges
from accounts.services.profile import pictures
from tests.conftest import Mailbox, make_user, picture
from tests.services.test_pictures import down
from tests.threads import each_at_once

Restored = Callable[..., str]


@pytest.fixture
def restored(capsys: pytest.CaptureFixture[str]) -> Restored:
    def restored(*options: str, to: datetime | None = None) -> str:
        capsys.readouterr()
        call_command("restored", "--to", (to or now() - timedelta(seconds=1)).isoformat(), *options)
        return capsys.readouterr().out

    return restored


def erase(*people: User) -> None:
    User.objects.filter(id__in=[user.id for user in people]).update(deletes_at=now())
    assert deletion.erase_due() == len(people)


# --- The erased ---------------------------------------------------------------------------------------------


def test_who_was_erased_since_is_erased_again_and_told_nothing_twice(
    bob: User, carol: User, restored: Restored, mailbox: Mailbox
) -> None:
    erase(bob)
    Tombstone.objects.all().delete()
    ReservedUsername.objects.all().delete()
    Email.objects.all().delete()
    back = make_user("bob", id=bob.id)
    assert "1 accounts that were erased since" in restored()
    assert User.objects.filter(id=back.id).exists()  # nothing is done without --yes
    assert "Nothing was changed" in restored()
    assert "1 accounts that were erased since, to be erased again: done" in restored("--yes")
    assert set(User.objects.all()) == {carol}
    assert Tombstone.objects.count() == 1
    assert ReservedUsername.objects.count() == 1
    assert mailbox.all() == []
    assert "0 accounts" in restored("--yes")


def test_who_was_erased_again_is_erased_again_after_the_next_restore_too(bob: User, restored: Restored) -> None:
    """A backup is made of the restored database before `restored` has run there. By then the first note is old."""
    erase(bob)
    make_user("bob", id=bob.id)
    [note] = [note for note in deletion.noted_since(now()) if deletion.is_noted(bob.id, frozenset({note}))]
    bucket.delete(f"erased/{now():%Y-%m-%d}/{note}")
    bucket.put(f"erased/2026-01-01/{note}", b"", content_type="text/plain", cache_control="no-store")
    assert "1 accounts" in restored("--yes", to=datetime(2026, 1, 1, 12, tzinfo=UTC))
    make_user("bob", id=bob.id)
    assert "1 accounts" in restored()


def test_a_run_that_broke_off_is_done_by_the_next(
    bob: User, carol: User, restored: Restored, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase(bob, carol)
    for user in (bob, carol):
        make_user(user.username, id=user.id)
    put, answers = bucket.put, iter((True, False))

    def put_once(*args: str | bytes, **options: str) -> None:
        if not next(answers):
            raise ConnectionResetError
        put(*args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(bucket, "put", put_once)
        with pytest.raises(CommandError, match="Run this again"):
            restored("--yes")
    assert User.objects.count() == 1
    assert "1 accounts" in restored("--yes")
    assert not User.objects.exists()


def at_one_row(user: User, *works: Callable[[], object]) -> Sequence[object]:
    """What each returns or raises, once all of them wait for the row of this user."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def release_when_all_wait() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            User.objects.select_for_update().get(id=user.id)
            locked.set()
            count, last = 0, time.monotonic() + 180
            while count < len(works):
                assert time.monotonic() < last, f"{count} of {len(works)} wait"
                cursor.execute("SELECT pg_sleep(0.01), pg_stat_clear_snapshot()")
                cursor.execute(waiting)
                (count,) = cursor.fetchone()

    def after(work: Callable[[], object]) -> Callable[[], object]:
        return lambda: locked.wait() and work()

    locked = threading.Event()
    return each_at_once([release_when_all_wait, *map(after, works)])[1:]


@pytest.mark.django_db(transaction=True)
def test_two_operators_at_once_erase_each_account_once(bob: User) -> None:
    erase(bob)
    make_user("bob", id=bob.id)
    Tombstone.objects.all().delete()
    restored = partial(call_command, "restored", "--to", (now() - timedelta(seconds=1)).isoformat(), "--yes")
    assert at_one_row(bob, restored, restored) == [None, None]
    assert not User.objects.exists()
    assert Tombstone.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_operators_at_once_plan_each_deletion_once(carol: User, mailbox: Mailbox) -> None:
    User.objects.update(deletes_at=now(), email_verified=True)
    restored = partial(call_command, "restored", "--to", (now() - timedelta(seconds=1)).isoformat(), "--yes")
    assert at_one_row(carol, restored, restored) == [None, None]
    assert Event.objects.filter(kind="user.deletion_planned").count() == 1
    assert len(mailbox.all()) == 1


def test_a_note_names_nobody_without_the_key(bob: User, settings: Settings) -> None:
    erase(bob)
    [note] = [note for note in deletion.noted_since(now()) if deletion.is_noted(bob.id, frozenset({note}))]
    assert bob.id.hex not in note
    assert "bob" not in note
    old, settings.SECRET_KEY = settings.SECRET_KEY, "another" * 8
    assert not deletion.is_noted(bob.id, frozenset({note}))
    settings.SECRET_KEY_FALLBACKS = [old]
    assert deletion.is_noted(bob.id, frozenset({note}))


def test_a_note_of_long_before_the_moment_erases_nobody(bob: User, restored: Restored) -> None:
    """Its erasure was not committed, and the owner has kept the account: else nobody would be there at the moment."""
    note = sealing.mac("erased", bob.id.bytes).hex()
    bucket.put(f"erased/2026-01-01/{note}", b"", content_type="text/plain", cache_control="no-store")
    assert "0 accounts" in restored("--yes")
    assert "1 accounts" in restored(to=datetime(2026, 1, 1, 12, tzinfo=UTC))


def test_while_the_storage_is_away_nobody_is_erased_without_a_note(bob: User, settings: Settings) -> None:
    User.objects.filter(id=bob.id).update(deletes_at=now())
    before = settings.STORAGES
    down(settings)
    assert deletion.erase_due() == 0
    assert User.objects.filter(id=bob.id).exists()
    settings.STORAGES = before
    assert deletion.erase_due() == 1


# --- Plans --------------------------------------------------------------------------------------------------


def test_who_kept_the_account_since_is_not_erased_but_asked_again(
    bob: User, carol: User, restored: Restored, mailbox: Mailbox
) -> None:
    User.objects.filter(id=bob.id).update(deletes_at=now() - timedelta(minutes=1))
    assert "1 planned deletions" in restored()
    assert "1 planned deletions, to begin their grace period again: done" in restored("--yes")
    bob.refresh_from_db()
    assert bob.deletes_at is not None
    assert bob.deletes_at > now() + timedelta(days=13)
    assert "will be deleted" in mailbox.last("bob@example.com").message
    assert deletion.erase_due() == 0
    deletion.cancel_by_key(key=mailbox.key("bob@example.com"), caller=NOBODY)
    assert "0 planned" in restored("--yes")


def test_a_second_run_plans_and_mails_nothing_again(bob: User, restored: Restored, mailbox: Mailbox) -> None:
    User.objects.filter(id=bob.id).update(deletes_at=now())
    moment = now() - timedelta(seconds=1)
    restored("--yes", to=moment)
    letters = len(mailbox.all())
    assert "0 planned" in restored("--yes", to=moment)
    assert len(mailbox.all()) == letters


# --- Emails and codes ---------------------------------------------------------------------------------------


def test_emails_that_went_out_since_are_not_sent_again(bob: User, restored: Restored) -> None:
    before, young = (mail.send(mail.Message.PASSWORD_CHANGED, user=bob, caller=NOBODY) for _ in range(2))
    assert before is not None
    assert young is not None
    Email.objects.filter(id=before.id).update(created=now() - timedelta(hours=2))
    assert "1 queued emails" in restored("--yes")
    before.refresh_from_db()
    young.refresh_from_db()
    assert (before.status, before.message, before.html_message) == (STATUS.failed, "", "")
    assert young.status == STATUS.queued
    Email.objects.filter(id=young.id).update(created=now() - timedelta(hours=2))
    assert "0 queued emails" in restored("--yes", to=now() - timedelta(hours=3))  # queued after the restore


def test_codes_and_requests_of_before_do_not_work_twice(
    bob: User, restored: Restored, mailbox: Mailbox, caller: Caller
) -> None:
    password_resets.request_reset(login="bob", caller=caller)
    email_requests.answer()
    undo = challenges.issue(Challenge.Kind.UNDO_EMAIL, user=bob, email=bob.email, caller=caller)
    password_resets.request_reset(login="bob", caller=caller)  # which a worker has answered since
    Challenge.objects.update(created_at=now() - timedelta(hours=2))
    assert "2 open codes" in restored()
    assert "2 open codes" in restored("--yes")
    assert list(Challenge.objects.open().values_list("id", flat=True)) == [undo.challenge.id]
    letters = len(mailbox.all())
    email_requests.answer()
    assert len(mailbox.all()) == letters


# --- Pictures -----------------------------------------------------------------------------------------------


def test_a_picture_whose_object_is_gone_is_taken_from_its_profile_and_no_other(
    alice: User, bob: User, carol: User, restored: Restored, caller: Caller
) -> None:
    for number, user in enumerate((alice, bob, carol)):
        pictures.replace(user=user, file=io.BytesIO(picture((340 + number, 300))), caller=caller)
    pictures.discard(bob.picture)
    User.objects.filter(id=bob.id).update(picture="")
    pictures.remove_discarded()
    User.objects.filter(id=bob.id).update(picture=bob.picture)  # as it was before
    assert list(pictures.lost()) == [bob.picture]
    assert "1 pictures" in restored("--yes")
    assert dict(User.objects.values_list("username", "picture")) == {
        "alice": alice.picture,
        "bob": "",
        "carol": carol.picture,
    }
    assert list(pictures.lost()) == []
    assert not DiscardedPicture.objects.exists()


# --- The command --------------------------------------------------------------------------------------------


def test_the_moment_must_be_one(db: None, settings: Settings) -> None:
    for words in ((), ("--to", "yesterday"), ("--to", "2026-02-30T10:00:00Z"), ("--to", "2999-01-01T00:00:00Z")):
        with pytest.raises(CommandError):
            call_command("restored", *words)
    down(settings)
    with pytest.raises(CommandError, match="can't be reached"):
        call_command("restored", "--to", "2026-01-01 10:00")
