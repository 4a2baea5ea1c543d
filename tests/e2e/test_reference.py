"""The reading view of the API in a browser: Redoc keeps our policy, asks nothing foreign, and is dark by night."""

from urllib.parse import urlsplit

from playwright.sync_api import Page, expect

from tests.e2e.chromium import browser
from tests.e2e.conftest import Service

pytestmark = browser
LONG = 120_000  # it puts a large document together
# Words that can't be read on what is behind them. axe takes a minute for a page of this size.
FAINT = """() => {
  const numbers = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const bright = (colour) => {
    const [r, g, b] = colour.map((part) => part / 255)
      .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const [r, g, b, alpha = 1] = numbers(getComputedStyle(element).backgroundColor);
      if (alpha > 0.5) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const element of document.querySelectorAll("#reference *")) {
    const text = [...element.childNodes].find((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text || !element.offsetParent) continue;
    const [one, other] = [numbers(getComputedStyle(element).color).slice(0, 3), behind(element)].map(bright);
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) found[`${element.tagName} ${element.className}`] = text.textContent.trim().slice(0, 40);
  }
  return found;
}"""


def test_the_contract_can_be_read(page: Page, service: Service) -> None:
    complaints: list[str] = []
    asked: set[str] = set()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.goto("/api/v1/reference", timeout=LONG)
    expect(page.get_by_role("heading", name="Create an account and sign in")).to_be_visible(timeout=LONG)
    expect(page.locator("#reference h1")).to_have_css("color", "rgb(23, 26, 31)", timeout=LONG)
    assert page.evaluate(FAINT) == {}
    page.emulate_media(color_scheme="dark")
    expect(page.locator("#reference h1")).to_have_css("color", "rgb(236, 238, 241)", timeout=LONG)
    assert page.evaluate(FAINT) == {}
    assert complaints == []
    assert asked - {""} == {urlsplit(service.url).netloc}
