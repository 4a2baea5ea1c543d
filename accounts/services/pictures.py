"""Profile pictures: decoded with care, re-encoded in three square sizes, kept under keys that nobody can guess.

Nothing of the original survives: the pixels are pasted onto a fresh canvas (a JPEG comment would live through
Pillow's re-encoding), so neither EXIF nor GPS nor a comment is left. A key is an HMAC of the pixels and the user:
the same upload twice changes nothing, another person's same picture has another key, and an object never changes."""

import io
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import BinaryIO

from botocore.exceptions import BotoCoreError, ClientError
from celery import shared_task
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import transaction
from django.utils.timezone import now
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from accounts.errors import InvalidPicture, Overloaded, PictureTooLarge, StorageUnavailable
from accounts.models import DiscardedPicture, User
from accounts.origin import Origin
from accounts.services import audit, rate_limits, sealing, worker

log = logging.getLogger(__name__)

SIZES = (64, 256, 1024)
FORMATS = ("JPEG", "PNG", "WEBP")
UPLOAD_TIME = timedelta(minutes=10)  # after which an upload that showed no picture is cleared away

# --- Making -------------------------------------------------------------------------------------------------

_one_at_a_time = threading.Lock()  # a decoded picture takes some hundred MB
_in_line = threading.BoundedSemaphore(
    3
)  # the one at work and two that wait: the other threads are for the other people
_WAIT = 5.0  # seconds


@contextmanager
def _turn() -> Iterator[None]:
    if not _in_line.acquire(blocking=False):
        raise Overloaded("too many pictures at once")
    try:
        if not _one_at_a_time.acquire(timeout=_WAIT):
            raise Overloaded("the pictures before take too long")
        try:
            yield
        finally:
            _one_at_a_time.release()
    finally:
        _in_line.release()


def encode(file: BinaryIO) -> dict[int, bytes]:
    """{edge in pixels: WebP}, square, upright, sRGB. Raises InvalidPicture, PictureTooLarge, Overloaded."""
    file.seek(0, io.SEEK_END)
    if file.tell() > settings.PICTURE_MAX_BYTES:
        raise PictureTooLarge(f"{file.tell()} bytes")
    file.seek(0)
    with _turn():
        try:
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > settings.PICTURE_MAX_PIXELS:
                    raise PictureTooLarge(f"{image.width} x {image.height} pixels")
                square = _square(image)
            return {size: _webp(square, size) for size in SIZES}
        except (UnidentifiedImageError, Image.DecompressionBombError):
            raise InvalidPicture("not a picture") from None
        except (OSError, ValueError, SyntaxError, EOFError, OverflowError, MemoryError, ImageCms.PyCMSError) as error:
            # What decoders raise for files that are cut off or made to hurt.
            raise InvalidPicture(type(error).__name__) from None


def _square(image: Image.Image) -> Image.Image:
    largest = SIZES[-1]
    # A JPEG is decoded at no more than twice the size that is needed: 223 ms become 95 for 12 megapixels.
    image.draft("RGB", (largest * 2, largest * 2))
    image.load()
    profile, turn = image.info.get("icc_profile"), _TURNS.get(_orientation(image))
    # The middle is cut out and made small before anything else: each further copy of the whole costs as much again.
    flat = _on_white(_to_srgb(_middle(image, min(largest, *image.size)), profile))
    upright = flat.transpose(turn) if turn is not None else flat
    canvas = Image.new("RGB", upright.size)
    canvas.paste(upright)
    return canvas


def _middle(image: Image.Image, edge: int) -> Image.Image:
    if image.mode in {"1", "P", "PA"} or "transparency" in image.info:  # colours that can't be mixed as they are
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    return ImageOps.fit(image, (edge, edge), Image.Resampling.LANCZOS)


# What the EXIF orientation asks for. Pillow's exif_transpose writes all of EXIF anew and breaks at some of it.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(0x0112)
    except Exception:  # noqa: BLE001 - a photo with broken EXIF is still a photo
        return 1
    return found if isinstance(found, int) else 1


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode in {"I;16", "I", "F"}:
        image = image.convert("L") if image.mode == "F" else image.point(lambda value: value / 256).convert("L")
    if profile and image.mode == "RGBA":
        opaque = _to_srgb(image.convert("RGB"), profile)
        opaque.putalpha(image.getchannel("A"))
        return opaque
    if profile and image.mode in {"RGB", "CMYK", "L"}:
        try:
            converted = ImageCms.profileToProfile(
                image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            log.info("a picture's colour profile can't be read; its colours are taken as they are")
    return image


def _on_white(image: Image.Image) -> Image.Image:
    if "A" in image.getbands() or "transparency" in image.info:
        seen = image.convert("RGBA")
        canvas = Image.new("RGBA", seen.size, "white")
        canvas.alpha_composite(seen)
        return canvas.convert("RGB")
    return image.convert("RGB")


def _webp(square: Image.Image, size: int) -> bytes:
    out = io.BytesIO()
    scaled = square.resize((size, size), Image.Resampling.LANCZOS) if square.width != size else square
    scaled.save(out, "WEBP", quality=82, method=4)
    return out.getvalue()


# --- Keeping ------------------------------------------------------------------------------------------------


def path(key: str, size: int) -> str:
    return f"pictures/{key}/{size}.webp"


def replace(*, user: User, file: BinaryIO, origin: Origin) -> User:
    """Give the user this picture. Raises what `prepare` raises, and then the old one stays."""
    return show(user, prepare(user, file), origin)


def prepare(user: User, file: BinaryIO) -> str:
    """Make a picture of the file and put it into the storage; the key that `show` takes. Raises InvalidPicture,
    PictureTooLarge, RateLimited, StorageUnavailable."""
    rate_limits.spend_or_refuse("picture_per_account", user.id)
    return _upload(user, encode(file))


def show_first(user: User, encoded: dict[int, bytes], origin: Origin) -> None:
    """The picture of a sign-up. A storage that is down costs the picture but not the account."""
    try:
        show(user, _upload(user, encoded), origin)
    except StorageUnavailable as error:
        log.warning("a sign-up lost its picture: %s", error.reason)


def _upload(user: User, encoded: dict[int, bytes]) -> str:
    key = sealing.mac("picture", user.id.bytes + encoded[SIZES[-1]]).hex()[:48]
    # Should anything fail from here on, the objects are cleared away by themselves.
    DiscardedPicture.objects.update_or_create(key=key, defaults={"remove_at": now() + UPLOAD_TIME})
    _store(key, encoded)
    return key


def remove(*, user: User, origin: Origin) -> User:
    """Take the picture away. Quiet where there is none."""
    return show(user, "", origin) if user.picture else user


def show(user: User, key: str, origin: Origin) -> User:
    """Make the prepared picture of this key the user's ("": none), and let the one before go."""
    with transaction.atomic():
        old = User.objects.hold().values_list("picture", flat=True).get(id=user.id)
        DiscardedPicture.objects.filter(key=key).delete()
        user.picture = key
        if old == key:
            return user
        user.save_profile("picture")
        if old:
            discard(old)
        audit.record(audit.Kind.PICTURE_CHANGED if key else audit.Kind.PICTURE_REMOVED, user=user, origin=origin)
    return user


def discard(key: str) -> None:
    """The objects of this key go, once the caller's transaction is committed."""
    DiscardedPicture.objects.update_or_create(key=key, defaults={"remove_at": now()})
    worker.tell(remove_discarded_pictures)


class _WebP(ContentFile):  # type: ignore[type-arg]
    content_type = "image/webp"  # read by django-storages


def _store(key: str, encoded: dict[int, bytes]) -> None:
    storage = storages["default"]
    try:
        for size, content in encoded.items():
            storage.save(path(key, size), _WebP(content))
    except (BotoCoreError, ClientError, OSError) as error:
        raise StorageUnavailable(type(error).__name__) from error


@shared_task(name="accounts.remove_discarded_pictures")
def remove_discarded_pictures() -> int:
    return remove_discarded()


def remove_discarded() -> int:
    """In the worker: delete the objects of pictures that nobody has. What fails is tried again by the schedule."""
    count = 0
    for row in DiscardedPicture.objects.filter(remove_at__lte=now())[:500]:
        with transaction.atomic():
            mine = DiscardedPicture.objects.select_for_update(skip_locked=True).filter(
                key=row.key, remove_at__lte=now()
            )
            if not mine.exists():
                continue
            if not User.objects.filter(picture=row.key).exists():
                try:
                    for size in SIZES:
                        storages["default"].delete(path(row.key, size))
                except (BotoCoreError, ClientError, OSError) as error:
                    log.warning("a discarded picture stays for now: %s", type(error).__name__)
                    return count
            DiscardedPicture.objects.filter(key=row.key).delete()
            count += 1
    return count


# --- Showing ------------------------------------------------------------------------------------------------

_signed: dict[str, tuple[float, str]] = {}
_SIGNED_AT_MOST = 20_000


def addresses(user: User) -> dict[int, str]:
    """{edge in pixels: signed address}, or {} without a picture. An address stays the same for half of its
    life, so that a phone's image cache works, and because signing three costs a millisecond."""
    return {size: _address(path(user.picture, size)) for size in SIZES} if user.picture else {}


def _address(name: str) -> str:
    at = time.monotonic()
    found = _signed.get(name)
    if found and found[0] > at:
        return found[1]
    if len(_signed) >= _SIGNED_AT_MOST:
        _signed.clear()
    address: str = storages["public"].url(name)
    _signed[name] = (at + settings.PICTURE_URL_LIFETIME / 2, address)
    return address
