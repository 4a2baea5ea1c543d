"""Second factors in a real browser: a passkey of a virtual device, offered where the username is typed, and an
authenticator app, with and without JavaScript."""

import re
from collections.abc import Iterator
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import PASSWORD
from tests.e2e.chromium import browser, press, sign_in
from tests.e2e.conftest import Service
from tests.factors import App

pytestmark = browser


@pytest.fixture
def name(service: Service) -> str:
    """Somebody with an account."""
    name = f"hedy.{uuid4().hex[:8]}"
    answer = service.post("/signup", {"username": name, "email": f"{name}@example.com", "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    code = service.code(f"{name}@example.com", "onfirm")
    assert service.post("/me/email/confirm", {"code": code}, answer.json()["tokens"]["access_token"]).ok
    return name


def window(chromium: Browser, service: Service, *, scripts: bool) -> Iterator[Page]:
    context = chromium.new_context(java_script_enabled=scripts, base_url=service.url)
    page = context.new_page()
    page.set_default_timeout(8000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert said == []


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def either(request: pytest.FixtureRequest, chromium: Browser, service: Service) -> Iterator[Page]:
    yield from window(chromium, service, scripts=request.param)


@pytest.fixture
def page(chromium: Browser, service: Service) -> Iterator[Page]:
    """A browser on a device that makes passkeys and checks who holds it."""
    for page in window(chromium, service, scripts=True):
        devtools = page.context.new_cdp_session(page)
        devtools.send("WebAuthn.enable", {"enableUI": False})
        options = {
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
            "isUserVerified": True, "automaticPresenceSimulation": True,
        }  # fmt: skip
        devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        yield page


def title(page: Page, words: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(words)


def sign_out(page: Page) -> None:
    page.get_by_role("banner").get_by_role("button", name="Sign out").click()
    title(page, "Sign in")


def test_a_passkey_is_added_and_offered_where_the_username_is_typed(page: Page, name: str) -> None:
    sign_in(page, name, PASSWORD)
    page.goto("/account/two-step/")
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("Name").fill("My phone")
    press(page, "Add a passkey")
    title(page, "Two-step and passkeys")
    expect(page.get_by_text("My phone", exact=True)).to_be_visible()
    expect(page.get_by_role("status").first).to_contain_text("Your passkey has been added")

    # The device knows itself: a second one is not made.
    page.get_by_role("link", name="Add a passkey").click()
    press(page, "Add a passkey")
    expect(page.get_by_text("This device already has a passkey for your account.")).to_be_visible()

    page.goto("/account/")
    page.get_by_role("banner").get_by_role("button", name="Sign out").click()
    # Nothing is typed and nothing pressed: the browser offers it, and the device answers.
    page.wait_for_url("**/account/")
    expect(page.get_by_text(f"@{name}")).to_be_visible()


def test_a_passkey_signs_in_by_the_button(page: Page, name: str) -> None:
    page.add_init_script("delete PublicKeyCredential.isConditionalMediationAvailable")
    sign_in(page, name, PASSWORD)
    page.goto("/account/two-step/passkeys/add/")
    press(page, "Add a passkey")
    title(page, "Two-step and passkeys")
    sign_out(page)
    page.goto("/account/login/?next=/account/devices/")
    press(page, "Sign in with a passkey")
    title(page, "Devices")


def test_a_device_without_a_passkey_says_so(page: Page) -> None:
    page.add_init_script("delete PublicKeyCredential.isConditionalMediationAvailable")
    page.goto("/account/login/")
    press(page, "Sign in with a passkey")
    expect(page.get_by_text("The passkey wasn't used")).to_be_visible()


def taken_over(page: Page, *, scripts: bool) -> App:
    """An authenticator app with the secret of the page. A phone can't scan itself, so there it is offered first."""
    picture = page.get_by_role("img", name="QR code")
    link = page.get_by_role("link", name="Open in your authenticator app")
    expect(picture).to_be_visible()
    expect(link).to_be_hidden()
    page.set_viewport_size({"width": 390, "height": 844})
    expect(link).to_have_attribute("href", re.compile("^otpauth://totp/"))
    above, below = link.bounding_box(), picture.bounding_box()
    assert above
    assert below
    assert above["y"] < below["y"]
    secret = page.locator("code.secret").inner_text().replace(" ", "")
    copy = page.get_by_role("button", name="Copy the key")
    expect(copy).to_be_visible(visible=scripts)
    if scripts:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        copy.click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == secret
    return App(secret)


def test_an_authenticator_app_and_a_recovery_code(either: Page, name: str, request: pytest.FixtureRequest) -> None:
    page = either
    scripts: bool = request.node.callspec.params["either"]
    sign_in(page, name, PASSWORD)
    page.goto("/account/two-step/")
    page.get_by_role("link", name="Turn on").click()
    app = taken_over(page, scripts=scripts)
    page.get_by_label("Code").fill(app.code())
    press(page, "Turn on")
    title(page, "Your recovery codes")
    codes = page.locator(".recovery code").all_inner_texts()
    assert len(codes) == 10
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_text().split() == codes
    page.get_by_role("link", name="I've saved them").click()
    title(page, "Two-step and passkeys")

    sign_out(page)
    sign_in(page, name, PASSWORD)
    title(page, "Second step")
    later = app.code(1)
    page.get_by_label("Code").fill(f"{later[:3]} {later[3:]}")
    if not scripts:  # else it is sent with its last digit
        press(page, "Sign in")
    expect(page.get_by_text(f"@{name}")).to_be_visible()

    sign_out(page)
    sign_in(page, name, PASSWORD)
    page.get_by_role("link", name="Use a recovery code").click()
    page.get_by_label("Recovery code").fill(codes[0].upper())
    press(page, "Sign in")
    expect(page.get_by_text(f"@{name}")).to_be_visible()
    page.goto("/account/two-step/")
    expect(page.get_by_text("9 recovery codes left")).to_be_visible()

    page.get_by_role("link", name="Turn off").click()
    press(page, "Turn off two-step verification")
    title(page, "Two-step and passkeys")
    sign_out(page)
    sign_in(page, name, PASSWORD)
    expect(page.get_by_text(f"@{name}")).to_be_visible()
