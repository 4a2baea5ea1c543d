"""Each mail as a browser shows it: on a phone and wider, light and dark, from left to right and from right to left.

Fonts differ from machine to machine, so no stored pictures are compared: what must hold is measured
(docs/decisions/mail.md). The pictures lie in test-results/mails/ for people to look at."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from PIL import Image
from playwright.sync_api import Browser, Page

from accounts.pages.mail_previews import SAMPLES, sample
from accounts.services.mail import CODES, Message
from tests.e2e.chromium import browser

pytestmark = browser

LANGUAGES = [code for code, _name in settings.LANGUAGES]
if "EVERY_LANGUAGE" not in os.environ:
    LANGUAGES = ["de", "ar"]  # the longest words and the other direction
PICTURES = Path(settings.BASE_DIR) / "test-results/mails"
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
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


@pytest.fixture
def window(chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page()
    yield page
    page.close()


def measured(page: Page, width: int) -> dict[str, Any]:
    page.set_viewport_size({"width": width, "height": 800})
    found: dict[str, Any] = page.evaluate(MEASURE)
    return found


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("message", Message)
def test_a_mail_fits_its_window_and_can_be_read_and_pressed(window: Page, message: Message, language: str) -> None:
    window.set_content(sample(message, language)[2])
    direction = "rtl" if language == "ar" else "ltr"
    for width in (320, 600):
        found = measured(window, width)
        assert found["needed"] <= width, "it scrolls sideways"
        assert found["direction"] == direction
        card, heading = found["card"], found["heading"]
        inside = card["right"] - heading["right"] if direction == "rtl" else heading["left"] - card["left"]
        assert inside < 40, "the heading begins at the wrong side"
        if message in CODES:
            assert found["code"]["lines"] == 1
            assert found["code"]["direction"] == "ltr"
            assert card["left"] <= found["code"]["left"] < found["code"]["right"] <= card["right"]
            assert window.locator(".code").inner_text() == "4829 1375"
        if message is Message.ACCOUNT_ERASED:
            assert found["button"] is None, "there is nothing left to press for"
        elif "link" in SAMPLES[message] or message not in CODES:
            assert found["button"]["shown"]
            assert found["button"]["bottom"] - found["button"]["top"] >= 24
            assert card["left"] <= found["button"]["left"] < found["button"]["right"] <= card["right"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("language", ["en", "ar"])
def test_axe_finds_nothing_in_a_mail(window: Page, scheme: Scheme, language: str) -> None:
    window.emulate_media(color_scheme=scheme)
    for message in Message:
        window.set_content(sample(message, language)[2])
        found = Axe().run(window, options=RULES)
        assert found.response["violations"] == [], (message, found.generate_report())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_there_is_a_picture_of_every_mail(window: Page, scheme: Scheme, language: str) -> None:
    """Told apart from a blank or an undressed one by its colours."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    window.emulate_media(color_scheme=scheme)
    window.set_viewport_size({"width": 600, "height": 400})
    taken = []
    for message in Message:
        window.set_content(sample(message, language)[2])
        path = PICTURES / f"{language}-{scheme}-{message}.png"
        window.screenshot(path=path, full_page=True)
        taken.append(Image.open(path).convert("RGB"))
        corner = taken[-1].getpixel((2, 2))
        assert corner == ((0xF5, 0xF6, 0xF8) if scheme == "light" else (0x11, 0x13, 0x15))
        assert len(taken[-1].getcolors(1 << 24) or []) > 50, "nothing is written on it"
    _contact_sheet(taken).save(PICTURES / f"{language}-{scheme}.png")


def _contact_sheet(pictures: list[Image.Image]) -> Image.Image:
    """All mails of a language beside one another, in rows of four."""
    rows = [pictures[start : start + 4] for start in range(0, len(pictures), 4)]
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new("RGB", (600 * 4, sum(heights)), "grey")
    for number, row in enumerate(rows):
        for place, picture in enumerate(row):
            sheet.paste(picture, (600 * place, sum(heights[:number])))
    return sheet
