"""A real browser, where there is one."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Page

# Without a window, where there is such a one: the same pages for two thirds of the time.
PATH = shutil.which("chromium-headless-shell") or shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
    # A page is looked at for half a second: to compile its scripts a second time costs more than it brings.
    "--js-flags=--no-maglev --no-opt",
]  # fmt: skip

browser = [
    pytest.mark.browser,
    pytest.mark.skipif(not PATH, reason="no chromium here: apt-get install chromium"),
]

Rules = Sequence[str]
# The levels of WCAG, and not also what axe thinks good: for pages of Django's own, and for emails, which are no pages.
WCAG: Rules = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
_AXE = AXE.read_text() + "\n;undefined"


def axe(page: Page, rules: Rules = ()) -> list[str]:
    """What axe finds on this page; by all its rules, or by these or those of these levels."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE)
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    found = page.evaluate("async (options) => (await axe.run(document, options)).violations", options)
    return [
        f"{wrong['id']}: {node['html'][:120]} {node['failureSummary'][:300]}"
        for wrong in found
        for node in wrong["nodes"]
    ]


def press(page: Page, name: str) -> None:
    page.get_by_role("main").get_by_role("button", name=name, exact=True).click()


def sign_in(page: Page, login: str, password: str) -> None:
    page.goto("/account/login/")
    page.get_by_label("Username or email").fill(login)
    page.get_by_label("Password", exact=True).fill(password)
    press(page, "Sign in")
