"""Each mail as a browser shows it: on a phone and wider, light and dark, from left to right and from right to left.

Fonts differ from machine to machine, so no stored pictures are compared: what must hold is measured
(docs/decisions/mail.md). EVERY_LANGUAGE=1 leaves pictures in test-results/mails/ for people to look at."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from django.conf import settings
from PIL import Image
from playwright.sync_api import Browser, Page

from accounts.pages.mail_previews import SAMPLES, sample
from accounts.services.mail import CODES, Message
from tests.e2e.chromium import WCAG, axe, browser

pytestmark = browser

Scheme = Literal["light", "dark"]
BACKGROUND = {"light": "rgb(245, 246, 248)", "dark": "rgb(17, 19, 21)"}
# The longest words and the other direction; EVERY_LANGUAGE=1 takes all of them, by day and by night, and pictures.
LOOKS: list[tuple[str, Scheme]] = [("de", "light"), ("ar", "dark")]
PICTURES = "EVERY_LANGUAGE" in os.environ
FOLDER = Path(settings.BASE_DIR) / "test-results/mails"
if PICTURES:
    FOLDER.mkdir(parents=True, exist_ok=True)
    LOOKS = [(code, scheme) for code, _name in settings.LANGUAGES for scheme in get_args(Scheme)]
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
        colour: getComputedStyle(document.body).backgroundColor,
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


def faults(message: Message, page: Page, direction: str, background: str) -> Iterator[str]:
    """It fits its window, and can be read and pressed."""
    for width in (320, 600):
        found = measured(page, width)
        card, heading, code, button = (found[part] for part in ("card", "heading", "code", "button"))
        inside = card["right"] - heading["right"] if direction == "rtl" else heading["left"] - card["left"]
        said = {
            "it scrolls sideways": found["needed"] > width,
            "the wrong direction": found["direction"] != direction,
            "it is not dressed": found["colour"] != background,
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


@pytest.mark.parametrize(("language", "scheme"), LOOKS)
def test_every_mail_fits_can_be_read_and_is_dressed(chromium: Browser, language: str, scheme: Scheme) -> None:
    page = chromium.new_page(color_scheme=scheme)
    pictures: list[Image.Image] = []
    found: list[str] = []
    for message in Message:
        page.set_content(sample(message, language)[2])
        found += faults(message, page, "rtl" if language == "ar" else "ltr", BACKGROUND[scheme])
        found += [f"{message}: {wrong}" for wrong in axe(page, WCAG)]
        if PICTURES:
            page.set_viewport_size({"width": 600, "height": 400})
            path = FOLDER / f"{language}-{scheme}-{message}.png"
            page.screenshot(path=path, full_page=True)
            pictures.append(Image.open(path).convert("RGB"))
    page.close()
    if PICTURES:
        _contact_sheet(pictures).save(FOLDER / f"{language}-{scheme}.png")
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
