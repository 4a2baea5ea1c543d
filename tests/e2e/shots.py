"""Takes every page in every state (states.py): on a desk and on a phone, by day and by night, into shots/, with a sheet
of all of them to look at (index.html) and one picture for each look.

    python -m tests.e2e.shots            all
    python -m tests.e2e.shots readme     the few that README shows, into docs/images/
"""

import html
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import django
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import ViewportSize, sync_playwright

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup()  # some pages are templates that no visit can call forth

from project.devstack.servers import BASE
from tests.e2e.chromium import PATH, QUIET
from tests.e2e.conftest import Service
from tests.e2e.states import DESK, PHONE, Cast, State, table

Scheme = Literal["light", "dark"]
LOOKS: Mapping[str, tuple[ViewportSize, Scheme]] = {
    "desk by day": (DESK, "light"),
    "desk by night": (DESK, "dark"),
    "phone by day": (PHONE, "light"),
    "phone by night": (PHONE, "dark"),
}
# In README: the state, its look, and the height that is shown.
README: Mapping[str, tuple[str, str, int]] = {
    "sign-in": ("sign in", "desk by day", 800),
    "overview": ("overview", "desk by day", 640),
    "two-step": ("two-step and passkeys, both", "desk by day", 640),
    "profile-dark": ("profile", "phone by night", 844),
    "devices-arabic": ("Arabic: devices", "phone by day", 844),
    "admin-user": ("admin: user", "desk by day", 800),
    "statistics": ("admin: statistics", "desk by day", 800),
}


@contextmanager
def cast() -> Iterator[Cast]:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        service = Service(Path(folder))
        try:
            service.start()
            browser = playwright.chromium.launch(executable_path=PATH, args=QUIET)
            yield Cast(service, browser).gather()
            browser.close()
        finally:
            service.stop()


def say(words: str) -> None:
    print(words, flush=True)


# --- All of them --------------------------------------------------------------------------------------------


def everything(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.*"):
        old.unlink()
    began = time.monotonic()
    with cast() as people:
        states = list(table(people))
        for number, state in enumerate(states):
            say(f"{number + 1:3}/{len(states)} {state.name}")
            with people.at(state) as shown:
                for look, (viewport, scheme) in LOOKS.items():
                    shown.page.set_viewport_size(viewport)
                    shown.page.emulate_media(color_scheme=scheme)
                    shown.page.screenshot(path=folder / file_of(number, look), full_page=True)
    for look in LOOKS:
        sheet(folder, look, states).save(folder / f"sheet {look}.png", optimize=True)
    (folder / "index.html").write_text(index(states))
    say(f"{folder}/index.html: {len(states)} states in {len(LOOKS)} looks, {time.monotonic() - began:.0f} s")


def file_of(number: int, look: str) -> str:
    return f"{number:02} {look}.png"


def sheet(folder: Path, look: str, states: Sequence[State], columns: int = 8) -> Image.Image:
    """One picture of all states in this look, each cut at a screen and a half."""
    viewport, scheme = LOOKS[look]
    width = 320 if viewport is DESK else 220
    height = round(width * viewport["height"] / viewport["width"] * 1.5)
    rows = -(-len(states) // columns)
    back, ink = ("#dfe3e8", "#171a1f") if scheme == "light" else ("#2b2e33", "#eceef1")
    whole = Image.new("RGB", (columns * (width + 16) + 16, rows * (height + 40) + 16), back)
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(13)
    for number, state in enumerate(states):
        left, top = 16 + number % columns * (width + 16), 16 + number // columns * (height + 40)
        with Image.open(folder / file_of(number, look)) as shot:
            small = shot.convert("RGB").resize(
                (width, round(shot.height * width / shot.width)), Image.Resampling.LANCZOS
            )
        whole.paste(small.crop((0, 0, width, min(small.height, height))), (left, top + 20))
        draw.text((left, top), state.name[: width // 7], fill=ink, font=font)
    return whole


def index(states: Sequence[State]) -> str:
    parts = []
    for number, state in enumerate(states):
        shots = "".join(
            f'<a href="{file_of(number, look)}"><img src="{file_of(number, look)}" alt="{look}" loading="lazy"'
            f' class="{look.partition(" ")[0]}"></a>'
            for look in LOOKS
        )
        parts.append(f"<section><h2>{number:02} {html.escape(state.name)}</h2><div>{shots}</div></section>")
    style = (
        "body{font:16px system-ui;margin:2rem;background:#888;color:#fff}div{display:flex;gap:1rem;align-items:start}"
        "img{display:block;max-height:60rem}img.desk{width:40rem}img.phone{width:14rem}"
    )
    return f"<!doctype html><meta charset=utf-8><title>Every page</title><style>{style}</style>{''.join(parts)}"


# --- README's -----------------------------------------------------------------------------------------------


def for_readme(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with cast() as people:
        states = {state.name: state for state in table(people)}
        for name, (state, look, height) in README.items():
            viewport, scheme = LOOKS[look]
            with people.at(states[state]) as shown:
                shown.page.set_viewport_size({**viewport, "height": height})
                shown.page.emulate_media(color_scheme=scheme)
                file = folder / f"{name}.png"
                shown.page.screenshot(path=file)
            with Image.open(file) as shot:
                # Flat colours: a palette shows the same in a third of the bytes.
                shot.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(file, optimize=True)
            say(f"{file.relative_to(BASE)} {file.stat().st_size // 1024} kB")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            everything(BASE / "shots")
        case ["readme"]:
            for_readme(BASE / "docs/images")
        case _:
            say(__doc__ or "")
            sys.exit(2)
