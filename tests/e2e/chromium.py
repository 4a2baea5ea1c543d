"""A real browser, where there is one."""

import shutil

import pytest
from playwright.sync_api import Page

PATH = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

browser = [
    pytest.mark.browser,
    pytest.mark.skipif(not PATH, reason="no chromium here: apt-get install chromium"),
]


def press(page: Page, name: str) -> None:
    page.get_by_role("main").get_by_role("button", name=name, exact=True).click()


def sign_in(page: Page, login: str, password: str) -> None:
    page.goto("/account/login/")
    page.get_by_label("Username or email").fill(login)
    page.get_by_label("Password", exact=True).fill(password)
    press(page, "Sign in")
