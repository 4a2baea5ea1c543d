"""The main job in a real browser, and the same recovery by an app."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import PASSWORD, picture
from tests.e2e.chromium import browser, press, sign_in
from tests.e2e.conftest import Service, eventually

pytestmark = browser


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def window(request: pytest.FixtureRequest, chromium: Browser, service: Service) -> Iterator[Page]:
    context = chromium.new_context(java_script_enabled=request.param, base_url=service.url)
    page = context.new_page()
    page.set_default_timeout(8000)
    page.set_default_navigation_timeout(8000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert said == []  # neither an error of ours nor a violation of the content security policy


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out", exact=True).first.click()
    if "/logout/" in page.url:
        press(page, "Sign out")


def confirm(page: Page, code: str, *, by_itself: bool) -> None:
    page.get_by_label("Code").fill(f"{code[:4]} {code[4:]}")
    if not by_itself:
        press(page, "Confirm email address")


def sign_in_by_both(page: Page, service: Service, *logins: str) -> None:
    for login in logins:
        sign_in(page, login, PASSWORD)
        expect(page).to_have_url(f"{service.url}/account/")
        sign_out(page)


def test_sign_up_confirm_sign_in_forget_and_recover(
    window: Page, service: Service, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    page = window
    with_javascript = "[with JavaScript" in request.node.name
    name = "grace" if with_javascript else "heidi"
    address = f"{name}@example.com"
    (tmp_path / "me.jpg").write_bytes(picture(kind="JPEG"))

    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    page.get_by_role("link", name="Create").first.click()
    page.get_by_label("Username").fill(name)
    page.get_by_label("Email").fill(address)
    page.get_by_label("Password", exact=True).fill("short")
    press(page, "Create account")
    expect(page).to_have_title(re.compile("^Error: "))
    expect(page.get_by_label("Username")).to_have_value(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.locator("[type=file]").set_input_files(tmp_path / "me.jpg")
    if with_javascript:
        press(page, "Use picture")
    page.get_by_label("First name").fill(name.title())
    press(page, "Create account")

    confirm(page, service.code(address, "onfirm"), by_itself=with_javascript)
    expect(page.get_by_text("Your email address is confirmed.")).to_be_visible()
    shown = page.locator("main img").first
    expect(shown).to_be_visible()
    assert page.request.get(str(shown.get_attribute("src"))).ok

    sign_out(page)
    sign_in_by_both(page, service, name.upper(), address)

    page.goto("/account/login/")
    page.get_by_role("link", name="Forgot").click()
    page.get_by_label("Username or email").fill(address)
    page.get_by_role("main").get_by_role("button").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Check your email")
    page.goto(service.link(address, "Choose a new"))
    page.get_by_label("New password").fill("another lagoon tractor")
    press(page, "Choose a new password")
    sign_in(page, name, "another lagoon tractor")
    expect(page).to_have_url(f"{service.url}/account/")

    # An app does the same with the code.
    eventually(lambda: any("was changed" in mail["Subject"] for mail in service.letters(address)))
    before = len(service.letters(address))
    assert service.post("/password/forgot", {"login": name}).status_code == 202
    eventually(lambda: len(service.letters(address)) > before)
    code = service.code(address, "Choose a new")
    reset = {"login": name, "code": code, "new_password": "third lagoon tractor"}
    answer = service.post("/password/reset", reset)
    assert answer.status_code == 204, answer.text
    page.goto("/account/")  # that ended the browser's session too
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert service.post("/token", {"login": address, "password": "third lagoon tractor"}).status_code == 200
