"""A copy of somebody's data: asked for, made once, private, gone after a week."""

import io
import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings as django_settings
from django.core.files.storage import storages
from django.db import IntegrityError, connection
from django.utils.timezone import now
from PIL import Image
from pytest_django import Settings

from accounts.caller import Caller, Device
from accounts.errors import RateLimited
from accounts.models import Event, Export, PictureUpload, Session, User
from accounts.services import mail
from accounts.services.account import deletion, email_addresses, export, lifecycle
from accounts.services.profile import exports, picture_uploads, pictures
from accounts.services.security import audit
from accounts.services.sessions import sessions
from tests.conftest import PASSWORD, Mailbox, make_user, picture
from tests.threads import at_once


@pytest.fixture
def asked(alice: User, caller: Caller) -> Export:
    return export.request(user=alice, caller=caller)


@pytest.fixture
def ready(asked: Export) -> Export:
    assert export.make_queued() == 1
    asked.refresh_from_db()
    assert asked.state == "ready"
    return asked


@pytest.fixture
def no_storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("away")

    with monkeypatch.context() as patched:
        patched.setattr(storages["default"], "save", refuse)
        yield


def stored(found: Export) -> bool:
    return bool(storages["default"].exists(exports.path(found)))


def fetch(address: str | None) -> bytes:
    assert address
    with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - signed by us
        body: bytes = answer.read()
    return body


def copy_of(user: User) -> dict[str, bytes]:
    """{name in the ZIP: its content}."""
    file = io.BytesIO()
    export.write(file, user)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def read(user: User, name: str) -> Any:
    return json.loads(copy_of(user)[name])


# --- Asking -------------------------------------------------------------------------------------------------


def test_a_copy_is_asked_for_made_and_told(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    assert exports.latest(alice) is None
    found = export.request(user=alice, caller=caller)
    assert found.state == "queued"
    assert exports.address(found) is None
    before = now()
    assert export.make_queued() == 1
    found = exports.latest(alice)  # type: ignore[assignment]
    assert found.state == "ready"
    assert found.expires_at
    assert before <= found.expires_at - timedelta(days=7) <= now()
    body = fetch(exports.address(found))
    assert len(body) == found.size
    assert zipfile.ZipFile(io.BytesIO(body)).testzip() is None
    assert sorted(Event.objects.filter(user=alice).values_list("kind", "ip")) == [
        ("export.ready", caller.ip),
        ("export.requested", caller.ip),
    ]
    told = mailbox.last("alice@example.com")
    assert "ready" in told.subject
    assert "Ada's iPhone" in told.message
    assert "/account/data/" in told.message
    assert "exports/" not in told.message + told.html_message  # the mail opens nothing
    assert export.make_queued() == 0


def test_one_at_a_time(alice: User, asked: Export, caller: Caller) -> None:
    assert export.request(user=alice, caller=caller) == asked
    with pytest.raises(IntegrityError):
        Export.objects.create(user=alice, key="another")


@pytest.mark.django_db(transaction=True)
def test_asked_for_many_times_at_once_it_is_one(alice: User, caller: Caller) -> None:
    connected = threading.Barrier(8)

    def ask() -> object:
        User.objects.count()
        connected.wait()
        return export.request(user=alice, caller=caller).id

    found = at_once(8, ask)
    assert len(set(found)) == 1, found
    assert Event.objects.filter(kind="export.requested").count() == 1


def test_three_a_day(alice: User, caller: Caller) -> None:
    for _ in range(3):
        export.request(user=alice, caller=caller)
        export.make_queued()
    with pytest.raises(RateLimited):
        export.request(user=alice, caller=caller)


def test_a_new_copy_takes_the_place_of_the_one_before(alice: User, ready: Export, caller: Caller) -> None:
    newer = export.request(user=alice, caller=caller)
    assert exports.latest(alice) == newer
    assert stored(ready)
    export.make_queued()
    assert exports.remove_expired() == 1
    newer.refresh_from_db()
    assert list(Export.objects.all()) == [newer]
    assert not stored(ready)
    assert stored(newer)


def test_an_address_that_was_never_proved_gets_no_mail(carol: User, caller: Caller, mailbox: Mailbox) -> None:
    export.request(user=carol, caller=caller)
    export.make_queued()
    assert mailbox.all() == []


# --- Its address --------------------------------------------------------------------------------------------


def test_without_its_signature_the_address_opens_nothing(ready: Export) -> None:
    address = exports.address(ready)
    assert address
    for other in (address.partition("?")[0], address.replace("Signature=", "Signature=0")):
        with pytest.raises(urllib.error.HTTPError):
            fetch(other)


def test_the_address_is_that_of_a_file_to_keep_and_works_for_a_while(ready: Export) -> None:
    asked = parse_qs(urlsplit(exports.address(ready) or "").query)
    assert asked["X-Amz-Expires"] == [str(django_settings.PICTURE_URL_LIFETIME)]
    assert asked["response-content-disposition"] == [f'attachment; filename="Crew-{now():%Y-%m-%d}.zip"']


def test_the_address_never_outlives_the_copy(ready: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    at = now()
    monkeypatch.setattr(exports, "now", lambda: at)
    ready.expires_at = at + timedelta(seconds=100)
    (seconds,) = parse_qs(urlsplit(exports.address(ready) or "").query)["X-Amz-Expires"]
    assert seconds == "100"
    ready.expires_at = at
    assert exports.address(ready) is None


def test_a_sites_name_does_not_break_the_file_name(ready: Export, settings: Settings) -> None:
    settings.SITE_NAME = 'Ünder"ground/ 地下'
    assert zipfile.ZipFile(io.BytesIO(fetch(exports.address(ready)))).testzip() is None


# --- What stands in it --------------------------------------------------------------------------------------


def test_it_holds_all_that_is_kept(alice: User, phone: Session, caller: Caller) -> None:
    pictures.replace(user=alice, file=io.BytesIO(picture()), caller=caller)
    picture_uploads.begin(user=alice, content_type="image/png", size=9, caller=caller)
    mail.send(mail.Message.PASSWORD_CHANGED, user=alice, to="alice.before@example.net", caller=caller)
    ended = sessions.begin(user=alice, kind=Session.Kind.BROWSER, caller=Caller(ip="192.0.2.9"))
    sessions.end(user=alice, session_id=ended.id, caller=caller)
    User.objects.filter(id=alice.id).update(deletes_at=now())
    alice.refresh_from_db()
    found = copy_of(alice)
    names = {
        "profile.json",
        "devices.json",
        "two_step.json",
        "identities.json",
        "events.json",
        "mails.json",
        "uploads.json",
        "picture.webp",
    }
    assert set(found) == {"README.txt", *names}
    profile = json.loads(found["profile.json"])
    assert (profile["id"], profile["username"], profile["email"]) == (str(alice.id), "alice", "alice@example.com")
    assert (profile["first_name"], profile["gender"]) == ("Alice", "female")
    assert profile["deletes_at"]
    devices = {device["id"]: device for device in json.loads(found["devices.json"])}
    assert set(devices) == {str(phone.id), str(ended.id)}
    assert devices[str(phone.id)]["name"] == "Ada's iPhone"
    assert devices[str(ended.id)]["ended_at"]
    events = json.loads(found["events.json"])
    assert [event["kind"] for event in events] == list(
        Event.objects.filter(user=alice).order_by("id").values_list("kind", flat=True)
    )
    assert (events[0]["what"], events[0]["ip"]) == ("Signed in", caller.ip)
    mails = json.loads(found["mails.json"])
    assert {"to": ["alice.before@example.net"], "subject": "Your Crew password was changed", "state": "waiting"} in [
        {name: item[name] for name in ("to", "subject", "state")} for item in mails
    ]
    assert Image.open(io.BytesIO(found["picture.webp"])).size == (1024, 1024)
    (upload,) = json.loads(found["uploads.json"])
    assert (upload["state"], upload["size"], upload["ip"]) == ("asked", 9, caller.ip)


def test_it_speaks_the_language_of_the_user_s_mails(alice: User, phone: Session) -> None:
    User.objects.filter(id=alice.id).update(language="de", time_zone="Europe/Berlin")
    alice.refresh_from_db()
    found = copy_of(alice)
    assert found["README.txt"].decode().startswith("Alles, was Crew (")
    assert json.loads(found["events.json"])[0]["what"] == "Angemeldet"
    profile = json.loads(found["profile.json"])
    assert (profile["language"], profile["time_zone"]) == ("de", "Europe/Berlin")


def test_every_column_of_the_account_and_its_devices_is_in_it_or_left_out_on_purpose() -> None:
    """A field that is added later must be thought of."""
    kept = {field.name for field in User._meta.concrete_fields}
    left_out = {"password", "username_skeleton", "picture", "picture_placeholder", "is_active", "is_superuser"}
    assert kept - set(lifecycle.PROFILE) == left_out
    kept = {field.name for field in PictureUpload._meta.concrete_fields}
    assert kept - set(picture_uploads.EXPORTED) == {
        "user",
        "key",
        "expires_at",
        "remove_at",
        "tries",
        "claimed_until",
        "not_before",
    }
    kept = {field.name for field in Session._meta.concrete_fields}
    assert kept - set(sessions.EXPORTED) == {"user", "generation", "generation_used_at", "earlier_used_at", "identity"}


def test_no_secret_is_in_it(alice: User, phone: Session, caller: Caller, mailbox: Mailbox) -> None:
    email_addresses.request_change(user=alice, email="alice@example.net", password=PASSWORD, caller=caller)
    code, key = mailbox.code("alice@example.net"), mailbox.key("alice@example.net")
    text = b"".join(copy_of(alice).values()).decode()
    for secret in (code, key, alice.password, "argon2"):
        assert secret not in text


def test_nothing_of_anybody_else_is_in_it(alice: User, bob: User, caller: Caller) -> None:
    bobs = Caller(ip="203.0.113.7", device=Device("Bob's phone"))
    sessions.begin(user=bob, kind=Session.Kind.APP, caller=bobs)
    User.objects.filter(id=bob.id).update(email="bob.claims@example.com", email_verified=False)
    bob.refresh_from_db()
    email_addresses.send_confirmation(bob, "alice@example.com", caller=bobs)  # he says that it is his
    audit.record(audit.Kind.EMAIL_CLAIM_LAPSED, user=alice, caller=bobs)
    mail.send(mail.Message.PASSWORD_CHANGED, user=bob, to="bob.before@example.net", caller=bobs)
    found = copy_of(alice)
    text = b"".join(found.values()).decode()
    for word in ("bob", "Bob", "203.0.113.7", str(bob.id)):
        assert word not in text
    kinds = {event["kind"] for event in json.loads(found["events.json"])}
    assert {"email.claimed_elsewhere", "email.claim_lapsed"} <= kinds


def test_a_long_log_is_written_line_by_line(alice: User, caller: Caller) -> None:
    Event.objects.bulk_create(Event(user=alice, kind="session.started", ip=caller.ip) for _ in range(5000))
    assert len(read(alice, "events.json")) == 5000


def test_an_account_without_anything_has_a_copy_too(bob: User) -> None:
    found = copy_of(bob)
    assert json.loads(found["devices.json"]) == json.loads(found["mails.json"]) == []
    assert "picture.webp" not in found


# --- When something fails -----------------------------------------------------------------------------------


def free_the_lease() -> None:
    Export.objects.update(claimed_until=now())


def test_a_storage_that_is_away_costs_a_minute_and_in_the_end_the_copy(
    alice: User, asked: Export, no_storage: None, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = now()
    assert export.make_queued() == 1
    asked.refresh_from_db()
    assert asked.state == "queued"
    assert asked.claimed_until
    assert before <= asked.claimed_until - timedelta(minutes=1) <= now()
    assert export.make_queued() == 0
    for _ in range(export.MAX_TRIES - 1):
        free_the_lease()
        assert export.make_queued() == 1
    asked.refresh_from_db()
    assert (asked.state, asked.tries) == ("failed", export.MAX_TRIES)
    assert exports.latest(alice) == asked
    assert export.request(user=alice, caller=caller) != asked


def test_after_the_storage_is_back_the_copy_is_made(asked: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(export, "write", lambda *_: 1 / 0)
        assert export.make_queued() == 1
    free_the_lease()
    assert export.make_queued() == 1
    asked.refresh_from_db()
    assert asked.state == "ready"


KILLED = """
import sys, time, django
django.setup()
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[1]
from accounts.services.account import export
from accounts.services.profile import exports
def stop(row):
    print("there", flush=True)
    time.sleep(30)
export._finish = stop
export.make_queued()
"""


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_killed_after_the_upload_leaves_a_row_that_is_taken_again(asked: Export) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(connection.settings_dict["NAME"])],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert worker.stdout
        assert worker.stdout.readline().strip() == b"there"
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
    assert stored(asked)
    assert export.make_queued() == 0  # the lease lasts
    free_the_lease()
    assert export.make_queued() == 1
    asked.refresh_from_db()
    assert (asked.state, asked.tries) == ("ready", 2)


@pytest.mark.parametrize("was", ["queued", "claimed by a worker that ended"])
def test_a_copy_that_an_earlier_version_was_asked_for_is_made(alice: User, mailbox: Mailbox, was: str) -> None:
    """As SQL, in the columns that version 1.2 wrote."""
    tries, until = (0, None) if was == "queued" else (1, now())
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO accounts_export (id, user_id, state, key, requested_at, tries, claimed_until, ip, device)
            VALUES (gen_random_uuid(), %s, 'queued', %s, now(), %s, %s, '192.0.2.1', 'A phone')
            """,
            [alice.id, "ab" * 24, tries, until],
        )
    assert export.make_queued() == 1
    found = Export.objects.get()
    assert (found.state, found.tries, found.claimed_until) == ("ready", tries + 1, None)
    assert stored(found)
    assert "A phone" in mailbox.last("alice@example.com").message


@pytest.mark.django_db(transaction=True)
def test_of_several_workers_each_copy_has_one(caller: Caller, mailbox: Mailbox, db: None) -> None:
    for number in range(6):
        export.request(user=make_user(f"dora{number}"), caller=caller)
    found = at_once(3, export.make_queued)
    assert sum(count for count in found if isinstance(count, int)) == 6, found
    assert Export.objects.filter(state="ready").count() == len(mailbox.all()) == 6


def erase(user: User) -> None:
    User.objects.filter(id=user.id).update(deletes_at=now())
    assert deletion.erase_due() == 1


def test_an_account_that_is_erased_takes_its_copies_along(alice: User, ready: Export) -> None:
    erase(alice)
    assert exports.remove_expired() == 1
    assert not stored(ready)
    assert not Export.objects.exists()


def test_one_that_is_erased_before_its_copy_is_made_has_none(alice: User, asked: Export, mailbox: Mailbox) -> None:
    erase(alice)
    assert export.make_queued() == 0
    assert exports.remove_expired() == 1


def test_one_that_is_erased_while_its_copy_is_made_leaves_no_object(
    alice: User, asked: Export, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = export._make

    def slowly(row: Export, user: User) -> int:
        erase(alice)
        assert exports.remove_expired() == 0  # somebody may still be writing it
        return make(row, user)

    monkeypatch.setattr(export, "_make", slowly)
    assert export.make_queued() == 1
    assert stored(asked)
    assert exports.remove_expired() == 1
    assert not stored(asked)
    assert [row.subject for row in mailbox.all()] == ["Your Crew account is deleted"]


@pytest.mark.django_db(transaction=True)
def test_erasing_and_making_do_not_wait_for_each_other_for_ever(alice: User, caller: Caller) -> None:
    for number in range(4):
        user = make_user(f"dora{number}", deletes_at=now())
        export.request(user=user, caller=caller)
    found = at_once(4, lambda: (export.make_queued(), deletion.erase_due()))
    assert not [item for item in found if isinstance(item, Exception)], found
    assert set(User.objects.all()) == {alice}
    exports.remove_expired()
    assert not Export.objects.exists()


# --- Removing -----------------------------------------------------------------------------------------------


def test_after_seven_days_the_copy_is_gone(alice: User, ready: Export) -> None:
    assert exports.remove_expired() == 0
    Export.objects.update(expires_at=now())
    assert exports.latest(alice) is None
    assert exports.remove_expired() == 1
    assert not stored(ready)


def test_a_copy_that_cannot_be_removed_now_is_removed_later(
    ready: Export, monkeypatch: pytest.MonkeyPatch, caller: Caller
) -> None:
    Export.objects.update(expires_at=now())

    def refuse(name: str) -> None:
        raise OSError("away")

    with monkeypatch.context() as patched:
        patched.setattr(storages["default"], "delete", refuse)
        assert exports.remove_expired() == 0
    assert Export.objects.exists()
    assert exports.remove_expired() == 1


def test_nobody_gets_the_copy_of_somebody_else(ready: Export, bob: User) -> None:
    assert exports.latest(bob) is None
