"""The reading view of the API in a browser: Redoc keeps our policy, asks nothing foreign, and is dark by night."""

from urllib.parse import urlsplit

from playwright.sync_api import Page, expect

from tests.e2e.chromium import browser
from tests.e2e.conftest import Service

pytestmark = browser
LONG = 120_000  # it puts a large document together


def test_the_contract_can_be_read(page: Page, service: Service) -> None:
    complaints: list[str] = []
    asked: set[str] = set()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.goto("/api/v1/reference", timeout=LONG)
    expect(page.get_by_role("heading", name="Create an account and sign in")).to_be_visible(timeout=LONG)
    expect(page.locator("#reference h1")).to_have_css("color", "rgb(23, 26, 31)", timeout=LONG)
    page.emulate_media(color_scheme="dark")
    expect(page.locator("#reference h1")).to_have_css("color", "rgb(236, 238, 241)", timeout=LONG)
    assert complaints == []
    assert asked - {""} == {urlsplit(service.url).netloc}
