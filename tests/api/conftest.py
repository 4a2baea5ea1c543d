"""A phone that holds every answer against the contract: the form of errors, the statuses and shapes that the
operation declares, no cookie, a request id. A full run must meet all that is declared (test_whole_contract.py)."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jsonschema_rs
import pytest

from accounts.caller import Caller, Device
from accounts.models import Session, User
from accounts.services.credentials import hashing
from accounts.services.security import rate_limits
from accounts.services.sessions import sessions
from api.v1 import api as v1
from tests.conftest import PASSWORD, Api, random_ip

ACTIONS = {"retry", "refresh", "sign_in", "reauthenticate", "fix_input", "update_app", "none"}
# Every operation declares 503. These don't ask Postgres, or not before a passkey has signed (finishPasskeySignIn).
NEVER_ASK_POSTGRES = {"getConfig", "beginPasskeySignIn", "beginProviderSignIn", "finishPasskeySignIn"}
# The refusals that name fields; which: test_fields.py.
OF_FIELDS = {
    "invalid_input", "username_taken", "username_change_limited", "wrong_password", "invalid_code", "invalid_key",
    "invalid_cursor", "invalid_picture", "picture_incomplete", "picture_too_large",
}  # fmt: skip
ALWAYS = {"type", "title", "status", "code", "detail", "request_id", "action"}


@dataclass
class Contract:
    """What the document declares, and what of it was met in this run."""

    document: dict[str, Any]
    met: set[tuple[str, int]] = field(default_factory=set)
    refused: set[tuple[str, str]] = field(default_factory=set)
    codes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.operations: dict[tuple[str, str], dict[str, Any]] = {}
        self._paths: list[tuple[re.Pattern[str], str]] = []
        for path, methods in self.document["paths"].items():
            self._paths.append((re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + r"\Z"), path))
            for method, operation in methods.items():
                self.operations[method.upper(), path] = operation

    def find(self, method: str, path: str) -> dict[str, Any] | None:
        for pattern, template in self._paths:
            if pattern.match(path):
                return self.operations.get((method, template))
        return None

    @property
    def declared(self) -> set[tuple[str, int]]:
        return {
            (operation["operationId"], int(status))
            for operation in self.operations.values()
            for status in operation["responses"]
        }

    @property
    def declared_codes(self) -> set[tuple[str, str]]:
        return {
            (operation["operationId"], code)
            for operation in self.operations.values()
            for response in operation["responses"].values()
            for code in response.get("x-codes", ())
        }

    def errors_of(self, operation: dict[str, Any], status: int, body: Any) -> list[str]:
        content = operation["responses"][str(status)].get("content")
        if content is None:
            return [] if body is None else ["a body where none is declared"]
        (shape,) = content.values()
        return self.errors_of_shape(shape["schema"]["$ref"], body)

    def errors_of_shape(self, reference: str, body: Any) -> list[str]:
        return [str(error) for error in _validator(reference).iter_errors(body)]

    def properties(self, operation: dict[str, Any], status: int) -> set[str]:
        (shape,) = operation["responses"][str(status)]["content"].values()
        name = shape["schema"]["$ref"].rpartition("/")[2]
        return set(self.document["components"]["schemas"][name]["properties"])


@lru_cache
def contract() -> Contract:
    import json

    return Contract(json.loads(json.dumps(v1.get_openapi_schema(), default=str)))


@lru_cache
def _validator(reference: str) -> Any:
    schema = {"$ref": reference, "components": contract().document["components"]}
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


class CheckedApi(Api):
    """An app that is strict with what it gets."""

    def __call__(self, method: str, path: str, body: Any = None, *, token: str | None = None, **extra: Any) -> Any:
        answer = super().__call__(method, path, body, token=token, **extra)
        self._check_every_promise(answer)
        operation = contract().find(method, f"/api/v1{path.partition('?')[0]}")
        if operation is not None:
            self._check_operation(operation, answer)
        return answer

    def _check_every_promise(self, answer: Any) -> None:
        assert not answer.cookies
        assert "Set-Cookie" not in answer.headers
        assert answer.headers["X-Request-Id"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        if answer.status_code >= 400:
            body = answer.json()
            contract().codes |= {body["code"], *(error["code"] for error in body.get("errors", []))}
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.headers["Cache-Control"] == "no-store"
            assert set(body) >= ALWAYS
            assert set(body) - ALWAYS <= {"challenge", "errors", "retry_after", "suggestion", "ticket"}
            assert ("ticket" in body) == (body["code"] in {"mfa_required", "identity_unknown"})
            assert ("suggestion" in body) == (body["code"] == "identity_unknown")
            assert body["status"] == answer.status_code
            assert body["request_id"] == answer.headers["X-Request-Id"]
            assert body["action"] in ACTIONS
            assert re.fullmatch(r"[a-z_]+", body["code"])
            assert body["title"]
            assert body["detail"]
            assert body["type"].endswith(f"/api/errors#{body['code']}")
            assert ("errors" in body) == (body["code"] in OF_FIELDS)
            waits = answer.status_code in {429, 503} or body["code"] == "request_in_progress"
            assert ("retry_after" in body) == waits
            assert answer.headers.get("Retry-After") == (str(body["retry_after"]) if "retry_after" in body else None)
            limit = re.fullmatch(r'"([a-z_]+)";r=0;t=(\d+)', answer.headers.get("RateLimit", ""))
            assert (limit is not None) == (answer.status_code == 429)
            if limit:
                assert limit[2] == answer.headers["Retry-After"]
                known = rate_limits.limits()[limit[1]]
                policy = f'"{known.name}";q={known.amount};w={known.seconds}'
                assert answer.headers["RateLimit-Policy"] == policy
            assert ("WWW-Authenticate" in answer.headers) == (answer.status_code == 401)

    def _check_operation(self, operation: dict[str, Any], answer: Any) -> None:
        status = answer.status_code
        assert str(status) in operation["responses"], f"{operation['operationId']} does not declare {status}"
        body = answer.json() if answer.content else None
        assert contract().errors_of(operation, status, body) == []
        if status >= 400 and body:
            assert body["code"] in operation["responses"][str(status)]["x-codes"], (operation["operationId"], body)
            contract().refused.add((operation["operationId"], body["code"]))
        if body is not None:
            assert set(body) <= contract().properties(operation, status)
        contract().met.add((operation["operationId"], status))


def problem(answer: Any, status: int, code: str, action: str | None = None) -> dict[str, Any]:
    """The body of a refusal, which was looked at in full when it came."""
    assert answer.status_code == status, answer.content
    body: dict[str, Any] = answer.json()
    assert body["code"] == code, body
    if action is not None:
        assert body["action"] == action
    return body


def wrong_fields(answer: Any) -> dict[str, str]:
    """{field: code} of a 422."""
    errors = problem(answer, 422, "invalid_input", "fix_input")["errors"]
    assert all(error["detail"] for error in errors)
    return {error["field"]: error["code"] for error in errors}


def sign_up_body(username: str = "ada", **changes: Any) -> dict[str, Any]:
    return {"username": username, "email": f"{username}@example.com", "password": PASSWORD, **changes}


@pytest.fixture
def api(db: None) -> Api:
    return CheckedApi()


@pytest.fixture
def another_app(db: None) -> Callable[[User], Api]:
    """Another phone, signed in as somebody."""

    def sign_in(user: User) -> Api:
        where = Caller(ip=random_ip(), user_agent="Crew/1.0", device=Device("Another phone"))
        found = CheckedApi()
        row = sessions.begin(user=user, kind=Session.Kind.APP, caller=where)
        found.token = sessions.tokens(row).access_token
        return found

    return sign_in


@pytest.fixture
def bobs_api(bob: User, another_app: Callable[[User], Api]) -> Api:
    return another_app(bob)


@pytest.fixture
def carols_api(carol: User, another_app: Callable[[User], Api]) -> Api:
    return another_app(carol)


@pytest.fixture
def limits(settings: Any) -> Iterator[Callable[..., None]]:
    """Other numbers for limits: limits("signup_per_ip=0/60")."""

    def choose(*items: str) -> None:
        settings.RATE_LIMITS = list(items)
        rate_limits.limits.cache_clear()

    yield choose
    rate_limits.limits.cache_clear()


class Crowd:
    """All places for a hash in this process are taken until it goes home."""

    def __init__(self) -> None:
        self.size = 0

    def come(self) -> None:
        while hashing._places.acquire(blocking=False):
            self.size += 1

    def go_home(self) -> None:
        for _ in range(self.size):
            hashing._places.release()
        self.size = 0


@pytest.fixture
def crowd(settings: Any) -> Iterator[Crowd]:
    settings.PASSWORD_HASH_WAIT = 0
    found = Crowd()
    yield found
    found.go_home()


# --- Whether a run was a full one ---------------------------------------------------------------------------

LAST = "test_whole_contract.py"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The look back over the whole contract comes last, in a random order too."""
    items.sort(key=lambda item: item.path.name == LAST)


@pytest.fixture(scope="session")
def full_run(pytestconfig: pytest.Config) -> bool:
    """Whether everything in tests/api was asked for."""
    here = pytestconfig.rootpath / "tests" / "api"
    asked = [pytestconfig.invocation_params.dir / arg for arg in pytestconfig.args if "::" not in arg]
    option = pytestconfig.option
    narrowed = option.keyword or option.markexpr or getattr(option, "lf", False) or option.maxfail
    return not narrowed and any(here.is_relative_to(path.resolve()) for path in asked)
