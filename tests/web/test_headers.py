"""The headers of safety on every answer of both faces, whatever it is."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.urls import get_resolver
from django.utils.regex_helper import normalize
from pytest_django import Settings

from accounts.models import User
from accounts.services.account import email_requests, password_resets
from accounts.services.authentication import sign_in
from project.wsgi import API_PREFIXES
from tests.conftest import Api
from tests.test_architecture import routes

SAMPLES = {"uuid": str(UUID(int=7)), "int": "7", "str": "x", "slug": "x", "path": "x"}


def addresses() -> Iterator[str]:
    """One for each route of the resolver."""
    for route in routes(get_resolver()):
        if re.search(r"[\^$(]", route):
            # A route that is itself a regular expression, behind a plain head.
            head, _, pattern = route.partition("^") if "^" in route else ("", "", route)
            found, names = normalize(pattern)[0]
            yield f"/{head}{found % dict.fromkeys(names, 'x')}"
        else:
            yield "/" + re.sub(r"<(?:(\w+):)?\w+>", lambda part: SAMPLES[part[1] or "str"], route)


ADDRESSES = sorted(set(addresses()))


def is_safe(headers: Any, address: str) -> None:
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["form-action"] in {"'self'", "'none'"}
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] in {"same-origin", "no-referrer"}
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload", address
    assert headers["X-Request-Id"]


@pytest.fixture(autouse=True)
def _https(settings: Settings) -> None:
    settings.SECURE_HSTS_SECONDS = 31_536_000
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = True


def ask(page: Client, api: Api, address: str, method: str = "GET") -> Any:
    if address.startswith(API_PREFIXES):
        extra = {"secure": True, "HTTP_AUTHORIZATION": f"Bearer {api.token}"} if api.token else {"secure": True}
        return api.client.generic(method, address, b"", **extra)
    return page.generic(method, address, secure=True)


def test_the_list_has_both_faces_and_the_admin() -> None:
    assert len(ADDRESSES) > 90
    for known in ("/account/", "/account/password/reset/key/x-x/", "/admin/accounts/user/", "/api/v1/docs", "/livez"):
        assert known in ADDRESSES


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_address_answers_a_stranger_with_them(page: Client, api: Api, address: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        is_safe(ask(page, api, address, method).headers, address)


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_address_answers_staff_with_them_and_nothing_private_is_kept(
    alices_page: Client, alices_api: Api, address: str
) -> None:
    answer = ask(alices_page, alices_api, address)
    is_safe(answer.headers, address)
    kept = answer.headers.get("Cache-Control", "")
    if "public" in kept:
        for private in ("alice", "csrf"):
            assert private not in answer.content.decode().lower()
    elif address not in {"/livez", "/api/v1/docs", "/api/v1/openapi.json", "/.well-known/change-password"}:
        assert "no-store" in kept


@pytest.mark.parametrize("path", ["/account/login/", "/account/nothing/", "/admin/", "/"])
@pytest.mark.parametrize(
    ("status", "extra"),
    [
        (400, {"HTTP_HOST": "evil.example"}),
        (413, {"CONTENT_LENGTH": "999999999"}),
        (400, {"CONTENT_TYPE": "text/plain; charset=utf-16"}),
    ],
)
def test_a_refusal_before_any_page_has_them(page: Client, path: str, status: int, extra: dict[str, Any]) -> None:
    answer = page.post(path, "x", content_type="text/plain", **{"secure": True, **extra})
    assert answer.status_code == status
    is_safe(answer.headers, path)


def test_a_form_that_was_open_too_long_has_them(alice: User) -> None:
    answer = Client(SERVER_NAME="localhost", enforce_csrf_checks=True).post("/account/login/", secure=True)
    assert answer.status_code == HTTPStatus.FORBIDDEN
    is_safe(answer.headers, "/account/login/")


def test_a_failure_of_ours_has_them(page: Client, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.conf import settings

    def fail(**_: object) -> None:
        raise RuntimeError

    monkeypatch.setitem(settings.ACCOUNT_FORMS, "login", "accounts.pages.forms.NothingNobodyForesaw")
    monkeypatch.setattr(sign_in, "sign_in_app", fail)
    page.raise_request_exception = False
    answer = page.get("/account/login/", secure=True)
    assert answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    is_safe(answer.headers, "/account/login/")
    refused = api.post("/token", {"login": "a", "password": "b"}, secure=True)
    assert refused.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    is_safe(refused.headers, "/token")


def test_a_body_of_unknown_length_has_them(api: Api) -> None:
    answer = api.client.generic(
        "POST", "/api/v1/token", b"", secure=True, HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH=""
    )
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    is_safe(answer.headers, "/api/v1/token")


def test_a_key_from_a_mail_stands_in_no_address_for_long(page: Client, alice: User, mailbox: Any) -> None:
    """The link leads to a page with a plain address at once, so no other request names the key."""
    from accounts.caller import Caller

    password_resets.request_reset(login="alice", caller=Caller(ip=None))
    email_requests.answer()
    answer = page.get(mailbox.link())
    assert answer.status_code == HTTPStatus.FOUND
    assert mailbox.key().partition("-")[2] not in answer.headers["Location"]


@pytest.mark.parametrize("mailed", ["confirm-email", "email/undo", "delete/undo"])
def test_a_page_with_a_key_in_its_address_has_nothing_foreign_on_it(page: Client, mailed: str) -> None:
    answer = page.get(f"/account/{mailed}/{'0' * 32}-secret/", secure=True)
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert "no-store" in answer.headers["Cache-Control"]
    assert not re.search(r'(?:href|src)="https?:', answer.content.decode())
