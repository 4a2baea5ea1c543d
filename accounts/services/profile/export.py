"""A copy of what is kept about somebody: one ZIP, made by the worker, private in the bucket, for seven days.

The row names the object before it exists and is removed after it, so whatever is killed, no object stays behind."""

import json
import logging
import secrets
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import IO, Any, cast

from celery import shared_task
from django.conf import settings
from django.core.files import File
from django.core.files.storage import storages
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.db.models import Q
from django.utils import translation
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _
from post_office.models import STATUS, Email
from storages.backends.s3 import S3Storage

from accounts.caller import NOBODY, Caller
from accounts.errors import SessionRevoked
from accounts.lib import jobs
from accounts.lib.leases import Queue, remove_object_then_row
from accounts.lib.storage import bucket
from accounts.models import Event, Export, User
from accounts.services import mail
from accounts.services.authentication import totp
from accounts.services.profile import pictures
from accounts.services.security import audit, rate_limits

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=10)
PAUSE = timedelta(minutes=1)  # after a try that failed
MAX_TRIES = 10

_queue = Queue(rows=Export.objects, waiting=Q(state=Export.State.QUEUED))

# --- Asking -------------------------------------------------------------------------------------------------


def request(*, user: User, caller: Caller) -> Export:
    """A new copy, or the one that is being made already. Raises RateLimited, SessionRevoked."""
    with transaction.atomic():
        if not User.objects.lock().filter(id=user.id):  # of several at once, one asks
            raise SessionRevoked("erased at this moment")
        running = user.exports.filter(state=Export.State.QUEUED).first()
        if running:
            return running
        rate_limits.spend_or_refuse("export_per_account", user.id)
        audit.record(audit.Kind.EXPORT_REQUESTED, user=user, caller=caller)
        jobs.enqueue(make_queued)
        return Export.objects.create(user=user, key=secrets.token_hex(24), ip=caller.ip, device=caller.label[:200])


def latest(user: User) -> Export | None:
    """The newest that is wanted still: being made, ready or failed."""
    living = Q(expires_at=None) | Q(expires_at__gt=now())
    return user.exports.filter(living).order_by("-id").first()


def address(found: Export | None) -> str | None:
    """A signed address of a copy that is ready; it works for a while, and never longer than the copy is kept."""
    if found is None or found.state != Export.State.READY or found.expires_at is None:
        return None
    left = int((found.expires_at - now()).total_seconds())
    if left <= 0:
        return None
    name = f"{settings.SITE_NAME}-{found.requested_at:%Y-%m-%d}.zip".replace('"', "").replace("/", "-")
    signed: str = cast("S3Storage", storages["public"]).url(
        path(found),
        parameters={"ResponseContentDisposition": f'attachment; filename="{name.encode("ascii", "replace").decode()}"'},
        expire=min(left, settings.PICTURE_URL_LIFETIME),
    )
    return signed


def path(found: Export) -> str:
    return f"exports/{found.key}.zip"


# --- Making -------------------------------------------------------------------------------------------------


@shared_task(name="accounts.make_exports")
def make_queued() -> int:
    """In the worker: make each copy that is asked for. The number of tries."""
    count = 0
    while row := _queue.claim(Q(user__isnull=False), lease=LEASE):
        _try(row)
        count += 1
    return count


def _try(row: Export) -> None:
    user = User.objects.filter(exports=row).first()
    try:
        if user is not None:
            row.size = _make(row, user)
    except Exception as error:
        if isinstance(error, bucket.ERRORS):
            log.warning("a copy of somebody's data waits: %s", type(error).__name__)
        else:
            log.exception("a copy of somebody's data could not be made")
        _try_later(row)
    else:
        _finish(row)


def _try_later(row: Export) -> None:
    if row.tries < MAX_TRIES:
        _queue.retry_later(row, PAUSE)
    else:
        _queue.finish(row, state=Export.State.FAILED, claimed_until=None, expires_at=now() + settings.EXPORT_LIFETIME)


def _finish(row: Export) -> None:
    """Ready, and the owner is notified; the copies before it are removed. Nothing of that for an account that was
    erased meanwhile."""
    with transaction.atomic():
        user = User.objects.lock().filter(id__in=Export.objects.filter(id=row.id).values("user")).first()
        at = now()
        if user is None:
            _queue.release(row)
            return
        ready = {"state": Export.State.READY, "claimed_until": None, "size": row.size}
        if not _queue.finish(row, **ready, expires_at=at + settings.EXPORT_LIFETIME):
            return
        user.exports.exclude(id=row.id).update(expires_at=at)
        caller = Caller(ip=row.ip, known_as=row.device)
        audit.record(audit.Kind.EXPORT_READY, user=user, caller=caller)
        mail.send(
            mail.Message.EXPORT_READY,
            user=user,
            caller=caller,
            context={
                "link": f"{settings.PUBLIC_URL}/account/data/",
                "days": settings.EXPORT_LIFETIME.days,
                "at": row.requested_at,
            },
        )


class _Zip(File):  # type: ignore[type-arg]
    content_type = "application/zip"  # read by django-storages


def _make(row: Export, user: User) -> int:
    """Write the ZIP and put it into the bucket; its size."""
    with tempfile.TemporaryFile() as file:
        write(file, user)
        size = file.tell()
        file.seek(0)
        storages["default"].save(path(row), _Zip(file, name=path(row)))
    return size


# --- What stands in it --------------------------------------------------------------------------------------

README = _(
    """Everything {site} ({url}) stores about your account, {username}, on {day} (UTC).

profile.json   your account
devices.json   browsers and apps that are or were signed in
two_step.json  two-step verification and passkeys, without their secrets
events.json    your account's activity
mails.json     which emails we sent you, and when, but not their text
picture.webp   your profile picture, if you have one
uploads.json   recent picture uploads, and what happened to them

Passwords, codes and keys aren't included. We only store them hashed or encrypted, so nobody can read them."""
)


def write(file: IO[bytes], user: User) -> None:
    """The ZIP, in the language of the user's mails. Nothing of other people: where somebody else did something, it says
    what and when, not where from."""
    with (
        translation.override(mail.language_of(user, NOBODY)),
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        words = {"site": settings.SITE_NAME, "url": settings.PUBLIC_URL, "username": user.username}
        archive.writestr("README.txt", README.format(**words, day=f"{now():%Y-%m-%d}") + "\n")
        archive.writestr("profile.json", _json(_profile(user)))
        _write_list(archive, "devices.json", _devices(user))
        archive.writestr("two_step.json", _json(_two_step(user)))
        _write_list(archive, "events.json", _events(user))
        _write_list(archive, "mails.json", _mails(user))
        _write_list(archive, "uploads.json", _uploads(user))
        if user.picture:
            with storages["default"].open(pictures.path(user.picture, pictures.SIZES[-1])) as picture:
                archive.writestr("picture.webp", picture.read())


def _json(value: object) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2)


def _write_list(archive: zipfile.ZipFile, name: str, items: Iterable[dict[str, Any]]) -> None:
    """One after the other: somebody's log may be long."""
    with archive.open(name, "w") as file:
        file.write(b"[")
        for number, item in enumerate(items):
            file.write(b",\n" if number else b"\n")
            file.write(_json(item).encode())
        file.write(b"\n]\n")


PROFILE = (
    "id", "username", "email", "email_verified", "first_name", "last_name", "gender", "language", "time_zone",
    "is_staff", "created_at", "updated_at", "last_login", "deletes_at",
)  # fmt: skip
DEVICE = (
    "id", "kind", "name", "platform", "app_version", "ip", "created_at", "last_used_at", "authenticated_at",
    "authenticated_by", "expires_at", "ended_at",
)  # fmt: skip


PASSKEY = ("id", "name", "synced", "created_at", "last_used_at")


def _profile(user: User) -> dict[str, Any]:
    return {name: getattr(user, name) for name in PROFILE}


def _devices(user: User) -> Iterator[dict[str, Any]]:
    yield from user.sessions.order_by("id").values(*DEVICE).iterator()


def _two_step(user: User) -> dict[str, Any]:
    """That there is something, and since when; the secrets themselves would only help a thief."""
    found = totp.overview(user)
    passkeys = [{name: getattr(one, name) for name in PASSKEY} for one in found.passkeys]
    return {
        "authenticator_app_since": found.two_step_since,
        "recovery_codes_left": found.recovery_codes_left,
        "passkeys": passkeys,
    }


def _events(user: User) -> Iterator[dict[str, Any]]:
    for event in Event.objects.filter(user=user).order_by("id").iterator():
        kind = audit.Kind(event.kind)
        theirs = kind in audit.OF_OTHERS
        yield {
            "id": event.id,
            "kind": kind,
            "what": str(audit.WORDS[kind]),
            "at": event.created_at,
            "ip": None if theirs else event.ip,
            "device": "" if theirs else event.device,
            "session_id": event.session_id,
            **({"data": event.data} if event.data else {}),
        }


UPLOAD = ("id", "content_type", "size", "state", "reason", "created_at", "ip", "device")


def _uploads(user: User) -> Iterator[dict[str, Any]]:
    yield from user.picture_uploads.order_by("id").values(*UPLOAD).iterator()


_STATES = {STATUS.sent: "sent", STATUS.failed: "failed", STATUS.queued: "waiting", STATUS.requeued: "waiting"}


def _mails(user: User) -> Iterator[dict[str, Any]]:
    for row in Email.objects.filter(owner__user=user).order_by("id").iterator():
        yield {"to": row.to, "subject": row.subject, "at": row.created, "state": _STATES[row.status]}


# --- Removing -----------------------------------------------------------------------------------------------


def forget(user: User) -> None:
    """The copies of an account that is erased or handed over: the objects go once the transaction is committed."""
    user.exports.update(user=None, ip=None, device="", expires_at=now())
    jobs.enqueue(remove_expired)


@shared_task(name="accounts.remove_expired_exports")
def remove_expired() -> int:
    """In the worker: remove the copies whose time is over. One that is being written now waits for the end of the
    lease."""
    free = Q(claimed_until=None) | Q(claimed_until__lte=now())
    return remove_object_then_row(Export.objects.filter(free, expires_at__lte=now()).order_by("expires_at"), _remove)


def _remove(row: Export) -> bool:
    storages["default"].delete(path(row))
    return True
