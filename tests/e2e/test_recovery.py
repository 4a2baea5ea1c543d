"""Getting back in: every way to ask, every door to come in by, and what must not open any."""

import itertools
from collections.abc import Callable

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from tests.conftest import PASSWORD
from tests.e2e.chromium import browser, press, sign_in
from tests.e2e.conftest import Service, eventually

pytestmark = browser

NEW = "another lagoon tractor"
MALLORYS = "mallory was here first"
SUBJECT = "Choose a new"
_names = (f"lost{number}" for number in itertools.count())


@pytest.fixture
def name(service: Service) -> str:
    """Somebody with a proved address, name@example.com."""
    name = next(_names)
    service.post("/signup", {"username": name, "email": f"{name}@example.com", "password": PASSWORD})
    service.sql("UPDATE accounts_user SET email_verified = true WHERE username = %s", name)
    return name


# --- Three ways to ask, three doors -------------------------------------------------------------------------


def ask_in_the_app(service: Service, page: Page, name: str) -> None:
    assert service.post("/password/forgot", {"login": name}).status_code == 202


def ask_in_the_browser(service: Service, page: Page, name: str) -> None:
    page.goto("/account/password/reset/")
    page.get_by_label("Username or email").fill(name)
    page.get_by_role("main").get_by_role("button").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Check your email")


def ask_in_another_browser(service: Service, page: Page, name: str) -> None:
    assert page.context.browser
    context = page.context.browser.new_context(base_url=service.url)
    ask_in_the_browser(service, context.new_page(), name)
    context.close()


def come_in_by_the_link(service: Service, page: Page, name: str) -> None:
    page.goto(service.link(f"{name}@example.com", SUBJECT))
    page.get_by_label("New password").fill(NEW)
    press(page, "Choose a new password")
    expect(page.get_by_role("heading", level=1)).to_have_text("Your password has been changed")


def come_in_by_the_code(service: Service, page: Page, name: str) -> None:
    """On the page that this browser shows, if it asked; else in the app."""
    code = service.code(f"{name}@example.com", SUBJECT)
    if page.url.endswith("/account/password/reset/done/"):
        page.get_by_label("Code").fill(f"{code[:4]}-{code[4:]}")
        page.get_by_label("New password").fill(NEW)
        press(page, "Choose a new password")
        expect(page.get_by_role("heading", level=1)).to_have_text("Your password has been changed")
    else:
        answer = service.post("/password/reset", {"login": name, "code": code, "new_password": NEW})
        assert answer.status_code == 204, answer.text


def come_in_by_the_app_that_the_link_opens(service: Service, page: Page, name: str) -> None:
    key = service.link(f"{name}@example.com", SUBJECT).rstrip("/").rpartition("/")[2]
    answer = service.post("/password/reset", {"key": key, "new_password": NEW})
    assert answer.status_code == 204, answer.text


Way = Callable[[Service, Page, str], None]


@pytest.mark.parametrize("ask", [ask_in_the_browser, ask_in_the_app, ask_in_another_browser])
@pytest.mark.parametrize("come_in", [come_in_by_the_link, come_in_by_the_code, come_in_by_the_app_that_the_link_opens])
def test_each_way_to_ask_opens_each_door_and_shuts_the_others(
    service: Service, page: Page, name: str, ask: Way, come_in: Way
) -> None:
    ask(service, page, name)
    address = f"{name}@example.com"
    code, link = service.code(address, SUBJECT), service.link(address, SUBJECT)
    come_in(service, page, name)
    assert service.post("/token", {"login": address, "password": NEW}).status_code == 200
    assert service.post("/token", {"login": address, "password": PASSWORD}).status_code == 401

    third = "third lagoon tractor"
    answer = service.post("/password/reset", {"login": name, "code": code, "new_password": third})
    assert answer.json()["code"] == "invalid_code"
    key = link.rstrip("/").rpartition("/")[2]
    assert service.post("/password/reset", {"key": key, "new_password": third}).json()["code"] == "invalid_key"
    page.goto(link)
    expect(page.get_by_role("heading", level=1)).to_have_text("This link no longer works")


# --- Scanners -----------------------------------------------------------------------------------------------

PREVIEW = {"User-Agent": "WhatsApp/2.24 facebookexternalhit"}
SCANNERS: dict[str, Callable[[str], object]] = {
    "HEAD": lambda link: requests.head(link, timeout=5, allow_redirects=True),
    "GET": lambda link: requests.get(link, timeout=5),
    "GET in a row": lambda link: [requests.get(link, timeout=5) for _ in range(5)],
    "OPTIONS": lambda link: requests.options(link, timeout=5),
    "POST without a form": lambda link: requests.post(link, timeout=5),
    "a preview": lambda link: requests.get(
        link, timeout=5, headers={"User-Agent": "WhatsApp/2.24 facebookexternalhit"}
    ),
}


def look_in_a_browser(chromium: Browser, link: str) -> None:
    """As some scanners do: the page with its scripts and everything that it loads, and every GET that it links to."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(link)
    page.wait_for_load_state("networkidle")
    links = page.eval_on_selector_all("a[href]", "all => all.map(one => one.href)")
    for found in {one for one in links if one.startswith("http://localhost")}:
        page.goto(found)
    context.close()


def test_scanners_use_up_nothing(service: Service, chromium: Browser, name: str) -> None:
    """The links of a reset, of a confirmation, and of a change of address: all still work after all of them."""
    address, moved = f"{name}@example.com", f"{name}@example.net"
    tokens = service.post("/token", {"login": name, "password": PASSWORD}).json()["tokens"]
    change = {"email": moved, "password": PASSWORD}
    assert service.post("/me/email", change, tokens["access_token"]).status_code == 202
    confirm = service.link(moved, "onfirm")
    scan(chromium, confirm)
    key = confirm.rstrip("/").rpartition("/")[2]
    assert service.post("/email/confirm", {"key": key}).status_code == 200

    undo = service.link(address, "was changed")
    scan(chromium, undo)
    service.post("/password/forgot", {"login": name})
    reset = service.link(moved, SUBJECT)
    scan(chromium, reset)
    code = service.code(moved, SUBJECT)
    answer = service.post("/password/reset", {"login": name, "code": code, "new_password": NEW})
    assert answer.status_code == 204, answer.text
    key = undo.rstrip("/").rpartition("/")[2]
    assert service.post("/email/undo", {"key": key}).status_code == 200


def scan(chromium: Browser, link: str) -> None:
    for scanner in SCANNERS.values():
        scanner(link)
    look_in_a_browser(chromium, link)


# --- The takeover drill -------------------------------------------------------------------------------------


def test_an_owner_takes_the_account_back_with_one_press(service: Service, page: Page, name: str) -> None:
    address, mallorys = f"{name}@example.com", f"mallory-{name}@example.com"
    sign_in(page, name, PASSWORD)  # the browser that the owner left open
    stolen = service.post("/token", {"login": name, "password": PASSWORD}).json()["tokens"]
    token = stolen["access_token"]
    service.post("/me/email", {"email": mallorys, "password": PASSWORD}, token)
    code = service.code(mallorys, "onfirm")
    assert service.post("/me/email/confirm", {"code": code}, token).status_code == 200
    changed = service.post("/me/password", {"current_password": PASSWORD, "new_password": MALLORYS}, token)
    assert changed.status_code == 204
    second = service.post("/token", {"login": mallorys, "password": MALLORYS}).json()["tokens"]
    page.goto("/account/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")  # locked out

    page.goto(service.link(address, "was changed"))
    press(page, "Undo this change")
    page.get_by_label("New password").fill(NEW)
    press(page, "Choose a new password")
    sign_in(page, address, NEW)
    expect(page).to_have_url(f"{service.url}/account/")

    for tokens in (stolen, second):
        answer = service.post("/token/refresh", {"refresh_token": tokens["refresh_token"]})
        assert answer.json()["code"] == "session_revoked"
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        answer = requests.get(f"{service.url}/api/v1/me", headers=headers, timeout=5)
        assert answer.json()["code"] == "session_revoked"
    for login in (name, address, mallorys):
        assert service.post("/token", {"login": login, "password": MALLORYS}).status_code == 401
    page.goto("/account/devices/")
    expect(page.locator("main .list > li")).to_have_count(1)


def test_a_code_by_mail_signs_in(service: Service, page: Page, name: str) -> None:
    page.goto("/account/profile/")  # on the way somewhere
    page.get_by_role("link", name="Email me a sign-in code").click()
    page.get_by_label("Username or email").fill(name)
    press(page, "Email me a sign-in code")
    code = service.code(f"{name}@example.com", "sign-in code")
    page.get_by_label("Code").fill(f"{code[:4]} {code[4:]}")  # and no button: the last digit sends it
    expect(page).to_have_url(f"{service.url}/account/profile/")
    eventually(lambda: service.sql("SELECT 1 FROM accounts_event WHERE kind = 'login.code_requested'"))
