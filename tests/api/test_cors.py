"""Web apps on other hosts (CORS_ALLOWED_ORIGINS)."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from accounts.models import User
from accounts.services.sessions.sessions import Tokens
from project import env
from tests.api.conftest import CheckedApi, contract, problem
from tests.conftest import Api

APP = "https://app.example.com"
PHONE = "capacitor://localhost"
PATHS = (
    "/me",
    "/token",
    "/me/sessions/0198c0de-0000-7000-8000-000000000000",
    "/.well-known/jwks.json",
    "/openapi.json",
)


@pytest.fixture
def shared(db: None, settings: Settings) -> Api:
    """The API, which two origins may call."""
    settings.CORS_ALLOWED_ORIGINS = [APP, PHONE]
    return CheckedApi()


def preflight(api: Api, path: str, origin: str = APP, method: str = "PATCH", **extra: Any) -> Any:
    asked = {"HTTP_ORIGIN": origin, "HTTP_ACCESS_CONTROL_REQUEST_METHOD": method, **extra}
    return Api.__call__(api, "OPTIONS", path, **asked)


def words(header: str) -> set[str]:
    return {word.strip().lower() for word in header.split(",")}


def test_a_preflight_is_answered_for_every_operation_and_what_apps_send(shared: Api) -> None:
    sent = "authorization, content-type, if-match, if-none-match, idempotency-key, x-app-version, accept-language"
    for origin in (APP, PHONE):
        for path in PATHS:
            answer = preflight(shared, path, origin, HTTP_ACCESS_CONTROL_REQUEST_HEADERS=sent)
            assert answer.status_code == 204
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert words(answer.headers["Access-Control-Allow-Headers"]) >= words(sent)
            assert words(answer.headers["Access-Control-Allow-Methods"]) >= {
                method.lower() for method, _ in contract().operations
            }
            assert "origin" in words(answer.headers["Vary"])
            assert "Access-Control-Allow-Credentials" not in answer.headers


def test_an_answer_may_be_read_with_its_headers_whatever_it_is(
    shared: Api, tokens: Tokens, limits: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits("login_per_ip=1/60")
    login = {"login": "alice", "password": "wrong"}
    answers = [
        (200, shared.get("/me", token=tokens.access_token, HTTP_ORIGIN=APP)),
        (401, shared.get("/me", HTTP_ORIGIN=APP)),
        (404, shared.get("/nothing", HTTP_ORIGIN=APP)),
        (405, shared("DELETE", "/token", HTTP_ORIGIN=APP)),
        (401, shared.post("/token", login, HTTP_ORIGIN=APP)),
        (429, shared.post("/token", login, HTTP_ORIGIN=APP)),
        (400, shared.post("/token", "{", HTTP_ORIGIN=APP)),
        (200, shared.get("/.well-known/jwks.json", HTTP_ORIGIN=APP)),
    ]
    monkeypatch.setattr("accounts.services.profile.pictures.max_pixels", lambda: 1 / 0)
    answers.append((500, Api.__call__(shared, "GET", "/config", HTTP_ORIGIN=APP)))
    for status, answer in answers:
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == APP
        exposed = words(answer.headers["Access-Control-Expose-Headers"])
        assert exposed >= {"etag", "retry-after", "x-request-id", "ratelimit", "ratelimit-policy", "deprecation"}
        assert "origin" in words(answer.headers["Vary"])
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_nobody_else_may(shared: Api, tokens: Tokens) -> None:
    others = ("https://evil.example", "http://app.example.com", f"{APP}.evil.example", f"{APP}:444", "null", "", "*")
    for origin in others:
        answers = [
            preflight(shared, "/me", origin),
            shared.get("/me", token=tokens.access_token, HTTP_ORIGIN=origin),
        ]
        assert [answer.status_code for answer in answers] == [405, 200]
        assert [name for answer in answers for name in answer.headers if name.startswith("Access-Control")] == []
        assert all("origin" in words(answer.headers["Vary"]) for answer in answers)


def test_without_the_setting_nothing_is_said(api: Api, alice: User) -> None:
    answers = [preflight(api, "/me"), api.get("/config", HTTP_ORIGIN=APP)]
    problem(answers[0], 405, "method_not_allowed")
    assert [name for answer in answers for name in answer.headers if name.startswith("Access-Control")] == []


def test_an_options_that_is_no_preflight_is_a_method_like_any_other(shared: Api) -> None:
    assert shared("OPTIONS", "/me", HTTP_ORIGIN=APP).status_code == 405


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[str]]]:
    known = dict(env.asked)

    def read(value: str) -> list[str]:
        monkeypatch.setenv("CORS_TEST", value)
        return env.origins("CORS_TEST", "")

    yield read
    env.asked.clear()
    env.asked.update(known)


def test_origins_are_read_as_browsers_send_them(given: Callable[[str], list[str]]) -> None:
    spelled = {
        "": [],
        APP: [APP],
        f" {APP}/ , {PHONE}": [APP, PHONE],
        "HTTPS://App.Example.com:443": [APP],
        "http://localhost:5173,http://localhost:80": ["http://localhost:5173", "http://localhost"],
        "https://bücher.example": ["https://xn--bcher-kva.example"],
        "http://[::1]:3000": ["http://[::1]:3000"],
        "chrome-extension://abcdef": ["chrome-extension://abcdef"],
    }
    assert {text: given(text) for text in spelled} == spelled


def test_what_is_no_origin_ends_the_start_with_a_sentence(given: Callable[[str], list[str]]) -> None:
    wrong = (
        "app.example.com", f"{APP}/path", f"{APP}?x=1", f"{APP}#x", "https://ada@app.example.com", "https://", "null",
        "https://app.example.com:port", "https://app example.com", "https://*.example.com:x", "//app.example.com",
    )  # fmt: skip
    for item in wrong:
        with pytest.raises(ImproperlyConfigured, match=r"CORS_TEST: .* must be a scheme and a host alone"):
            given(f"{APP},{item}")
    with pytest.raises(ImproperlyConfigured, match=r"CORS_TEST can't be \*"):
        given("*")
