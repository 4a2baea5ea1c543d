"""One database owns the bucket, and a copy of it that has the bucket's key removes nothing."""

import io
import logging
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.utils.timezone import now
from pytest_django import Settings

from accounts.caller import Caller
from accounts.lib import clock
from accounts.lib.storage import bucket
from accounts.models import BucketOwner, DiscardedPicture, Export, PictureUpload, User
from accounts.services.account import deletion
from accounts.services.profile import exports, objects, picture_uploads, pictures
from accounts.services.profile.objects import Owner
from project.celery import app
from tests.conftest import RENEWED_AFTER, picture
from tests.services.test_pictures import down
from tests.threads import at_once

AN_HOUR_AGO = {"token": "a" * 32, "next_token": "b" * 32}
ANOTHER_SERVER = {"server": "5 1795000000.123456"}


def said() -> str:
    found = bucket.get(objects.KEY)
    assert found is not None
    with found.body as body:
        return body.read().decode()


@pytest.fixture(autouse=True)
def as_it_was(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The row by the end of its transaction, and the object by hand."""
    monkeypatch.setattr(objects, "RENEWED_AFTER", RENEWED_AFTER)
    before = said()
    yield
    bucket.put(objects.KEY, before.encode(), content_type="text/plain", cache_control="no-store")


@pytest.fixture
def due(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is renewed each time that it is asked for."""
    monkeypatch.setattr(objects, "RENEWED_AFTER", timedelta(minutes=-1))


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has renewed it for so long."""
    monkeypatch.setattr(objects, "QUIET", timedelta(minutes=-1))


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """From here on the token in the bucket is so many minutes old."""
    read = objects._read

    def aged(minutes: float) -> None:
        def token_and_age() -> objects.Said | None:
            found = read()
            return found and (found[0], timedelta(minutes=minutes))

        monkeypatch.setattr(objects, "_read", token_and_age)

    return aged


def copy(**differences: str) -> None:
    """From here on this is another database: a copy whose row is like this."""
    BucketOwner.objects.update(**differences)


def keys() -> set[str]:
    folders = ("pictures/", "incoming/", "exports/")
    return {key for folder in folders for key, _ in bucket.listing(folder, after="", at_most=100_000)}


# --- The token ----------------------------------------------------------------------------------------------


def test_the_first_who_asks_owns_a_bucket_that_nobody_owns() -> None:
    BucketOwner.objects.all().delete()
    bucket.delete(objects.KEY)
    assert objects.owner() is Owner.NOBODY
    assert objects.may_remove()
    assert objects.owner() is Owner.THIS
    assert said() == BucketOwner.objects.get().next_token


def test_the_owner_renews_the_token_and_keeps_the_one_before(due: None) -> None:
    first = said()
    assert objects.may_remove()
    second = said()
    row = BucketOwner.objects.get()
    assert (row.token, row.next_token) == (first, second)
    assert first != second
    assert objects.may_remove()
    assert objects.owner() is Owner.THIS


def test_a_token_that_is_young_is_not_renewed(aged: Callable[[float], None]) -> None:
    before = said()
    for minutes, renewed in ((1.9, False), (4.5, True)):
        aged(minutes)
        assert objects.may_remove()
        assert (said() != before) is renewed


def test_each_run_of_the_schedule_renews_it_and_two_may_be_late() -> None:
    every = timedelta(seconds=app.conf.beat_schedule["accounts.renew_bucket_owner"]["schedule"])
    assert every > objects.RENEWED_AFTER
    assert 3 * every <= objects.QUIET


def test_how_old_it_is_says_the_storage_whatever_the_time_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy's machine may be hours ahead, and its Postgres: it would take the bucket from a database that lives."""
    bucket.put(objects.KEY, said().encode(), content_type="text/plain", cache_control="no-store")
    copy(**ANOTHER_SERVER)
    for hours in (-5, 5):
        monkeypatch.setattr(clock, "_ahead", timedelta(hours=hours))
        monkeypatch.setattr(bucket, "now", clock.now)
        assert objects.owner() is Owner.WAITING
        copy(server=objects._server())
        before = said()
        assert objects.may_remove()
        assert said() == before
        copy(**ANOTHER_SERVER)


def test_of_two_that_take_a_bucket_at_once_the_last_one_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    take = objects.take

    def take_and_lose() -> None:
        take()
        bucket.put(objects.KEY, b"d" * 32, content_type="text/plain", cache_control="no-store")

    monkeypatch.setattr(objects, "take", take_and_lose)
    bucket.delete(objects.KEY)
    assert not objects.may_remove()
    assert said() == "d" * 32


def test_a_worker_that_died_between_the_row_and_the_bucket_loses_nothing(due: None) -> None:
    row = BucketOwner.objects.get()
    row.token, row.next_token = row.next_token, "c" * 32
    row.save()
    assert objects.may_remove()
    assert said() == "c" * 32
    assert objects.owner() is Owner.THIS


@pytest.mark.django_db(transaction=True)
def test_workers_that_renew_at_once_agree(due: None) -> None:
    before = BucketOwner.objects.get()
    try:
        assert at_once(4, objects.may_remove) == [True] * 4
        assert said() in {BucketOwner.objects.get().token, BucketOwner.objects.get().next_token}
        assert objects.may_remove()
    finally:
        before.save()


# --- Copies -------------------------------------------------------------------------------------------------


def test_a_copy_of_an_hour_ago_knows_an_earlier_token_and_never_the_next(due: None, quiet: None) -> None:
    copy(**AN_HOUR_AGO)
    before = said()
    assert not objects.may_remove()
    copy(**ANOTHER_SERVER)
    assert not objects.may_remove()
    assert objects.owner() is Owner.OTHER
    assert said() == before


def test_a_copy_of_this_moment_waits_because_its_server_is_another(aged: Callable[[float], None]) -> None:
    before = said()
    copy(**ANOTHER_SERVER)
    for minutes in (0, 14.9):
        aged(minutes)
        assert objects.owner() is Owner.WAITING
        assert not objects.may_remove()
    assert said() == before


def test_the_owner_after_a_restart_of_postgres_goes_on_once_nobody_else_has_renewed_it(
    aged: Callable[[float], None],
) -> None:
    copy(**ANOTHER_SERVER)
    before = said()
    aged(15.1)
    assert objects.may_remove()
    assert said() != before
    assert BucketOwner.objects.get().server == objects._server()


def test_a_token_of_nothing_is_nobodys() -> None:
    bucket.put(objects.KEY, b"", content_type="text/plain", cache_control="no-store")
    copy(token="")
    assert objects.owner() is Owner.OTHER


def test_whoever_takes_the_bucket_over_has_it_and_the_other_has_it_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    ours = BucketOwner.objects.values("token", "next_token").get()
    copy(**AN_HOUR_AGO, **ANOTHER_SERVER)
    call_command("restored", "--take-bucket")
    assert objects.owner() is Owner.OTHER  # without --yes nothing is done
    call_command("restored", "--take-bucket", "--yes")
    assert "this database owns the bucket" in capsys.readouterr().out
    assert objects.may_remove()
    copy(**ours)  # and this is the other
    assert not objects.may_remove()


# --- Everything that removes --------------------------------------------------------------------------------


@pytest.fixture
def leftovers(alice: User, bob: User, caller: Caller) -> set[str]:
    """A picture that nobody has, an upload that is over, an expired copy, an orphan of each kind, and an account whose
    grace is over. The keys of all objects."""
    pictures.replace(user=bob, file=io.BytesIO(picture((320, 300))), caller=caller)
    pictures.replace(user=bob, file=io.BytesIO(picture((310, 300))), caller=caller)
    upload, _ = picture_uploads.begin(user=alice, content_type="image/png", size=9, caller=caller)
    PictureUpload.objects.update(remove_at=now(), expires_at=now())
    expired = Export.objects.create(user=alice, key="k" * 48, state="ready", expires_at=now())
    names = (upload.key, exports.path(expired), "incoming/orphan", pictures.path("f" * 48, 64))
    for name in names:
        bucket.put(name, b"left", content_type="image/png", cache_control="no-store")
    User.objects.filter(id=alice.id).update(deletes_at=now())
    DiscardedPicture.objects.update(remove_at=now())
    return keys()


def remove_all() -> int:
    return (
        deletion.erase_due()
        + pictures.remove_discarded()
        + picture_uploads.remove_old()
        + exports.remove_expired()
        + picture_uploads.remove_orphans()
    )


def test_a_copy_removes_no_object_and_erases_nobody_and_says_so_once_an_hour(
    leftovers: set[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(picture_uploads, "GRACE", timedelta(minutes=-1))
    ours = BucketOwner.objects.values("token", "next_token").get()
    copy(**AN_HOUR_AGO)
    with caplog.at_level(logging.INFO):
        assert remove_all() == 0
    assert keys() == leftovers
    assert [record.message for record in caplog.records] == [Owner.OTHER.value]
    with pytest.raises(CommandError, match=r"\d of these"):
        call_command("check_storage")
    copy(**ours)
    assert remove_all() >= 6
    assert len(keys()) <= len(leftovers) - 6


def test_an_upload_that_a_copy_publishes_stays_for_the_owner(alice: User, caller: Caller) -> None:
    content = picture((330, 300))
    upload, _ = picture_uploads.begin(user=alice, content_type="image/png", size=len(content), caller=caller)
    bucket.put(upload.key, content, content_type="image/png", cache_control="no-store")
    picture_uploads.complete(user=alice, upload_id=upload.id, caller=caller)
    copy(**AN_HOUR_AGO)
    assert picture_uploads.publish_next()
    assert PictureUpload.objects.get().state == "done"
    assert upload.key in keys()


def test_while_the_storage_is_away_nothing_is_removed(leftovers: set[str], settings: Settings) -> None:
    before = settings.STORAGES
    down(settings)
    assert not objects.may_remove()
    assert deletion.erase_due() == 0
    assert exports.remove_expired() == 0
    settings.STORAGES = before
    assert keys() == leftovers


def test_nothing_else_removes_objects() -> None:
    """`bucket_check` removes what it has put there itself."""
    asked = {"pictures.py": 1, "picture_uploads.py": 3, "exports.py": 1, "bucket_check.py": 1}
    found: dict[str, int] = {}
    for file in Path(django_settings.BASE_DIR, "accounts").rglob("*.py"):
        count = len(re.findall(r"\bbucket\.delete(?:_many)?\(|storages\[.*\]\.delete\(", file.read_text()))
        found |= {file.name: count} if count else {}
    assert found == asked, "who removes objects asks objects.may_remove() first"
