"""Signing in by a mailed code: what the API adds to services/account/sign_in_codes.py."""

from collections.abc import Callable
from typing import Any

import pytest

from accounts.models import Session, User
from accounts.services.account import email_requests, users
from tests.api.conftest import problem
from tests.conftest import Api, Mailbox


@pytest.fixture
def code(api: Api, alice: User, mailbox: Mailbox) -> str:
    assert api.post("/token/code/request", {"login": "alice"}).status_code == 202
    email_requests.answer()
    return mailbox.code(alice.email)


def test_a_code_signs_in_on_any_device(api: Api, code: str) -> None:
    answer = api.post("/token/code", {"login": "alice", "code": code, "device": {"name": "Tablet"}})
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert Session.objects.get(id=answer.json()["tokens"]["session_id"]).name == "Tablet"
    assert api.get("/me", token=answer.json()["tokens"]["access_token"]).status_code == 200
    problem(api.post("/token/code", {"login": "alice", "code": code}), 400, "invalid_code", "fix_input")


def test_known_and_unknown_are_answered_alike(api: Api, alice: User) -> None:
    known, unknown = (api.post("/token/code/request", {"login": name}) for name in ("alice", "nobody"))
    assert known.status_code == unknown.status_code == 202
    assert known.content == unknown.content
    wrong = [api.post("/token/code", {"login": name, "code": "00000000"}).json() for name in ("alice", "nobody")]
    assert wrong[0] | {"request_id": ""} == wrong[1] | {"request_id": ""}


def test_who_was_switched_off_is_told_so(api: Api, code: str, alice: User, caller: Any) -> None:
    users.set_active(user=alice, active=False, caller=caller)
    problem(api.post("/token/code", {"login": "alice", "code": code}), 403, "account_disabled", "none")


def test_the_switch_closes_both(api: Api, code: str, settings: Any) -> None:
    settings.SIGN_IN_BY_CODE = False
    problem(api.post("/token/code/request", {"login": "alice"}), 403, "code_sign_in_closed", "none")
    problem(api.post("/token/code", {"login": "alice", "code": code}), 403, "code_sign_in_closed")


def test_asking_and_guessing_are_limited(api: Api, limits: Callable[..., None]) -> None:
    limits("mail_per_ip=1/60", "code_per_ip=1/60")
    api.post("/token/code/request", {"login": "alice"})
    problem(api.post("/token/code/request", {"login": "alice"}), 429, "rate_limited", "retry")
    api.post("/token/code", {"login": "alice", "code": "1"})
    problem(api.post("/token/code", {"login": "alice", "code": "1"}), 429, "rate_limited", "retry")
