"""Any brand's colour on real pages: axe measures what a browser mixes of it."""

from typing import Any

import pytest
from playwright.sync_api import Browser
from pytest_django import Settings

from accounts.lib import brand
from tests.conftest import PASSWORD
from tests.e2e.chromium import axe, browser, sign_in
from tests.e2e.conftest import Service

pytestmark = browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_any_colour_can_be_read_on_every_tint_of_it(
    chromium: Browser, service: Service, settings: Settings, scheme: Any
) -> None:
    name = f"brand{scheme}"
    service.post("/signup", {"username": name, "email": f"{name}@example.com", "password": PASSWORD})
    # The service of these tests has no brand, and its policy refuses styles in a page.
    context = chromium.new_context(base_url=service.url, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    page = context.new_page()
    sign_in(page, name, PASSWORD)
    page.wait_for_url("**/account/")
    found = {}
    for path in ("profile", "devices"):
        page.goto(f"/account/{path}/")
        for color in ("#000000", "#ffcc00", "#7f7fff"):
            settings.ACCENT_COLOR = color
            page.add_style_tag(content=brand.stylesheet())
            accent = brand.palette().light if scheme == "light" else brand.palette().dark
            shown = page.evaluate("getComputedStyle(document.querySelector('.menu [aria-current]')).color")
            if scheme == "dark":
                assert shown == f"rgb({', '.join(str(int(accent[at : at + 2], 16)) for at in (1, 3, 5))})"
            if wrong := axe(page, ["color-contrast"]):
                found[path, color] = wrong
    context.close()
    assert found == {}
