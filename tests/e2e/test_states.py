"""What each page keeps in each of its states (states.py). STATES="sign in" walks through those alone whose name has
these words."""

import json
import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from project.devstack.servers import BASE
from tests.e2e.chromium import AXE, WCAG, Rules, axe, browser
from tests.e2e.conftest import Service
from tests.e2e.states import DESK, PHONE, Cast, State, table

pytestmark = browser

# All rules on a desk by day, and elsewhere those that colours and sizes decide. Colours follow the time of day and
# sizes the window, so two looks meet all of them; EVERY_LOOK=1 takes four.
ALL: Rules = ()
COLOURS: Rules = ("color-contrast", "link-in-text-block")
SIZES: Rules = (*COLOURS, "target-size", "scrollable-region-focusable", "region", "skip-link")
LOOKS: Sequence[tuple[ViewportSize, Literal["light", "dark"], Rules]] = (
    (DESK, "light", ALL),
    (PHONE, "dark", SIZES),
    *(((DESK, "dark", COLOURS), (PHONE, "light", COLOURS)) if "EVERY_LOOK" in os.environ else ()),
)
STICKING_OUT = (
    "[...document.querySelectorAll('.menu a')].filter(a => a.scrollWidth > a.clientWidth).map(a => a.innerText)"
)
# The header and the page end at one edge. On a phone what can be done stands below the text of a list. No button is the
# browser's own, which speaks the browser's language.
CROOKED = """() => {
    const at = (element) => element.getBoundingClientRect();
    const end = (element) => (document.dir === "rtl" ? at(element).left : at(element).right);
    const [bar, main] = [".bar-end", ".frame > main"].map((name) => document.querySelector(name));
    const all = (name) => [...document.querySelectorAll(name)];
    return [
        ...(bar && Math.abs(end(bar) - end(main)) > 1 ? ["header"] : []),
        ...all(".list > li > :is(.button, form)").filter((one) => innerWidth < 480 &&
            at(one).top < at(one.parentElement.querySelector(".what")).bottom).map((one) => one.innerText),
        ...all("[type=file]").filter((one) => getComputedStyle(one).opacity !== "0").map((one) => one.name),
    ];
}"""


@dataclass
class Walked:
    """What was found, by the state's name."""

    html: Path
    axe: dict[str, Any] = field(default_factory=lambda: defaultdict(dict))
    too_wide: dict[str, int] = field(default_factory=dict)
    sticking_out: dict[str, list[str]] = field(default_factory=dict)
    complaints: dict[str, list[str]] = field(default_factory=dict)
    crooked: dict[str, list[str]] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def look(page: Page, state: State, walked: Walked) -> None:
    if not state.template:
        walked.words[f"{state.language} {page.inner_text('body')}"].append(state.name)
    page.add_script_tag(url="/static/axe.js")
    for viewport, scheme, rules in LOOKS:
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=scheme)
        if wrong := axe(page, rules or (WCAG if state.by_others else ALL)):
            walked.axe[state.name][f"{viewport['width']} {scheme}"] = wrong
        if found := page.evaluate(CROOKED):
            walked.crooked[f"{state.name}, {viewport['width']}"] = found
    page.set_viewport_size({"width": 320, "height": 640})
    width = page.evaluate("document.documentElement.scrollWidth")
    if width > 320 and not state.by_others:
        walked.too_wide[state.name] = width
    page.set_viewport_size(DESK)
    if entries := page.evaluate(STICKING_OUT):
        walked.sticking_out[state.name] = entries


@pytest.fixture(scope="module")
def walked(chromium: Browser, service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    cast = Cast(service, chromium).gather()
    found = Walked(tmp_path_factory.mktemp("html"))
    # As a file of the service: the browser keeps it, where the same text from here takes twice the time on each page.
    shutil.copy(AXE, Path(os.environ["STATIC_ROOT"]) / "axe.js")
    for number, state in enumerate(table(cast)):
        if os.environ.get("STATES", "") not in state.name:
            continue
        with cast.at(state) as shown:
            if shown.complaints:  # those about axe's own styles would come later
                found.complaints[state.name] = [*shown.complaints]
            look(shown.page, state, found)
            if not state.by_others:
                (found.html / f"{number:02} {state.name}.html").write_text(shown.html)
    yield found
    cast.close()


def listed(found: object) -> str:
    return json.dumps(found, indent=1, ensure_ascii=False)


def test_axe_finds_nothing_on_a_desk_and_on_a_phone_by_day_and_by_night(walked: Walked) -> None:
    assert not walked.axe, listed(walked.axe)


def test_no_two_states_show_the_same_page(walked: Walked) -> None:
    """Else one of them is not what its name says."""
    assert [names for names in walked.words.values() if len(names) > 1] == []


def test_nothing_scrolls_sideways_on_a_narrow_phone(walked: Walked) -> None:
    assert not walked.too_wide, listed(walked.too_wide)


def test_no_entry_sticks_out_of_the_menu(walked: Walked) -> None:
    assert not walked.sticking_out, listed(walked.sticking_out)


def test_everything_has_its_place(walked: Walked) -> None:
    assert not walked.crooked, listed(walked.crooked)


def test_no_page_breaks_its_content_security_policy_or_fails_in_a_script(walked: Walked) -> None:
    assert not walked.complaints, listed(walked.complaints)


@pytest.mark.skipif(not shutil.which("npm"), reason="no node and npm here: apt-get install nodejs npm")
def test_a_validator_passes_the_html_as_it_was_sent(walked: Walked) -> None:
    assert list(walked.html.iterdir()) or "STATES" in os.environ
    folder = BASE / "tests/e2e/html"
    program = folder / "node_modules/.bin/html-validate"
    if not program.exists():
        command = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    config = folder / "html-validate.json"
    done = subprocess.run(
        [program, "--config", config, "--formatter", "text", "--ext", "html", walked.html],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
