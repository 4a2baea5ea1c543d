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
from api.reference import STYLES
from project.wsgi import API_PREFIXES
from tests.conftest import Api, random_ip
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


SAFE = {
    "X-Content-Type-Options": {"nosniff"},
    "X-Frame-Options": {"DENY"},
    "Referrer-Policy": {"same-origin", "no-referrer"},
    "Cross-Origin-Opener-Policy": {"same-origin"},
    "Strict-Transport-Security": {"max-age=31536000"},
}
SAFE_POLICY = {
    "default-src": {"'none'"},
    "frame-ancestors": {"'none'"},
    "base-uri": {"'none'"},
    "script-src": {"'self'"},
    "style-src": {"'self'"},
    "form-action": {"'self'", "'none'"},
}


def unsafe(answer: Any) -> list[str]:
    """The headers that are missing or say something else."""
    headers = answer.headers
    parts = headers.get("Content-Security-Policy", "").split(";")
    policy = dict(part.strip().partition(" ")[::2] for part in parts)
    wrong = [name for name, values in SAFE.items() if headers.get(name) not in values]
    if answer.request["PATH_INFO"] == "/api/v1/reference":  # Redoc's own style elements, by their hashes
        policy["style-src"] = policy["style-src"].replace(f" {STYLES}", "")
    wrong += [name for name, values in SAFE_POLICY.items() if policy.get(name) not in values]
    if "camera=()" not in headers.get("Permissions-Policy", ""):
        wrong.append("Permissions-Policy")
    return wrong if headers.get("X-Request-Id") else [*wrong, "X-Request-Id"]


@pytest.fixture(autouse=True)
def _https(settings: Settings) -> None:
    settings.SECURE_HSTS_SECONDS = 31_536_000


def ask(page: Client, api: Api, address: str, method: str = "GET") -> Any:
    extra: dict[str, Any] = {"secure": True, "REMOTE_ADDR": random_ip()}
    if not address.startswith(API_PREFIXES):
        return page.generic(method, address, **extra)
    if api.token:
        extra["HTTP_AUTHORIZATION"] = f"Bearer {api.token}"
    return api.client.generic(method, address, b"", **extra)


def test_the_list_has_both_faces_and_the_admin() -> None:
    assert len(ADDRESSES) > 90
    for known in ("/account/", "/account/password/reset/key/x-x/", "/admin/accounts/user/", "/api/v1/docs", "/livez"):
        assert known in ADDRESSES


def test_every_address_answers_a_stranger_with_them(api: Api) -> None:
    offenders = {}
    for address in ADDRESSES:
        for method in ("GET", "POST", "OPTIONS"):
            answer = ask(Client(SERVER_NAME="localhost"), api, address, method)
            wrong = unsafe(answer)
            if address.startswith("/account/") and "no-store" not in answer.headers.get("Cache-Control", ""):
                wrong.append("Cache-Control")
            if wrong:
                offenders[address, method] = wrong
    assert offenders == {}


PUBLIC = {
    "/livez", "/api/v1/docs", "/api/v1/reference", "/api/v1/openapi.json", "/.well-known/change-password",
}  # fmt: skip


def test_every_address_answers_staff_with_them_and_keeps_nothing_private(alices_page: Client, alices_api: Api) -> None:
    offenders = {}
    for address in ADDRESSES:
        answer = ask(alices_page, alices_api, address)
        wrong = unsafe(answer)
        kept = answer.headers.get("Cache-Control", "")
        if "public" in kept:
            wrong += [private for private in ("alice", "csrf") if private in answer.content.decode().lower()]
        elif address not in PUBLIC and "no-store" not in kept:
            wrong.append("Cache-Control")
        if wrong:
            offenders[address] = wrong
    assert offenders == {}
    assert alices_page.get("/account/", secure=True).status_code == HTTPStatus.OK  # nothing signed her out on the way


def test_a_refusal_before_any_page_has_them(page: Client) -> None:
    refusals: tuple[tuple[int, dict[str, Any]], ...] = (
        (400, {"HTTP_HOST": "evil.example"}),
        (413, {"CONTENT_LENGTH": "999999999"}),
        (400, {"CONTENT_TYPE": "text/plain; charset=utf-16"}),
    )
    for path in ("/account/login/", "/account/nothing/", "/admin/", "/"):
        for status, extra in refusals:
            answer = page.post(path, "x", content_type="text/plain", **{"secure": True, **extra})
            assert (answer.status_code, unsafe(answer)) == (status, []), (path, extra)


def test_a_form_that_was_open_too_long_has_them(alice: User) -> None:
    answer = Client(SERVER_NAME="localhost", enforce_csrf_checks=True).post("/account/login/", secure=True)
    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert unsafe(answer) == []


def test_a_failure_of_ours_has_them(page: Client, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.conf import settings

    def fail(**_: object) -> None:
        raise RuntimeError

    monkeypatch.setitem(settings.ACCOUNT_FORMS, "login", "accounts.pages.forms.NothingNobodyForesaw")
    monkeypatch.setattr(sign_in, "sign_in_app", fail)
    page.raise_request_exception = False
    answer = page.get("/account/login/", secure=True)
    assert answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert unsafe(answer) == []
    refused = api.post("/token", {"login": "a", "password": "b"}, secure=True)
    assert refused.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert unsafe(refused) == []


def test_a_body_of_unknown_length_has_them(api: Api) -> None:
    answer = api.client.generic(
        "POST", "/api/v1/token", b"", secure=True, HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH=""
    )
    assert answer.status_code == HTTPStatus.LENGTH_REQUIRED
    assert unsafe(answer) == []


@pytest.mark.parametrize("path", ["/account/login/", "/hooks/mail/", "/account/profile/"])
def test_a_page_says_so_too(page: Client, path: str) -> None:
    """A mail service may send its webhook in chunks."""
    answer = page.generic("POST", path, b"", secure=True, HTTP_TRANSFER_ENCODING="Chunked", CONTENT_LENGTH="")
    assert answer.status_code == HTTPStatus.LENGTH_REQUIRED
    assert unsafe(answer) == []


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
