"""Copies of people's data: the rows, and their objects in the bucket. What is in a copy: account/export.py.

The row names the object before it exists and is removed after it, so that no crash leaves an object behind."""

from typing import cast

from celery import shared_task
from django.conf import settings
from django.core.files.storage import storages
from django.db.models import Q
from storages.backends.s3 import S3Storage

from accounts.lib import jobs
from accounts.lib.clock import now
from accounts.models import Export, User
from accounts.services.profile import objects


def latest(user: User) -> Export | None:
    """The newest that has not expired: being made, ready or failed."""
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


def forget(user: User) -> None:
    """The copies of an account that is erased or handed over. The objects are removed after the commit."""
    user.exports.update(user=None, ip=None, device="", expires_at=now())
    jobs.enqueue(remove_expired)


@shared_task(name="accounts.remove_expired_exports")
def remove_expired() -> int:
    """In the worker: remove expired copies. One that is being written waits for the end of the lease."""
    free = Q(claimed_until=None) | Q(claimed_until__lte=now())
    return objects.remove_with_rows(Export.objects.filter(free, expires_at__lte=now()).order_by("expires_at"), _remove)


def _remove(row: Export) -> bool:
    storages["default"].delete(path(row))
    return True
