"""From any file to square WebPs, in a process of its own.

Strangers can send decoders any bytes, so these run where nothing can be stolen: no settings, no keys, no database, and
limits of memory and time. `pictures.encode` starts this file as a script. The same bytes give the same answer."""

import io
import json
import math
import operator
import re
import resource
import sys
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

from PIL import (
    AvifImagePlugin,
    Image,
    ImageCms,
    ImageFilter,
    ImageOps,
    MpoImagePlugin,  # noqa: F401 - registers itself, and what EXIF is read with
    WebPImagePlugin,  # noqa: F401 - registers itself
)

SIZES = (64, 256, 1024)
FORMATS = ("JPEG", "PNG", "WEBP", "HEIC", "AVIF")
MEMORY = 260 * 2**20  # bytes of data that the process may have; with its programs it stays under 300 MB
SECONDS = 5  # of CPU
MAX_SCANS = 100  # of a JPEG, each of which goes over all its pixels; cameras and programs write ten or so

# Bytes that a pixel costs at the worst moment, measured: a decoder has copies of its own beside ours.
_COST = {"JPEG": 4, "PNG": 4, "WEBP": 16, "HEIC": 4.48, "AVIF": 13}
_FOR_PIXELS = MEMORY - 44 * 2**20

# In the process alone there are no other threads, and a picture does not depend on how many processors there are.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
Image.MAX_IMAGE_PIXELS = None  # it would only warn; ours are below


class Refused(Exception):
    """`code` is that of the error which the rule raises, `most` the pixels that fit."""

    def __init__(self, code: str, reason: str, most: int | None = None) -> None:
        super().__init__(code)
        self.code, self.reason, self.most = code, reason, most


def max_pixels(kind: str, at_most: int) -> int:
    return min(at_most, int(_FOR_PIXELS / _COST[kind]))


# What decoders raise for files that are truncated or malicious.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, OverflowError, RuntimeError, IndexError, KeyError, TypeError)


def squares(content: bytes, *, most_pixels: int) -> tuple[dict[int, bytes], str]:
    """({edge in pixels: WebP}, placeholder): square, upright, sRGB. Raises Refused."""
    try:
        square = _square(content, most_pixels)
        return {size: _webp(square, size) for size in SIZES}, blurhash(square)
    except (MemoryError, *_BROKEN, Image.DecompressionBombError, ImageCms.PyCMSError) as error:
        # "memory" is how the decoders of HEIC and AVIF say it.
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            raise Refused("picture_too_large", "memory", max_pixels("WEBP", most_pixels)) from None
        if _ends_early(content):
            raise Refused("picture_incomplete", type(error).__name__) from None
        raise Refused("invalid_picture", type(error).__name__) from None


# --- Files that did not arrive whole ------------------------------------------------------------------------

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_PARTS = 1000  # that are looked at


def _ends_early(content: bytes) -> bool:
    """Whether a file that can't be decoded says of itself that more should follow."""
    if content.startswith(_JPEG):
        return _jpeg_ends_early(content)
    if content.startswith(_PNG):
        return b"IEND" not in content
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return int.from_bytes(content[4:8], "little") + 8 > len(content)
    return any(end > len(content) for _, _, end in _boxes(content, 0, len(content)))


def _jpeg_ends_early(content: bytes) -> bool:
    at = len(_JPEG)
    for _ in range(_PARTS):
        if content[at : at + 2] == b"\xff\xda":  # pixels follow, to the end
            return _END not in content[at:]
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if content[at : at + 1] != b"\xff":
            break
    return at >= len(content)


def _boxes(content: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, where its content begins, where it ends) of the boxes of a HEIC or AVIF file."""
    if content[4:8] != b"ftyp":
        return
    for _ in range(_PARTS):
        size, kind, start = _number(content, at), content[at + 4 : at + 8], at + 8
        if size == 1:
            size, start = _number(content, at + 8, 8), at + 16
        if size < start - at or at >= end:
            return
        yield kind, start, at + size
        at += size


# --- Decoding -----------------------------------------------------------------------------------------------


Box = tuple[int, int, int, int]  # left, top, right, bottom


class _Pixels(Protocol):
    """A decoded picture from which parts can be cut out."""

    @property
    def size(self) -> tuple[int, int]: ...

    def crop(self, box: Box) -> Image.Image: ...


def _square(content: bytes, most_pixels: int) -> Image.Image:
    if _is_heic(content):
        small, colours, turn = _open_heic(content, most_pixels)
    else:
        small, colours, turn = _open(content, most_pixels)
    edge = min(SIZES[-1], *small.size)
    flat = _on_white(_to_srgb(ImageOps.fit(small, (edge, edge), Image.Resampling.LANCZOS), colours))
    return flat.transpose(turn) if turn is not None else flat


Codes = tuple[int, int]  # of a picture's primaries and of its transfer, as in H.273
_Opened = tuple[Image.Image, "bytes | Codes | None", "Image.Transpose | None"]
_END = b"\xff\xd9"


def _open(content: bytes, most_pixels: int) -> _Opened:
    try:
        image = _load(content, most_pixels)
    except OSError:
        if not content.startswith(_JPEG):
            raise
        # A JPEG that lacks only its end looks the same whatever is put there. One that broke off does not.
        content = content.rstrip(_END[:1])
        if len({_sum(_load(content + there + _END, most_pixels)) for there in (b"", b"Z" * 64)}) > 1:
            raise Refused("picture_incomplete", "no end") from None
        image = _load(content + _END, most_pixels)
    profile = image.info.get("icc_profile")
    colours = (_codes(content) or profile) if image.format == "PNG" else (profile or _codes(content))
    return _middle(image), colours, _TURNS.get(_orientation(image))


def _load(content: bytes, most_pixels: int) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP", "AVIF"))
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    pixels = image.width * image.height
    _require_pixels(pixels, max_pixels(kind, most_pixels))
    if kind == "JPEG" and (scans := len(_SCAN.findall(content))) > MAX_SCANS:
        raise Refused("picture_too_large", f"{scans} scans")
    # A JPEG is decoded at the smallest size that is enough (an eighth, a quarter or a half).
    image.draft("RGB", (SIZES[-1], SIZES[-1]))
    if "progressive" in image.info:  # every coefficient is kept until the last scan, in two bytes
        kept = 2 * _samples(image) + 4 * image.width * image.height / pixels
        _require_pixels(pixels, int(_FOR_PIXELS / kept))
    image.load()
    return image


def _sum(image: Image.Image) -> int:
    """Of all pixels. Strip by strip, because a copy of the whole would cost as much memory again."""
    found = 0
    for top in range(0, image.height, 64):
        strip = image.crop((0, top, image.width, min(top + 64, image.height)))
        found = zlib.crc32(strip.tobytes(), found)
    return found


def _samples(image: Any) -> float:
    """Of each pixel of a JPEG: most have fewer of colour than of light."""
    layers: list[tuple[int, int]] = [(across, down) for _number, across, down, _table in image.layer]
    whole = max(across for across, _ in layers) * max(down for _, down in layers)
    return sum(across * down for across, down in layers) / whole


# The header of a scan, with the length that belongs to its number of colours. The two bytes of the marker alone also
# occur by chance in what phones append to a picture, such as a film.
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")


def _require_pixels(found: int, most: int) -> None:
    if found > most:
        raise Refused("picture_too_large", f"{found} > {most}", most)


_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}


def _is_heic(content: bytes) -> bool:
    """By the brands of the container: the first, which may be that of any image, and those it is compatible with."""
    if content[4:8] != b"ftyp":
        return False
    brands = content[8 : min(int.from_bytes(content[:4], "big"), 256)]
    return not _HEIC.isdisjoint(brands[place : place + 4] for place in range(0, len(brands), 4))


class _Heic:
    """Parts of a HEIC picture, or of what is shown of it, from the decoder's own memory: one more copy of the whole
    would cost too much."""

    def __init__(self, image: Any, shown: Box) -> None:
        self._left, self._top, right, bottom = shown
        self.size = (right - self._left, bottom - self._top)
        self._width, self._mode, self._stride = image.size[0], image.mode, image.stride
        self._data = memoryview(image.data)

    def crop(self, box: Box) -> Image.Image:
        left, top, right, bottom = box
        top, bottom = self._top + top, self._top + bottom
        rows = self._data[top * self._stride : bottom * self._stride]
        band = Image.frombytes(self._mode, (self._width, bottom - top), rows, "raw", self._mode, self._stride)
        return band.crop((self._left + left, 0, self._left + right, bottom - top))


def _heif() -> Any:
    """Imported for HEIC alone: it takes as long as all of Pillow."""
    import pi_heif  # noqa: PLC0415

    pi_heif.options.DECODE_THREADS = 1
    pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
    return pi_heif


def _open_heic(content: bytes, most_pixels: int) -> _Opened:
    try:
        return _part_of_heic(content, most_pixels, None)
    except RuntimeError as error:
        if "Security limit" not in str(error):
            raise
    return _part_of_heic(*_uncropped(content, most_pixels))


def _part_of_heic(content: bytes, most_pixels: int, shown: Box | None) -> _Opened:
    file = _heif().open_heif(io.BytesIO(content))
    image = file[file.primary_index]
    _require_pixels(image.size[0] * image.size[1], max_pixels("HEIC", most_pixels))
    whole = _Heic(image, shown or (0, 0, *image.size))
    # The decoder has turned it already, whatever its EXIF says.
    return _middle(whole), image.info.get("icc_profile") or _codes(content), None


def _uncropped(content: bytes, most_pixels: int) -> tuple[bytes, int, Box]:
    """The file without the crop that it asks for, and that crop, turned as the picture will be. libheif 1.23.0 refuses
    most crops, because its limit of memory is for what is shown and not for what is decoded."""
    properties = _properties(content)
    found = dict(properties)
    size, crop = found[b"ispe"] + 4, found[b"clap"]
    width, height = _number(content, size), _number(content, size + 4)
    wide, high, right, down = (
        _number(content, at, signed=True) / _number(content, at + 4) for at in range(crop, crop + 32, 8)
    )
    left, top = round((width - wide) / 2 + right), round((height - high) / 2 + down)
    box = (left, top, left + round(wide), top + round(high))
    if not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
        raise ValueError("a crop outside of the picture")
    whole = b"".join(number.to_bytes(4, "big") for number in (width, 1, height, 1, 0, 1, 0, 1))
    turns = [(kind, content[at]) for kind, at in properties if kind in {b"irot", b"imir"}]
    content = content[:crop] + whole + content[crop + len(whole) :]
    return content, most_pixels, _turned(box, width, height, turns)


def _turned(box: Box, width: int, height: int, turns: list[tuple[bytes, int]]) -> Box:
    """Where this part of the picture is after it was rotated to the left and mirrored."""
    left, top, right, bottom = box
    for kind, how in turns:
        for _ in range(how & 3 if kind == b"irot" else 0):
            left, top, right, bottom = top, width - right, bottom, width - left
            width, height = height, width
        if kind == b"imir" and how & 1:
            left, right = width - right, width - left
        elif kind == b"imir":
            top, bottom = height - bottom, height - top
    return left, top, right, bottom


def _properties(content: bytes) -> list[tuple[bytes, int]]:
    """(kind, where its content begins) of the properties of a HEIC file's first picture, in order."""
    meta = _inside(content, *_inside(content, 0, len(content))[b"meta"], skip=4)
    iprp = _inside(content, *meta[b"iprp"])
    boxes = list(_boxes(content, *iprp[b"ipco"]))
    pitm, ipma = meta[b"pitm"][0], iprp[b"ipma"][0]
    first = _number(content, pitm + 4, 4 if content[pitm] else 2)
    in_id, in_index = 4 if content[ipma] else 2, 2 if content[ipma + 3] & 1 else 1
    at = ipma + 8
    for _ in range(min(_number(content, ipma + 4), _PARTS)):
        item, at = _number(content, at, in_id), at + in_id
        begin, at = at + 1, at + 1 + content[at] * in_index
        if item == first:
            indexes = [
                _number(content, place, in_index) % (1 << 8 * in_index - 1) for place in range(begin, at, in_index)
            ]
            return [boxes[index - 1][:2] for index in indexes if index]
    return []


def _inside(content: bytes, at: int, end: int, *, skip: int = 0) -> dict[bytes, tuple[int, int]]:
    return {kind: (start, stop) for kind, start, stop in _boxes(content, at + skip, end)}


def _number(content: bytes, at: int, size: int = 4, *, signed: bool = False) -> int:
    return int.from_bytes(content[at : at + size], "big", signed=signed)


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
        if small is None:  # a canvas of its own, with none of what the file says beside its pixels
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


# --- Colours ------------------------------------------------------------------------------------------------


def _to_srgb(image: Image.Image, colours: bytes | Codes | None) -> Image.Image:
    if colours and image.mode == "RGBA":
        opaque = _to_srgb(image.convert("RGB"), colours)
        opaque.putalpha(image.getchannel("A"))
        return opaque
    if isinstance(colours, tuple):
        return _in_srgb(image.convert("RGB"), *colours)
    if colours and image.mode in {"RGB", "CMYK", "L"}:
        try:
            converted = ImageCms.profileToProfile(
                image, ImageCms.ImageCmsProfile(io.BytesIO(colours)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            return image  # an unreadable profile: keep the colours as they are
        if converted is not None:
            return converted
    return image


# Where a PNG (before its pixels), a HEIC or an AVIF says it in numbers.
_CODES = re.compile(rb"\0\0\0\x04cICP(.)(.)|colrnclx(..)(..)", re.DOTALL)
_PQ, _HLG = 16, 18
# From the light of these primaries to that of sRGB's: Display P3, and those of HDR films (BT.2020).
_PRIMARIES = {
    12: ((1.2249, -0.2249, 0.0), (-0.0421, 1.0421, 0.0), (-0.0196, -0.0786, 1.0983)),
    9: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
}
_WHITE = 203  # cd/m² of white paper in HDR (BT.2408); what is lighter shines


def _codes(content: bytes) -> Codes | None:
    """What is not sRGB's."""
    found = _CODES.search(content, 0, content.find(b"IDAT") if content.startswith(_PNG) else len(content))
    if not found:
        return None
    primaries, transfer = (int.from_bytes(code, "big") for code in found.groups() if code is not None)
    return (primaries, transfer) if primaries in _PRIMARIES or transfer in {_PQ, _HLG} else None


def _in_srgb(image: Image.Image, primaries: int, transfer: int) -> Image.Image:
    if light := {_PQ: _pq_light, _HLG: _hlg_light}.get(transfer):
        image = image.point([round(255 * _from_light(_toned_down(light(step / 255)))) for step in range(256)] * 3)
    if matrix := _PRIMARIES.get(primaries):

        def mixed(*values: float) -> tuple[float, ...]:
            seen = [_to_light(value) for value in values]
            return tuple(_coded(sum(map(operator.mul, row, seen))) for row in matrix)  # cut where it is looked up

        image = image.filter(ImageFilter.Color3DLUT.generate(25, mixed))
    return image


def _pq_light(value: float) -> float:
    """SMPTE ST 2084; 1 is white paper."""
    power = math.pow(value, 1 / 78.84375)
    part = max(0.0, power - 0.8359375) / (18.8515625 - 18.6875 * power)
    return 10_000 / _WHITE * math.pow(part, 1 / 0.1593017578125)


def _hlg_light(value: float) -> float:
    """ITU-R BT.2100, on a screen of 1000 cd/m²; 1 is white paper."""
    scene = value * value / 3 if value <= 0.5 else (math.exp((value - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return 1000 / _WHITE * math.pow(scene, 1.2)


def _toned_down(light: float) -> float:
    """Darker halves stay; what shines shares the other half of the scale, so that it keeps its shades."""
    return light if light <= 0.5 else 1 - 0.5 * math.exp(1 - 2 * light)


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
    return _coded(max(0.0, min(1.0, value)))


def _coded(value: float) -> float:
    light = abs(value)
    return math.copysign(light * 12.92 if light <= 0.0031308 else 1.055 * math.pow(light, 1 / 2.4) - 0.055, value)


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
        said = {"code": refused.code, "reason": refused.reason, "most": refused.most}
        sys.stdout.write(json.dumps(said) + "\n")
        return
    sizes = {size: len(content) for size, content in files.items()}
    sys.stdout.write(json.dumps({"sizes": sizes, "placeholder": placeholder}) + "\n")
    sys.stdout.flush()
    for content in files.values():
        sys.stdout.buffer.write(content)


if __name__ == "__main__":
    main(most_pixels=int(sys.argv[1]))
