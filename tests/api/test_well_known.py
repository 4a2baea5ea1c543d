"""What stands beside v1: the public keys, health, and the page of the contract."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from accounts.services.sessions import sessions, signing_keys
from accounts.services.sessions.sessions import Tokens
from project.wsgi import API_PREFIXES
from tests.conftest import Api


def test_anybody_can_verify_a_token_offline_by_the_published_keys(
    api: Api, tokens: Tokens, alice: User, settings: Any
) -> None:
    answer = api.get("/.well-known/jwks.json")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/jwk-set+json"
    assert "max-age" in answer.headers["Cache-Control"]
    assert "public" in answer.headers["Cache-Control"]
    keys = jwt.PyJWKSet.from_dict(answer.json())
    key = keys[jwt.get_unverified_header(tokens.access_token)["kid"]]
    claims = jwt.decode(
        tokens.access_token,
        key.key,
        algorithms=["ES256"],
        audience=settings.ACCESS_TOKEN_AUDIENCE,
        issuer=settings.PUBLIC_URL,
    )
    assert claims["sub"] == str(alice.id)


def test_the_published_keys_keep_their_private_part(api: Api) -> None:
    (key,) = api.get("/.well-known/jwks.json").json()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


def test_a_token_of_an_older_key_works_while_the_key_is_published(api: Api, tokens: Tokens) -> None:
    signing_keys.make()
    signing_keys.forget()
    assert len(api.get("/.well-known/jwks.json").json()["keys"]) == 2
    assert api.get("/me", token=tokens.access_token).status_code == 200


def test_a_key_that_another_process_made_is_found(
    api: Api, tokens: Tokens, phone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert api.get("/me", token=tokens.access_token).status_code == 200
    before = signing_keys._ring
    signing_keys.make()
    signing_keys.forget()
    newer = sessions.tokens(phone).access_token
    assert before is not None
    # As a process that has not read the keys for some seconds:
    stale = replace(before, read_at=before.read_at - 5)
    monkeypatch.setattr(signing_keys, "_ring", stale)
    assert api.get("/me", token=newer).status_code == 200


def test_what_lies_at_the_root_needs_no_session_and_asks_no_database(
    api: Api, settings: Settings, django_assert_num_queries: Any
) -> None:
    settings.SECURITY_CONTACT = ["mailto:security@example.com"]
    for path, kind in {
        "/.well-known/security.txt": "text/plain; charset=utf-8",
        "/robots.txt": "text/plain; charset=utf-8",
        "/.well-known/passkey-endpoints": "application/json",
    }.items():
        assert path.startswith(API_PREFIXES)
        with django_assert_num_queries(0):
            got, head = api.client.get(path), api.client.head(path)
        for answer in (got, head):
            assert (answer.status_code, answer.headers["Content-Type"]) == (200, kind)
            assert answer.headers["Cache-Control"] == "public, max-age=300"
            assert "Cookie" not in answer.headers.get("Vary", "")
            assert not answer.cookies
        assert head.headers["Content-Length"] == str(len(got.content))
        assert api.client.post(path).status_code == 405


def test_security_txt_names_the_contact_and_has_not_expired(api: Api, settings: Settings) -> None:
    assert api.get("/.well-known/security.txt").status_code == 404
    settings.SECURITY_CONTACT = ["mailto:security@example.com", "https://example.com/security"]
    settings.LANGUAGE_CODE = "de"
    lines = [line.split(": ", 1) for line in api.get("/.well-known/security.txt").content.decode().splitlines()]
    assert [value for name, value in lines if name == "Contact"] == settings.SECURITY_CONTACT
    [expires] = [datetime.fromisoformat(value) for name, value in lines if name == "Expires"]
    assert timedelta(days=30) < expires - datetime.now(UTC) < timedelta(days=365)  # RFC 9116 wants less than a year
    assert lines[-2:] == [
        ["Preferred-Languages", "de, en"],
        ["Canonical", f"{settings.PUBLIC_URL}/.well-known/security.txt"],
    ]


def test_the_passkey_endpoints_are_pages_and_search_engines_see_only_what_strangers_may(
    api: Api, alices_page: Client, settings: Settings
) -> None:
    pages = api.get("/.well-known/passkey-endpoints").json()
    assert pages == {
        "enroll": f"{settings.PUBLIC_URL}/account/two-step/passkeys/add/",
        "manage": f"{settings.PUBLIC_URL}/account/two-step/",
    }
    assert alices_page.get(pages["manage"].removeprefix(settings.PUBLIC_URL)).status_code == 200
    stranger = Client(SERVER_NAME="localhost")
    assert stranger.get(pages["enroll"].removeprefix(settings.PUBLIC_URL)).status_code == 302  # to sign in first
    first, *allowed, last = api.client.get("/robots.txt").content.decode().splitlines()
    assert (first, last) == ("User-agent: *", "Disallow: /")
    found = [line.removeprefix("Allow: ") for line in allowed]
    assert found.pop() == settings.STATIC_URL
    answers = [(api.client if path.startswith("/api/") else stranger).get(path.removesuffix("$")) for path in found]
    assert {answer.status_code for answer in answers} == {200}
    assert all(path.endswith("$") for path in found)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_answers_without_a_cookie(api: Api, path: str) -> None:
    answer = api.client.get(path)
    assert answer.status_code == 200
    assert answer.content == b"ok\n"
    assert not answer.cookies
    assert answer.headers["X-Request-Id"]
    assert api.client.post(path).status_code == 405


def test_liveness_does_not_ask_the_database(api: Api, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert api.client.get("/livez").status_code == 200
    with django_assert_num_queries(1):
        assert api.client.get("/readyz").status_code == 200


@pytest.fixture
def docs(api: Api) -> str:
    answer = api.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    policy = answer.headers["Content-Security-Policy"]
    assert "'unsafe-inline'" not in policy
    assert "script-src 'self'" in policy
    text: str = answer.content.decode()
    return text


def test_the_page_of_the_contract_asks_no_foreign_host(docs: str) -> None:
    assert re.findall(r"""(?:src|href)=["']?(?:https?:)?//[^"'\s>]+""", docs) == []


def test_the_page_of_the_contract_has_all_its_files_here(docs: str) -> None:
    files = re.findall(r"""(?:src|href)=["']/static/([^"']+)""", docs)
    assert any(name.endswith(".js") for name in files)
    assert any(name.endswith(".css") for name in files)
    for name in files:
        found = finders.find(name)
        assert found is not None, name
        assert Path(found).stat().st_size > 0


def test_the_page_of_the_contract_fits_phones_and_is_dark_by_night(docs: str) -> None:
    assert '<meta name="viewport" content="width=device-width' in docs
    script = re.search(r"js/docs[\w.]*\.js", docs)
    assert script
    style = finders.find("ninja/swagger-ui.css")
    assert style
    assert "html.dark-mode" in Path(style).read_text()  # what the script turns on


def test_the_page_of_the_contract_passes_its_own_policy(docs: str) -> None:
    scripts = re.findall(r"<script\b([^>]*)>", docs)
    assert all("src=" in attributes or 'type="application/json"' in attributes for attributes in scripts)
    assert "<style" not in docs
    assert not re.search(r"\sstyle=|\son\w+=", docs)
