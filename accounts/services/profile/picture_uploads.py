"""A picture straight from the app into the bucket: we sign a form, the app posts the file to the storage, and a worker
makes a picture of it. No byte of it goes through a web process.

The row names its object before there is one and is removed after it, so that no crash leaves an object behind. The
picture and the state of its upload change in one transaction, so that a second worker changes nothing."""

import io
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.core.files.storage import storages
from django.db import connection, transaction
from django.db.models import Q

from accounts.caller import Caller
from accounts.errors import (
    AccountError,
    FieldError,
    InvalidInput,
    InvalidPicture,
    Overloaded,
    PictureTooLarge,
    StorageUnavailable,
    UploadMissing,
    UploadNotFound,
    Words,
)
from accounts.lib import jobs
from accounts.lib.clock import now
from accounts.lib.leases import Queue
from accounts.lib.storage import bucket
from accounts.models import PictureUpload, User
from accounts.services.profile import objects, pictures
from accounts.services.security import rate_limits
from accounts.services.sessions import locks

log = logging.getLogger(__name__)

FORM_LIFETIME = timedelta(minutes=5)
KEPT = timedelta(hours=1)  # a row after its last change: for slow networks, and to say what happened to it
LEASE = timedelta(minutes=3)
PAUSE = timedelta(seconds=15)  # after a try that failed; twice as long each time
LONGEST_PAUSE = timedelta(minutes=10)
MAX_TRIES = 10  # in three quarters of an hour

# Uploads that failed come last, so that one on which workers die does not delay the others.
_queue = Queue(
    rows=PictureUpload.objects,
    waiting=Q(state=PictureUpload.State.QUEUED, user__isnull=False),
    not_before="not_before",
    order=("tries", "id"),
)

# --- Asking -------------------------------------------------------------------------------------------------


def problems(given: Mapping[str, Any]) -> list[FieldError]:
    """What is wrong with the type or the size, where they are given."""
    found = []
    if "content_type" in given and given["content_type"] not in pictures.max_pixels():
        found.append(FieldError("content_type", "unknown_choice"))
    if given.get("size", 1) < 1:
        found.append(FieldError("size", "out_of_range", 1, settings.PICTURE_MAX_BYTES))
    return found


def begin(*, user: User, content_type: str, size: int, caller: Caller) -> tuple[PictureUpload, bucket.Form]:
    """A form with which one file of this type and size can be posted to the bucket. Raises InvalidInput,
    PictureTooLarge, RateLimited, SessionRevoked."""
    if found := problems({"content_type": content_type, "size": size}):
        raise InvalidInput(found)
    if size > settings.PICTURE_MAX_BYTES:
        raise PictureTooLarge(f"{size} bytes", field="size")
    rate_limits.spend_or_refuse("picture_per_account", user.id)
    rate_limits.spend_or_refuse("open_upload_per_account", user.id)
    at = now()
    with transaction.atomic():
        locks.lock_active(user, None)
        upload = PictureUpload.objects.create(
            user=user,
            key=f"incoming/{secrets.token_hex(24)}",
            content_type=content_type,
            size=size,
            expires_at=at + FORM_LIFETIME,
            remove_at=at + KEPT,
            ip=caller.ip,
            device=caller.label[:200],
        )
    return upload, bucket.form(upload.key, content_type=content_type, size=size, lifetime=FORM_LIFETIME)


def complete(*, user: User, upload_id: UUID, caller: Caller) -> PictureUpload:
    """The file is in the bucket: the worker may take it. It replaces earlier uploads that are queued. A second call
    changes nothing. Raises UploadNotFound."""
    with transaction.atomic():
        User.objects.lock().filter(id=user.id).first()  # one at a time, and none while a picture is being published
        upload = user.picture_uploads.select_for_update().filter(id=upload_id).first()
        if upload is None:
            raise UploadNotFound
        if upload.state == PictureUpload.State.ASKED:
            pictures.replace_queued(user)
            upload.state = PictureUpload.State.QUEUED
            if not _queue.due().exists():  # else a task is waiting already, and the next follows it
                jobs.enqueue(publish_upload)
            upload.save(update_fields=["state"])
    return upload


def find(*, user: User, upload_id: UUID) -> PictureUpload:
    """How far it is. Raises UploadNotFound."""
    upload = user.picture_uploads.filter(id=upload_id).first()
    if upload is None:
        raise UploadNotFound
    return upload


# Why an upload was refused.
_REASONS: dict[str, type[AccountError]] = {
    error.code: error for error in (InvalidPicture, PictureTooLarge, UploadMissing, StorageUnavailable)
}


def words(upload: PictureUpload) -> Words | None:
    return _REASONS[upload.reason].message if upload.reason else None


# --- Publishing ---------------------------------------------------------------------------------------------


@shared_task(name="accounts.publish_upload")
def publish_upload() -> None:
    """One. The next comes after the tasks that wait already, so that no email has to wait for a hundred pictures."""
    if publish_next() and _queue.due().exists():
        jobs.enqueue(publish_upload)


@shared_task(name="accounts.sweep_uploads")
def poll_uploads() -> None:
    """Poll for uploads whose notification was lost. Stops after half the poll interval, so that emails are sent too."""
    end = time.monotonic() + settings.SWEEP_INTERVAL / 2
    while publish_next() and time.monotonic() < end:
        pass


def publish_next() -> bool:
    """In the worker: make a picture of the next upload, if there is one."""
    upload = _claim()
    if upload is None:
        return False
    try:
        _publish(upload)
    except (InvalidPicture, PictureTooLarge, UploadMissing) as error:
        log.info("an uploaded picture is refused: %s (%s)", error.code, error.reason)
        _refuse(upload, error.code)
    except (StorageUnavailable, Overloaded, *bucket.ERRORS) as error:
        log.warning("an uploaded picture waits: %s", type(error).__name__)
        _try_later(upload)
    except Exception:
        log.exception("an uploaded picture could not be published")
        _try_later(upload)
    finally:
        _queue.release(upload)  # in any case: it may be replaced or its user erased by now
    return True


def _claim() -> PictureUpload | None:
    """The next upload; none while another is being worked on."""
    return _queue.claim(lease=LEASE, unless=_is_one_at_work)


def _is_one_at_work() -> bool:
    """In the transaction that claims the next: only one worker at a time asks."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('accounts.picture_uploads'))")
    return PictureUpload.objects.filter(claimed_until__gt=now()).exists()


def _publish(upload: PictureUpload) -> None:
    if upload.tries > MAX_TRIES:
        raise StorageUnavailable("a worker died at each try")
    content = _fetch(upload)
    user = User.objects.filter(picture_uploads=upload).first()
    if user is None:
        return  # erased meanwhile
    prepared = pictures.store(user, pictures.encode(io.BytesIO(content)))
    with transaction.atomic():
        held = User.objects.lock().filter(id=user.id).first()
        if held is None or not _finish(upload, PictureUpload.State.DONE):
            return  # the worker removes what was stored
        pictures.publish(held, prepared, Caller(ip=upload.ip, known_as=upload.device))
    _discard(upload)


def _fetch(upload: PictureUpload) -> bytes:
    """The file, if it is as announced. The bucket refuses any other; a storage that only imitates S3 may not."""
    found = bucket.get(upload.key)
    if found is None:
        raise UploadMissing
    with found.body as body:
        if found.size > upload.size:
            raise PictureTooLarge(f"{found.size} bytes")
        if found.size != upload.size or found.content_type != upload.content_type:
            raise InvalidPicture("not what was asked for")
        content: bytes = body.read(upload.size)
    return content


def _finish(upload: PictureUpload, state: PictureUpload.State, reason: str = "") -> bool:
    return _queue.finish(upload, state=state, reason=reason, remove_at=now() + KEPT)


def _refuse(upload: PictureUpload, reason: str) -> None:
    if _finish(upload, PictureUpload.State.REFUSED, reason):
        _discard(upload)


def _try_later(upload: PictureUpload) -> None:
    if upload.tries < MAX_TRIES:
        _queue.retry_later(upload, min(PAUSE * 2 ** (upload.tries - 1), LONGEST_PAUSE))
    else:
        _refuse(upload, StorageUnavailable.code)


def _discard(upload: PictureUpload) -> None:
    if not objects.may_remove():
        return
    try:
        bucket.delete(upload.key)
    except bucket.ERRORS as error:
        log.warning("an uploaded file stays for now: %s", type(error).__name__)  # `remove_old` tries again


# --- Removing -----------------------------------------------------------------------------------------------


def forget_all(user: User) -> None:
    """The picture of an account that is erased or handed over, and every upload."""
    if user.picture:
        pictures.discard(user.picture)
    forget(user)


def forget(user: User) -> None:
    """The uploads of an account that is erased or handed over. The objects are removed after the commit."""
    if user.picture_uploads.update(user=None, ip=None, device="", remove_at=now()):
        jobs.enqueue(remove_old)


@shared_task(name="accounts.remove_uploads")
def remove_old() -> int:
    """In the worker: remove uploads that were never completed, and those that are done."""
    waits = Q(state=PictureUpload.State.QUEUED, user__isnull=False)  # however long the worker was away
    at_work = Q(claimed_until__isnull=False, claimed_until__gt=now())  # its row says so to the other workers
    old = PictureUpload.objects.filter(~waits, ~at_work, remove_at__lte=now()).order_by("remove_at")
    return objects.remove_with_rows(old, _remove)


def _remove(upload: PictureUpload) -> bool:
    bucket.delete(upload.key)
    if upload.expires_at <= now():
        return True
    upload.remove_at = upload.expires_at + FORM_LIFETIME  # its form still works
    upload.save(update_fields=["remove_at"])
    return False


# --- Objects that no row names ------------------------------------------------------------------------------

GRACE = timedelta(days=1)  # far longer than any picture is on its way
AT_MOST = 10_000  # objects in one go


@shared_task(name="accounts.remove_orphans")
def remove_orphans() -> int:
    """In the worker, every hour: what no row names. Where this database does not own the bucket, one line says so."""
    found = objects.claim()
    if found is not objects.Owner.THIS:
        log.warning("%s", found.value)
        return 0
    return pictures.discard_orphans(age=GRACE, at_most=AT_MOST) + remove_orphaned_files()


def remove_orphaned_files() -> int:
    """In the worker: delete files that no row names, such as one that was sent just before its form expired. A row's
    key is random and made before anything is put there, so no row can name such a file later."""
    count = 0
    for keys in bucket.older_than(GRACE, "incoming/", at_most=AT_MOST):
        named = set(PictureUpload.objects.filter(key__in=keys).values_list("key", flat=True))
        count += bucket.delete_many(sorted(set(keys) - named))
    return count


EXPORTED = ("id", "content_type", "size", "state", "reason", "created_at", "ip", "device")


def export(user: User) -> Iterator[dict[str, Any]]:
    """Recent uploads for the copy of the data."""
    yield from user.picture_uploads.order_by("id").values(*EXPORTED).iterator()


def export_picture(user: User) -> bytes | None:
    """The picture at its largest size, for the copy of the data."""
    if not user.picture:
        return None
    with storages["default"].open(pictures.path(user.picture, pictures.SIZES[-1])) as picture:
        content: bytes = picture.read()
    return content
