"""A copy of what is stored about a user: one ZIP, made by the worker, private in the bucket, for seven days."""

import json
import logging
import secrets
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import IO, Any

from celery import shared_task
from django.conf import settings
from django.core.files import File
from django.core.files.storage import storages
from django.db import transaction
from django.db.models import Q
from django.utils import translation
from django.utils.translation import gettext_lazy as _

from accounts.caller import NOBODY, Caller
from accounts.lib import jobs, timestamps
from accounts.lib.clock import now
from accounts.lib.leases import Queue
from accounts.lib.storage import bucket
from accounts.models import Export, User
from accounts.services import mail
from accounts.services.account import lifecycle
from accounts.services.profile import exports
from accounts.services.security import audit, rate_limits
from accounts.services.sessions import locks

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=10)
PAUSE = timedelta(minutes=1)  # after a try that failed
MAX_TRIES = 10

_queue = Queue(rows=Export.objects, waiting=Q(state=Export.State.QUEUED))


def request(*, user: User, caller: Caller) -> Export:
    """A new copy, or the one that is being made already. Raises RateLimited, SessionRevoked."""
    with transaction.atomic():
        locks.lock_active(user, None)  # of several requests at once, the first counts
        running = user.exports.filter(state=Export.State.QUEUED).first()
        if running:
            return running
        rate_limits.spend_or_refuse("export_per_account", user.id)
        audit.record(audit.Kind.EXPORT_REQUESTED, user=user, caller=caller)
        jobs.enqueue(make_queued)
        return Export.objects.create(user=user, key=secrets.token_hex(24), ip=caller.ip, device=caller.label[:200])


@shared_task(name="accounts.make_exports")
def make_queued() -> int:
    """In the worker: make each requested copy. Returns the number of tries."""
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
    """Mark the copy as ready, email the owner and let earlier copies expire, unless the account has been erased."""
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
        link, days = f"{settings.PUBLIC_URL}/account/data/", settings.EXPORT_LIFETIME.days
        words = {"link": link, "days": days, "at": row.requested_at}
        mail.send(mail.Message.EXPORT_READY, user=user, caller=caller, context=words)


class _Zip(File):  # type: ignore[type-arg]
    content_type = "application/zip"  # read by django-storages


def _make(row: Export, user: User) -> int:
    """Write the ZIP and put it into the bucket; its size."""
    with tempfile.TemporaryFile() as file:
        write(file, user)
        size = file.tell()
        file.seek(0)
        storages["default"].save(exports.path(row), _Zip(file, name=exports.path(row)))
    return size


README = _(
    """Everything {site} ({url}) stores about your account, {username}, on {day} (UTC).

profile.json   your account
devices.json   browsers and apps that are or were signed in
two_step.json  two-step verification and passkeys, without their secrets
identities.json  the sign-in providers you connected, such as Google
events.json    your account's activity
mails.json     which emails we sent you, and when, but not their text
picture.webp   your profile picture, if you have one
uploads.json   recent picture uploads, and what happened to them

Passwords, codes and keys aren't included. We only store them hashed or encrypted, so nobody can read them."""
)


def write(file: IO[bytes], user: User) -> None:
    """Write the ZIP, in the language of the user's emails. It contains no data of others: what somebody else did is
    listed without the device and address."""
    with (
        translation.override(mail.language_of(user, NOBODY)),
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        words = {"site": settings.SITE_NAME, "url": settings.PUBLIC_URL, "username": user.username_display}
        archive.writestr("README.txt", README.format(**words, day=f"{now():%Y-%m-%d}") + "\n")
        for name, found in lifecycle.export(user):
            if isinstance(found, bytes):
                archive.writestr(name, found)
            elif isinstance(found, Mapping):
                archive.writestr(name, _json(found))
            elif found is not None:
                _write_list(archive, name, found)


def _json(value: object) -> str:
    return json.dumps(value, cls=timestamps.Encoder, ensure_ascii=False, indent=2)


def _write_list(archive: zipfile.ZipFile, name: str, items: Iterable[Mapping[str, Any]]) -> None:
    """One after the other, because a log may be long."""
    with archive.open(name, "w") as file:
        file.write(b"[")
        for number, item in enumerate(items):
            file.write(b",\n" if number else b"\n")
            file.write(_json(item).encode())
        file.write(b"\n]\n")
