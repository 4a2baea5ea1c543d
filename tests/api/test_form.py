"""What holds for every answer under /api/, whatever was asked."""

import json
import re
from typing import Any

import pytest
from django.test import Client, RequestFactory

from accounts.lib.log_lines import operation_of
from accounts.models import Session
from project.wsgi import application
from tests.api.conftest import contract, problem
from tests.conftest import Api


def under_api(api: Api, method: str, path: str, **extra: Any) -> Any:
    """Outside v1 too."""
    return api.client.generic(method, path, REMOTE_ADDR=api.ip, **extra)


@pytest.mark.parametrize("path", ["/", "/nothing", "/me/nothing", "/me/", "/openapi.yaml", "/%00", "/%ff"])
def test_an_unknown_path_of_v1_is_a_problem(api: Api, path: str) -> None:
    assert problem(api.get(path), 404, "not_found", "none")["title"] == "Not Found"


@pytest.mark.parametrize(
    "path", ["/api/", "/api/v2/me", "/api/v1", "/api/%F0%9F%90%88", "/api/v1/%2e%2e/x", "/api//v1/me"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "BREW"])
def test_an_unknown_path_under_api_is_a_problem(api: Api, method: str, path: str) -> None:
    answer = under_api(api, method, path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "not_found"
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    assert not answer.cookies


def test_under_api_however_it_is_spelled_a_problem_is_the_answer(db: None) -> None:
    """Through the door of the web process, which decides whether a path is the API's or a page's."""

    def asked(path: str) -> tuple[str, str]:
        head: list[Any] = []
        environ = {**RequestFactory().get("/").environ, "PATH_INFO": path}  # which would read a host from //api
        body = b"".join(application(environ, lambda *told: head.extend(told)))
        kind = dict(head[1]).get("Content-Type", "")
        return head[0][:3], str(json.loads(body)["code"]) if kind == "application/problem+json" else kind

    spellings = [
        "//api/v1/me", "///api//v1/me", "/api", "/API/v1/me", "/Api/", "/./api/v1/me", "/x/../api/v1/me",
        "/account/../api/v1/me", "//api/v1/me/", "/.//api",
    ]  # fmt: skip
    found = {path: asked(path) for path in spellings}
    assert {path: answer for path, answer in found.items() if answer != ("404", "not_found")} == {}
    assert asked("/api/v1/me") == ("401", "invalid_token")
    for page in ("/apiary/", "//account/api/", "/account/nothing/", "/.well-known/nothing"):
        assert asked(page) == ("404", "text/html; charset=utf-8"), page


def test_every_operation_refuses_other_methods_and_names_its_own(api: Api) -> None:
    allowed: dict[str, set[str]] = {}
    names: dict[str, set[str]] = {}
    for (method, path), operation in contract().operations.items():
        allowed.setdefault(path, set()).add(method)
        names.setdefault(path, set()).add(operation["operationId"])
    for path, methods in allowed.items():
        concrete = re.sub(r"\{\w+\}", "00000000-0000-7000-8000-000000000000", path.removeprefix("/api/v1"))
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} - methods:
            if method == "HEAD" and "GET" in methods:
                continue
            answer = api.client.generic(method, f"/api/v1{concrete}")
            assert answer.status_code == 405, (method, path)
            assert answer.headers["Content-Type"] == "application/problem+json", (method, path)
            named = {name.strip() for name in answer.headers["Allow"].split(",")}
            assert named == methods, (method, path)
            if method != "HEAD":
                assert answer.json()["code"] == "method_not_allowed"
            assert operation_of(answer.wsgi_request) in names[path], (method, path)


def test_a_request_is_named_by_its_operation_or_its_url_and_never_by_its_path(api: Api, page: Client) -> None:
    wrong = {}
    for (method, path), operation in contract().operations.items():
        concrete = re.sub(r"\{\w+\}", "00000000-0000-7000-8000-000000000000", path)
        name = operation_of(api.client.generic(method, concrete).wsgi_request)
        if name != operation["operationId"]:
            wrong[method, path] = name
    assert not wrong
    asked = {
        "/api/v1/nothing/me@example.com": "other",
        "/nothing/me@example.com": "other",
        "/livez": "livez",
        "/.well-known/jwks.json": "jwks",
        "/api/v1/openapi.json": "v1:openapi-json",
        "/account/password/reset/key/x-secret/": "account_reset_password_from_key",
        "/admin/accounts/user/me@example.com/change/": "admin:accounts_user_change",
    }
    assert {path: operation_of(page.get(path).wsgi_request) for path in asked} == asked


def test_head_is_answered_as_get_is(alices_api: Api) -> None:
    for path in ("/me", "/config", "/users", "/me/sessions"):
        answer = alices_api("HEAD", path)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("application/json")
    assert alices_api("HEAD", "/me").headers["ETag"] == alices_api.get("/me").headers["ETag"]


@pytest.mark.parametrize("given", ["abc", "01924f-1.x_Y", "a" * 64])
def test_a_well_formed_request_id_is_echoed(api: Api, given: str) -> None:
    assert api.get("/config", HTTP_X_REQUEST_ID=given).headers["X-Request-Id"] == given
    assert problem(api.get("/me", HTTP_X_REQUEST_ID=given), 401, "invalid_token")["request_id"] == given


@pytest.mark.parametrize("given", ["", " ", "a" * 65, "a b", "a\nb", "a\r\nX-Evil: 1", "<script>", "ü", "a\n"])
def test_a_malformed_request_id_is_replaced(api: Api, given: str) -> None:
    made = api.get("/config", HTTP_X_REQUEST_ID=given).headers["X-Request-Id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_every_request_has_an_id_of_its_own(api: Api) -> None:
    assert api.get("/config").headers["X-Request-Id"] != api.get("/config").headers["X-Request-Id"]


def test_everything_personal_is_not_stored_by_anybody(alices_api: Api) -> None:
    for path in ("/me", "/me/sessions", "/users"):
        assert alices_api.get(path).headers["Cache-Control"] == "no-store"


def test_a_browser_cookie_means_nothing_here(api: Api, alices_page: Any) -> None:
    api.client.cookies = alices_page.cookies
    assert "session" in api.client.cookies
    problem(api.get("/me"), 401, "invalid_token", "refresh")
    problem(api("DELETE", "/me/sessions"), 401, "invalid_token")


def test_a_write_needs_no_csrf_token_and_touches_no_browser_session(
    alices_api: Api, django_assert_num_queries: Any
) -> None:
    alices_api.client.handler.enforce_csrf_checks = True
    assert alices_api("PATCH", "/me", {"first_name": "Al"}).status_code == 200
    answer = alices_api.get("/me")
    assert not hasattr(answer.wsgi_request, "session")
    assert "csrf" not in str(answer.headers).lower()


@pytest.mark.parametrize(
    "language", ["de", "xx", "*", "en;q=0", ",,,", "a" * 5000, "de-DE-x-ü", "en-" * 300, "../../etc"]
)
def test_any_accept_language_is_answered(api: Api, language: str) -> None:
    answer = api.get("/me", HTTP_ACCEPT_LANGUAGE=language)
    german = language == "de"
    expected = "Das Zugriffstoken fehlt oder ist ungültig." if german else "The access token is missing or isn't valid."
    assert problem(answer, 401, "invalid_token")["detail"] == expected


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "*/*", "image/png", "garbage"])
def test_whatever_is_accepted_json_comes(api: Api, accept: str) -> None:
    assert api.get("/config", HTTP_ACCEPT=accept).headers["Content-Type"].startswith("application/json")
    problem(api.get("/me", HTTP_ACCEPT=accept), 401, "invalid_token")


def test_a_method_may_not_be_overridden_by_a_header(alices_api: Api, phone: Session) -> None:
    answer = alices_api.post(f"/me/sessions/{phone.id}", HTTP_X_HTTP_METHOD_OVERRIDE="DELETE")
    assert problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "DELETE"


def test_an_unforeseen_error_is_a_problem_that_tells_nothing(
    api: Api, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EMAIL_VERIFICATION = "something nobody foresaw: the contract does not know it"
    answer = Api()("GET", "/config")
    body = answer.json()
    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert body["code"] == "server_error"
    assert body["action"] == "retry"
    assert "nobody foresaw" not in answer.content.decode()
    assert "Traceback" not in answer.content.decode()
    assert body["request_id"] in caplog.text
    assert any(record.exc_info for record in caplog.records)
