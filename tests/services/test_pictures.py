"""Profile pictures: whatever is sent, only fresh pixels come out, in three sizes under keys that nobody can guess."""

import base64
import errno
import io
import json
import math
import os
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pillow_heif
import pytest
from django.conf import settings as django_settings
from django.core.files.storage import storages
from django.db import transaction
from django.utils.timezone import now
from PIL import Image, ImageChops, ImageCms, ImageStat
from PIL.PngImagePlugin import PngInfo
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import (
    InvalidPicture,
    Overloaded,
    PictureIncomplete,
    PictureTooLarge,
    RateLimited,
    SessionRevoked,
    StorageUnavailable,
)
from accounts.lib.images import decoding
from accounts.lib.storage import bucket
from accounts.models import DiscardedPicture, Event, Session, User
from accounts.services.account import deletion, lifecycle, signup, users
from accounts.services.profile import pictures, profiles
from accounts.services.security import rate_limits
from accounts.services.sessions import sessions
from tests.conftest import PASSWORD, make_user, picture, random_ip
from tests.pictures import Answer, decode_in_process, one_decoder
from tests.threads import at_once

SECRET = b"SECRET-PLACE-48.8584N"


# --- Files --------------------------------------------------------------------------------------------------


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
        Image.OPEN.pop("HEIF")
        Image.ID.remove("HEIF")
    image.save(file, kind, **options)
    return file.getvalue()


KINDS = ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"]


def heic(image: Image.Image, **options: Any) -> bytes:
    return saved(image, "HEIF", **options)


def turned_heic(image: Image.Image, orientation: int) -> bytes:
    """As phones write it: how to turn it stands in the container, and once more in EXIF."""
    made = pillow_heif.from_pillow(image)
    made[0].info["exif"] = exif(orientation=orientation).tobytes()
    file = io.BytesIO()
    made.save(file)
    return file.getvalue()


@contextmanager
def heic_can_be_opened() -> Iterator[None]:
    """By Pillow itself, which is not so in the service."""
    pillow_heif.register_heif_opener()
    try:
        yield
    finally:
        Image.OPEN.pop("HEIF")
        Image.ID.remove("HEIF")


def plain(mode: str = "RGB", color: Any = "red", size: tuple[int, int] = (90, 60)) -> Image.Image:
    return Image.new(mode, size, color)


def quarters(size: int = 128) -> Image.Image:
    """Red and green above, blue and white below: which way is up can be seen."""
    image = Image.new("RGB", (size, size), "white")
    half = size // 2
    image.paste("red", (0, 0, half, half))
    image.paste("green", (half, 0, size, half))
    image.paste("blue", (0, half, half, size))
    return image


def exif(**tags: Any) -> Image.Exif:
    made = Image.Exif()
    for name, value in tags.items():
        made[{"orientation": 0x112, "maker": 0x10F, "comment": 0x9286}[name]] = value
    return made


def with_gps() -> Image.Exif:
    made = exif(maker=SECRET.decode())
    made.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.24), 3: "E", 4: (2.0, 17.0, 40.2)})
    made.get_ifd(0x8769)[0x9286] = SECRET
    return made


def broken_exif(*, orientation: int = 6) -> bytes:
    """A TIFF directory whose second entry says it holds a number and points to text."""
    entries = [
        struct.pack(">HHII", 0x112, 3, 1, orientation << 16),
        struct.pack(">HHI4s", 0x10F, 5, 1, b"\x00\x00\x00\x08"),
        struct.pack(">HHI4s", 0x110, 7, 4, b"abcd"),
    ]
    return b"Exif\x00\x00MM\x00*\x00\x00\x00\x08" + struct.pack(">H", len(entries)) + b"".join(entries) + b"\x00" * 4


def profile(name: str = "sRGB") -> bytes:
    made: bytes = ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()  # type: ignore[arg-type]
    return made


def wide_gamut() -> bytes:
    """A profile like Display P3: the primaries of sRGB replaced by wider ones."""
    data = bytearray(profile())
    count = struct.unpack_from(">I", data, 128)[0]
    for number in range(count):
        tag, offset, _ = struct.unpack_from(">4sII", data, 132 + number * 12)
        xyz = {b"rXYZ": (0.5151, 0.2412, -0.0011), b"gXYZ": (0.2919, 0.6922, 0.0419), b"bXYZ": (0.1572, 0.0666, 0.7841)}
        if tag in xyz:
            struct.pack_into(">3i", data, offset + 8, *(round(value * 65536) for value in xyz[tag]))
    return bytes(data)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    found = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        found += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return found


def png_bomb(width: int, height: int, *, colour: int = 2) -> bytes:
    """As small as its pixels are many."""
    row = b"\x00" * (1 + width * {0: 1, 2: 3, 6: 4}[colour])
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return png((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))


def png_header(width: int, height: int, *, colour: int = 2) -> bytes:
    """A PNG that says it has so many pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return png((b"IHDR", head), (b"IDAT", zlib.compress(b"\x00" * 1000)), (b"IEND", b""))


def jpeg_header(width: int, height: int, mode: str = "RGB", **options: Any) -> bytes:
    """A good JPEG that says it has so many pixels, and takes as much memory."""
    data = bytearray(saved(plain(mode, 0), "JPEG", **options))
    place = data.index(b"\xff\xc2" if "progressive" in options else b"\xff\xc0") + 5
    struct.pack_into(">HH", data, place, height, width)
    return bytes(data)


def scans(content: bytes, times: int) -> bytes:
    """The JPEG with its last scan so many times more: each goes over all pixels and costs some hundred bytes."""
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * times + content[-2:]


def webp_header(width: int, height: int) -> bytes:
    data = bytearray(saved(plain("RGBA", (9, 9, 9, 9)), "WEBP", lossless=False, exif=exif(maker="x")))
    place = data.index(b"VP8X") + 12
    data[place : place + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def sized(content: bytes, width: int, height: int) -> bytes:
    """The HEIC or AVIF, saying that it has so many pixels."""
    data = bytearray(content)
    place = data.index(b"ispe") + 8
    struct.pack_into(">II", data, place, width, height)
    return bytes(data)


def decode(content: bytes, *sizes: int) -> dict[int, bytes]:
    """What the decoder makes of it, without a process for each of some thousand files; and of these sizes alone,
    because the largest takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "SIZES", sizes or pictures.SIZES)
        try:
            return decoding.squares(content, most_pixels=django_settings.PICTURE_MAX_PIXELS)[0]
        except decoding.Refused as refused:
            raise pictures._refusal(refused.code, refused.reason, refused.most) from None


def encode(content: bytes) -> dict[int, bytes]:
    """The same with what goes before it and comes after it."""
    return pictures.encode(io.BytesIO(content)).files


Confined = Callable[..., Answer]


@pytest.fixture(scope="module")
def confined() -> Iterator[Confined]:
    """The same in confined processes, without the start of Python (tests/pictures.py)."""
    with one_decoder() as decode:
        yield decode


@pytest.fixture
def process(decoder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process each time, which is the subject."""
    monkeypatch.setattr(pictures, "_decode", decode_in_process)


def outcome(work: Callable[[bytes], object], content: bytes) -> str:
    try:
        work(content)
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return type(error).__name__
    return "taken"


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def middle(content: bytes) -> tuple[int, int, int]:
    image = opened(decode(content, 256)[256])
    found = image.getpixel((128, 128))
    assert isinstance(found, tuple)
    return (int(found[0]), int(found[1]), int(found[2]))


def is_near(one: tuple[int, ...], other: tuple[int, ...], by: int = 6) -> bool:
    return all(abs(a - b) <= by for a, b in zip(one, other, strict=True))


# --- What is taken ------------------------------------------------------------------------------------------

GOOD: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: picture(kind="JPEG"),
    "progressive jpeg": lambda: picture(kind="JPEG", progressive=True),
    "grey jpeg": lambda: picture(kind="JPEG", mode="L"),
    "cmyk jpeg": lambda: picture(kind="JPEG", mode="CMYK"),
    "mpo, as some phones send": lambda: saved(
        quarters(), "MPO", save_all=True, append_images=[quarters().rotate(90)], exif=exif(orientation=1)
    ),
    "png": picture,
    "grey png": lambda: picture(mode="L"),
    "black and white png": lambda: picture(mode="1"),
    "grey png with alpha": lambda: picture(mode="LA"),
    "rgba png": lambda: picture(mode="RGBA"),
    "palette png": lambda: picture(mode="P"),
    "palette png with one transparent colour": lambda: picture(mode="P", transparency=0),
    "palette png with an alpha table": lambda: picture(mode="P", transparency=bytes(range(256))),
    "rgb png with a transparent colour": lambda: saved(plain(), transparency=(255, 0, 0)),
    "16 bit png": lambda: picture(mode="I;16"),
    "interlaced png": lambda: saved(quarters(), interlace=1),
    "apng": lambda: saved(quarters(), save_all=True, append_images=[plain()] * 3),
    "webp": lambda: picture(kind="WEBP"),
    "lossless webp with alpha": lambda: picture(kind="WEBP", mode="RGBA", lossless=True),
    "animated webp": lambda: saved(quarters(), "WEBP", save_all=True, append_images=[plain(size=(128, 128))] * 3),
    "heic": lambda: heic(quarters()),
    "heic with alpha": lambda: heic(plain("RGBA", (9, 200, 9, 128))),
    "heic in all its colours": lambda: heic(quarters(), chroma="444"),
    "two pictures in one heic": lambda: heic(quarters(), save_all=True, append_images=[plain()]),
    "avif": lambda: picture(kind="AVIF"),
    "avif with alpha": lambda: picture(kind="AVIF", mode="RGBA"),
    "animated avif": lambda: saved(quarters(), "AVIF", save_all=True, append_images=[quarters().rotate(90)] * 3),
    "one pixel": lambda: picture((1, 1)),
    "one pixel jpeg": lambda: picture((1, 1), "JPEG"),
    "very wide": lambda: picture((10_000, 1)),
    "very high": lambda: picture((1, 10_000)),
    "wide jpeg": lambda: picture((10_000, 1), "JPEG"),
    "large": lambda: picture((3000, 2000), "JPEG"),
    "progressive jpeg with many scans": lambda: scans(picture(kind="JPEG", progressive=True), 80),
    "jpeg with a film behind it, in which marks of scans stand by chance": lambda: (
        picture(kind="JPEG") + b"\xff\xda\xff\x00" * 200
    ),
    "with something behind it": lambda: picture(kind="JPEG") + b"<script>alert(1)</script>" + b"PK\x03\x04",
}


def bare(content: bytes, size: int) -> bool:
    """A WebP of this size with a bare bitstream: no chunk for EXIF, XMP, a profile or an animation."""
    image = opened(content)
    return (
        (image.format, image.mode, image.size) == ("WEBP", "RGB", (size, size))
        and content[12:16] == b"VP8 "
        and int.from_bytes(content[4:8], "little") + 8 == len(content)
        and b"script" not in content
        and not getattr(image, "is_animated", False)
    )


def test_every_kind_of_picture_becomes_square_webps_of_nothing_but_pixels(confined: Confined) -> None:
    wrong = {}
    for name, make in GOOD.items():
        said = confined(make(), 16, 64).said
        sizes, files = json.loads(said.partition(b"\n")[0]).get("sizes"), said.partition(b"\n")[2]
        if not sizes or not bare(files[: sizes["16"]], 16) or not bare(files[sizes["16"] :], 64):
            wrong[name] = said[:100]
    assert wrong == {}


def test_the_same_file_gives_the_same_three_squares_in_every_process(confined: Confined, process: None) -> None:
    for content in (picture(), picture(kind="JPEG"), heic(quarters())):
        found = encode(content)
        assert found == decode(content) == pictures._read(confined(content).said).files
        assert tuple(found) == pictures.SIZES == (64, 256, 1024)
        assert [size for size in found if not bare(found[size], size)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_all_eight_orientations_come_out_upright(kind: str) -> None:
    found = {orientation: turned_wrongly(kind, orientation) for orientation in range(1, 9)}
    assert {orientation: wrong for orientation, wrong in found.items() if wrong} == {}


def turned_wrongly(kind: str, orientation: int) -> list[object]:
    """[(place, colour that was expected, colour)]"""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    lying = quarters().transpose(turn[orientation]) if orientation in turn else quarters()
    sent = turned_heic(lying, orientation) if kind == "HEIF" else saved(lying, kind, exif=exif(orientation=orientation))
    found = opened(decode(sent, 256)[256])
    wrong: list[object] = []
    for place, colour in {(60, 60): "red", (190, 60): "green", (60, 190): "blue", (190, 190): "white"}.items():
        expected = Image.new("RGB", (1, 1), colour).getpixel((0, 0))
        seen = found.getpixel(place)
        assert isinstance(seen, tuple)
        assert isinstance(expected, tuple)
        if not is_near(seen, expected, 40):
            wrong.append((place, colour, seen))
    return wrong


def test_an_orientation_that_does_not_exist_is_taken_as_upright() -> None:
    upright = decode(saved(quarters(), "JPEG"), 64)
    for orientation in (0, 9, 255, 65535):
        assert decode(saved(quarters(), "JPEG", exif=exif(orientation=orientation)), 64) == upright, orientation


@pytest.mark.parametrize("kind", KINDS)
def test_neither_gps_nor_comment_nor_profile_nor_xmp_survives(kind: str) -> None:
    options: dict[str, Any] = {"exif": with_gps(), "icc_profile": profile()}
    if kind != "PNG":
        options["xmp"] = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + SECRET + b"</x:xmpmeta>"
    if kind == "JPEG":
        options["comment"] = SECRET
    original = saved(quarters(), kind, **options)
    assert SECRET in original
    with heic_can_be_opened():
        assert opened(original).getexif().get_ifd(0x8825)
    for content in decode(original, 64).values():
        assert SECRET not in content
        image = opened(content)
        assert not image.getexif()
        assert not {"exif", "xmp", "icc_profile", "comment"} & set(image.info)


def test_text_chunks_of_a_png_do_not_survive() -> None:
    words = PngInfo()
    words.add_text("Comment", SECRET.decode())
    words.add_itxt("Location", SECRET.decode(), zip=True)
    for content in decode(saved(quarters(), pnginfo=words), 64).values():
        assert SECRET not in content


def test_the_middle_of_an_oblong_is_shown() -> None:
    image = plain("RGB", "white", (300, 100))
    image.paste("blue", (100, 0, 200, 100))
    assert is_near(middle(saved(image)), (0, 0, 255), 12)
    found = opened(decode(saved(image), 256)[256])
    for place in ((8, 128), (248, 128)):
        seen = found.getpixel(place)
        assert isinstance(seen, tuple)
        assert is_near(seen, (0, 0, 255), 40)


def test_what_is_transparent_is_shown_on_white() -> None:
    assert is_near(middle(saved(plain("RGBA", (255, 0, 0, 0)))), (255, 255, 255))
    assert is_near(middle(saved(plain("RGBA", (255, 0, 0, 128)))), (255, 127, 127), 12)
    assert is_near(middle(saved(plain("LA", (0, 0)))), (255, 255, 255))
    assert is_near(middle(saved(plain("RGB", (255, 0, 0)), transparency=(255, 0, 0))), (255, 255, 255))
    palette = plain("P", 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert is_near(middle(saved(palette, transparency=1)), (255, 255, 255))
    assert is_near(middle(saved(palette, transparency=0)), (255, 0, 0), 8)
    assert is_near(middle(saved(plain("RGBA", (255, 0, 0, 0)), "WEBP", lossless=True)), (255, 255, 255))


def test_sixteen_bits_are_scaled_and_not_cut() -> None:
    for value in (0, 200, 20_000, 40_000, 65_535):
        assert is_near(middle(saved(plain("I;16", value))), (value >> 8,) * 3, 3), value


def test_a_cmyk_jpeg_keeps_its_colour() -> None:
    assert is_near(middle(saved(plain("CMYK", (0, 255, 255, 0)), "JPEG")), (255, 0, 0), 40)


def test_colours_of_a_wide_profile_are_brought_to_srgb() -> None:
    same = middle(saved(plain("RGB", (200, 80, 80)), icc_profile=profile()))
    assert is_near(same, (200, 80, 80), 4)
    wide = middle(saved(plain("RGB", (200, 80, 80)), icc_profile=wide_gamut()))
    assert wide[0] > 208, wide  # the same numbers mean a stronger red there
    assert wide[1] < 78, wide


def test_colours_of_a_wide_profile_are_brought_to_srgb_where_there_is_transparency_too() -> None:
    wide = middle(saved(plain("RGBA", (200, 80, 80, 255)), icc_profile=wide_gamut()))
    assert wide[0] > 208, wide


def with_codes(content: bytes, primaries: int, transfer: int) -> bytes:
    """The file, with other numbers for its colours."""
    if content.startswith(b"\x89PNG"):
        head = content.index(b"IDAT") - 4
        chunk = b"cICP" + bytes((primaries, transfer, 0, 1))
        return content[:head] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[head:]
    place = content.index(b"colrnclx") + 8
    return content[:place] + struct.pack(">HH", primaries, transfer) + content[place + 4 :]


def test_colours_of_display_p3_that_are_told_in_numbers_are_brought_to_srgb() -> None:
    assert is_near(middle((INPUTS / "cicp_p3.png").read_bytes()), (138, 59, 207), 3)
    assert is_near(middle((INPUTS / "heic_nclx_p3.heic").read_bytes()), (255, 20, 44), 5)
    for content in (
        with_codes(saved(plain("RGB", (128, 64, 200))), 12, 13),
        with_codes(saved(plain("RGBA", (128, 64, 200, 255))), 12, 13),
        with_codes(saved(plain("RGB", (128, 64, 200)), "AVIF", quality=100, subsampling="4:4:4"), 12, 13),
    ):
        assert is_near(middle(content), (138, 59, 207), 5), content[:40]
    srgb = with_codes((INPUTS / "heic_nclx_p3.heic").read_bytes(), 1, 13)
    assert is_near(middle(srgb), (250, 60, 59), 3)


@pytest.mark.parametrize(("transfer", "paper", "shining"), [(16, 148, (165, 180)), (18, 191, (210, 230))])
def test_hdr_is_toned_down_so_that_paper_is_light_and_what_shines_is_lighter(
    transfer: int, paper: int, shining: tuple[int, int]
) -> None:
    def shown(value: int, *, primaries: int = 1) -> int:
        return middle(with_codes(saved(plain("RGB", (value, value, value), (2, 2))), primaries, transfer))[1]

    assert abs(shown(paper) - shown(paper, primaries=9)) <= 2
    assert [shown(0), shown(255)] == [0, 255]
    dark, white, bright, brightest = (shown(value) for value in (paper // 2, paper, *shining))
    assert dark + 100 < 225 < white < 240 < bright <= brightest


def test_a_heic_of_hdr_is_toned_down() -> None:
    pq = (INPUTS / "heic_nclx_pq.heic").read_bytes()
    assert is_near(middle(pq), (255, 0, 10), 6)
    hlg = middle(with_codes(pq, 9, 18))
    assert hlg[0] > 245
    assert max(hlg[1:]) < 60


def test_a_profile_counts_more_than_numbers_but_in_a_png() -> None:
    heif = heic(plain("RGB", (200, 80, 80)), icc_profile=profile())
    assert is_near(middle(heif), (200, 80, 80), 4)
    both = with_codes(saved(plain("RGB", (128, 64, 200)), icc_profile=profile()), 12, 13)
    assert is_near(middle(both), (138, 59, 207), 4)


@cache
def heic_to_crop(turn: int) -> bytes:
    down = Image.linear_gradient("L")
    image = Image.merge("RGB", (down, down.rotate(90), Image.new("L", down.size))).resize((320, 160))
    made = pillow_heif.from_pillow(image)
    made[0].info |= {"exif": exif(orientation=turn).tobytes(), "icc_profile": b"?" * 28}
    file = io.BytesIO()
    made.save(file, enc_params={"preset": "ultrafast"})
    return file.getvalue()


def cropped(turn: int, *values: int) -> bytes:
    """With a crop in the place of its profile, which is as long."""
    crop = b"clap" + struct.pack(">8i", *(number for value in values for number in (value, 1)))
    content = heic_to_crop(turn).replace(b"colrprof" + b"?" * 28, crop)
    assert crop in content
    return content


def test_a_heic_that_asks_to_be_cropped_is_taken_and_cropped() -> None:
    """libheif 1.23.0 has a limit for the part, and refuses the whole. Here one of 1.23.6 says what is right."""
    wrong = {}
    for turn in range(1, 9):
        for crop in ((60, 60, 0, 0), (50, 80, 5, -15), (44, 30, -100, 0)):
            content = cropped(turn, *crop)
            expected = pillow_heif.open_heif(io.BytesIO(content)).to_pillow().convert("RGB")
            edge = min(expected.size)
            left, top = (expected.width - edge) // 2, (expected.height - edge) // 2
            square = expected.crop((left, top, left + edge, top + edge)).resize((16, 16), Image.Resampling.BOX)
            found = opened(decode(content, 16)[16])
            far = max(ImageStat.Stat(ImageChops.difference(square, found)).mean)
            if far > 4:
                wrong[turn, crop] = far
    assert wrong == {}


@pytest.mark.parametrize("broken", [b"x", b"\x00" * 128, b"acsp" * 100], ids=repr)
def test_a_profile_that_cannot_be_read_is_left_out(broken: bytes) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        assert is_near(middle(saved(plain("RGB", (200, 80, 80)), kind, icc_profile=broken)), (200, 80, 80), 8)


def test_a_profile_for_another_kind_of_colours_is_left_out() -> None:
    for content in (
        saved(plain("CMYK", (0, 255, 255, 0)), "JPEG", icc_profile=profile()),
        saved(plain("L", 100), icc_profile=profile()),
        saved(plain("RGB", (200, 80, 80)), icc_profile=profile("LAB")),
    ):
        assert decode(content, 64)


# --- What is refused ----------------------------------------------------------------------------------------

HOSTILE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "one byte": lambda: b"\x00",
    "text": lambda: b"I am a picture, honestly.",
    "html": lambda: b"<html><script>alert(1)</script></html>",
    "svg": lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "gif": lambda: saved(plain(), "GIF"),
    "bmp": lambda: saved(plain(), "BMP"),
    "tiff": lambda: saved(plain(), "TIFF"),
    "ico": lambda: saved(plain(), "ICO"),
    "eps, which would start a program": lambda: saved(plain(), "EPS"),
    "pdf": lambda: saved(plain(), "PDF"),
    "psd header": lambda: b"8BPS\x00\x01" + b"\x00" * 100,
    "avif header": lambda: b"\x00\x00\x00\x1cftypavif" + b"\x00" * 100,
    "heic header": lambda: b"\x00\x00\x00\x1cftypheic" + b"\x00" * 100,
    "film": lambda: b"\x00\x00\x00\x1cftypisom" + b"\x00" * 100,
    "avif that says it is heic": lambda: picture(kind="AVIF").replace(b"avif", b"heic"),
    "heic that says it is avif": lambda: heic(quarters()).replace(b"heic", b"avif"),
    "gif with html in it": lambda: b"GIF89a/*" + b"\x00" * 20 + b"*/=1;alert(1)",
    "jpeg magic and html": lambda: b"\xff\xd8\xff\xe0<script>alert(1)</script>",
    "png magic alone": lambda: b"\x89PNG\r\n\x1a\n",
    "png without pixels": lambda: png((b"IHDR", struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0)), (b"IEND", b"")),
    "png of no width": lambda: png((b"IHDR", struct.pack(">IIBBBBB", 0, 10, 8, 2, 0, 0, 0)), (b"IEND", b"")),
    "png with a wrong sum": lambda: png_bomb(10, 10)[:30] + b"xxxx" + png_bomb(10, 10)[34:],
    "png with a bomb of text": lambda: png(
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
        (b"zTXt", b"Comment\x00\x00" + zlib.compress(b"x" * 2_000_000, 9)),
        (b"IDAT", zlib.compress(b"\x00" * 4)),
        (b"IEND", b""),
    ),
    "png with a bomb of a profile": lambda: png(
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
        (b"iCCP", b"p\x00\x00" + zlib.compress(b"x" * 2_000_000, 9)),
        (b"IDAT", zlib.compress(b"\x00" * 4)),
        (b"IEND", b""),
    ),
    "webp magic alone": lambda: b"RIFF\x00\x00\x00\x00WEBPVP8 ",
    "riff that is a sound": lambda: b"RIFF\x24\x00\x00\x00WAVEfmt " + b"\x00" * 30,
}


BEGUN = {"jpeg magic and html", "png magic alone"}  # for all that is known


def test_refuses_what_is_no_picture_that_is_taken(confined: Confined) -> None:
    found = {
        name: outcome(lambda content: pictures._read(confined(content).said), make()) for name, make in HOSTILE.items()
    }
    told = {name: "PictureIncomplete" if name in BEGUN else "InvalidPicture" for name in HOSTILE}
    assert found == told


# --- What did not arrive whole ------------------------------------------------------------------------------

INPUTS = Path(__file__).parents[1] / "inputs"


def without_end(content: bytes) -> bytes:
    assert content.endswith(b"\xff\xd9")
    return content[:-2]


def test_a_jpeg_that_lacks_only_its_end_is_taken() -> None:
    files = [
        picture(kind="JPEG"),
        picture(kind="JPEG", progressive=True),
        picture(kind="JPEG", mode="CMYK"),
        picture((3000, 2000), "JPEG"),
        saved(quarters(), "JPEG", restart_marker_blocks=1),
    ]
    assert decode((INPUTS / "no_eoi.jpg").read_bytes(), 64)
    for whole in files:
        assert decode(without_end(whole), 64) == decode(without_end(whole) + b"\xff", 64) == decode(whole, 64)


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_broke_off_is_told_to_have_not_arrived_whole() -> None:
    photo = opened(picture((300, 200)))
    whole = {kind: heic(photo) if kind == "HEIF" else saved(photo, kind) for kind in KINDS}
    whole["high JPEG, whose middle is there"] = picture((100, 900), "JPEG")
    whole["progressive JPEG"] = picture((150, 100), "JPEG", progressive=True)
    whole["JPEG with EXIF"] = saved(photo, "JPEG", exif=with_gps())
    whole["JPEG with restarts"] = saved(photo, "JPEG", restart_marker_rows=1)
    whole["no_eoi.jpg"] = (INPUTS / "no_eoi.jpg").read_bytes() + b"\xff\xd9"
    found = {
        (kind, part): outcome(decode, content[: int(len(content) * part) - 40])
        for kind, content in whole.items()
        for part in (0.1, 0.5, 0.9, 1)
    }
    assert {name: error for name, error in found.items() if error != "PictureIncomplete"} == {}


def test_a_file_that_is_whole_and_broken_is_no_picture() -> None:
    for kind in ("PNG", "WEBP", "AVIF"):
        content = bytearray(saved(quarters(), kind))
        middle = len(content) // 2
        content[middle - 20 : middle + 20] = b"\x00" * 40
        assert outcome(decode, bytes(content)) == "InvalidPicture", kind


BOMBS: dict[str, Callable[[], bytes]] = {
    "png": lambda: png_header(9000, 9100),
    "grey png": lambda: png_header(10_000, 5051, colour=0),
    "png of one row": lambda: png_header(50_500_001, 1),
    "png of one column": lambda: png_header(1, 2**31 - 1),
    "png of all that a header can say": lambda: png_header(2**31 - 1, 2**31 - 1, colour=6),
    "jpeg": lambda: jpeg_header(65_000, 65_000),
    "jpeg a little above the limit": lambda: jpeg_header(8000, 6313),
    "progressive jpeg of many scans": lambda: scans(saved(quarters().convert("L"), "JPEG", progressive=True), 1000),
    "jpeg of many scans": lambda: scans(saved(quarters(), "JPEG"), 1000),
    "webp": lambda: webp_header(16_383, 16_383),
    "avif": lambda: sized(picture(kind="AVIF"), 40_000, 40_000),
}


@pytest.mark.filterwarnings("ignore")
def test_refuses_a_bomb_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("it was decoded")

    bombs = {name: make() for name, make in BOMBS.items()}
    assert max(map(len, bombs.values())) < 400_000
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    found = {name: outcome(decode, content) for name, content in bombs.items()}
    assert {name: error for name, error in found.items() if error not in {"PictureTooLarge", "InvalidPicture"}} == {}


def test_the_limit_of_pixels_is_the_operators(settings: Settings, process: None) -> None:
    settings.PICTURE_MAX_PIXELS = 100
    assert encode(picture((10, 10)))
    with pytest.raises(PictureTooLarge):
        encode(picture((10, 11)))


def test_the_limit_of_bytes_is_the_operators_and_nothing_is_read_beyond_it(settings: Settings) -> None:
    good = picture((20, 20))
    settings.PICTURE_MAX_BYTES = len(good)
    assert encode(good)
    with pytest.raises(PictureTooLarge):
        encode(good + b"x")
    with pytest.raises(PictureTooLarge):
        encode(b"x" * (len(good) + 1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_photo_with_broken_exif_is_shown_and_is_no_error(kind: str) -> None:
    assert decode(saved(plain(), kind, exif=broken_exif()), 64)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_bytes_that_were_changed_anywhere_give_a_picture_or_a_refusal(
    kind: str,
) -> None:
    whole = bytearray(saved(quarters(16), kind))
    for place in range(0, len(whole), max(1, len(whole) // 150)):
        for value in (0, 255, whole[place] ^ 1):
            spoilt = bytearray(whole)
            spoilt[place] = value
            try:
                decode(bytes(spoilt), 16)
            except (InvalidPicture, PictureIncomplete, PictureTooLarge):
                continue


# --- The process that decodes -------------------------------------------------------------------------------


def head(answer: Answer) -> dict[str, Any]:
    """What the process said before the files."""
    assert answer.status == 0, answer.status
    found: dict[str, Any] = json.loads(answer.said.partition(b"\n")[0])
    return found


@cache
def webp(edge: int) -> bytes:
    return saved(Image.new("RGBA", (edge, edge)), "WEBP", lossless=True, quality=0, method=0)


def kept(packed: str, content_type: str) -> bytes:
    """as_many_as(content_type, ...), which takes seconds to make."""
    made = zlib.decompress(base64.b64decode(packed))
    edge = math.isqrt(pictures.max_pixels()[content_type])
    assert struct.pack(">4sIII", b"ispe", 0, edge, edge) in made, "another limit: make it anew"
    return made


# quality=10, chroma="420", enc_params={"preset": "ultrafast"}
HEIC = (
    "eNrt1j1II0EUAOA3uyEG9TQxin/n4U/jD4mKcmC3eMK11laJa5YM7CZjDKIg4U4tLMXCwoO7lBYWgo0owmFlc6BcpcWR1s5GsFC8N0m0sPehy5ts"
    "dmbevt2P9zZFAOCjk19W6ZS0AYcnnVG99mTSARAzXiqfhMroSc+5ueoalLTz8GL0SjdbfsiUBQI/OEShMgPEtvHUJ2XGKW91tAU3KaO6Sy/ao3rZ"
    "oGTee065kiqncD6Wys7ivIJpX4SpQ5vlpJMbuH+4uwNoNBN4R5sl6sXjo04wdYapj5Mjw0rixZFJIV5cKcK/Dch+jUS2rycG4hmjoz6k42f6FLJm"
    "8abglPg9v9aEVNTOurmM7S5h9AMEv2GoWS6oVKW+ztPKF8JKLkkdMUMhfBi0SuU9tRC7EvhumAFsx09vLokdjG31i72wVSrM3KYvfn12Lw+cPz9e"
    "YxrfHX5QB/Orf+PV2l/9GOqOFqmsYIBKMo0dIsqsJYISlq86V7NOwtSdkTANhyRMJEzCtGz6iWmlaVrbOQnTvk/CdN2QMJ+mSZiebhqm5KdqemmY"
    "fiKm5KdqhmiYQRomTsPEaP7oxomYBAkz4qt3Q1QNM2/4J8AMMyTMWIKZt8pMFP3E8LthhhlmmGGGGWaYYYYZZphhhhlmmGGGGWaYYYYZZt4/E7z/"
    "D9mwAQo="
)
# "RGBA", speed=10, subsampling="4:4:4"
AVIF = (
    "eNpjYGBQSCupLEgsy0xjAAIQnZuZZpibmZjm62joyMDA2JabWpLIAAGKGSk5RVA2Q0FmcgkDGuAryCzJBbMYgVgnMyc/GcRxYWBgAosAMXMVkFMD"
    "5IN5jOuA+AyQ7ZSZmQd2AlhGCshJZYKak1hmYOicn5MPthkhwwSRccwpyEiEyBSlpsHckVhakQO2E2Tr4cyCogIgPTezIDkfSItkFhekQhQK+EEw"
    "g0BBZkUmSISZg4MDSPEklhk6NxqAFQkn5+cU5SXnVABN42Vga4B4FKKcEaFYQAYkYAG02hnEKC3Ks8otSE0HE05WyZnJBVbFlcUlqbnFVkA1mTmZ"
    "iUWVVokw58tlFuTCwhnocBZGpmYWBiYWRtY2dgYGloDclMQSIQYudhljhdks90SN9jFLPWJgk2hgUP9yXmHPhucu9+5Ff78ee7b2UtfFW2s626Kf"
    "GS1+sO7+J2fj/6tvRKQtz9TR/Ba5rF/rhfisIOkHIeIaH2d9OZEy94JJ5lrHVeZP1rF+C9qll3fxtai83Y8DJCi1x660R0s6rG9v/1/mTxpMc10P"
    "u+2oN/DYx3ZHfWIZ045AZY3tHnlz186//L75bYMVkXbZi07en8TIWJwpw6j5Y/7Lzs0RjBUDpZcSP3+Yz2gWcEIBGJdcNqC4vDZB4EKm0WsWqUeJ"
    "hpMcmjjUJzgwMFifPxe4VvOJ9MS55fUpV2PXxf9ZEX2s911Pvu4nc9Nripsuicx+sat1a/E349/7Zlb4Hgw3EFQ8XtwsPd2VxUnC9vy5iHKmz8+b"
    "ewsvHpE2PCTxYYJTG9PCB79uhGj4XHbyuyMtea/BbSHPRuHd2xWyvuzzEj0acoQrUO+ZiLergPsNCrWH4NEeMznqVPDdPdGbKzjtzdP4lbYlv4jN"
    "uJrVeoDXa2LzxVqxdr0VmXcFPMojNl/gnHJXqzo5zXSL3CN19ZUr/ClxlIfJdctvax1SIy++2tKcZDo1cs/5gsFvIA3CcTVDYq3pZR8AAYJZSw=="
)
# The pixels of png_bomb(7106, 7106, colour=6), which take a second to pack.
PNG = (
    "eNqruPX2zkKv5kSJtofvj7MavuBR63Y0iApn2zxDjGfW0bSNt2VO/PI7lBNVfjYhfLoNg2HHjCPx3+a3fLC9XsqRX1Oxc/30993LNJf6pO3/Lv9a"
    "mpWBgWHFnSdfy3JN2abs/fbzxxMekMjdo9fS1kuz1p0r75/DDBRYZS7L9+tu+4HnZ0PPWwL5C6qs7+cvzuOuyHl+e/k7RqDI1WpBkM4GjSYQb4Kr"
    "AZBk2MTBBiQdJA6COCeUJEBUJAvIQIXuBBCnBaJJZ/hqeppncSM+l/Hv+rI6Cz2gwP+3Dx+83GRSv3+qiBUApP579A=="
)
MOST = 290  # megabytes: 300, less what a process saves that is forked and not started
# The worst of each decoder: a picture with fewer colours or without alpha costs less.
LARGEST: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: jpeg_header(8160, 6144),  # "50 megapixels" of phones
    "narrow cmyk jpeg, which is decoded as large as it is": lambda: jpeg_header(12_332, 4095, "CMYK"),
    "progressive jpeg": lambda: jpeg_header(8160, 6144, progressive=True),
    "progressive jpeg with half of its colours": lambda: jpeg_header(7106, 7106, progressive=True, subsampling=1),
    "progressive jpeg in all its colours": lambda: jpeg_header(6019, 6019, progressive=True, subsampling=0),
    "rgba png": lambda: png(
        (b"IHDR", struct.pack(">IIBBBBB", 7106, 7106, 8, 6, 0, 0, 0)),
        (b"IDAT", zlib.decompress(zlib.decompress(base64.b64decode(PNG)))),
        (b"IEND", b""),
    ),
    "lossless webp with alpha": lambda: webp(3762),
    "avif with alpha in all its colours": lambda: kept(AVIF, "image/avif"),
    "heic": lambda: kept(HEIC, "image/heic"),
}
TOO_LARGE: dict[str, Callable[[], bytes]] = {
    "progressive jpeg in all its colours": lambda: jpeg_header(6100, 6100, progressive=True, subsampling=0),
    "png of so many rows that pointers to them are too many": lambda: png(
        (b"IHDR", struct.pack(">IIBBBBB", 1, 50_000_000, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"\x00" * 9))
    ),
    "jpeg header": lambda: jpeg_header(65_000, 65_000),
    "png": lambda: png_header(9000, 9100),
    "webp": lambda: webp(3763),
    "avif": lambda: sized(picture((64, 64), "AVIF"), 5000, 5000),
    "heic": lambda: sized(heic(quarters()), 9000, 6000),
}
# Twelve seconds to make: EVERY_PICTURE=1.
if "EVERY_PICTURE" in os.environ:
    TOO_LARGE["heic in all its colours"] = lambda: heic(
        Image.new("RGB", (7000, 7000)), quality=10, chroma="444", enc_params={"preset": "ultrafast"}
    )


def test_the_largest_of_each_kind_is_decoded_in_less_than_300_megabytes(confined: Confined) -> None:
    answers = {name: confined(make()) for name, make in LARGEST.items()}
    assert {name: head(answer) for name, answer in answers.items() if "sizes" not in head(answer)} == {}
    assert {name: answer.megabytes for name, answer in answers.items() if answer.megabytes >= MOST} == {}


def test_who_sends_a_larger_one_is_told_what_would_fit(settings: Settings) -> None:
    settings.PICTURE_MAX_PIXELS, settings.PICTURE_MAX_BYTES = 50_500_000, 4_000_000
    told = {
        "50": jpeg_header(9000, 9000),
        "36": jpeg_header(6100, 6100, progressive=True, subsampling=0),
        "17": sized(picture((64, 64), "AVIF"), 5000, 5000),
        "14": webp(3763),
    }
    for millions, content in told.items():
        with pytest.raises(PictureTooLarge) as refused:
            decode(content)
        words = f"That picture is too large. Choose one of up to 3 MB and {millions} million pixels."
        assert str(refused.value.message) == words


def test_what_would_take_more_is_refused_with_its_reason(confined: Confined) -> None:
    answers = {name: confined(make()) for name, make in TOO_LARGE.items()}
    assert {name: head(answer).get("code") for name, answer in answers.items()} == dict.fromkeys(
        TOO_LARGE, PictureTooLarge.code
    )
    assert {name: answer.megabytes for name, answer in answers.items() if answer.megabytes >= MOST} == {}


def test_fifty_megabytes_of_nothing_take_no_memory_either(confined: Confined) -> None:
    with pytest.raises(PictureTooLarge):
        encode(b"\x00" * 50_000_000)
    # What begins like a JPEG is gone through byte by byte: of more the process would use up its time.
    for content in (b"\x00" * 50_000_000, b"\xff\xd8\xff\xe0" + b"x" * 5_000_000):
        answer = confined(content)  # even if the limit of bytes were higher
        assert head(answer)["code"] == InvalidPicture.code
        assert answer.megabytes < MOST


def test_the_process_sees_nothing_of_ours_and_can_open_and_start_nothing(tmp_path: Path) -> None:
    look = f"""
import os, runpy, socket
module = runpy.run_path({decoding.__file__!r}, run_name="look")
module["_confine"]()
print(sorted(os.environ))
if not os.getuid():
    os.setuid(65534)  # whom the kernel lets start processes whatever the limit
for attempt in (
    lambda: open({str(tmp_path / "x")!r}, "w"),
    lambda: open(f"/proc/{{os.getppid()}}/environ"),
    socket.socket,
    os.fork,
    lambda: bytearray(400 * 2**20),
):
    try:
        attempt()
        print("done")
    except (OSError, MemoryError) as error:
        print(type(error).__name__, getattr(error, "errno", None))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", look], capture_output=True, env=pictures._ENVIRONMENT, check=True, text=True
    )
    names, *refusals = done.stdout.splitlines()
    assert set(names.strip("[]").replace("'", "").split(", ")) <= {"LC_CTYPE", "MALLOC_ARENA_MAX"}
    no_more_files = f"OSError {errno.EMFILE}"
    assert refusals == [*[no_more_files] * 3, f"BlockingIOError {errno.EAGAIN}", "MemoryError None"]


ANSWER: dict[str, Any] = {"sizes": {"64": 1, "256": 1, "1024": 1}, "placeholder": "x" * 36}


def test_the_answer_of_the_process_is_taken_where_it_is_as_it_should_be() -> None:
    assert pictures._read(json.dumps(ANSWER).encode() + b"\nabc").files == {64: b"a", 256: b"b", 1024: b"c"}


def lies() -> list[bytes]:
    return [
        b"",
        b"[]\n",
        b"{}\n",
        b"no json\nabc",
        json.dumps({**ANSWER, "sizes": {**ANSWER["sizes"], "../../exports/a": 1}}).encode() + b"\nabcd",
        json.dumps({**ANSWER, "sizes": {"64": 1, "256": 1}}).encode() + b"\nab",
        json.dumps({**ANSWER, "sizes": {**ANSWER["sizes"], "64": "1"}}).encode() + b"\nabc",
        json.dumps({**ANSWER, "sizes": {"64": -1, "256": 3, "1024": 1}}).encode() + b"\nabc",
        json.dumps({**ANSWER, "sizes": {"64": 0, "256": 2, "1024": 1}}).encode() + b"\nabc",
        json.dumps(ANSWER).encode() + b"\nab",
        json.dumps(ANSWER).encode() + b"\nabcd",
        json.dumps({**ANSWER, "sizes": {**ANSWER["sizes"], "64": 2**23}}).encode() + b"\n" + b"a" * (2**23 + 2),
        json.dumps({**ANSWER, "placeholder": "x" * 41}).encode() + b"\nabc",
        json.dumps({**ANSWER, "placeholder": ["x"]}).encode() + b"\nabc",
    ]


def test_a_process_that_answers_something_else_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, process: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "lies.py"
    script.write_text(f"import sys; sys.stdout.buffer.write(open({str(tmp_path / 'answer')!r}, 'rb').read())")
    monkeypatch.setattr(decoding, "__file__", str(script))
    believed = []
    for answer in lies():
        (tmp_path / "answer").write_bytes(answer)
        caplog.clear()
        found = outcome(encode, b"a file")
        if found != "InvalidPicture" or "answered what it never should" not in caplog.text:
            believed.append((answer[:60], found))
    assert believed == []


@pytest.mark.parametrize("end", ["import os; os.abort()", "raise RuntimeError('a word of the file')"])
def test_a_decoder_that_falls_over_is_a_refusal_and_tells_the_log_no_word_of_the_file(
    end: str, monkeypatch: pytest.MonkeyPatch, process: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "falls.py"
    script.write_text(end)
    monkeypatch.setattr(decoding, "__file__", str(script))
    with pytest.raises(InvalidPicture):
        encode(picture())
    assert "the decoder of pictures ended with" in caplog.text
    assert "a word of the file" not in caplog.text


def test_a_decoder_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch, process: None, tmp_path: Path) -> None:
    script = tmp_path / "sleeps.py"
    script.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(decoding, "__file__", str(script))
    monkeypatch.setattr(pictures, "_PATIENCE", 0.5)
    with pytest.raises(Overloaded):
        encode(picture())


# --- The placeholder ----------------------------------------------------------------------------------------


def blurred(text: str, size: int = 32) -> list[tuple[int, int, int]]:
    """What an app shows of a BlurHash: its definition at blurha.sh, read the other way round than we write it."""
    digits = [decoding._DIGITS.index(letter) for letter in text]

    def number(start: int, length: int) -> int:
        found = 0
        for digit in digits[start : start + length]:
            found = found * 83 + digit
        return found

    across, down = number(0, 1) % 9 + 1, number(0, 1) // 9 + 1
    assert len(text) == 4 + 2 * across * down
    most = (number(1, 1) + 1) / 166
    first = number(2, 4)
    waves = [[decoding._to_light((first >> shift & 255) / 255) for shift in (16, 8, 0)]]
    for place in range(1, across * down):
        value = number(4 + 2 * place, 2)
        steps = (value // 361, value // 19 % 19, value % 19)
        waves.append([math.copysign(((step - 9) / 9) ** 2, step - 9) * most for step in steps])
    found = []
    for y in range(size):
        for x in range(size):
            colour = [0.0, 0.0, 0.0]
            for place, wave in enumerate(waves):
                factor = math.cos(math.pi * x * (place % across) / size) * math.cos(
                    math.pi * y * (place // across) / size
                )
                colour = [total + factor * value for total, value in zip(colour, wave, strict=True)]
            red, green, blue = (round(decoding._from_light(value) * 255) for value in colour)
            found.append((red, green, blue))
    return found


def test_the_placeholder_shows_what_is_where() -> None:
    shown = blurred(pictures.encode(io.BytesIO(saved(quarters()))).placeholder)
    corners = {(0, 0): (255, 0, 0), (16, 0): (0, 128, 0), (0, 16): (0, 0, 255), (16, 16): (255, 255, 255)}
    for (left, top), colour in corners.items():
        quarter = [shown[y * 32 + x] for y in range(top, top + 16) for x in range(left, left + 16)]
        mean = tuple(sum(pixel[band] for pixel in quarter) // len(quarter) for band in range(3))
        distances = {other: math.dist(mean, other) for other in corners.values()}
        assert min(distances, key=distances.__getitem__) == colour, (left, top, mean)


@pytest.mark.parametrize("colour", ["black", "white", "red", "#204060"])
def test_the_placeholder_of_one_colour_is_that_colour(colour: str) -> None:
    wanted = Image.new("RGB", (1, 1), colour).getpixel((0, 0))
    assert isinstance(wanted, tuple)
    for seen in blurred(decoding.blurhash(plain("RGB", colour, (64, 64)))):
        assert is_near(seen, wanted, 3)


# --- Taking turns -------------------------------------------------------------------------------------------


def test_many_at_once_are_decoded_one_after_the_other(monkeypatch: pytest.MonkeyPatch, process: None) -> None:
    monkeypatch.setattr(pictures, "_WAIT", 300)
    content = picture((200, 200))
    expected = encode(content)
    found = at_once(3, lambda: encode(content))
    assert list(found) == [expected] * 3


def test_no_more_than_three_are_in_line_so_that_threads_are_left_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_WAIT", 0.2)
    content = picture((50, 50))
    with pictures._turn():  # one that takes long
        found = at_once(8, lambda: encode(content))
    assert {type(one) for one in found} == {Overloaded}
    reasons = sorted(one.reason for one in found if isinstance(one, Overloaded))
    assert reasons == ["the pictures before take too long"] * 2 + ["too many pictures at once"] * 6
    assert encode(content)


def test_a_place_is_given_back_after_a_refusal() -> None:
    for _ in range(3):
        with pytest.raises(InvalidPicture):
            encode(b"text")
    assert encode(picture((10, 10)))


# --- Keeping them in the bucket -----------------------------------------------------------------------------


def replace(user: User, caller: Caller, content: bytes | None = None) -> User:
    return pictures.replace(user=user, file=io.BytesIO(content or picture()), caller=caller)


def stored(key: str) -> list[int]:
    return [size for size in pictures.SIZES if storages["default"].exists(pictures.path(key, size))]


def get(address: str) -> tuple[int, dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - our own bucket
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {}, error.read()


def down(settings: Settings, port: int = 9) -> None:
    """Nobody answers at the storage any more."""
    options = {**settings.STORAGES["default"]["OPTIONS"], "endpoint_url": f"http://127.0.0.1:{port}"}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], "OPTIONS": options}}


def due_now() -> None:
    DiscardedPicture.objects.update(remove_at=now())


def test_a_picture_lies_in_the_bucket_in_three_sizes_and_is_shown_by_signed_addresses(
    alice: User, caller: Caller, process: None
) -> None:
    user = pictures.replace(user=alice, file=io.BytesIO(picture()), caller=caller)
    assert stored(user.picture) == [64, 256, 1024]
    assert len(User.objects.get(id=alice.id).picture_placeholder) == 36
    addresses = pictures.addresses(User.objects.get(id=alice.id))
    assert list(addresses) == [64, 256, 1024]
    for size, address in addresses.items():
        assert address.startswith(f"{django_settings.S3_PUBLIC_ENDPOINT_URL}/")
        status, headers, content = get(address)
        assert status == 200
        assert headers["content-type"] == "image/webp"
        assert headers["cache-control"] == "private, max-age=31536000, immutable"
        image = opened(content)
        assert (image.format, image.size) == ("WEBP", (size, size))


def test_the_bucket_answers_nobody_without_a_signature(alice: User, caller: Caller) -> None:
    address = pictures.addresses(replace(alice, caller))[64]
    bare = address.partition("?")[0]
    assert get(bare)[0] == 403
    assert get(bare.rpartition("/")[0] + "/")[0] in {403, 404}
    assert get(f"{django_settings.S3_PUBLIC_ENDPOINT_URL}/{django_settings.S3_BUCKET}/")[0] == 403
    assert get(address.replace("64.webp", "256.webp"))[0] == 403  # signed for another object
    assert get(address[:-4] + "0000")[0] == 403
    query = parse_qs(urlsplit(address).query)
    assert query["X-Amz-Expires"] == [str(django_settings.PICTURE_URL_LIFETIME)]
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]


def test_a_signed_address_runs_out(alice: User, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    user = replace(alice, caller)
    assert get(pictures.addresses(user)[64])[0] == 200
    a_lifetime_ago = time.time() - django_settings.PICTURE_URL_LIFETIME
    monkeypatch.setattr(bucket, "time", lambda: a_lifetime_ago)
    assert get(pictures.addresses(user)[64])[0] == 403


@pytest.mark.parametrize("late", [0, 1, 899, 1799, 1800, 3599])
def test_an_address_stays_the_same_for_half_its_life_and_never_outlives_its_time(
    alice: User, monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    alice.picture = "a" * 48
    window = 1_795_000_000 // 1800 * 1800
    monkeypatch.setattr(bucket, "time", lambda: window + 0.5)
    first = pictures.addresses(alice)
    monkeypatch.setattr(bucket, "time", lambda: window + late + 0.5)
    then = pictures.addresses(alice)
    assert (then == first) is (late < 1800)
    query = parse_qs(urlsplit(then[64]).query)
    signed = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%S%z").timestamp()
    left = signed + int(query["X-Amz-Expires"][0]) - (window + late)
    assert 1800 < left <= 3600


def test_an_address_is_what_boto3_would_sign_at_that_moment(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    alice.picture = "a" * 48
    window = 1_795_000_000 // 1800 * 1800
    monkeypatch.setattr(bucket, "time", lambda: window + 0.5)
    moment = datetime.fromtimestamp(window, UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda **_: moment.replace(tzinfo=None))
    for size, address in pictures.addresses(alice).items():
        theirs = storages["public"].url(pictures.path(alice.picture, size))
        assert sorted(address.partition("?")[2].split("&")) == sorted(theirs.partition("?")[2].split("&"))
        assert address.partition("?")[0] == theirs.partition("?")[0]


def test_a_cdn_shows_them_by_addresses_that_stay(alice: User, caller: Caller, settings: Settings) -> None:
    settings.PICTURE_CDN_URL = "https://cdn.example.com"
    user = replace(alice, caller)
    assert pictures.addresses(user)[64] == f"https://cdn.example.com/pictures/{user.picture}/64.webp"
    settings.PICTURE_CDN_URL = ""
    assert get(pictures.addresses(user)[64])[1]["cache-control"] == "public, max-age=31536000, immutable"


def test_who_has_no_picture_has_no_address(alice: User) -> None:
    assert pictures.addresses(alice) == {}


def test_a_key_is_unguessable_and_anothers_same_picture_has_another(alice: User, bob: User, caller: Caller) -> None:
    one, other = replace(alice, caller).picture, replace(bob, caller).picture
    assert one != other
    assert len(one) == len(other) == 48
    assert str(alice.id).replace("-", "") not in one


def test_the_same_picture_twice_changes_nothing(alice: User, caller: Caller) -> None:
    user = replace(alice, caller)
    before = (user.picture, user.version, Event.objects.count())
    again = replace(user, caller)
    fresh = User.objects.get(id=alice.id)
    assert (again.picture, fresh.version, Event.objects.count()) == before
    assert not DiscardedPicture.objects.exists()
    assert stored(user.picture) == [64, 256, 1024]


def test_a_new_picture_is_noted_and_gives_a_new_version(alice: User, caller: Caller) -> None:
    before = alice.version
    user = replace(alice, caller)
    assert User.objects.get(id=alice.id).version == user.version != before
    assert Event.objects.get(user=alice).kind == "picture.changed"


def test_the_objects_of_a_replaced_picture_are_removed(alice: User, bob: User, caller: Caller) -> None:
    bobs = replace(bob, caller).picture
    old = replace(alice, caller).picture
    new = replace(alice, caller, picture((60, 50))).picture
    assert stored(old) == [64, 256, 1024]
    assert pictures.remove_discarded() == 1
    assert stored(old) == []
    assert stored(new) == stored(bobs) == [64, 256, 1024]
    assert not DiscardedPicture.objects.exists()
    assert pictures.remove_discarded() == 0


def test_to_and_fro_between_two_pictures_never_loses_the_one_that_is_shown(alice: User, caller: Caller) -> None:
    contents = [picture(), picture((60, 50))]
    for turn in range(4):
        user = replace(alice, caller, contents[turn % 2])
        assert stored(user.picture) == [64, 256, 1024]
        if turn == 2:
            assert pictures.remove_discarded() == 1
    pictures.remove_discarded()
    assert stored(User.objects.get(id=alice.id).picture) == [64, 256, 1024]


def test_removing_takes_it_away_and_is_quiet_the_second_time(alice: User, bob: User, caller: Caller) -> None:
    bobs = replace(bob, caller).picture
    key = replace(alice, caller).picture
    for _ in range(2):
        assert pictures.remove(user=alice, caller=caller).picture == ""
    assert User.objects.get(id=alice.id).picture == ""
    assert [event.kind for event in Event.objects.filter(user=alice).order_by("id")] == [
        "picture.changed",
        "picture.removed",
    ]
    pictures.remove_discarded()
    assert stored(key) == []
    assert stored(bobs) == [64, 256, 1024]
    assert User.objects.get(id=bob.id).picture == bobs


def test_who_uploads_too_often_is_refused_before_decoding(
    alice: User, bob: User, caller: Caller, settings: Settings
) -> None:
    rate_limits.limits.cache_clear()
    settings.RATE_LIMITS = ["picture_per_account=2/3600"]
    try:
        replace(alice, caller)
        with pytest.raises(InvalidPicture):
            replace(alice, caller, b"text")
        with pytest.raises(RateLimited):
            replace(alice, caller, b"text")
        replace(bob, caller)
    finally:
        rate_limits.limits.cache_clear()


def test_a_refused_file_leaves_the_old_picture(alice: User, caller: Caller) -> None:
    key = replace(alice, caller).picture
    with pytest.raises(InvalidPicture):
        replace(alice, caller, b"text")
    assert User.objects.get(id=alice.id).picture == key
    assert not DiscardedPicture.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_eight_uploads_at_once_leave_one_picture_and_nothing_behind() -> None:
    alice = make_user("alice")
    contents = iter([picture((20 + number, 20)) for number in range(8)])

    def upload() -> User:
        user = User.objects.get(id=alice.id)
        return pictures.replace(user=user, file=io.BytesIO(next(contents)), caller=Caller(ip=random_ip()))

    found = at_once(8, upload)
    # Three may be in line; the others are asked to come back, so that threads are left for other people.
    assert {type(one) for one in found} <= {User, Overloaded}, found
    keys = {one.picture for one in found if isinstance(one, User)}
    shown = User.objects.get(id=alice.id).picture
    due_now()
    pictures.remove_discarded()
    assert [key for key in keys if stored(key)] == [shown]
    assert not DiscardedPicture.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_same_picture_many_times_at_once_is_shown_and_is_no_error() -> None:
    alice = make_user("alice")
    encoded = pictures.encode(io.BytesIO(picture()))

    def again() -> None:
        for _ in range(15):
            pictures.publish(alice, pictures.store(alice, encoded), Caller(ip=random_ip()))

    assert at_once(4, again) == [None] * 4
    due_now()
    pictures.remove_discarded()
    assert stored(User.objects.get(id=alice.id).picture) == [64, 256, 1024]


def signed_in(user: User, caller: Caller) -> Session:
    return sessions.begin(user=user, kind=Session.Kind.APP, caller=caller)


def switch_off_and_on(user: User, _: Session, caller: Caller) -> None:
    for active in (False, True):
        users.set_active(user=user, active=active, caller=caller)


ENDS: dict[str, Callable[[User, Session, Caller], object]] = {
    "signed out": lambda user, session, caller: sessions.end(user=user, session_id=session.id, caller=caller),
    "switched off": lambda user, _, caller: users.set_active(user=user, active=False, caller=caller),
    "switched off and on": switch_off_and_on,
    "handed over": lambda user, _, caller: lifecycle.hand_over(user, caller=caller),
    "erased": lambda user, *_: deletion.remove(user),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", ["picture", "profile"])
def test_a_picture_that_was_on_its_way_when_the_device_lost_its_right_is_not_shown(
    bob: User, caller: Caller, monkeypatch: pytest.MonkeyPatch, way: str, end: str
) -> None:
    session, store = signed_in(bob, caller), pictures.store

    def meanwhile(*args: Any) -> pictures.Prepared:
        prepared = store(*args)
        with transaction.atomic():
            ENDS[end](User.objects.get(id=bob.id), session, caller)
        return prepared

    monkeypatch.setattr(pictures, "store", meanwhile)
    file = io.BytesIO(picture())
    work: dict[str, Callable[[], User]] = {
        "picture": lambda: pictures.replace(user=bob, file=file, caller=caller, session=session),
        "profile": lambda: profiles.update(
            user=bob, changes={"first_name": "Late"}, caller=caller, session=session, picture=file
        ),
    }
    with pytest.raises(SessionRevoked):
        work[way]()
    assert not User.objects.filter(id=bob.id).exclude(picture="").exists()
    assert not User.objects.filter(first_name="Late").exists()
    assert DiscardedPicture.objects.count() == 1  # its objects go by themselves


@pytest.mark.parametrize("end", ["switched off", "erased"])
def test_without_a_device_the_account_must_be_there_still(bob: User, caller: Caller, end: str) -> None:
    stale = User.objects.get(id=bob.id)
    with transaction.atomic():
        ENDS[end](bob, Session(), caller)
    with pytest.raises(SessionRevoked):
        replace(stale, caller)
    with pytest.raises(SessionRevoked):
        profiles.update(user=stale, changes={"first_name": "Late"}, caller=caller)


# --- When something fails -----------------------------------------------------------------------------------


def test_a_storage_that_is_down_leaves_the_old_picture_and_says_when_to_come_back(
    alice: User, caller: Caller, settings: Settings
) -> None:
    old = replace(alice, caller).picture
    down(settings)
    with pytest.raises(StorageUnavailable) as refusal:
        replace(alice, caller, picture((60, 50)))
    assert refusal.value.retry_after > 0
    fresh = User.objects.get(id=alice.id)
    assert fresh.picture == old
    assert Event.objects.filter(user=alice).count() == 1
    left = DiscardedPicture.objects.get()
    assert left.key != old
    assert now() < left.remove_at < now() + timedelta(minutes=11)


def test_a_mute_storage_holds_nobody_up_for_long() -> None:
    storage: Any = storages["default"]
    config = storage.connection.meta.client.meta.config
    tries = (config.retries or {}).get("total_max_attempts", 5)
    assert (config.connect_timeout + config.read_timeout) * tries <= 60


def test_at_sign_up_a_storage_that_is_down_costs_only_the_picture(db: None, caller: Caller, settings: Settings) -> None:
    down(settings)
    user = signup.sign_up(
        username="dora", email="dora@example.com", password=PASSWORD, caller=caller, picture=io.BytesIO(picture())
    )
    assert User.objects.get().username == user.username == "dora"
    assert User.objects.get().picture == ""


def test_what_a_crash_between_upload_and_commit_left_is_cleared_away_later(
    alice: User, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> User:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "publish", crash)
        with pytest.raises(KeyboardInterrupt):
            replace(alice, caller)
    key = DiscardedPicture.objects.get().key
    assert stored(key) == [64, 256, 1024]
    assert pictures.remove_discarded() == 0  # it might still be on its way
    assert stored(key) == [64, 256, 1024]
    due_now()
    assert pictures.remove_discarded() == 1
    assert stored(key) == []


def test_after_a_crash_the_same_picture_can_be_sent_again_and_stays(
    alice: User, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> User:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "publish", crash)
        with pytest.raises(KeyboardInterrupt):
            replace(alice, caller)
    due_now()
    user = replace(alice, caller)
    assert not DiscardedPicture.objects.exists()
    assert pictures.remove_discarded() == 0
    assert stored(user.picture) == [64, 256, 1024]


def test_a_picture_that_somebody_has_is_never_removed(alice: User, caller: Caller) -> None:
    key = replace(alice, caller).picture
    DiscardedPicture.objects.create(key=key)
    pictures.remove_discarded()
    assert stored(key) == [64, 256, 1024]
    assert not DiscardedPicture.objects.exists()


def test_what_cannot_be_removed_now_is_removed_later(alice: User, caller: Caller, settings: Settings) -> None:
    old = replace(alice, caller).picture
    pictures.remove(user=alice, caller=caller)
    shipped = settings.STORAGES
    down(settings)
    assert pictures.remove_discarded() == 0
    assert DiscardedPicture.objects.get().key == old
    settings.STORAGES = shipped
    assert pictures.remove_discarded() == 1
    assert stored(old) == []


def test_objects_that_are_gone_already_are_no_trouble(db: None) -> None:
    DiscardedPicture.objects.create(key="never-was")
    assert pictures.remove_discarded() == 1


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_remove_each_picture_once() -> None:
    for number in range(12):
        DiscardedPicture.objects.create(key=f"gone-{number}")
    found = at_once(4, pictures.remove_discarded)
    assert sum(one for one in found if isinstance(one, int)) == 12, found
    assert not DiscardedPicture.objects.exists()
