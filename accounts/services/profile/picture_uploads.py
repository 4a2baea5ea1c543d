"""A picture straight from the app into the bucket: we sign a form, the app posts the file to the storage, and a worker
makes a picture of it. No byte of it goes through a web process.

The row names its object before there is one and goes after it, so that no crash leaves an object behind. A worker
claims it with a lease and holds no lock while it fetches, decodes and stores. What it shows and that the upload is done
stand in one transaction: done twice, it changes nothing."""

import io
import logging
import secrets
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import (
    AccountError,
    FieldError,
    InvalidInput,
    InvalidPicture,
    Overloaded,
    PictureTooLarge,
    SessionRevoked,
    StorageUnavailable,
    UploadMissing,
    UploadNotFound,
    Words,
)
from accounts.lib import jobs
from accounts.lib.storage import bucket
from accounts.models import PictureUpload, User
from accounts.services.profile import pictures
from accounts.services.security import rate_limits

log = logging.getLogger(__name__)

FORM_LIFETIME = timedelta(minutes=5)
KEPT = timedelta(
    hours=1
)  # the row, after its last change: long enough for a slow network, and to tell what became of it
LEASE = timedelta(minutes=3)
PAUSE = timedelta(seconds=15)  # after a try that failed; twice as long each time
LONGEST_PAUSE = timedelta(minutes=10)
MAX_TRIES = 10  # in three quarters of an hour

# --- Asking -------------------------------------------------------------------------------------------------


def begin(*, user: User, content_type: str, size: int, caller: Caller) -> tuple[PictureUpload, bucket.Form]:
    """A form with which one file of this type and size can be posted to the bucket. Raises InvalidInput,
    PictureTooLarge, RateLimited, SessionRevoked."""
    if content_type not in pictures.max_pixels():
        raise InvalidInput([FieldError("content_type", "unknown_choice")])
    if size < 1:
        raise InvalidInput([FieldError("size", "out_of_range")])
    if size > settings.PICTURE_MAX_BYTES:
        raise PictureTooLarge(f"{size} bytes")
    rate_limits.spend_or_refuse("picture_per_account", user.id)
    rate_limits.spend_or_refuse("open_upload_per_account", user.id)
    at = now()
    with transaction.atomic():
        if not User.objects.lock().filter(id=user.id):
            raise SessionRevoked("erased at this moment")
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
    """The file is in the bucket: the worker may take it. Of several, the last that is said to be complete counts. The
    second time it changes nothing. Raises UploadNotFound."""
    with transaction.atomic():
        User.objects.lock().filter(id=user.id).first()  # one at a time, and none while a picture is being shown
        upload = user.picture_uploads.select_for_update().filter(id=upload_id).first()
        if upload is None:
            raise UploadNotFound
        if upload.state == PictureUpload.State.ASKED:
            pictures.replace_queued(user)
            upload.state = PictureUpload.State.QUEUED
            if not _waiting().exists():  # else there is a task in line already, which is followed by the next
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
    """One; where more wait, they come after whatever else the worker has been asked for, so that no mail stands behind
    a hundred pictures."""
    if publish_next() and _waiting().exists():
        jobs.enqueue(publish_upload)


@shared_task(name="accounts.sweep_uploads")
def sweep_uploads() -> None:
    """Every few seconds: what no bell announced. For half of the time until the next sweep, so that mails leave too."""
    end = time.monotonic() + settings.SWEEP_INTERVAL / 2
    while publish_next() and time.monotonic() < end:
        pass


def publish_next() -> bool:
    """In the worker: make a picture of the upload that has waited longest, if one waits."""
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
        _release(upload)
    return True


def _waiting() -> Any:
    at = now()
    free = Q(claimed_until=None) | Q(claimed_until__lte=at)
    due = Q(not_before=None) | Q(not_before__lte=at)
    return PictureUpload.objects.filter(free, due, state=PictureUpload.State.QUEUED, user__isnull=False)


def _claim() -> PictureUpload | None:
    """The first in line, taken until the end of a lease; none while another is at work. Those that failed stand behind
    the others, so that one on which workers die holds nobody up for long."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('accounts.picture_uploads'))")
        if PictureUpload.objects.filter(claimed_until__gt=now()).exists():
            return None
        upload: PictureUpload | None = _waiting().select_for_update(skip_locked=True).order_by("tries", "id").first()
        if upload:
            upload.claimed_until, upload.tries = now() + LEASE, upload.tries + 1
            upload.save(update_fields=["claimed_until", "tries"])
    return upload


def _release(upload: PictureUpload) -> None:
    """The next one may be taken, whatever became of this one: it may be replaced or forgotten by now."""
    PictureUpload.objects.filter(id=upload.id, claimed_until=upload.claimed_until).update(claimed_until=None)


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
            return  # what is stored is cleared away by itself
        pictures.publish(held, prepared, Caller(ip=upload.ip, known_as=upload.device))
    _discard(upload)


def _fetch(upload: PictureUpload) -> bytes:
    """The file, where it is what was asked for. The bucket has refused any other; a look-alike may not have."""
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


def _mine(upload: PictureUpload) -> Any:
    # Only while the lease is still this worker's, and nobody was erased.
    return PictureUpload.objects.filter(
        id=upload.id, state=PictureUpload.State.QUEUED, claimed_until=upload.claimed_until, user__isnull=False
    )


def _finish(upload: PictureUpload, state: PictureUpload.State, reason: str = "") -> bool:
    changed: int = _mine(upload).update(state=state, reason=reason, remove_at=now() + KEPT)
    return bool(changed)


def _refuse(upload: PictureUpload, reason: str) -> None:
    if _finish(upload, PictureUpload.State.REFUSED, reason):
        _discard(upload)


def _try_later(upload: PictureUpload) -> None:
    if upload.tries < MAX_TRIES:
        _mine(upload).update(not_before=now() + min(PAUSE * 2 ** (upload.tries - 1), LONGEST_PAUSE))
    else:
        _refuse(upload, StorageUnavailable.code)


def _discard(upload: PictureUpload) -> None:
    try:
        bucket.delete(upload.key)
    except bucket.ERRORS as error:
        log.warning("an uploaded file stays for now: %s", type(error).__name__)  # it goes before its row does


# --- Removing -----------------------------------------------------------------------------------------------


def forget(user: User) -> None:
    """The uploads of an account that is erased or handed over: the objects go once the transaction is committed."""
    if user.picture_uploads.update(user=None, ip=None, device="", remove_at=now()):
        jobs.enqueue(remove_uploads)


@shared_task(name="accounts.remove_uploads")
def remove_uploads() -> int:
    return remove_old()


def remove_old() -> int:
    """In the worker: delete what nobody completed and what is done, each object before its row. What fails is tried
    again by the schedule. The number of rows that are gone."""
    count = 0
    for upload_id in list(_old().values_list("id", flat=True)[:500]):
        with transaction.atomic():
            upload = _old().select_for_update(skip_locked=True).filter(id=upload_id).first()
            if upload is None:
                continue
            try:
                bucket.delete(upload.key)
            except bucket.ERRORS as error:
                log.warning("an uploaded file stays for now: %s", type(error).__name__)
                return count
            if upload.expires_at > now():  # its form works still
                upload.remove_at = upload.expires_at + FORM_LIFETIME
                upload.save(update_fields=["remove_at"])
            else:
                upload.delete()
                count += 1
    return count


def _old() -> Any:
    waits = Q(state=PictureUpload.State.QUEUED, user__isnull=False)  # however long the worker was away
    at_work = Q(claimed_until__isnull=False, claimed_until__gt=now())  # its row says so to the other workers
    return PictureUpload.objects.filter(~waits, ~at_work, remove_at__lte=now())


# --- Objects that no row names ------------------------------------------------------------------------------

GRACE = timedelta(days=1)  # far more than any picture is on its way
AT_MOST = 10_000  # objects that are looked at in one go


@shared_task(name="accounts.remove_orphans")
def remove_orphans() -> int:
    return pictures.discard_orphans(age=GRACE, at_most=AT_MOST) + remove_orphaned_files()


def remove_orphaned_files() -> int:
    """In the worker: delete files that no row names, such as of a form that was used at its last moment. A row's key is
    drawn by chance before anything is put there, so none can come to be named later."""
    count = 0
    for keys in bucket.older_than(GRACE, "incoming/", at_most=AT_MOST):
        named = set(PictureUpload.objects.filter(key__in=keys).values_list("key", flat=True))
        count += bucket.delete_many(sorted(set(keys) - named))
    return count
