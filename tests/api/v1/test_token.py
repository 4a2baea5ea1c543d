"""Signing in, refreshing, signing out: what the API adds to the rules."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now

from accounts.models import Session, User
from accounts.services.sessions.sessions import Tokens
from tests.api.conftest import problem
from tests.conftest import PASSWORD, Api, Mailbox


@pytest.mark.parametrize(
    "login", ["alice", "ALICE", " alice ", "alice@example.com", "Alice@Example.COM", " alice@example.com "]
)
def test_a_username_or_an_address_signs_in(api: Api, alice: User, login: str) -> None:
    answer = api.post("/token", {"login": login, "password": PASSWORD, "device": {"name": "My  phone"}})
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json()["user"]["username"] == "alice"
    assert Session.objects.get(id=answer.json()["tokens"]["session_id"]).name == "My phone"


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("alice", "wrong"),
        ("alice@example.com", "wrong"),
        ("nobody", PASSWORD),
        ("nobody@example.com", PASSWORD),
        ("", ""),
        ("alice", ""),
        ("", PASSWORD),
        ("alice", PASSWORD.upper()),
        ("alice", PASSWORD + " "),
        ("alice", "x" * 4096),
        ("a" * 1000, "x"),
        ("@", PASSWORD),
        ("%", PASSWORD),
        ("alice%", PASSWORD),
        ("\uff41" * 1000, "x"),
        ("\ufdfa" * 1000, "x"),
        ("alice", "\ufdfa" * 4096),
    ],
)
def test_every_wrong_pair_gets_the_same_answer(api: Api, alice: User, login: str, password: str) -> None:
    answer = api.post("/token", {"login": login, "password": password})
    body = problem(answer, 401, "invalid_credentials", "fix_input")
    expected = problem(api.post("/token", {"login": "bob", "password": "wrong"}), 401, "invalid_credentials")
    assert {**body, "request_id": ""} == {**expected, "request_id": ""}
    assert not Session.objects.exists()


def test_a_disabled_user_learns_it_only_with_the_right_password(api: Api, alice: User) -> None:
    User.objects.update(is_active=False)
    problem(api.post("/token", {"login": "alice", "password": PASSWORD}), 403, "account_disabled", "none")
    problem(api.post("/token", {"login": "alice", "password": "wrong"}), 401, "invalid_credentials")


def test_an_address_that_must_be_proved_first_is_told_only_with_the_right_password(
    api: Api, carol: User, settings: Any
) -> None:
    settings.EMAIL_VERIFICATION = "mandatory"
    problem(api.post("/token", {"login": "carol", "password": PASSWORD}), 403, "email_not_verified")
    problem(api.post("/token", {"login": "carol", "password": "wrong"}), 401, "invalid_credentials")


def test_ten_wrong_passwords_pause_one_name(api: Api, alice: User) -> None:
    for _ in range(10):
        problem(api.post("/token", {"login": "alice", "password": "wrong"}), 401, "invalid_credentials")
    body = problem(api.post("/token", {"login": "alice", "password": PASSWORD}), 429, "rate_limited", "retry")
    assert 800 < body["retry_after"] <= 901
    assert "15 minutes" in body["detail"]


def test_nobody_pauses_as_somebody_does(api: Api, db: None) -> None:
    for _ in range(10):
        problem(api.post("/token", {"login": "nobody", "password": "wrong"}), 401, "invalid_credentials")
    problem(api.post("/token", {"login": "nobody", "password": "wrong"}), 429, "rate_limited")


def test_an_address_that_tries_too_often_pauses(api: Api, limits: Any) -> None:
    limits("login_per_ip=1/86400")
    problem(api.post("/token", {"login": "alice", "password": "x"}), 401, "invalid_credentials")
    problem(api.post("/token", {"login": "alice", "password": "x"}), 429, "rate_limited", "retry")


def test_x_forwarded_for_does_not_help_around_a_limit(api: Api, limits: Any) -> None:
    limits("login_per_ip=1/86400")
    answers = [
        api.post("/token", {"login": f"n{number}", "password": "x"}, HTTP_X_FORWARDED_FOR=f"10.0.0.{number}")
        for number in range(3)
    ]
    problem(answers[0], 401, "invalid_credentials")
    problem(answers[-1], 429, "rate_limited")


def test_a_crowd_is_asked_to_come_again(api: Api, alice: User, crowd: Any) -> None:
    crowd.come()
    problem(api.post("/token", {"login": "alice", "password": PASSWORD}), 503, "overloaded", "retry")


def test_a_crowd_does_not_use_up_the_tries_of_an_account(api: Api, alice: User, crowd: Any) -> None:
    crowd.come()
    for _ in range(11):
        assert api.post("/token", {"login": "alice", "password": PASSWORD}).status_code == 503
    crowd.go_home()
    assert api.post("/token", {"login": "alice", "password": PASSWORD}).status_code == 200


# --- Refreshing ---------------------------------------------------------------------------------------------


def refresh(api: Api, token: str) -> Any:
    return api.post("/token/refresh", {"refresh_token": token})


def test_refreshing_hands_out_one_successor(api: Api, tokens: Tokens) -> None:
    first, second = refresh(api, tokens.refresh_token), refresh(api, tokens.refresh_token)
    assert first.status_code == second.status_code == 200
    assert first.headers["Cache-Control"] == "no-store"
    assert first.json()["refresh_token"] == second.json()["refresh_token"] != tokens.refresh_token
    assert first.json()["session_id"] == str(tokens.session_id)
    assert api.get("/me", token=first.json()["access_token"]).status_code == 200
    assert api.get("/me", token=second.json()["access_token"]).status_code == 200


def test_an_old_token_ends_the_session(api: Api, tokens: Tokens, mailbox: Mailbox) -> None:
    successor = refresh(api, tokens.refresh_token).json()
    newest = refresh(api, successor["refresh_token"]).json()
    Session.objects.update(earlier_used_at=[now() - timedelta(minutes=2)] * 2)
    problem(refresh(api, tokens.refresh_token), 401, "refresh_reused", "sign_in")
    problem(refresh(api, newest["refresh_token"]), 401, "session_revoked", "sign_in")
    problem(api.get("/me", token=newest["access_token"]), 401, "session_revoked", "sign_in")
    assert "iPhone" in mailbox.last("alice@example.com").message


def test_a_device_that_was_not_used_for_long_is_told(api: Api, tokens: Tokens) -> None:
    Session.objects.update(expires_at=now())
    problem(refresh(api, tokens.refresh_token), 401, "refresh_expired", "sign_in")


def test_an_ended_session_is_told(api: Api, tokens: Tokens) -> None:
    Session.objects.update(ended_at=now())
    problem(refresh(api, tokens.refresh_token), 401, "session_revoked", "sign_in")


def test_a_disabled_user_does_not_refresh(api: Api, tokens: Tokens) -> None:
    User.objects.update(is_active=False)
    problem(refresh(api, tokens.refresh_token), 401, "session_revoked", "sign_in")


def test_a_forged_refresh_token_is_refused(api: Api, tokens: Tokens) -> None:
    real = tokens.refresh_token
    other = "A" if real[0] != "A" else "B"
    for token in (
        "",
        "x",
        "=",
        "....",
        "é",
        "\U0001f408",
        real[:-1],
        real + "A",
        other + real[1:],
        real[::-1],
        real + "\n",
        "A" * 59,
        "A" * 4096,
        tokens.access_token[:4000],
    ):
        problem(refresh(api, token), 401, "session_revoked", "sign_in")
    assert refresh(api, real).status_code == 200


def test_too_many_refreshes_pause(api: Api, tokens: Tokens, limits: Any) -> None:
    limits("refresh_per_ip=1/86400")
    assert refresh(api, tokens.refresh_token).status_code == 200
    problem(refresh(api, tokens.refresh_token), 429, "rate_limited", "retry")


# --- Signing out --------------------------------------------------------------------------------------------


def test_signing_out_ends_the_session_and_may_be_said_twice(api: Api, tokens: Tokens) -> None:
    for _ in range(2):
        answer = api.post("/token/revoke", {"refresh_token": tokens.refresh_token})
        assert answer.status_code == 204
        assert answer.content == b""
    problem(api.get("/me", token=tokens.access_token), 401, "session_revoked", "sign_in")
    problem(refresh(api, tokens.refresh_token), 401, "session_revoked")


def test_signing_out_with_an_older_token_ends_the_session(api: Api, tokens: Tokens) -> None:
    newest = refresh(api, tokens.refresh_token).json()
    assert api.post("/token/revoke", {"refresh_token": tokens.refresh_token}).status_code == 204
    problem(refresh(api, newest["refresh_token"]), 401, "session_revoked")


@pytest.mark.parametrize("token", ["", "x", "é", "A" * 4096])
def test_signing_out_with_nonsense_tells_nothing(api: Api, tokens: Tokens, token: str) -> None:
    assert api.post("/token/revoke", {"refresh_token": token}).status_code == 204
    assert api.get("/me", token=tokens.access_token).status_code == 200
