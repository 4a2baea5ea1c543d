"""Each mail as a browser shows it: on a phone and wider, light and dark, from left to right and from right to left.

Fonts differ from machine to machine, so no stored pictures are compared: what must hold is measured
(docs/decisions/mail.md). The pictures lie in test-results/mails/ for people to look at."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from PIL import Image
from playwright.sync_api import Browser, Page

from accounts.pages.mail_previews import SAMPLES, sample
from accounts.services.mail import CODES, Message
from tests.e2e.chromium import browser

pytestmark = browser

PICTURES = Path(settings.BASE_DIR) / "test-results/mails"
Scheme = Literal["light", "dark"]
# The longest words and the other direction; EVERY_LANGUAGE=1 takes all of them, by day and by night.
LOOKS: list[tuple[str, Scheme]] = [("de", "light"), ("ar", "dark")]
if "EVERY_LANGUAGE" in os.environ:
    LOOKS = [(code, scheme) for code, _name in settings.LANGUAGES for scheme in get_args(Scheme)]
# Only what is about the mail itself: its frame is no page of ours, with no landmarks to leave or skip.
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]}}
MEASURE = """() => {
    const box = (name) => {
        const found = document.querySelector(name);
        if (!found) return null;
        const area = document.createRange();
        area.selectNodeContents(found);
        const {left, right, top, bottom} = found.getBoundingClientRect();
        const lines = new Set([...area.getClientRects()].map((part) => Math.round(part.top)));
        const {direction} = getComputedStyle(found);
        return {left, right, top, bottom, direction, lines: lines.size, shown: found.checkVisibility()};
    };
    const leaf = document.createRange();
    leaf.selectNodeContents(document.querySelector("h1"));
    return {
        width: innerWidth,
        needed: document.documentElement.scrollWidth,
        direction: getComputedStyle(document.body).direction,
        card: box(".card"),
        heading: (({left, right}) => ({left, right}))(leaf.getBoundingClientRect()),
        code: box(".code"),
        button: box(".button"),
    };
}"""


def measured(page: Page, width: int) -> dict[str, Any]:
    page.set_viewport_size({"width": width, "height": 800})
    found: dict[str, Any] = page.evaluate(MEASURE)
    return found


def faults(message: Message, page: Page, direction: str) -> Iterator[str]:
    """It fits its window, and can be read and pressed."""
    for width in (320, 600):
        found = measured(page, width)
        card, heading, code, button = (found[part] for part in ("card", "heading", "code", "button"))
        inside = card["right"] - heading["right"] if direction == "rtl" else heading["left"] - card["left"]
        said = {
            "it scrolls sideways": found["needed"] > width,
            "the wrong direction": found["direction"] != direction,
            "the heading begins at the wrong side": inside >= 40,
        }
        if message in CODES:
            said["the code is broken"] = (code["lines"], code["direction"]) != (1, "ltr")
            said["the code sticks out"] = not card["left"] <= code["left"] < code["right"] <= card["right"]
            said["another code"] = page.locator(".code").inner_text() != "4829 1375"
        if message is Message.ACCOUNT_ERASED:
            said["there is nothing left to press for"] = button is not None
        elif "link" in SAMPLES[message] or message not in CODES:
            said["no button"] = not (button and button["shown"])
            said["a button too low to press"] = button["bottom"] - button["top"] < 24
            said["the button sticks out"] = not card["left"] <= button["left"] < button["right"] <= card["right"]
        yield from (f"{message} at {width}: {words}" for words, wrong in said.items() if wrong)


def blank(picture: Image.Image, scheme: Scheme) -> bool:
    """A blank mail, or an undressed one, is told by its colours."""
    corner = (0xF5, 0xF6, 0xF8) if scheme == "light" else (0x11, 0x13, 0x15)
    return picture.getpixel((2, 2)) != corner or len(picture.getcolors(1 << 24) or []) <= 50


@pytest.mark.parametrize(("language", "scheme"), LOOKS)
def test_every_mail_fits_can_be_read_and_is_dressed(chromium: Browser, language: str, scheme: Scheme) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page = chromium.new_page(color_scheme=scheme)
    taken: list[Image.Image] = []
    found: list[str] = []
    for message in Message:
        page.set_content(sample(message, language)[2])
        found += faults(message, page, "rtl" if language == "ar" else "ltr")
        found += [f"{message}: {wrong}" for wrong in Axe().run(page, options=RULES).response["violations"]]
        page.set_viewport_size({"width": 600, "height": 400})
        path = PICTURES / f"{language}-{scheme}-{message}.png"
        page.screenshot(path=path, full_page=True)
        with Image.open(path) as picture:
            taken.append(picture.convert("RGB"))
        found += [f"{message}: nothing is written on it"] if blank(taken[-1], scheme) else []
    page.close()
    _contact_sheet(taken).save(PICTURES / f"{language}-{scheme}.png")
    assert found == []


def _contact_sheet(pictures: list[Image.Image]) -> Image.Image:
    """All mails of a language beside one another, in rows of four."""
    rows = [pictures[start : start + 4] for start in range(0, len(pictures), 4)]
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new("RGB", (600 * 4, sum(heights)), "grey")
    for number, row in enumerate(rows):
        for place, picture in enumerate(row):
            sheet.paste(picture, (600 * place, sum(heights[:number])))
    return sheet
