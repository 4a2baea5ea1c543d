"""Another address, and the proof of one: what the API adds to services/account/email_addresses.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from post_office.models import STATUS, Email, RecipientDeliveryStatus

from accounts.models import User
from accounts.services.account import email_requests
from tests.api.conftest import problem, sign_up_body, wrong_fields
from tests.conftest import PASSWORD, Api, Mailbox


def ask(api: Api, email: str, password: str = PASSWORD) -> Any:
    return api.post("/me/email", {"email": email, "password": password})


def test_another_address_takes_effect_with_its_code(alices_api: Api, mailbox: Mailbox) -> None:
    assert ask(alices_api, " New@Example.com ").status_code == 202
    assert alices_api.get("/me").json()["email"] == "alice@example.com"
    answer = alices_api.post("/me/email/confirm", {"code": mailbox.code("new@example.com")})
    assert answer.status_code == 200
    assert answer.headers["ETag"] == alices_api.get("/me").headers["ETag"]
    assert answer.json()["email"] == "new@example.com"
    assert answer.json()["email_verified"] is True
    assert "new@example.com" in mailbox.last("alice@example.com").message


def test_a_change_is_cancelled_and_told_so_again(alices_api: Api, mailbox: Mailbox) -> None:
    assert ask(alices_api, "new@example.com").status_code == 202
    code = mailbox.code("new@example.com")
    assert alices_api.get("/me/email").json()["pending_email"] == "new@example.com"
    for _ in range(2):
        answer = alices_api.post("/me/email/cancel")
        assert answer.status_code == 200
        told = answer.json()
        assert (told["email"], told["email_verified"]) == ("alice@example.com", True)
        assert {told[name] for name in ("pending_email", "pending_email_display", "delivery", "since")} == {None}
    problem(alices_api.post("/me/email/confirm", {"code": code}), 400, "invalid_code")
    problem(alices_api.post("/me/email/cancel", token="x"), 401, "invalid_token")


def test_an_address_that_somebody_has_proved_gets_the_same_answer(alices_api: Api, bob: User, mailbox: Mailbox) -> None:
    free, taken = ask(alices_api, "new@example.com"), ask(alices_api, bob.email)
    assert free.status_code == taken.status_code == 202
    assert free.content == taken.content
    assert "alice" in mailbox.last(bob.email).message


def test_the_first_proof_holds_the_address_and_other_claims_lapse(
    carols_api: Api, alices_api: Api, carol: User, mailbox: Mailbox
) -> None:
    assert ask(alices_api, carol.email).status_code == 202
    assert alices_api.post("/me/email/confirm", {"code": mailbox.code(carol.email)}).json()["email"] == carol.email
    assert carols_api.get("/me").json()["email"] is None
    assert carols_api.get("/me").json()["email_verified"] is False


def test_a_sign_up_is_confirmed_by_its_code(api: Api, mailbox: Mailbox) -> None:
    api.token = api.post("/signup", sign_up_body()).json()["tokens"]["access_token"]
    code = mailbox.code("ada@example.com")
    problem(api.post("/me/email/confirm", {"code": f"{(int(code) + 1) % 10**8:08}"}), 400, "invalid_code", "fix_input")
    assert api.post("/me/email/confirm", {"code": f"{code[:4]} {code[4:]}"}).json()["email_verified"] is True
    problem(api.post("/me/email/confirm", {"code": code}), 400, "invalid_code")


def test_a_code_of_somebody_else_is_refused(alices_api: Api, bobs_api: Api, mailbox: Mailbox) -> None:
    ask(alices_api, "new@example.com")
    problem(bobs_api.post("/me/email/confirm", {"code": mailbox.code("new@example.com")}), 400, "invalid_code")


def test_the_password_is_asked_for(alices_api: Api, mailbox: Mailbox) -> None:
    problem(ask(alices_api, "new@example.com", "wrong"), 403, "wrong_password", "fix_input")
    assert not mailbox.all()


@pytest.mark.parametrize(
    ("email", "code"),
    [
        ("", "email_invalid"),
        ("x", "email_invalid"),
        ("a" * 255 + "@example.com", "email_invalid"),
        ("Alice@example.com", "email_unchanged"),
    ],
)
def test_an_address_that_is_none_is_refused_by_name(alices_api: Api, email: str, code: str) -> None:
    assert wrong_fields(ask(alices_api, email)) == {"email": code}


def test_too_many_mails_and_codes_pause(alices_api: Api, limits: Callable[..., None]) -> None:
    limits("mail_per_ip=1/86400", "code_per_ip=1/86400")
    assert ask(alices_api, "new@example.com").status_code == 202
    problem(ask(alices_api, "new@example.com"), 429, "rate_limited", "retry")
    problem(alices_api.post("/me/email/confirm", {"code": "1"}), 400, "invalid_code")
    problem(alices_api.post("/me/email/confirm", {"code": "12345678"}), 429, "rate_limited", "retry")


# --- The link, opened by the app ----------------------------------------------------------------------------


def test_a_sign_up_is_confirmed_by_the_key_of_its_link_and_signs_in(api: Api, mailbox: Mailbox) -> None:
    api.post("/signup", sign_up_body())
    key = mailbox.key("ada@example.com")
    answer = api.post("/email/confirm", {"key": key, "device": {"name": "Another phone"}})
    assert answer.status_code == 200
    assert answer.json()["user"]["email_verified"] is True
    problem(api.post("/email/confirm", {"key": key}), 400, "invalid_key", "fix_input")


# --- Taking a change back -----------------------------------------------------------------------------------


@pytest.fixture
def undo_key(alices_api: Api, mailbox: Mailbox) -> str:
    ask(alices_api, "mallory@example.com")
    alices_api.post("/me/email/confirm", {"code": mailbox.code("mallory@example.com")})
    return mailbox.key("alice@example.com")


def test_a_change_is_taken_back_and_a_new_password_follows_at_once(
    api: Api, alices_api: Api, undo_key: str, alice: User
) -> None:
    answer = api.post("/email/undo", {"key": undo_key}, token="")
    assert answer.status_code == 200
    assert answer.json()["username"] == "alice"
    problem(alices_api.get("/me"), 401, "session_revoked", "sign_in")
    reset = {"key": answer.json()["reset_key"], "new_password": "another lagoon tractor"}
    assert api.post("/password/reset", reset, token="").status_code == 204
    signed_in = api.post("/token", {"login": "alice@example.com", "password": "another lagoon tractor"}, token="")
    assert signed_in.status_code == 200
    problem(api.post("/email/undo", {"key": undo_key}), 400, "invalid_key")


def test_an_address_that_has_a_new_owner_is_said(api: Api, undo_key: str, bob: User) -> None:
    User.objects.filter(id=bob.id).update(email="alice@example.com")
    problem(api.post("/email/undo", {"key": undo_key}, token=""), 409, "email_in_use", "fix_input")


def test_guessing_links_is_limited(api: Api, limits: Callable[..., None]) -> None:
    limits("code_per_ip=1/60")
    problem(api.post("/email/undo", {"key": "x"}), 400, "invalid_key")
    problem(api.post("/email/undo", {"key": "x"}), 429, "rate_limited", "retry")


# --- What became of the mail --------------------------------------------------------------------------------


def test_what_became_of_the_mail_is_told_to_the_one_who_asked(
    alices_api: Api, alice: User, bob: User, django_assert_num_queries: Any
) -> None:
    mine = {"email": alice.email, "email_display": alice.email, "email_verified": True}
    nothing = {"pending_email": None, "pending_email_display": None, "delivery": None, "since": None}
    assert alices_api.get("/me/email").json() == {**mine, **nothing}
    for wanted in ("new@example.com", bob.email):
        ask(alices_api, wanted)
        with django_assert_num_queries(2):
            found = alices_api.get("/me/email").json()
        assert found.pop("since")
        assert found == {
            **mine, "pending_email": wanted, "pending_email_display": wanted, "delivery": "queued",
        }  # fmt: skip


def test_a_mail_that_came_back_is_told_and_ends_with_another_address(api: Api, mailbox: Mailbox) -> None:
    api.token = api.post("/signup", sign_up_body()).json()["tokens"]["access_token"]
    assert api.get("/me/email").json()["delivery"] == "queued"
    email_requests.answer()
    Email.objects.update(status=STATUS.failed, recipient_delivery_status=RecipientDeliveryStatus.HARD_BOUNCED)
    found = api.get("/me/email").json()
    assert (found["email"], found["pending_email"], found["delivery"]) == ("ada@example.com", None, "bounced")
    assert ask(api, "right@example.com").status_code == 202
    found = api.get("/me/email").json()
    assert (found["pending_email"], found["delivery"]) == ("right@example.com", "queued")
    api.post("/me/email/confirm", {"code": mailbox.code("right@example.com")})
    assert api.get("/me/email").json()["delivery"] is None


def test_nothing_of_it_is_told_to_who_is_not_signed_in(api: Api) -> None:
    problem(api.get("/me/email"), 401, "invalid_token")


def test_a_domain_that_the_operator_refuses_is_named(alices_api: Api, refused_domains: Path) -> None:
    refused_domains.write_text("mailinator.com\n")
    answers = (
        ask(alices_api, "alice@a.mailinator.com"),
        alices_api.post("/me/email", {"email": "alice@mailinator.com", "password": 7}),  # with another mistake
        alices_api.post("/signup", sign_up_body("ada", email="ada@mailinator.com"), token=""),
    )
    assert [wrong_fields(answer)["email"] for answer in answers] == ["email_refused"] * 3
