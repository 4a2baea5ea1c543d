"""Two journeys of somebody who is signed in, with and without JavaScript: another device is signed out, and another
address takes the place of the old one."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from tests.conftest import PASSWORD
from tests.e2e.chromium import browser, sign_in
from tests.e2e.conftest import Service

pytestmark = browser


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def page(request: pytest.FixtureRequest, chromium: Browser, service: Service) -> Iterator[Page]:
    context = chromium.new_context(java_script_enabled=request.param, base_url=service.url)
    page = context.new_page()
    page.set_default_timeout(8000)
    yield page
    context.close()


def test_another_device_is_signed_out_and_another_address_confirmed(
    page: Page, service: Service, request: pytest.FixtureRequest
) -> None:
    name = f"devi.{uuid4().hex[:8]}"
    body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD, "device": {"name": "Lost phone"}}
    token = service.post("/signup", body).json()["tokens"]["access_token"]
    assert service.post("/me/email/confirm", {"code": service.code(f"{name}@example.com", "onfirm")}, token).ok
    bearer = {"Authorization": f"Bearer {token}"}
    assert requests.get(f"{service.url}/api/v1/me", headers=bearer, timeout=5).ok

    sign_in(page, name, PASSWORD)
    page.get_by_role("navigation").get_by_role("link", name="Devices").click()
    page.get_by_role("button", name="Sign out Lost phone").click()
    expect(page.get_by_text("That device has been signed out.")).to_be_visible()
    expect(page.get_by_text("Lost phone")).to_have_count(0)
    assert requests.get(f"{service.url}/api/v1/me", headers=bearer, timeout=5).status_code == 401

    page.get_by_role("navigation").get_by_role("link", name="Email", exact=True).click()
    page.get_by_label("New email").fill(f"{name}@example.net")
    page.get_by_label("Your password", exact=True).fill(PASSWORD)
    page.get_by_role("main").locator("button.primary").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm email address")
    code = service.code(f"{name}@example.net", "onfirm")
    page.get_by_label("Code").fill(code)
    if "without" in request.node.name:  # else it is sent with its last digit
        page.get_by_role("main").locator("button.primary").click()
    expect(page.get_by_text("Your email address is confirmed.")).to_be_visible()
    expect(page.get_by_text(f"{name}@example.net")).to_be_visible()
