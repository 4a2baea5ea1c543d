"""Forgotten and changed passwords: what the API adds to services/account/passwords.py."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now
from post_office.models import Email

from accounts.models import Challenge, MailOutage, Session, User
from accounts.services.account import email_requests
from accounts.services.sessions.sessions import Tokens
from tests.api.conftest import problem, wrong_fields
from tests.conftest import PASSWORD, Api, Mailbox

NEW = "another lagoon tractor"


@pytest.fixture
def ask(api: Api, alice: User, mailbox: Mailbox) -> Callable[[], tuple[str, str]]:
    """Alice forgets; the code and the key of the mail she gets."""

    def forget() -> tuple[str, str]:
        assert api.post("/password/forgot", {"login": "alice"}).status_code == 202
        email_requests.answer()
        return mailbox.code(alice.email), mailbox.key(alice.email)

    return forget


def reset(api: Api, **body: str) -> Any:
    return api.post("/password/reset", {"new_password": NEW, **body}, token="")


def test_asking_tells_nothing(api: Api, alice: User, carol: User, mailbox: Mailbox) -> None:
    logins = ["alice", alice.email, "nobody", "nobody@example.com", "", "@", "{{a|b}}@x", "{% x %}", carol.email]
    answers = [api.post("/password/forgot", {"login": login}) for login in logins]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert not Email.objects.exists()
    email_requests.answer()
    assert {address for mail in mailbox.all() for address in mail.to} == {alice.email, carol.email}


def test_asking_costs_the_same_for_anybody(api: Api, alice: User, django_assert_num_queries: Any) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    counts = set()
    for login in ("alice", "nobody", alice.email, "nobody@example.com"):
        with CaptureQueriesContext(connection) as queries:
            api.post("/password/forgot", {"login": login})
        counts.add(len(queries))
    assert len(counts) == 1


def test_the_code_sets_a_new_password_and_ends_every_session(
    api: Api, tokens: Tokens, ask: Callable[[], tuple[str, str]]
) -> None:
    code, key = ask()
    answer = reset(api, login="Alice@example.com", code=f" {code[:4]}-{code[4:]} ")
    assert answer.status_code == 204
    assert answer.content == b""
    problem(api.get("/me", token=tokens.access_token), 401, "session_revoked", "sign_in")
    problem(api.post("/token", {"login": "alice", "password": PASSWORD}), 401, "invalid_credentials")
    assert api.post("/token", {"login": "alice", "password": NEW}).status_code == 200
    problem(reset(api, login="alice", code=code), 400, "invalid_code", "fix_input")
    problem(reset(api, key=key), 400, "invalid_key", "fix_input")


def test_the_key_sets_a_new_password_once(api: Api, tokens: Tokens, ask: Callable[[], tuple[str, str]]) -> None:
    code, key = ask()
    assert reset(api, key=key).status_code == 204
    problem(api.get("/me", token=tokens.access_token), 401, "session_revoked")
    problem(reset(api, key=key), 400, "invalid_key")
    problem(reset(api, login="alice", code=code), 400, "invalid_code")


def test_a_newer_mail_voids_the_older(api: Api, ask: Callable[[], tuple[str, str]]) -> None:
    (code, key), (newer, _) = ask(), ask()
    if code != newer:
        problem(reset(api, login="alice", code=code), 400, "invalid_code")
    problem(reset(api, key=key), 400, "invalid_key")
    assert reset(api, login="alice", code=newer).status_code == 204


@pytest.mark.parametrize("new_password", ["", "short", "x" * 129, "1q2w3e4r5t6y", "aliceexample"])
def test_a_weak_password_leaves_code_and_key_alive(
    api: Api, ask: Callable[[], tuple[str, str]], new_password: str
) -> None:
    code, key = ask()
    for _ in range(7):
        answer = api.post("/password/reset", {"login": "alice", "code": code, "new_password": new_password})
        assert set(wrong_fields(answer)) == {"new_password"}
    assert set(wrong_fields(api.post("/password/reset", {"key": key, "new_password": new_password}))) == {
        "new_password"
    }
    assert reset(api, login="alice", code=code).status_code == 204


def test_a_wrong_code_is_told_before_a_weak_password(api: Api, ask: Callable[[], tuple[str, str]]) -> None:
    code, _ = ask()
    wrong = f"{(int(code) + 1) % 10**8:08}"
    for login in ("alice", "nobody"):
        problem(api.post("/password/reset", {"login": login, "code": wrong, "new_password": "x"}), 400, "invalid_code")


def test_five_wrong_codes_close_the_door_of_the_code_but_not_of_the_link(
    api: Api, ask: Callable[[], tuple[str, str]]
) -> None:
    code, key = ask()
    wrong = f"{(int(code) + 1) % 10**8:08}"
    for _ in range(5):
        problem(reset(api, login="alice", code=wrong), 400, "invalid_code")
    problem(reset(api, login="alice", code=code), 400, "invalid_code")
    assert reset(api, key=key).status_code == 204


def test_a_code_of_somebody_else_is_refused(api: Api, bob: User, ask: Callable[[], tuple[str, str]]) -> None:
    code, _ = ask()
    problem(reset(api, login="bob", code=code), 400, "invalid_code")
    problem(reset(api, login="", code=code), 400, "invalid_code")


@pytest.mark.parametrize(
    "key",
    [
        "x",
        "-",
        "x-y",
        "0" * 32 + "-x",
        "é-é",
        "\U0001f408",
        "0" * 1000,
        "01924f00-0000-7000-8000-000000000000-x",
        "{}-x",
        "urn:uuid:-x",
    ],
)
def test_a_forged_key_is_refused(api: Api, ask: Callable[[], tuple[str, str]], key: str) -> None:
    _, real = ask()
    problem(reset(api, key=key), 400, "invalid_key", "fix_input")
    problem(reset(api, key=real[:-1]), 400, "invalid_key")
    problem(reset(api, key=real.partition("-")[0] + "-"), 400, "invalid_key")
    problem(reset(api, key=real + "x"), 400, "invalid_key")
    assert reset(api, key=real).status_code == 204


def test_neither_code_nor_key_is_refused(api: Api, alice: User) -> None:
    problem(reset(api), 400, "invalid_code")
    problem(reset(api, login="alice"), 400, "invalid_code")


def test_a_disabled_user_gets_no_mail(api: Api, alice: User, mailbox: Mailbox) -> None:
    User.objects.update(is_active=False)
    assert api.post("/password/forgot", {"login": "alice"}).status_code == 202
    email_requests.answer()
    assert not mailbox.all()
    assert not Challenge.objects.exists()


def test_five_mails_an_hour_and_a_login_then_a_pause_for_anybody(api: Api, alice: User) -> None:
    for login in ("alice", "nobody"):
        for _ in range(5):
            assert api.post("/password/forgot", {"login": login}).status_code == 202
        problem(api.post("/password/forgot", {"login": login}), 429, "rate_limited", "retry")


def test_too_many_codes_pause(api: Api, limits: Any) -> None:
    limits("code_per_ip=1/86400")
    problem(reset(api, login="alice", code="12345678"), 400, "invalid_code")
    problem(reset(api, login="alice", code="12345678"), 429, "rate_limited", "retry")
    problem(reset(api, key="x-y"), 429, "rate_limited", "retry")


def test_a_crowd_is_asked_to_come_again_and_the_code_stays_good(
    api: Api, ask: Callable[[], tuple[str, str]], crowd: Any
) -> None:
    code, _ = ask()
    crowd.come()
    problem(reset(api, login="alice", code=code), 503, "overloaded", "retry")
    crowd.go_home()
    assert reset(api, login="alice", code=code).status_code == 204


def test_a_crowd_does_not_use_up_the_tries_of_a_code(api: Api, ask: Callable[[], tuple[str, str]], crowd: Any) -> None:
    code, _ = ask()
    crowd.come()
    for _ in range(6):
        problem(reset(api, login="alice", code=code), 503, "overloaded", "retry")
    crowd.go_home()
    assert reset(api, login="alice", code=code).status_code == 204


# --- Changing -----------------------------------------------------------------------------------------------


def change(api: Api, current: str = PASSWORD, new: str = NEW) -> Any:
    return api.post("/me/password", {"current_password": current, "new_password": new})


def test_a_change_ends_all_other_sessions_and_tells_the_owner(
    alices_api: Api, alice: User, another_app: Callable[[User], Api], mailbox: Mailbox
) -> None:
    other = another_app(alice)
    answer = change(alices_api)
    assert answer.status_code == 204
    assert answer.content == b""
    assert alices_api.get("/me").status_code == 200
    problem(other.get("/me"), 401, "session_revoked")
    assert Session.objects.filter(ended_at=None).count() == 1
    assert mailbox.last(alice.email)
    assert alices_api.post("/token", {"login": "alice", "password": NEW}).status_code == 200


def test_a_change_asks_for_the_current_password(
    alices_api: Api, another_app: Callable[[User], Api], alice: User
) -> None:
    other = another_app(alice)
    for current in ("", "wrong", NEW, "x" * 4096):
        problem(change(alices_api, current), 403, "wrong_password", "fix_input")
    assert other.get("/me").status_code == 200


@pytest.mark.parametrize("new", ["", "short", "x" * 129, "1q2w3e4r5t6y", "aliceexample"])
def test_a_weak_new_password_is_refused_by_name(alices_api: Api, new: str) -> None:
    assert set(wrong_fields(change(alices_api, new=new))) == {"new_password"}
    assert alices_api.post("/token", {"login": "alice", "password": PASSWORD}).status_code == 200


def test_guessing_the_current_password_pauses(alices_api: Api) -> None:
    for _ in range(10):
        problem(change(alices_api, "wrong"), 403, "wrong_password")
    problem(change(alices_api), 429, "rate_limited", "retry")
    problem(
        alices_api.post("/me/email", {"email": "new@example.com", "password": PASSWORD}), 429, "rate_limited", "retry"
    )


def test_a_crowd_is_asked_to_come_again_with_a_change(alices_api: Api, crowd: Any) -> None:
    crowd.come()
    problem(change(alices_api), 503, "overloaded", "retry")
    problem(
        alices_api.post("/me/email", {"email": "new@example.com", "password": PASSWORD}), 503, "overloaded", "retry"
    )


def test_how_late_mail_is_is_told_alike_whoever_is_asked_for(api: Api, alice: User) -> None:
    def told(login: str) -> Any:
        return api.post("/password/forgot", {"login": login}).json()["mail_delay"]

    assert told("alice") == told("nobody.here") == 0
    MailOutage.objects.create(began_at=now() - timedelta(minutes=3))
    email_requests.answer()
    assert {told("alice"), told("nobody.here")} <= {180, 181}
