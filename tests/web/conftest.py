"""Browsers that look at every page they get."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.models import User
from accounts.services.security import rate_limits
from tests.conftest import PASSWORD, picture, random_ip

NEW = "another lagoon tractor"


def words(answer: Any) -> str:
    text: str = answer.content.decode()
    return text


def sound(answer: Any, status: int = 200) -> str:
    """The HTML of a page that keeps what every page promises."""
    assert answer.status_code == status, (answer.status_code, answer.headers.get("Location"))
    assert answer.headers["Content-Type"].startswith("text/html")
    html = words(answer)
    assert len(re.findall(r"<h1\b", html)) == 1
    assert not re.search(r"<style\b", html)
    assert not re.search(r"<[^>]+\sstyle\s*=", html)
    assert not re.search(r"<[^>]+\son[a-z]+\s*=", html)
    assert not re.search(r"(?:href|action)\s*=\s*[\"']?javascript:", html)
    for attributes in re.findall(r"<script\b([^>]*)>", html):
        assert "src=" in attributes or 'type="application/json"' in attributes  # data, which nothing runs
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//(?!127\.0\.0\.1|localhost)", html)
    title = re.search(r"<title>\s*(\S[^<]*)</title>", html)
    assert title
    assert "{{ " not in html
    assert "{% " not in html
    for form in re.findall(r"<form\b[^>]*method=.post.*?</form>", html, re.DOTALL):
        assert "csrfmiddlewaretoken" in form
    return html


def refused(answer: Any, *fields: str, status: int = 200) -> str:
    """The HTML of a form that came back: said at the top, beside each field, and in the title."""
    html = sound(answer, status)
    found = re.search(r"<title>([^<]*)", html)
    assert found
    assert found[1].startswith("Error: ")
    assert 'class="error-summary"' in html
    assert html.index('class="error-summary"') < html.index("<h1")
    summary = html[html.index('class="error-summary"') : html.index("<h1")]
    for field in fields:
        assert f'href="#id_{field}' in summary, field
        assert f'id="id_{field}_error"' in html, field
    return html


def upload(content: bytes | None = None, name: str = "me.png", content_type: str = "image/png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, picture((200, 100)) if content is None else content, content_type)


@pytest.fixture
def another_browser(db: None) -> Callable[[User], Client]:
    """Another browser, signed in as somebody."""

    def sign_in(user: User) -> Client:
        client = Client(SERVER_NAME="localhost", REMOTE_ADDR=random_ip(), HTTP_USER_AGENT="Mozilla/5.0 Firefox/140.0")
        assert client.post("/account/login/", {"login": user.username, "password": PASSWORD}).status_code == 302
        return client

    return sign_in


@pytest.fixture
def bobs_page(bob: User, another_browser: Callable[[User], Client]) -> Client:
    return another_browser(bob)


@pytest.fixture
def limits(settings: Any) -> Any:
    """Other numbers for limits: limits("signup_per_ip=1/60")."""

    def choose(*items: str) -> None:
        settings.RATE_LIMITS = list(items)
        rate_limits.limits.cache_clear()

    yield choose
    rate_limits.limits.cache_clear()


def signed_in(client: Client) -> bool:
    answer = client.get("/account/")
    assert answer.status_code in {200, 302}
    if answer.status_code == 302:
        assert answer.headers["Location"].startswith("/account/login/")
    return bool(answer.status_code == 200)
