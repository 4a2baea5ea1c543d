"""Profile pictures: decoded with care, re-encoded in three square sizes, kept under keys that nobody can guess.

Nothing of the original survives but its pixels (decoding.py), so neither EXIF nor GPS nor a comment is left. A key is
an HMAC of the pixels and the user: the same upload twice changes nothing, another person's same picture has another
key, and an object never changes."""

import io
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import BinaryIO, NamedTuple

from celery import shared_task
from django.conf import settings
from django.db import transaction

from accounts.caller import Caller
from accounts.errors import InvalidPicture, Overloaded, PictureTooLarge, StorageUnavailable
from accounts.lib import jobs, sealing
from accounts.lib.clock import now
from accounts.lib.images import decoding
from accounts.lib.storage import bucket
from accounts.models import DiscardedPicture, PictureUpload, Session, User
from accounts.services.profile import objects
from accounts.services.security import audit, rate_limits
from accounts.services.sessions import locks

log = logging.getLogger(__name__)

SIZES = decoding.SIZES
UPLOAD_TIME = timedelta(minutes=10)  # after which an upload that showed no picture is cleared away

# --- Making -------------------------------------------------------------------------------------------------

_one_at_a_time = threading.Lock()  # a picture that is decoded takes up to 280 MB
_in_line = threading.BoundedSemaphore(3)  # the one at work and two that wait: other requests need the other threads
_WAIT = 5.0  # seconds
_PATIENCE = 60.0  # seconds; before that, the decoder's own limit of CPU time ends it
# None of our variables, and one heap: each thread of a decoder would reserve one of its own.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}


@contextmanager
def _turn() -> Iterator[None]:
    with ExitStack() as stack:
        if not _in_line.acquire(blocking=False):
            raise Overloaded("too many pictures at once")
        stack.callback(_in_line.release)
        if not _one_at_a_time.acquire(timeout=_WAIT):
            raise Overloaded("the pictures before take too long")
        stack.callback(_one_at_a_time.release)
        yield


@dataclass(frozen=True)
class Encoded:
    """The sizes as WebP by the length of their edge, and what an app shows until one of them is there (a BlurHash)."""

    files: dict[int, bytes]
    placeholder: str


def encode(file: BinaryIO) -> Encoded:
    """Square, upright, sRGB. Raises InvalidPicture, PictureTooLarge, Overloaded."""
    file.seek(0, io.SEEK_END)
    if file.tell() > settings.PICTURE_MAX_BYTES:
        raise PictureTooLarge(f"{file.tell()} bytes")
    file.seek(0)
    with _turn():
        said = _decode(file.read())
    try:
        return _read(said)
    except (ValueError, TypeError, KeyError, AttributeError):
        log.warning("the decoder of pictures answered what it never should")
        raise InvalidPicture("answered something else") from None


_MOST_OF_A_PICTURE = 8 * 2**20  # bytes of all sizes together
_LONGEST_PLACEHOLDER = 40


def _read(said: bytes) -> Encoded:
    """A line and the files that it lists. All of it is checked: a stranger's bytes may have taken the decoder over."""
    line, _, files = said.partition(b"\n")
    head = json.loads(line)
    if "code" in head:
        raise (PictureTooLarge if head["code"] == PictureTooLarge.code else InvalidPicture)(str(head["reason"])[:200])
    lengths, placeholder = [head["sizes"][str(size)] for size in SIZES], head["placeholder"]
    if (
        len(head["sizes"]) != len(SIZES)
        or not all(type(length) is int and length > 0 for length in lengths)
        or not sum(lengths) == len(files) <= _MOST_OF_A_PICTURE
        or not (isinstance(placeholder, str) and len(placeholder) <= _LONGEST_PLACEHOLDER)
    ):
        raise ValueError
    rest = io.BytesIO(files)
    return Encoded({size: rest.read(length) for size, length in zip(SIZES, lengths, strict=True)}, placeholder)


def max_pixels() -> dict[str, int]:
    """{content type: most pixels}: as many as a decoder can handle in its memory."""
    most = settings.PICTURE_MAX_PIXELS
    return {f"image/{kind.lower()}": decoding.max_pixels(kind, most) for kind in decoding.FORMATS}


def _decode(content: bytes) -> bytes:
    """The output of the decoder (decoding.py)."""
    command = [sys.executable, "-I", decoding.__file__, str(settings.PICTURE_MAX_PIXELS)]
    try:
        found = subprocess.run(  # noqa: S603 - our own script
            command, input=content, capture_output=True, env=_ENVIRONMENT, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise Overloaded("the decoder takes too long") from None
    if found.returncode:
        kind = found.stderr.decode(errors="replace").strip().rpartition("\n")[2].partition(":")[0]
        log.warning("the decoder of pictures ended with %s (%s)", found.returncode, kind[:80])
        raise InvalidPicture("ended the decoder")
    return found.stdout


# --- Keeping ------------------------------------------------------------------------------------------------


def path(key: str, size: int) -> str:
    return f"pictures/{key}/{size}.webp"


class Prepared(NamedTuple):
    """A picture that is in the bucket but not published yet."""

    key: str
    placeholder: str


NO_PICTURE = Prepared("", "")


def replace(*, user: User, file: BinaryIO, caller: Caller, session: Session | None = None) -> User:
    """Give the user this picture. Raises what `prepare` and `publish` raise, and then the old one stays."""
    return publish(user, prepare(user, file), caller, session)


def prepare(user: User, file: BinaryIO) -> Prepared:
    """Make a picture of the file and put it into the bucket, for `publish`. Raises InvalidPicture, PictureTooLarge,
    RateLimited, Overloaded, StorageUnavailable."""
    rate_limits.spend_or_refuse("picture_per_account", user.id)
    return store(user, encode(file))


def publish_first(user: User, encoded: Encoded, caller: Caller) -> None:
    """The picture of a sign-up. If the storage is down, the account is made without it."""
    try:
        publish(user, store(user, encoded), caller)
    except StorageUnavailable as error:
        log.warning("a sign-up lost its picture: %s", error.reason)


def store(user: User, encoded: Encoded) -> Prepared:
    """Put the sizes into the bucket, for `publish`. Raises StorageUnavailable."""
    key = sealing.mac("picture", user.id.bytes + encoded.files[SIZES[-1]]).hex()[:48]
    # If anything fails from here on, the worker removes the objects.
    _remove_at(key, now() + UPLOAD_TIME)
    # An object never changes under its key. A shared cache would keep it for longer than a signature is valid.
    cache = f"{'public' if settings.PICTURE_CDN_URL else 'private'}, max-age=31536000, immutable"
    try:
        for size, content in encoded.files.items():
            bucket.put(path(key, size), content, content_type="image/webp", cache_control=cache)
    except bucket.ERRORS as error:
        raise StorageUnavailable(type(error).__name__) from error
    return Prepared(key, encoded.placeholder)


def remove(*, user: User, caller: Caller, session: Session | None = None) -> User:
    """Remove the picture. Does nothing if there is none."""
    return publish(user, NO_PICTURE, caller, session) if user.picture else user


def publish(user: User, prepared: Prepared, caller: Caller, session: Session | None = None) -> User:
    """Make the prepared picture the user's, and remove the one before. It took seconds to make: raises SessionRevoked
    if the account was switched off or erased or, with a session, the device was signed out in the meantime, and
    StorageUnavailable if the picture was removed."""
    key = prepared.key
    with transaction.atomic():
        old = locks.lock_active(user, session).picture
        found, _ = DiscardedPicture.objects.filter(key=key).delete()
        if key and old != key and not found:
            raise StorageUnavailable("it waited too long to be published")
        replace_queued(user)
        user.picture, user.picture_placeholder = key, prepared.placeholder
        if old == key:
            return user
        user.save_profile("picture", "picture_placeholder")
        if old:
            discard(old)
        audit.record(audit.Kind.PICTURE_CHANGED if key else audit.Kind.PICTURE_REMOVED, user=user, caller=caller)
    return user


def replace_queued(user: User) -> None:
    """Another picture is chosen now, so an earlier upload must not replace it. The caller has locked the user."""
    queued = PictureUpload.objects.filter(user=user, state=PictureUpload.State.QUEUED)
    queued.update(state=PictureUpload.State.REPLACED)


def discard(key: str) -> None:
    """Remove the objects of this key, once the caller's transaction is committed."""
    _remove_at(key, now())
    jobs.enqueue(remove_discarded)


def _remove_at(key: str, at: datetime) -> None:
    # In one statement: update_or_create fails if the row is deleted between its two queries.
    DiscardedPicture.objects.bulk_create(
        [DiscardedPicture(key=key, remove_at=at)],
        update_conflicts=True,
        unique_fields=["key"],
        update_fields=["remove_at"],
    )


@shared_task(name="accounts.remove_discarded_pictures")
def remove_discarded() -> int:
    """In the worker: remove the objects of pictures that nobody has."""
    discarded = DiscardedPicture.objects.filter(remove_at__lte=now()).order_by("remove_at")
    return objects.remove_with_rows(discarded, _remove)


def _remove(row: DiscardedPicture) -> bool:
    if not User.objects.filter(picture=row.key).exists():
        for size in SIZES:
            bucket.delete(path(row.key, size))
    return True


_OBJECT = re.compile(r"pictures/(?P<key>[0-9a-f]{48})/\d+\.webp")


def discard_orphans(*, age: timedelta, at_most: int) -> int:
    """In the worker: give objects that no row names a row, so that they are removed like any other. They are not
    deleted here, because the same picture may be on its way: `store` would take over the row."""
    count = 0
    for names in bucket.older_than(age, "pictures/", at_most=at_most):
        keys = {found["key"] for name in names if (found := _OBJECT.fullmatch(name))}
        keys -= set(User.objects.filter(picture__in=keys).values_list("picture", flat=True))
        keys -= set(DiscardedPicture.objects.filter(key__in=keys).values_list("key", flat=True))
        DiscardedPicture.objects.bulk_create([DiscardedPicture(key=key) for key in keys], ignore_conflicts=True)
        count += len(keys)
    return count


def lost() -> Iterator[str]:
    """Keys of pictures that users have and the bucket has not: one walk through both, in the order of keys."""
    named = User.objects.exclude(picture="").order_by("picture").values_list("picture", flat=True)
    stored = (name.split("/")[1] for name, _ in bucket.listing("pictures/", after="", at_most=sys.maxsize))
    latest = ""
    for key in named.iterator():
        while latest < key:
            latest = next(stored, "~")  # behind every key
        if latest != key:
            yield key


def forget_lost(key: str) -> None:
    User.objects.filter(picture=key).update(picture="", picture_placeholder="", updated_at=now())


# --- Showing ------------------------------------------------------------------------------------------------


def addresses(user: User) -> dict[int, str]:
    return addresses_of(user.picture)


def addresses_of(key: str) -> dict[int, str]:
    """{edge in pixels: address} of a picture, or {} without one. Signed, and the same from every process for half of
    its lifetime, so that a phone's image cache works; or the CDN's, which never changes."""
    names = {size: path(key, size) for size in SIZES} if key else {}
    cdn: str = settings.PICTURE_CDN_URL
    return {size: f"{cdn}/{name}" if cdn else bucket.address(name) for size, name in names.items()}
