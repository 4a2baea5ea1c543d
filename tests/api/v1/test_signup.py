"""Signing up: what the API adds to accounts/services/account/users.py."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from accounts.models import Gender, Session, User
from accounts.services.account import email_requests
from tests.api.conftest import problem, sign_up_body, wrong_fields
from tests.conftest import PASSWORD, Api, Mailbox
from tests.services.test_breached_passwords import BREACHED, Server, running


def test_a_new_account_is_signed_in_at_once(api: Api) -> None:
    device = {"name": "Ada's iPhone", "platform": "iOS 20", "app_version": "1.0"}
    names = {"first_name": " Ada ", "last_name": "Lind  qvist"}
    body = sign_up_body("Ada", **names, gender="female", time_zone="Asia/Tokyo", device=device)
    answer = api.post("/signup", body, HTTP_ACCEPT_LANGUAGE="fr-CH, de;q=0.5")
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    found = answer.json()
    user = found["user"]
    assert UUID(user["id"]).version == 7
    assert {**user, "id": "", "created_at": "", "updated_at": ""} == {
        "id": "",
        "username": "ada",
        "email": "ada@example.com",
        "email_verified": False,
        "first_name": "Ada",
        "last_name": "Lind qvist",
        "gender": "female",
        "language": "fr",
        "time_zone": "Asia/Tokyo",
        "picture": None,
        "deletion_planned_for": None,
        "username_display": "Ada",
        "email_display": "ada@example.com",
        "created_at": "",
        "updated_at": "",
    }
    for name in ("created_at", "updated_at"):
        assert user[name].endswith("Z")
        assert datetime.fromisoformat(user[name]).utcoffset() is not None
    tokens = found["tokens"]
    assert set(tokens) == {"access_token", "token_type", "expires_in", "refresh_token", "session_id"}
    assert tokens["token_type"] == "Bearer"
    assert 800 < tokens["expires_in"] <= 900
    assert api.get("/me", token=tokens["access_token"]).json() == user
    row = Session.objects.get(id=tokens["session_id"])
    assert (row.kind, row.name, row.platform, row.app_version) == ("app", "Ada's iPhone", "iOS 20", "1.0")
    assert row.ip == api.ip


def test_only_three_fields_are_needed(api: Api) -> None:
    answer = api.post("/signup", sign_up_body(), HTTP_USER_AGENT="Crew/1.0 CFNetwork/1 Darwin/22")
    assert answer.status_code == 201
    assert answer.json()["user"]["gender"] == Gender.UNSPECIFIED
    assert answer.json()["user"]["first_name"] == ""


def test_a_device_may_be_null(api: Api) -> None:
    assert api.post("/signup", sign_up_body(device=None)).status_code == 201


def test_a_fresh_and_a_taken_address_get_the_same_answer(api: Api, alice: User, mailbox: Mailbox) -> None:
    fresh = api.post("/signup", sign_up_body("fresh", email="someone@example.com"))
    taken = api.post("/signup", sign_up_body("taken", email=alice.email))
    assert fresh.status_code == taken.status_code == 201
    assert _without_chance(fresh.json(), "fresh", "someone") == _without_chance(taken.json(), "taken", "alice")
    assert set(fresh.headers) == set(taken.headers)
    assert len(mailbox.all("someone@example.com")) == len(mailbox.all(alice.email)) == 1
    assert "taken" in mailbox.last(alice.email).message
    alice.refresh_from_db()
    assert alice.email_verified


def _without_chance(answer: dict[str, Any], username: str, local_part: str) -> dict[str, Any]:
    user, tokens = answer["user"], answer["tokens"]
    assert user["username"] == username
    assert user["email"] == f"{local_part}@example.com"
    for name in ("id", "username", "email", "username_display", "email_display", "created_at", "updated_at"):
        user[name] = "x" * len(user[name]) if name == "id" else ""
    for name in ("access_token", "refresh_token", "session_id"):
        tokens[name] = "x" * len(tokens[name])
    tokens["expires_in"] = 0
    return answer


@pytest.mark.parametrize("username", ["alice", "ALICE", " Alice ", "\uff41lice", "a1ice"])
def test_a_taken_username_is_told(api: Api, alice: User, username: str) -> None:
    problem(api.post("/signup", sign_up_body(username, email="x@example.com")), 409, "username_taken", "fix_input")
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("username", "code"),
    [
        ("", "username_length"),
        ("ab", "username_length"),
        ("a" * 31, "username_length"),
        ("ada@b", "username_characters"),
        ("a da", "username_characters"),
        ("_ada", "username_ends"),
        ("ada.", "username_ends"),
        ("a\u200bda", "username_characters"),
        ("\u0430da", "username_script"),
        ("admin", "username_reserved"),
        ("supp0rt", "username_reserved"),
    ],
)
def test_a_username_at_its_limits(api: Api, username: str, code: str) -> None:
    assert wrong_fields(api.post("/signup", sign_up_body(username, email="x@example.com"))) == {"username": code}


@pytest.mark.parametrize("username", ["abc", "a" * 30, "a.b-c_d", "ада", "9lives", "ünal"])
def test_a_username_within_its_limits(api: Api, username: str) -> None:
    answer = api.post("/signup", sign_up_body(username, email="x@example.com"))
    assert answer.status_code == 201
    assert answer.json()["user"]["username"] == username


LONGEST = "a" * 64 + "@" + ".".join(["b" * 61] * 3) + ".org"  # 254


def test_an_address_at_its_limits(api: Api) -> None:
    assert len(LONGEST) == 254
    assert api.post("/signup", sign_up_body("longest", email=LONGEST)).status_code == 201
    longer = LONGEST.replace("@", "@c")
    for email in (
        "",
        "ada",
        "ada@",
        "@example.com",
        "a b@example.com",
        longer,
        '"a"@example.com',
        "a@b@c.org",
        "ада@example.com",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@exa\u200bmple.com",
        "ada@example",
    ):
        answer = api.post("/signup", sign_up_body(email=email))
        assert wrong_fields(answer) == {"email": "email_invalid"}, email


def test_an_address_names_a_domain_and_no_machine(api: Api) -> None:
    for email in ("ada@[127.0.0.1]", "ada@[IPv6:::1]"):
        assert wrong_fields(api.post("/signup", sign_up_body(email=email))) == {"email": "email_invalid"}, email


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "password_too_short"),
        ("elevenchars", "password_too_short"),
        ("x" * 129, "password_too_long"),
        ("1q2w3e4r5t6y", "password_too_common"),
        ("adalovelace1815", "password_too_similar"),
    ],
)
def test_a_password_at_its_limits(api: Api, password: str, code: str) -> None:
    answer = api.post("/signup", sign_up_body("adalovelace181", email="x@example.com", password=password))
    assert wrong_fields(answer) == {"password": code}


@pytest.mark.parametrize("password", ["twelve chars", "x y" * 42 + "zw", "пароль на русском", "   plum   tractor   "])
def test_a_password_within_its_limits_signs_in_just_as_it_was_typed(api: Api, password: str) -> None:
    assert api.post("/signup", sign_up_body(password=password)).status_code == 201
    assert api.post("/token", {"login": "ada", "password": password}).status_code == 200
    assert api.post("/token", {"login": "ada", "password": password + "x"}).status_code == 401


def test_names_at_their_limits(api: Api) -> None:
    answer = api.post("/signup", sign_up_body(first_name="a" * 80, last_name="Ö" * 80))
    assert answer.status_code == 201
    for name in ("first_name", "last_name"):
        for value, code in (
            ("a" * 81, "name_too_long"),
            ("<b>", "name_characters"),
            ("a\x07b", "name_characters"),
            ("\ue000", "name_characters"),
        ):
            assert wrong_fields(api.post("/signup", sign_up_body("other", **{name: value}))) == {name: code}


def test_every_wrong_field_is_named_at_once(api: Api) -> None:
    answer = api.post(
        "/signup", {"username": "", "email": "", "password": "", "first_name": "<", "last_name": "a" * 81}
    )
    assert set(wrong_fields(answer)) == {"username", "email", "password", "first_name", "last_name"}


def test_an_unknown_gender_is_refused(api: Api) -> None:
    for gender in ("", "Female", "other", "f"):
        assert wrong_fields(api.post("/signup", sign_up_body(gender=gender))) == {"gender": "unknown_choice"}


def test_a_closed_sign_up_says_so(api: Api, settings: Any) -> None:
    settings.SIGNUP_OPEN = False
    problem(api.post("/signup", sign_up_body()), 403, "signup_closed", "none")


def test_too_many_sign_ups_pause(api: Api, limits: Any) -> None:
    limits("signup_per_ip=1/86400")
    assert api.post("/signup", sign_up_body()).status_code == 201
    body = problem(api.post("/signup", sign_up_body("other")), 429, "rate_limited", "retry")
    assert 1 <= body["retry_after"] <= 86400
    assert User.objects.count() == 1


def test_a_crowd_is_asked_to_come_again(api: Api, crowd: Any) -> None:
    crowd.come()
    problem(api.post("/signup", sign_up_body()), 503, "overloaded", "retry")
    assert not User.objects.exists()
    crowd.go_home()
    assert api.post("/signup", sign_up_body()).status_code == 201


# --- Where the address must be proved first -----------------------------------------------------------------


@pytest.fixture
def mandatory(settings: Any) -> None:
    settings.EMAIL_VERIFICATION = "mandatory"


@pytest.mark.usefixtures("mandatory")
def test_a_sign_up_waits_for_its_proof_and_the_code_signs_in(api: Api, mailbox: Mailbox) -> None:
    answer = api.post("/signup", sign_up_body())
    assert answer.status_code == 202
    assert set(answer.json()) == {"detail"}
    assert not Session.objects.exists()
    problem(api.post("/token", {"login": "ada", "password": PASSWORD}), 403, "email_not_verified")
    problem(api.post("/token", {"login": "ada", "password": "wrong"}), 401, "invalid_credentials")
    answer = api.post(
        "/email/confirm", {"email": " ADA@example.com", "code": mailbox.code(), "device": {"name": "Phone"}}
    )
    assert answer.status_code == 200
    assert answer.json()["user"]["email_verified"] is True
    api.token = answer.json()["tokens"]["access_token"]
    assert api.get("/me/sessions").json()["sessions"][0]["name"] == "Phone"
    assert api.post("/token", {"login": "ada", "password": PASSWORD}).status_code == 200


@pytest.mark.usefixtures("mandatory")
def test_a_fresh_and_a_taken_address_get_the_same_answer_there_too(api: Api, alice: User) -> None:
    fresh = api.post("/signup", sign_up_body("fresh"))
    taken = api.post("/signup", sign_up_body("taken", email=alice.email))
    assert fresh.status_code == taken.status_code == 202
    assert fresh.content == taken.content


def test_a_code_confirms_once(api: Api, mailbox: Mailbox) -> None:
    api.post("/signup", sign_up_body())
    body = {"email": "ada@example.com", "code": mailbox.code()}
    assert api.post("/email/confirm", body).status_code == 200
    problem(api.post("/email/confirm", body), 400, "invalid_code", "fix_input")


def test_five_wrong_codes_close_the_door_of_the_code(api: Api, mailbox: Mailbox) -> None:
    api.post("/signup", sign_up_body())
    code = mailbox.code()
    wrong = f"{(int(code) + 1) % 10**8:08}"
    for _ in range(5):
        problem(api.post("/email/confirm", {"email": "ada@example.com", "code": wrong}), 400, "invalid_code")
    problem(api.post("/email/confirm", {"email": "ada@example.com", "code": code}), 400, "invalid_code")


@pytest.mark.parametrize("code", ["", "1", "1234567", "123456789", "abcdefgh", "１２３４５６７８", "a" * 100])
def test_a_code_that_is_none_is_refused(api: Api, mailbox: Mailbox, code: str) -> None:
    api.post("/signup", sign_up_body())
    problem(api.post("/email/confirm", {"email": "ada@example.com", "code": code}), 400, "invalid_code")
    problem(api.post("/email/confirm", {"email": "nobody@example.com", "code": code}), 400, "invalid_code")


def test_a_disabled_user_is_not_signed_in_by_a_code(api: Api, mailbox: Mailbox) -> None:
    api.post("/signup", sign_up_body())
    body = {"email": "ada@example.com", "code": mailbox.code()}
    User.objects.update(is_active=False)
    problem(api.post("/email/confirm", body), 403, "account_disabled", "none")
    assert Session.objects.count() == 1


def test_too_many_codes_pause(api: Api, limits: Any) -> None:
    limits("code_per_ip=1/86400")
    problem(api.post("/email/confirm", {"email": "ada@example.com", "code": "1"}), 400, "invalid_code")
    problem(api.post("/email/confirm", {"email": "ada@example.com", "code": "1"}), 429, "rate_limited", "retry")


def test_another_mail_can_be_asked_for_and_the_answer_tells_nothing(
    api: Api, alice: User, carol: User, mailbox: Mailbox
) -> None:
    answers = [
        api.post("/email/resend", {"email": email})
        for email in (carol.email, alice.email, "nobody@example.com", "", "x")
    ]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    email_requests.answer()
    assert len(mailbox.all()) == 1
    assert api.post("/email/confirm", {"email": carol.email, "code": mailbox.code(carol.email)}).status_code == 200


def test_too_many_mails_pause(api: Api, limits: Any) -> None:
    limits("mail_per_ip=1/86400")
    assert api.post("/email/resend", {"email": "ada@example.com"}).status_code == 202
    problem(api.post("/email/resend", {"email": "ada@example.com"}), 429, "rate_limited", "retry")


def test_a_password_from_stolen_data_is_refused_by_name(api: Api, settings: Any) -> None:
    with running(Server()) as server:
        settings.BREACHED_PASSWORDS_URL = f"http://127.0.0.1:{server.port}/range/"
        answer = api.post("/signup", sign_up_body(password=BREACHED))
    assert wrong_fields(answer) == {"password": "password_breached"}
