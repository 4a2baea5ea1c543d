"""The pages in every language, in a real browser, on a narrow phone."""

import os

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from tests.conftest import PASSWORD
from tests.e2e.chromium import browser
from tests.e2e.conftest import Service

pytestmark = browser

# The longest words and the other direction; EVERY_LANGUAGE=1 walks all of them.
LANGUAGES = [code for code, _name in settings.LANGUAGES] if "EVERY_LANGUAGE" in os.environ else ["de", "ar"]
FOR_VISITORS = ("login", "signup", "password/reset", "login/code", "password/reset/key/done", "inactive", "nothing")
FOR_MEMBERS = (
    "", "profile/", "email/", "password/change/", "devices/", "activity/", "confirm-email/", "reauthenticate/",
    "data/", "delete/", "logout/",
)  # fmt: skip
# A word that is wider than its place and is cut off there.
CUT = """() => [...document.querySelectorAll("main *, header *, footer *")].filter((element) =>
    element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 1
    && getComputedStyle(element).overflowX !== "visible" && !element.matches("input")
).map((element) => element.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def _ada(service: Service) -> None:
    person = {"username": "polyglot", "email": "polyglot@example.com", "password": PASSWORD}
    assert service.post("/signup", person).status_code == 201


def phone(chromium: Browser, service: Service, language: str, *, javascript: bool = True) -> Page:
    context = chromium.new_context(
        locale=language,
        viewport={"width": 320, "height": 640},
        base_url=service.url,
        java_script_enabled=javascript,
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.set_default_timeout(8000)
    page.set_default_navigation_timeout(8000)
    return page


def sign_in(page: Page) -> None:
    page.goto("/account/login/")
    page.locator("[name=login]").fill("polyglot")
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main button.primary").click()
    page.wait_for_url("**/account/")


@pytest.mark.usefixtures("_ada")
@pytest.mark.parametrize("language", LANGUAGES)
def test_each_page_fits_a_narrow_phone(chromium: Browser, service: Service, language: str) -> None:
    """What axe finds does not hang on the words: test_states.py."""
    page = phone(chromium, service, language)
    found: dict[str, object] = {}

    def look(path: str) -> None:
        page.goto(path)
        assert page.locator("html").get_attribute("lang") == language
        if (width := page.evaluate("document.documentElement.scrollWidth")) > 320:
            found[path] = f"{width} pixels wide"
        elif cut := page.evaluate(CUT):
            found[path] = cut

    for name in FOR_VISITORS:
        look(f"/account/{name}/")
    sign_in(page)
    for name in FOR_MEMBERS:
        look(f"/account/{name}")
    page.context.close()
    assert found == {}


@pytest.mark.usefixtures("_ada")
@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_press_in_the_footer_changes_the_language_and_keeps_the_page(
    chromium: Browser, service: Service, javascript: bool
) -> None:
    page = phone(chromium, service, "en", javascript=javascript)
    sign_in(page)
    page.goto("/account/devices/")
    page.get_by_role("contentinfo").get_by_role("button", name="العربية").click()
    expect(page).to_have_url(f"{service.url}/account/devices/")
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.get_by_role("heading", level=1)).to_have_text("الأجهزة")
    assert service.sql("SELECT language FROM accounts_user WHERE username = 'polyglot'") == [("ar",)]
    page.context.close()


def test_another_language_keeps_what_was_typed_and_its_digits_are_a_code(chromium: Browser, service: Service) -> None:
    page = phone(chromium, service, "en")
    page.goto("/account/signup/")
    page.locator("[name=username]").fill("Layla")
    page.locator("[name=email]").fill("layla@bücher.example")
    page.locator("[name=first_name]").fill("علی\u200cرضا")
    page.locator("[name=gender][value=female]").check()
    page.locator("[name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Show password").click()  # which makes it a field like any other
    page.get_by_role("contentinfo").get_by_role("button", name="العربية").click()
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("[name=username]")).to_have_value("Layla")
    expect(page.locator("[name=email]")).to_have_value("layla@xn--bcher-kva.example")  # shown with its ü
    expect(page.locator("[name=first_name]")).to_have_value("علی\u200cرضا")
    expect(page.locator("[name=gender][value=female]")).to_be_checked()
    expect(page.locator("[name=password]")).to_have_value("")
    assert page.evaluate("sessionStorage.length") == 0
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main button.primary.wide").click()
    page.wait_for_url("**/confirm-email/")
    code = service.code("layla@xn--bcher-kva.example", "")
    page.locator("[name=code]").fill("\u200e" + code.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")))
    page.wait_for_url("**/account/")  # and no button: the last digit sends it
    assert service.sql("SELECT email_verified FROM accounts_user WHERE username = 'layla'") == [(True,)]
    page.context.close()
