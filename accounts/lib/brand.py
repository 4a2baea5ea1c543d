"""How the operator's own brand looks: one colour, made readable on light and on dark pages, and a logo."""

import re
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings
from django.templatetags.static import static

# The backgrounds of text (static/css/account.css). WCAG asks for a contrast of 4.5; the tinted surfaces are mixed from
# the accent itself and are closer to it, the dark ones more so.
_LIGHT, _ON_LIGHT = "#f5f6f8", 5.1
_DARK, _ON_DARK = "#191b1e", 6.2
_HEX = re.compile(r"#[0-9a-fA-F]{6}\Z")


@dataclass(frozen=True)
class Palette:
    light: str  # on light pages, and below white words
    dark: str  # on dark pages, and below dark words


DEFAULT = Palette("#1d569f", "#8db4dc")


def is_color(text: str) -> bool:
    return bool(_HEX.match(text))


def palette() -> Palette:
    """The operator's colour, made readable, or ours if there is none."""
    color: str = settings.ACCENT_COLOR
    return _readable(color.lower()) if is_color(color) else DEFAULT


@lru_cache(maxsize=8)
def _readable(color: str) -> Palette:
    return Palette(_towards("#000000", color, _LIGHT, _ON_LIGHT), _towards("#ffffff", color, _DARK, _ON_DARK))


def _towards(end: str, color: str, surface: str, least: float) -> str:
    """The colour, or the nearest one towards `end` that is readable."""
    steps = (_mixed(color, end, step / 50) for step in range(51))
    return next(found for found in steps if contrast(found, surface) >= least)


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _mixed(color: str, other: str, part: float) -> str:
    pairs = zip(_channels(color), _channels(other), strict=True)
    return "#" + "".join(f"{round(one + (two - one) * part):02x}" for one, two in pairs)


def _luminance(color: str) -> float:
    """As WCAG 2 defines it."""
    values = [channel / 255 for channel in _channels(color)]
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def stylesheet() -> str:
    found = palette()
    return f"@layer tokens {{ :root {{ --accent: light-dark({found.light}, {found.dark}); }} }}\n"


def logo() -> str:
    """Its address, or "" for our own mark."""
    given: str = settings.SITE_LOGO
    if not given or given.startswith(("/", "https://", "http://")):
        return given
    try:
        return static(given)
    except ValueError:  # not collected: no page should fail for that, and a system check reports it
        return ""
