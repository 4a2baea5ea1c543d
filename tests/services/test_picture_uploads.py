"""Pictures that an app puts into the bucket itself: the bucket takes nothing else, and a worker makes them pictures."""

import io
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import requests
from django.conf import settings as django_settings
from django.db import connection
from django.utils.timezone import now
from PIL import Image
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import (
    InvalidInput,
    InvalidPicture,
    PictureTooLarge,
    RateLimited,
    StorageUnavailable,
    UploadMissing,
    UploadNotFound,
)
from accounts.lib.storage import bucket
from accounts.lib.storage.bucket import Form
from accounts.models import DiscardedPicture, Event, PictureUpload, User
from accounts.services.account import deletion, users
from accounts.services.profile import picture_uploads, pictures
from tests.conftest import make_user, picture, random_ip
from tests.services.test_pictures import down
from tests.threads import at_once, each_at_once

PNG = picture((90, 60))
State = PictureUpload.State


def begin(user: User, content: bytes = PNG, content_type: str = "image/png") -> tuple[PictureUpload, Form]:
    caller = Caller(ip=random_ip())
    return picture_uploads.begin(user=user, content_type=content_type, size=len(content), caller=caller)


def post(form: Form, content: bytes = PNG, **fields: str) -> int:
    """As an app does it. The status."""
    return requests.post(
        form.url, data={**form.fields, **fields}, files={"file": ("a", content)}, timeout=10
    ).status_code


def complete(user: User, upload: PictureUpload) -> PictureUpload:
    return picture_uploads.complete(user=user, upload_id=upload.id, caller=Caller(ip=random_ip()))


def uploaded(user: User, content: bytes = PNG, content_type: str = "image/png") -> PictureUpload:
    """Begun, posted and said to be complete."""
    upload, form = begin(user, content, content_type)
    assert post(form, content) == 204
    return complete(user, upload)


def state(upload: PictureUpload) -> tuple[str, str]:
    upload.refresh_from_db()
    return upload.state, upload.reason


def objects(*prefixes: str) -> set[str]:
    """All but who owns the bucket, and the notes of the erased."""
    found = {key for prefix in prefixes for key, _ in bucket.listing(prefix, after="", at_most=100_000)}
    return {key for key in found if key.partition("/")[0] not in {"owner", "erased"}}


def objects_of(user: User) -> set[str]:
    user.refresh_from_db()
    return objects(f"pictures/{user.picture}/") if user.picture else set()


@pytest.fixture
def empty_bucket(db: None) -> None:
    for key in objects(""):
        bucket.delete(key)


# --- The form -----------------------------------------------------------------------------------------------


def test_what_is_uploaded_becomes_the_picture_and_the_file_goes(alice: User) -> None:
    upload, form = begin(alice)
    assert form.url.startswith(f"{django_settings.S3_PUBLIC_ENDPOINT_URL}/")
    assert form.fields["key"] == upload.key
    assert upload.key.startswith("incoming/")
    assert upload.expires_at - now() < timedelta(minutes=5)
    assert post(form) == 204
    assert complete(alice, upload).state == State.QUEUED
    assert picture_uploads.publish_next()
    assert state(upload) == (State.DONE, "")
    assert len(objects_of(alice)) == 3
    assert len(alice.picture_placeholder) == 36
    assert bucket.get(upload.key) is None
    assert not DiscardedPicture.objects.exists()
    event = Event.objects.get(user=alice)
    assert (event.kind, event.ip) == ("picture.changed", upload.ip)
    address = pictures.addresses(alice)[256]
    with urllib.request.urlopen(address, timeout=5) as answer, Image.open(io.BytesIO(answer.read())) as image:  # noqa: S310 - our own bucket
        assert image.size == (256, 256)


def test_the_same_picture_comes_out_as_by_the_form_of_the_profile(alice: User, caller: Caller) -> None:
    by_form = pictures.replace(user=alice, file=io.BytesIO(PNG), caller=caller).picture
    upload = uploaded(alice)
    picture_uploads.publish_next()
    alice.refresh_from_db()
    assert (alice.picture, state(upload)) == (by_form, (State.DONE, ""))
    assert Event.objects.filter(user=alice).count() == 1  # the second time changed nothing


def test_the_bucket_itself_refuses_anything_else(alice: User, empty_bucket: None) -> None:
    others: list[tuple[bytes, dict[str, str]]] = [
        (PNG[:-1], {}),
        (PNG + b"x", {}),
        (b"x" * 20_000_000, {}),
        (b"", {}),
        (PNG, {"key": "incoming/of-my-own"}),
        (PNG, {"key": "pictures/of-my-own/64.webp"}),
        (PNG, {"Content-Type": "text/html"}),
        (PNG, {"x-amz-signature": "0" * 64}),
        (PNG, {"x-amz-date": "20200101T000000Z"}),
        (PNG, {"policy": "e30="}),
    ]
    _, form = begin(alice)
    found = [(post(form, content, **fields), len(content), fields) for content, fields in others]
    assert [one for one in found if one[0] not in {400, 403}] == []
    assert objects("") == set()


def test_the_bucket_refuses_a_form_that_is_too_old(
    alice: User, empty_bucket: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_uploads, "FORM_LIFETIME", timedelta(seconds=-1))
    _, form = begin(alice)
    assert post(form) == 403
    assert objects("") == set()


def test_all_threads_sign_with_one_client() -> None:
    """Making one takes up to a second of CPU, and there are many threads."""
    first = bucket._client("public")[0]
    assert at_once(2, lambda: bucket._client("public")[0]) == [first, first]


def test_nobody_reads_a_file_that_waits_whatever_else_the_form_asks_for(alice: User) -> None:
    _, form = begin(alice)
    post(form, acl="public-read")  # Amazon refuses fields that the policy does not name, SeaweedFS takes no notice
    assert requests.get(f"{form.url}/{form.fields['key']}", timeout=5).status_code in {403, 404}


def test_a_page_of_ours_may_post_to_the_bucket_and_no_other(alice: User) -> None:
    _, form = begin(alice)
    ours = {"Origin": os.environ["PUBLIC_URL"]}
    before = requests.options(form.url, headers={**ours, "Access-Control-Request-Method": "POST"}, timeout=5)
    assert before.headers["Access-Control-Allow-Origin"] == ours["Origin"]
    for caller, allowed in ((ours["Origin"], True), ("https://elsewhere.example", False)):
        sent = requests.post(
            form.url, data=form.fields, files={"file": ("a", PNG)}, headers={"Origin": caller}, timeout=5
        )
        assert ("Access-Control-Allow-Origin" in sent.headers) is allowed


@pytest.mark.parametrize("content_type", ["", "image/gif", "image/svg+xml", "text/html", "IMAGE/PNG"])
def test_a_type_that_is_not_taken_is_refused_by_name(alice: User, content_type: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        begin(alice, content_type=content_type)
    assert [(error.field, error.code) for error in refusal.value.errors] == [("content_type", "unknown_choice")]
    assert not PictureUpload.objects.exists()


@pytest.mark.parametrize(
    ("size", "error"),
    [(0, InvalidInput), (-1, InvalidInput), (django_settings.PICTURE_MAX_BYTES + 1, PictureTooLarge)],
)
def test_a_size_that_is_not_taken_is_refused(alice: User, caller: Caller, size: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        picture_uploads.begin(user=alice, content_type="image/png", size=size, caller=caller)
    assert not PictureUpload.objects.exists()


def test_open_uploads_are_limited_for_each_account(alice: User, bob: User) -> None:
    for _ in range(10):
        begin(alice)
    with pytest.raises(RateLimited):
        begin(alice)
    begin(bob)


# --- Completing ---------------------------------------------------------------------------------------------


def test_an_upload_of_someone_else_is_not_there(alice: User, bob: User) -> None:
    upload, _ = begin(alice)
    for unknown in (upload.id, uuid4()):
        with pytest.raises(UploadNotFound):
            picture_uploads.find(user=bob, upload_id=unknown)
        with pytest.raises(UploadNotFound):
            picture_uploads.complete(user=bob, upload_id=unknown, caller=Caller(ip=random_ip()))
    assert state(upload) == (State.ASKED, "")


def test_completing_twice_changes_nothing(alice: User) -> None:
    upload = uploaded(alice)
    assert complete(alice, upload).state == State.QUEUED
    picture_uploads.publish_next()
    assert complete(alice, upload).state == State.DONE
    assert not picture_uploads.publish_next()


def test_of_two_that_wait_the_last_one_counts(alice: User) -> None:
    first, second = uploaded(alice), uploaded(alice, picture((50, 50)))
    while picture_uploads.publish_next():
        pass
    assert (state(first)[0], state(second)[0]) == (State.REPLACED, State.DONE)


@pytest.mark.parametrize("removed", [False, True])
def test_a_picture_that_is_chosen_meanwhile_stays(alice: User, caller: Caller, removed: bool) -> None:
    pictures.replace(user=alice, file=io.BytesIO(picture((30, 30))), caller=caller)
    upload = uploaded(alice)
    if removed:
        chosen = pictures.remove(user=alice, caller=caller).picture
    else:
        chosen = pictures.replace(user=alice, file=io.BytesIO(picture((40, 40))), caller=caller).picture
    assert not picture_uploads.publish_next()
    assert state(upload) == (State.REPLACED, "")
    alice.refresh_from_db()
    assert alice.picture == chosen


def refused(upload: PictureUpload, error: type[Exception]) -> None:
    assert picture_uploads.publish_next()
    assert state(upload) == (State.REFUSED, error.code)  # type: ignore[attr-defined]
    assert picture_uploads.words(upload) == error.message  # type: ignore[attr-defined]
    assert bucket.get(upload.key) is None


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"no picture", InvalidPicture), (b"<svg/>", InvalidPicture), (PNG[:-100], InvalidPicture)],
    ids=["text", "svg", "cut off"],
)
def test_what_is_no_picture_is_refused_with_its_reason_and_the_old_one_stays(
    alice: User, caller: Caller, content: bytes, error: type[Exception]
) -> None:
    old = pictures.replace(user=alice, file=io.BytesIO(picture((30, 30))), caller=caller).picture
    refused(uploaded(alice, content), error)
    alice.refresh_from_db()
    assert alice.picture == old
    assert not DiscardedPicture.objects.exists()


def test_too_many_pixels_are_refused_with_their_reason(alice: User, settings: Settings) -> None:
    settings.PICTURE_MAX_PIXELS = 100
    refused(uploaded(alice), PictureTooLarge)


def test_an_upload_that_never_arrived_is_refused_with_its_reason(alice: User) -> None:
    upload, _ = begin(alice)
    complete(alice, upload)
    refused(upload, UploadMissing)


@pytest.mark.parametrize(
    ("content", "content_type", "error"),
    [(PNG + b"x", "image/png", PictureTooLarge), (PNG[:-1], "image/png", InvalidPicture), (PNG, "", InvalidPicture)],
    ids=["longer", "shorter", "another type"],
)
def test_a_bucket_that_took_something_else_is_not_believed(
    alice: User, content: bytes, content_type: str, error: type[Exception]
) -> None:
    upload, _ = begin(alice)
    bucket.put(upload.key, content, content_type=content_type or "text/html", cache_control="no-store")
    complete(alice, upload)
    refused(upload, error)


# --- When something fails -----------------------------------------------------------------------------------


def test_a_storage_that_is_down_is_waited_for(alice: User, settings: Settings) -> None:
    upload = uploaded(alice)
    shipped = settings.STORAGES
    down(settings)
    assert picture_uploads.publish_next()
    assert state(upload) == (State.QUEUED, "")
    assert not picture_uploads.publish_next()  # it is left alone for a while
    settings.STORAGES = shipped
    PictureUpload.objects.update(not_before=now())
    assert picture_uploads.publish_next()
    assert state(upload) == (State.DONE, "")


def test_after_many_tries_it_is_given_up_with_its_reason(alice: User, settings: Settings) -> None:
    upload = uploaded(alice)
    PictureUpload.objects.update(tries=picture_uploads.MAX_TRIES - 1)
    down(settings)
    assert picture_uploads.publish_next()
    assert state(upload) == (State.REFUSED, StorageUnavailable.code)


@pytest.mark.parametrize("was", ["queued", "claimed by a worker that ended", "pausing after a try that failed"])
def test_an_upload_that_an_earlier_version_queued_is_published(alice: User, was: str) -> None:
    """As SQL, in the columns that version 1.2 wrote."""
    upload, form = begin(alice)
    assert post(form) == 204
    values = {
        "queued": (0, None, None),
        "claimed by a worker that ended": (1, now(), None),
        "pausing after a try that failed": (1, None, now()),
    }[was]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE accounts_pictureupload SET state = 'queued', tries = %s, claimed_until = %s, not_before = %s",
            values,
        )
    assert picture_uploads.publish_next()
    assert state(upload) == (State.DONE, "")
    assert (upload.tries, upload.claimed_until) == (values[0] + 1, None)


@pytest.mark.django_db(transaction=True)
def test_only_one_is_at_work_at_a_time_so_that_a_worker_process_is_left_for_mails() -> None:
    first, second = (uploaded(make_user(name)) for name in ("alice", "bob"))
    claimed = [one for one in at_once(4, picture_uploads._claim) if one is not None]
    assert [getattr(one, "id", one) for one in claimed] == [first.id]
    assert not picture_uploads.publish_next()
    assert state(second) == (State.QUEUED, "")
    PictureUpload.objects.filter(id=first.id).update(claimed_until=now())  # its worker was killed
    while picture_uploads.publish_next():
        pass
    assert state(first) == state(second) == (State.DONE, "")


@pytest.mark.parametrize("end", ["replaced", "forgotten"])
def test_one_that_is_not_wanted_any_more_is_at_work_until_its_worker_lets_it_go(
    alice: User, bob: User, caller: Caller, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    uploaded(alice)
    uploaded(bob)
    store, others = pictures.store, []

    def meanwhile(*args: Any) -> pictures.Prepared:
        with monkeypatch.context() as patch:
            patch.setattr(pictures, "store", store)
            if end == "replaced":
                pictures.replace_queued(alice)
            else:
                picture_uploads.forget(alice)
                PictureUpload.objects.filter(user=None).update(expires_at=now())
            picture_uploads.remove_old()
            others.append(picture_uploads.publish_next())
        return store(*args)

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "store", meanwhile)
        assert picture_uploads.publish_next()
    assert others == [False]
    assert picture_uploads.publish_next()
    assert len(objects_of(bob)) == 3
    assert not objects_of(alice)


def test_what_failed_waits_behind_the_others(alice: User, bob: User) -> None:
    first, second = uploaded(alice), uploaded(bob)
    PictureUpload.objects.filter(id=first.id).update(tries=1)  # a worker died at it
    assert picture_uploads.publish_next()
    assert (state(first)[0], state(second)[0]) == (State.QUEUED, State.DONE)


@pytest.mark.parametrize("more", [0, 1, 2**15 - 2 - picture_uploads.MAX_TRIES])
def test_one_at_which_every_worker_dies_is_given_up_with_its_reason(alice: User, more: int) -> None:
    upload = uploaded(alice)
    PictureUpload.objects.update(tries=picture_uploads.MAX_TRIES + more)
    refused(upload, StorageUnavailable)


def test_an_account_that_is_switched_off_is_shown_no_picture_that_was_on_its_way(
    alice: User, caller: Caller, empty_bucket: None
) -> None:
    uploaded(alice)
    users.set_active(user=alice, active=False, caller=caller)
    assert not picture_uploads.publish_next()
    picture_uploads.remove_old()
    assert objects("") == set()
    users.set_active(user=alice, active=True, caller=caller)
    assert not picture_uploads.publish_next()
    assert not objects_of(alice)


STEPS = {
    "after the claim": "picture_uploads._publish = die",
    "before the file is fetched": "bucket.get = die",
    "before it is decoded": "pictures.encode = die",
    "before the first size": "bucket.put = after(0, bucket.put)",
    "after the first size": "bucket.put = after(1, bucket.put)",
    "after the second size": "bucket.put = after(2, bucket.put)",
    "before it is shown": "pictures.publish = die",
    "before the transaction ends": "audit.record = die",
    "after the transaction": "picture_uploads._discard = die",
}
_DIE = """
import os, signal, sys
import django
django.setup()
from accounts.lib.storage import bucket
from accounts.services.profile import picture_uploads, pictures
from accounts.services.security import audit

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def after(times, work):
    def working(*args, **options):
        nonlocal times
        if not times:
            die()
        times -= 1
        return work(*args, **options)
    return working

from tests.pictures import decoded_once
pictures._decode = decoded_once
decoded_once(bytes.fromhex(sys.argv[1]))
print(flush=True)
for line in sys.stdin:  # each step in a process of its own
    if not os.fork():
        exec(line)
        picture_uploads.publish_next()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.fixture(scope="module")
def dying_worker(django_db_setup: None) -> Iterator[Callable[[str], int]]:
    """Does one upload, is killed at this step, and how it ended: Django is loaded once for all of them."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    environment = {
        **os.environ,
        "DATABASE_URL": parts._replace(path=f"/{connection.settings_dict['NAME']}").geturl(),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    with subprocess.Popen(
        [sys.executable, "-c", _DIE, PNG.hex()],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout
        assert stdout.readline() == "\n"

        def run(step: str) -> int:
            stdin.write(f"{step}\n")
            stdin.flush()
            return int(stdout.readline())

        yield run


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_is_killed_at_any_step_leaves_no_size_out_and_nothing_behind(
    step: str, empty_bucket: None, dying_worker: Callable[[str], int]
) -> None:
    alice = make_user("alice")
    old = pictures.replace(user=alice, file=io.BytesIO(picture((30, 30))), caller=Caller(ip=random_ip())).picture
    upload = uploaded(alice)
    assert dying_worker(STEPS[step]) == -9
    alice.refresh_from_db()
    assert len(objects_of(alice)) == 3
    assert alice.picture == old or step == "after the transaction"

    PictureUpload.objects.update(claimed_until=now())  # the lease runs out
    while picture_uploads.publish_next():
        pass
    assert state(upload) == (State.DONE, "")
    assert len(objects_of(alice)) == 3
    assert alice.picture != old
    assert Event.objects.filter(user=alice, kind="picture.changed").count() == 2
    DiscardedPicture.objects.update(remove_at=now())
    PictureUpload.objects.update(remove_at=now(), expires_at=now())
    pictures.remove_discarded()
    picture_uploads.remove_old()
    assert objects("") == objects_of(alice)
    assert not PictureUpload.objects.exists()
    assert not DiscardedPicture.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_publish_each_upload_once(empty_bucket: None) -> None:
    people = [make_user(f"{name}.uploads") for name in ("ada", "ben", "cleo", "dora")]
    for person in people:
        uploaded(person)
    assert [
        one for one in at_once(2, lambda: [*iter(picture_uploads.publish_next, False)]) if isinstance(one, Exception)
    ] == []
    assert {upload.state for upload in PictureUpload.objects.all()} == {State.DONE}
    assert Event.objects.count() == 4
    assert len(objects("pictures/")) == 12


@pytest.mark.django_db(transaction=True)
def test_an_upload_and_the_form_at_once_leave_one_picture_and_nothing_behind(empty_bucket: None) -> None:
    alice = make_user("alice")
    uploaded(alice)

    def by_form() -> None:
        user = User.objects.get(id=alice.id)
        pictures.replace(user=user, file=io.BytesIO(picture((40, 40))), caller=Caller(ip=random_ip()))

    found = each_at_once([picture_uploads.publish_next, by_form])
    assert not [one for one in found if isinstance(one, Exception)], found
    DiscardedPicture.objects.update(remove_at=now())
    pictures.remove_discarded()
    assert len(objects_of(alice)) == 3
    assert objects("pictures/") == objects_of(alice)


def test_what_waited_too_long_to_be_shown_and_was_cleared_away_is_not_shown(alice: User, caller: Caller) -> None:
    prepared = pictures.prepare(alice, io.BytesIO(PNG))
    DiscardedPicture.objects.update(remove_at=now())
    pictures.remove_discarded()
    with pytest.raises(StorageUnavailable):
        pictures.publish(alice, prepared, caller)
    alice.refresh_from_db()
    assert alice.picture == ""


# --- Removing -----------------------------------------------------------------------------------------------


def test_what_nobody_completed_is_removed_after_an_hour(alice: User) -> None:
    upload, form = begin(alice)
    post(form)
    assert picture_uploads.remove_old() == 0
    PictureUpload.objects.update(remove_at=now(), expires_at=now())
    assert picture_uploads.remove_old() == 1
    assert bucket.get(upload.key) is None
    with pytest.raises(UploadNotFound):
        complete(alice, upload)


def test_what_waits_for_the_worker_is_never_removed(alice: User) -> None:
    upload = uploaded(alice)
    PictureUpload.objects.update(remove_at=now())
    assert picture_uploads.remove_old() == 0
    assert bucket.get(upload.key) is not None


def test_a_form_that_is_used_again_afterwards_leaves_nothing_behind(alice: User) -> None:
    upload, form = begin(alice)
    post(form)
    complete(alice, upload)
    picture_uploads.publish_next()
    assert post(form) == 204  # it works for five minutes
    PictureUpload.objects.update(remove_at=now(), expires_at=now())
    picture_uploads.remove_old()
    assert bucket.get(upload.key) is None


def test_what_cannot_be_removed_now_is_removed_later(alice: User, settings: Settings) -> None:
    begin(alice)
    PictureUpload.objects.update(remove_at=now(), expires_at=now())
    shipped = settings.STORAGES
    down(settings)
    assert picture_uploads.remove_old() == 0
    settings.STORAGES = shipped
    assert picture_uploads.remove_old() == 1


def erase(user: User) -> None:
    User.objects.filter(id=user.id).update(deletes_at=now())
    assert deletion.erase_due() == 1


@pytest.mark.parametrize("moment", ["asked", "posted", "queued", "done", "refused"])
def test_nothing_is_left_of_an_erased_account_wherever_its_upload_was(
    bob: User, empty_bucket: None, moment: str
) -> None:
    upload, form = begin(bob, PNG if moment != "refused" else b"text")
    if moment != "asked":
        post(form, PNG if moment != "refused" else b"text")
    if moment in {"queued", "done", "refused"}:
        complete(bob, upload)
    if moment in {"done", "refused"}:
        picture_uploads.publish_next()
    erase(bob)
    upload.refresh_from_db()
    assert (upload.user, upload.ip, upload.device) == (None, None, "")
    assert not picture_uploads.publish_next()
    picture_uploads.remove_old()
    pictures.remove_discarded()
    assert objects("") == set()
    if moment == "asked":
        assert post(form) == 204  # its form works for some minutes still
    PictureUpload.objects.update(remove_at=now(), expires_at=now())
    picture_uploads.remove_old()
    assert objects("") == set()
    assert not PictureUpload.objects.exists()


def test_an_account_that_is_erased_while_its_picture_is_made_leaves_nothing_behind(
    bob: User, empty_bucket: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded(bob)
    store = pictures.store

    def erased_meanwhile(*args: Any) -> pictures.Prepared:
        prepared = store(*args)
        erase(bob)
        return prepared

    monkeypatch.setattr(pictures, "store", erased_meanwhile)
    assert picture_uploads.publish_next()
    DiscardedPicture.objects.update(remove_at=now())
    PictureUpload.objects.update(remove_at=now(), expires_at=now())
    pictures.remove_discarded()
    picture_uploads.remove_old()
    assert objects("") == set()


# --- Objects that no row names ------------------------------------------------------------------------------


@pytest.fixture
def all_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_uploads, "GRACE", timedelta(seconds=-5))


def test_objects_that_no_row_names_are_removed_and_no_others(
    alice: User, caller: Caller, empty_bucket: None, all_is_old: None
) -> None:
    pictures.replace(user=alice, file=io.BytesIO(picture((30, 30))), caller=caller)
    waiting = uploaded(alice, picture((40, 40)))
    on_its_way = pictures.prepare(alice, io.BytesIO(picture((20, 20)))).key
    others = {f"pictures/{'0' * 48}/{size}.webp" for size in pictures.SIZES} | {
        "incoming/of-no-row",
        "incoming/another",
    }
    strangers = {"pictures/readme.txt", "exports/x.zip", "else/where"}
    for key in others | strangers:
        bucket.put(key, b"x", content_type="image/webp", cache_control="no-store")
    named = objects_of(alice) | objects(f"pictures/{on_its_way}/") | {waiting.key}
    assert picture_uploads.remove_orphans() == 3
    pictures.remove_discarded()
    assert objects("") == named | strangers
    assert picture_uploads.remove_orphans() == 0


def test_an_object_that_is_young_has_its_time(alice: User, empty_bucket: None) -> None:
    bucket.put("incoming/young", b"x", content_type="image/png", cache_control="no-store")
    assert picture_uploads.remove_orphans() == 0
    assert objects("") == {"incoming/young"}


def test_an_orphan_whose_picture_is_sent_again_at_that_moment_stays(
    alice: User, caller: Caller, empty_bucket: None, all_is_old: None
) -> None:
    key = pictures.prepare(alice, io.BytesIO(PNG)).key
    DiscardedPicture.objects.all().delete()  # now it is one
    assert picture_uploads.remove_orphans() == 1
    pictures.replace(user=alice, file=io.BytesIO(PNG), caller=caller)
    pictures.remove_discarded()
    alice.refresh_from_db()
    assert alice.picture == key
    assert len(objects_of(alice)) == 3


def test_the_listing_goes_through_all_wherever_it_begins(db: None, empty_bucket: None) -> None:
    keys = {f"incoming/{number:x}" for number in range(16)}
    for key in keys:
        bucket.put(key, b"x", content_type="image/png", cache_control="no-store")
    for _ in range(5):
        pages = list(bucket.older_than(timedelta(seconds=-5), "incoming/", at_most=100))
        found = [key for page in pages for key in page]
        assert sorted(found) == sorted(keys)
    few = [key for page in bucket.older_than(timedelta(seconds=-5), "incoming/", at_most=3) for key in page]
    assert len(few) <= 6
    assert set(few) <= keys
