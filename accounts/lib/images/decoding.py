"""From any file to square WebPs, in a process of its own.

Strangers can send decoders any bytes, so these run where nothing can be stolen: no settings, no keys, no database, and
limits of memory and time. `pictures.encode` starts this file as a script. The same bytes give the same answer."""

import io
import json
import math
import re
import resource
import sys
from typing import Any, Protocol

from PIL import (
    AvifImagePlugin,
    Image,
    ImageCms,
    ImageOps,
    MpoImagePlugin,  # noqa: F401 - registers itself, and what EXIF is read with
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401 - registers itself
)

SIZES = (64, 256, 1024)
FORMATS = ("JPEG", "PNG", "WEBP", "HEIC", "AVIF")
MEMORY = 260 * 2**20  # bytes of data that the process may have; with its programs it stays under 300 MB
SECONDS = 5  # of CPU
MAX_SCANS = 100  # of a JPEG, each of which goes over all its pixels; cameras and programs write ten or so

# Bytes that a pixel costs at the worst moment, measured: a decoder has copies of its own beside ours.
_COST = {"JPEG": 4, "PNG": 4, "WEBP": 16, "HEIC": 4.6, "AVIF": 13}
_FOR_PIXELS = MEMORY - 44 * 2**20

# In the process alone there are no other threads, and a picture does not depend on how many processors there are.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
Image.MAX_IMAGE_PIXELS = None  # it would only warn; ours are below


class Refused(Exception):
    """`code` is that of the error which the rule raises."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code)
        self.code, self.reason = code, reason


def max_pixels(kind: str, at_most: int) -> int:
    return min(at_most, int(_FOR_PIXELS / _COST[kind]))


# What decoders raise for files that are truncated or malicious.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, OverflowError, RuntimeError, IndexError, KeyError, TypeError)


def squares(content: bytes, *, most_pixels: int) -> tuple[dict[int, bytes], str]:
    """({edge in pixels: WebP}, placeholder): square, upright, sRGB. Raises Refused."""
    try:
        square = _square(content, most_pixels)
        return {size: _webp(square, size) for size in SIZES}, blurhash(square)
    except MemoryError:
        raise Refused("picture_too_large", "memory") from None
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise Refused("invalid_picture", "not a picture") from None
    except (*_BROKEN, ImageCms.PyCMSError) as error:
        if "memory" in str(error).lower():  # how the decoders of HEIC and AVIF say it
            raise Refused("picture_too_large", "memory") from None
        raise Refused("invalid_picture", type(error).__name__) from None


# --- Decoding -----------------------------------------------------------------------------------------------


class _Pixels(Protocol):
    """A decoded picture from which parts can be cut out."""

    @property
    def size(self) -> tuple[int, int]: ...

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image: ...


def _square(content: bytes, most_pixels: int) -> Image.Image:
    if _is_heic(content):
        small, profile, turn = _open_heic(content, most_pixels)
    else:
        small, profile, turn = _open(content, most_pixels)
    edge = min(SIZES[-1], *small.size)
    flat = _on_white(_to_srgb(ImageOps.fit(small, (edge, edge), Image.Resampling.LANCZOS), profile))
    upright = flat.transpose(turn) if turn is not None else flat
    canvas = Image.new("RGB", upright.size)  # a JPEG comment would live through re-encoding
    canvas.paste(upright)
    return canvas


def _open(content: bytes, most_pixels: int) -> "tuple[Image.Image, bytes | None, Image.Transpose | None]":
    with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP", "AVIF")) as image:
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        pixels = image.width * image.height
        _require_few(pixels, max_pixels(kind, most_pixels))
        if kind == "JPEG":
            _require_few(len(_SCAN.findall(content)), MAX_SCANS)
        if "progressive" in image.info:  # every coefficient is kept until the last scan
            _require_few(pixels * (2 * len(image.getbands()) + 4), _FOR_PIXELS)
        # A JPEG is decoded at the smallest size that is enough (an eighth, a quarter or a half).
        image.draft("RGB", (SIZES[-1], SIZES[-1]))
        image.load()
        return _middle(image), image.info.get("icc_profile"), _TURNS.get(_orientation(image))


# The header of a scan, with the length that belongs to its number of colours. The two bytes of the marker alone also
# occur by chance in what phones append to a picture, such as a film.
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")


def _require_few(found: int, limit: int) -> None:
    if found > limit:
        raise Refused("picture_too_large", f"{found} > {limit}")


_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}


def _is_heic(content: bytes) -> bool:
    """By the brands of the container: the first, which may be that of any image, and those it is compatible with."""
    if content[4:8] != b"ftyp":
        return False
    brands = content[8 : min(int.from_bytes(content[:4], "big"), 256)]
    return not _HEIC.isdisjoint(brands[place : place + 4] for place in range(0, len(brands), 4))


class _Heic:
    """Parts of a HEIC picture, from the decoder's own memory: one more copy of the whole would cost too much."""

    def __init__(self, image: Any) -> None:
        self.size: tuple[int, int] = image.size
        self._mode, self._stride, self._data = image.mode, image.stride, memoryview(image.data)

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image:
        left, top, right, bottom = box
        rows = self._data[top * self._stride : bottom * self._stride]
        band = Image.frombytes(self._mode, (self.size[0], bottom - top), rows, "raw", self._mode, self._stride)
        return band.crop((left, 0, right, bottom - top))


def _heif() -> Any:
    """Imported for HEIC alone: it takes as long as all of Pillow."""
    import pi_heif  # noqa: PLC0415

    pi_heif.options.DECODE_THREADS = 1
    pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
    return pi_heif


def _open_heic(content: bytes, most_pixels: int) -> "tuple[Image.Image, bytes | None, Image.Transpose | None]":
    # The decoder has turned it already, whatever its EXIF says.
    file = _heif().open_heif(io.BytesIO(content))
    image = file[file.primary_index]
    _require_few(image.size[0] * image.size[1], max_pixels("HEIC", most_pixels))
    return _middle(_Heic(image)), image.info.get("icc_profile"), None


def _middle(image: _Pixels) -> Image.Image:
    """The square in the middle, reduced if it is very large. Band by band, because each copy of the whole would cost as
    much memory again."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    by = max(1, side // (SIZES[-1] * 3 // 2))
    step = by * 128
    small: Image.Image | None = None
    for done in range(0, side, step):
        band = _mixable(image.crop((left, top + done, left + side, top + min(done + step, side)))).reduce(by)
        if small is None:
            small = Image.new(band.mode, (band.width, -(-side // by)))
        small.paste(band, (0, done // by))
    assert small is not None
    return small


def _mixable(image: Image.Image) -> Image.Image:
    """In eight bits a colour, without a palette, so that pixels can be averaged."""
    if image.mode in {"1", "P", "PA"} or "transparency" in image.info:
        return image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    if image.mode == "F":
        return image.convert("L")
    if image.mode.startswith("I"):
        return image.point(lambda value: value / 256).convert("L")
    return image


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
    if profile and image.mode == "RGBA":
        opaque = _to_srgb(image.convert("RGB"), profile)
        opaque.putalpha(image.getchannel("A"))
        return opaque
    if profile and image.mode in {"RGB", "CMYK", "L"}:
        try:
            converted = ImageCms.profileToProfile(
                image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            return image  # an unreadable profile: keep the colours as they are
        if converted is not None:
            return converted
    return image


def _on_white(image: Image.Image) -> Image.Image:
    if "A" in image.getbands():
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


# --- Writing ------------------------------------------------------------------------------------------------


def _webp(square: Image.Image, size: int) -> bytes:
    out = io.BytesIO()
    lanczos = Image.Resampling.LANCZOS
    scaled = square.resize((size, size), lanczos, reducing_gap=3.0) if square.width != size else square
    scaled.save(out, "WEBP", quality=82, method=2)  # method 4 takes 70 % longer for 3 % fewer bytes
    return out.getvalue()


_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
_WAVES = 4  # in each direction
_GRID = 16  # pixels of an edge that the waves are made of


def blurhash(square: Image.Image) -> str:
    """The picture as 36 characters, for an app to show until it has loaded (blurha.sh): the strongest colours of its
    coarsest waves."""
    small = square.resize((_GRID, _GRID), Image.Resampling.BOX).tobytes()
    light = [_to_light(value / 255) for value in small]
    across = [[math.cos(math.pi * wave * (place + 0.5) / _GRID) for place in range(_GRID)] for wave in range(_WAVES)]
    found = [_strength(light, across[i], across[j], 2 if i or j else 1) for j in range(_WAVES) for i in range(_WAVES)]
    level = max(0, min(82, int(max(abs(value) for wave in found[1:] for value in wave) * 166 - 0.5)))
    largest = (level + 1) / 166
    red, green, blue = (round(_from_light(value) * 255) for value in found[0])
    text = _in_digits((_WAVES - 1) * 10, 1) + _in_digits(level, 1) + _in_digits(red << 16 | green << 8 | blue, 4)
    for wave in found[1:]:
        one, two, three = (_step(value / largest) for value in wave)
        text += _in_digits((one * 19 + two) * 19 + three, 2)
    return text


def _strength(light: list[float], across: list[float], down: list[float], weight: int) -> list[float]:
    sums = [0.0, 0.0, 0.0]
    for y in range(_GRID):
        for x in range(_GRID):
            factor = across[x] * down[y]
            for band in range(3):
                sums[band] += factor * light[(y * _GRID + x) * 3 + band]
    return [weight * total / _GRID**2 for total in sums]


def _step(value: float) -> int:
    return max(0, min(18, int(math.copysign(math.sqrt(abs(value)), value) * 9 + 9.5)))


def _in_digits(value: int, length: int) -> str:
    return "".join(_DIGITS[value // 83**place % 83] for place in reversed(range(length)))


def _to_light(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else math.pow((value + 0.055) / 1.055, 2.4)


def _from_light(value: float) -> float:
    value = max(0.0, min(1.0, value))
    return value * 12.92 if value <= 0.0031308 else 1.055 * math.pow(value, 1 / 2.4) - 0.055


# --- The process --------------------------------------------------------------------------------------------


def _confine(content: bytes = b"") -> None:
    """From here on memory and CPU time are limited, and no file, socket or process can be opened. What decoders load
    late is loaded before."""
    Image.preinit()
    if _is_heic(content):
        _heif()
    for kind, most in (
        (resource.RLIMIT_DATA, MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),  # nor /proc of the process that started this one, with its environment
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(kind, (most, most))


def main(*, most_pixels: int) -> None:
    """Reads the file from stdin. Writes a line that lists the files, then the files."""
    content = sys.stdin.buffer.read()
    _confine(content)
    try:
        files, placeholder = squares(content, most_pixels=most_pixels)
    except Refused as refused:
        sys.stdout.write(json.dumps({"code": refused.code, "reason": refused.reason}) + "\n")
        return
    sizes = {size: len(content) for size, content in files.items()}
    sys.stdout.write(json.dumps({"sizes": sizes, "placeholder": placeholder}) + "\n")
    sys.stdout.flush()
    for content in files.values():
        sys.stdout.buffer.write(content)


if __name__ == "__main__":
    main(most_pixels=int(sys.argv[1]))
