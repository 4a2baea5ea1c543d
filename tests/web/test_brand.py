"""The operator's brand on pages."""

import re
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.test import Client

from accounts.lib import brand
from accounts.pages.middleware import PageMiddleware
from tests.conftest import Api
from tests.web.conftest import sound, words

ERRORS = ["400", "403", "403_csrf", "404", "405", "413", "429", "500", "503"]


def test_without_a_brand_no_page_asks_for_one(page: Client) -> None:
    html = sound(page.get("/account/login/"))
    assert "/brand-" not in html
    assert '<svg class="logo"' in html
    assert "mailto:" not in html
    assert page.get("/account/brand-.css").status_code == 404


def test_the_colour_is_a_file_of_its_own_that_is_kept_for_ever(page: Client, settings: Any) -> None:
    settings.ACCENT_COLOR = "#7A1F5C"
    html = sound(page.get("/account/login/"))
    found = re.search(r'<link rel="stylesheet" href="(/account/brand-7a1f5c\.css)">', html)
    assert found
    assert html.index("css/account.css") < found.start()
    answer = page.get(found[1])
    assert answer.headers["Content-Type"].startswith("text/css")
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert words(answer) == brand.stylesheet()
    assert "--accent: light-dark(#7a1f5c, #" in words(answer)


@pytest.mark.parametrize("color", ["000000", "7A1F5D", "x", "7a1f5c;}"])
def test_no_other_colour_is_served(page: Client, settings: Any, color: str) -> None:
    settings.ACCENT_COLOR = "#7a1f5c"
    assert page.get(f"/account/brand-{color}.css").status_code == 404


@pytest.mark.parametrize("name", ERRORS)
def test_pages_of_a_failure_wear_it_too_and_say_where_help_is(settings: Any, name: str) -> None:
    settings.ACCENT_COLOR, settings.SUPPORT_EMAIL = "#7a1f5c", "help@example.com"
    settings.SITE_LOGO = "https://cdn.example.com/logo.svg"
    html = render_to_string(f"{name}.html")
    assert "/account/brand-7a1f5c.css" in html
    assert '<img class="logo" src="https://cdn.example.com/logo.svg" alt="">' in html
    assert 'href="mailto:help@example.com"' in html


def test_every_page_says_where_help_is(page: Client, alices_page: Client, settings: Any) -> None:
    settings.SUPPORT_EMAIL = "help@example.com"
    for client, path in ((Client(SERVER_NAME="localhost"), "inactive"), (alices_page, "profile")):
        html = sound(client.get(f"/account/{path}/"))
        footer = html[html.index("<footer") :]
        assert '<a href="mailto:help@example.com">help@example.com</a>' in footer


@pytest.mark.parametrize(
    ("logo", "allowed"),
    [
        ("https://cdn.example.com/logo.svg", " https://cdn.example.com"),
        ("/logo.svg", ""),
        ("img/icon.svg", ""),
    ],
)
def test_a_logo_comes_from_where_the_policy_allows(settings: Any, logo: str, allowed: str) -> None:
    settings.SITE_LOGO = logo
    policy = PageMiddleware(lambda _: None).headers["Content-Security-Policy"]  # type: ignore[arg-type, return-value]
    assert f"img-src 'self' data: {settings.S3_PUBLIC_ENDPOINT_URL}{allowed};" in policy
    assert f"connect-src 'self' {settings.S3_PUBLIC_ENDPOINT_URL};" in policy


def test_apps_are_told_where_help_is(api: Api, settings: Any) -> None:
    assert api.get("/config").json()["support_email"] is None
    settings.SUPPORT_EMAIL = "help@example.com"
    assert api.get("/config").json()["support_email"] == "help@example.com"
