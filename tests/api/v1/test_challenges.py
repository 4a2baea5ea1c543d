"""A proof of work over a limit, as an app meets it."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from accounts.models import User
from tests.api.conftest import problem
from tests.conftest import PASSWORD, Api
from tests.proofs import solve

ADA = {"username": "ada", "email": "ada@example.com", "password": PASSWORD, "device": {"name": "Ada's iPhone"}}
CASES: list[tuple[str, dict[str, Any], int]] = [
    ("/signup", ADA, 201),
    ("/password/forgot", {"login": "ada"}, 202),
    ("/token/code/request", {"login": "ada"}, 202),
]


@pytest.fixture
def over(api: Api, limits: Callable[..., None]) -> Api:
    """An app in a network that has had its tries."""
    limits("signup_challenge_per_ip=1/864000", "mail_challenge_per_ip=1/864000")
    first = {**ADA, "username": "first", "email": "first@example.com"}
    assert api.post("/signup", first).status_code == 201
    assert api.post("/password/forgot", {"login": "first"}).status_code == 202
    return api


@pytest.mark.parametrize(("path", "body", "status"), CASES, ids=[path for path, *_ in CASES])
def test_the_same_request_with_the_solution_is_answered(over: Api, path: str, body: Any, status: int) -> None:
    key = {"HTTP_IDEMPOTENCY_KEY": str(uuid4())}
    answer = over.post(path, body, **key)
    refused = problem(answer, 429, "challenge_required")
    assert refused["action"] == "retry"
    assert 0 < int(answer["Retry-After"]) == refused["retry_after"] <= 864_000
    assert answer["RateLimit-Policy"].endswith("q=1;w=864000")
    proof = solve(refused["challenge"])
    assert over.post(path, body, HTTP_X_PROOF=proof, **key).status_code == status
    again = over.post(path, {**body, "username": "other"} if path == "/signup" else body, HTTP_X_PROOF=proof)
    problem(again, 429, "challenge_required")


def test_mistakes_are_told_before_anything_is_computed(over: Api) -> None:
    problem(over.post("/signup", {**ADA, "username": "a"}), 422, "invalid_input")
    assert not User.objects.filter(username="ada").exists()


def test_nobody_signs_in_or_refreshes_with_a_proof(over: Api) -> None:
    signed_in = [over.post("/token", {"login": "first", "password": PASSWORD}) for _ in range(3)]
    assert [answer.status_code for answer in signed_in] == [200] * 3
    token = signed_in[0].json()["tokens"]["refresh_token"]
    assert [over.post("/token/refresh", {"refresh_token": token}).status_code for _ in range(3)] == [200] * 3


def test_below_the_limit_nothing_is_different(api: Api) -> None:
    for number in range(10):
        body = {**ADA, "username": f"ada{number}", "email": f"ada{number}@example.com"}
        assert api.post("/signup", body, HTTP_X_PROOF="nonsense").status_code == 201
    problem(api.post("/signup", ADA), 429, "challenge_required")
