"""Creating an account in the browser."""

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts.models import Session, User
from accounts.services.account import email_requests
from tests.conftest import PASSWORD, Mailbox, picture, random_ip
from tests.web.conftest import refused, signed_in, sound, upload

BODY = {"username": "Ada", "email": "Ada@Example.com", "password": PASSWORD}


def sign_up(page: Client, **changes: Any) -> Any:
    return page.post("/account/signup/", {**BODY, **changes})


def test_a_new_account_with_a_picture_is_signed_in_and_asked_for_the_code(page: Client, mailbox: Mailbox) -> None:
    body = {"first_name": "Ada", "last_name": "Lind", "gender": "female", "picture": upload()}
    answer = sign_up(page, **body)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/account/confirm-email/"
    assert "ada@example.com" in sound(page.get("/account/confirm-email/"))
    user = User.objects.get()
    assert (user.username, user.email, user.first_name, user.gender) == ("ada", "ada@example.com", "Ada", "female")
    assert user.picture
    assert Session.objects.get().kind == "browser"
    code = mailbox.code("ada@example.com")
    answer = page.post("/account/confirm-email/", {"code": f"{code[:4]} {code[4:]}"})
    assert answer.status_code == 302
    user.refresh_from_db()
    assert user.email_verified
    assert signed_in(page)


def test_only_three_fields_are_needed(page: Client) -> None:
    assert sign_up(page).status_code == 302
    assert User.objects.get().gender == "unspecified"
    assert signed_in(page)


def test_what_is_wrong_is_said_beside_each_field_and_what_was_typed_stays(page: Client) -> None:
    body = {"username": "a", "email": "nowhere", "password": "tiny", "first_name": "<b>", "last_name": "Lind"}
    answer = sign_up(page, **body, gender="female", picture=upload())
    html = refused(answer, "username", "email", "password", "first_name")
    for typed in ('value="a"', 'value="nowhere"', 'value="Lind"'):
        assert typed in html
    assert "tiny" not in html
    assert "Choose the picture again" in html
    assert not User.objects.exists()


def test_what_is_missing_is_said_beside_each_field(page: Client) -> None:
    html = refused(page.post("/account/signup/", {}), "username", "email", "password")
    for name in ("Username", "Email", "Password"):  # so that no two lines of the summary are alike
        assert f">{name} is required.<" in html


def test_a_taken_username_is_said_beside_it(page: Client, alice: User) -> None:
    html = refused(sign_up(page, username="A1ice"), "username")
    assert 'value="A1ice"' in html
    assert 'value="Ada@Example.com"' in html
    assert User.objects.count() == 1


def test_a_taken_address_gets_the_same_answer(page: Client, alice: User, mailbox: Mailbox) -> None:
    answer = sign_up(page, email=alice.email)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/account/confirm-email/"
    assert len(mailbox.all(alice.email)) == 1
    with pytest.raises(AssertionError):
        mailbox.code(alice.email)


@pytest.mark.parametrize("content", [b"no picture", b"", picture((40, 40), "GIF", "L")])
def test_a_file_that_is_no_picture_is_said_beside_it_and_makes_no_account(page: Client, content: bytes) -> None:
    refused(sign_up(page, picture=upload(content)), "picture")
    assert not User.objects.exists()


def test_a_picture_that_is_too_large_is_said_beside_it(page: Client, settings: Any) -> None:
    settings.PICTURE_MAX_BYTES = 1000
    refused(sign_up(page, picture=upload(picture() + b"\x00" * 1000)), "picture")


@pytest.mark.parametrize("field", ["username", "email", "password", "first_name", "last_name", "gender"])
@pytest.mark.parametrize("value", ["\x00", "a\x00b", "a" * 5000, "\u202e", "{{7|add:7}}", "%s%s", "'; --"])
def test_strange_input_is_refused_or_taken_but_no_error_of_ours(page: Client, field: str, value: str) -> None:
    answer = sign_up(page, **{field: value})
    assert answer.status_code in {200, 302}
    if answer.status_code == 200:
        refused(answer)
    User.objects.count()


def test_invalid_utf_8_is_no_error_of_ours(page: Client) -> None:
    answer = page.generic(
        "POST",
        "/account/signup/",
        b"username=%ff%fe&email=\xff&password=\xc3",
        content_type="application/x-www-form-urlencoded",
    )
    refused(answer, "username", "email", "password")


def test_a_closed_sign_up_has_a_page(page: Client, settings: Any) -> None:
    settings.SIGNUP_OPEN = False
    sound(page.get("/account/signup/"))
    sound(sign_up(page))
    assert not User.objects.exists()
    assert "/account/signup/" not in sound(page.get("/account/login/"))


def test_too_many_sign_ups_say_when_to_come_back(page: Client, limits: Any) -> None:
    limits("signup_per_ip=1/86400")
    refused(sign_up(page, username="a"), "username")
    answer = sign_up(page)
    assert "Too many tries" in refused(answer, status=429)
    assert int(answer.headers["Retry-After"]) > 0
    assert 'value="Ada"' in answer.content.decode()


def test_an_address_that_must_be_proved_first_signs_nobody_in(page: Client, mailbox: Mailbox, settings: Any) -> None:
    settings.EMAIL_VERIFICATION = "mandatory"
    answer = sign_up(page)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/account/confirm-email/"
    assert not signed_in(page)
    assert not Session.objects.exists()
    html = refused(page.post("/account/login/", {"login": "ada", "password": PASSWORD}))
    assert "Confirm your email address first" in html
    code = mailbox.code("ada@example.com")
    refused(page.post("/account/confirm-email/", {"code": f"{(int(code) + 1) % 10**8:08}"}), "code")
    answer = page.post("/account/confirm-email/", {"code": code})
    assert answer.status_code == 302
    assert page.get("/account/confirm-email/").headers["Location"] == "/account/login/"  # nothing waits any more
    assert page.post("/account/login/", {"login": "ada", "password": PASSWORD}).status_code == 302
    assert signed_in(page)


def test_another_mail_can_be_asked_for(page: Client, mailbox: Mailbox) -> None:
    sign_up(page)
    email_requests.answer()
    answer = page.post("/account/confirm-email/again/", follow=True)
    sound(answer)
    email_requests.answer()
    assert len(mailbox.all("ada@example.com")) == 2


def test_confirming_by_code_pauses(page: Client, limits: Any) -> None:
    sign_up(page)
    limits("code_per_ip=1/86400")
    refused(page.post("/account/confirm-email/", {"code": "1"}), "code")
    answer = page.post("/account/confirm-email/", {"code": "1"})
    refused(answer, status=429)
    assert answer.headers["Retry-After"]


# --- By link ------------------------------------------------------------------------------------------------


def test_the_link_changes_nothing_until_its_button_is_pressed(page: Client, mailbox: Mailbox) -> None:
    sign_up(page)
    link = mailbox.link("ada@example.com")
    stranger = Client(SERVER_NAME="localhost")
    for _ in range(3):
        html = sound(stranger.get(link))
        assert "ada@example.com" in html
        assert stranger.head(link).status_code == 200
    assert not User.objects.get().email_verified
    answer = stranger.post(link)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/account/login/"
    assert User.objects.get().email_verified
    assert not signed_in(stranger)
    for method in ("get", "post"):
        html = sound(getattr(stranger, method)(link))
        assert "no longer works" in html


@pytest.mark.parametrize("key", ["x", "x-y", "0" * 32 + "-x", "a" * 2000, "%00", "%ff", "é", "-", "again-"])
def test_a_forged_link_is_refused(page: Client, key: str) -> None:
    for method in (page.get, page.post):
        assert "no longer works" in sound(method(f"/account/confirm-email/{key}/"))


# --- Where somebody was on the way to ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "reached"),
    [
        ("/account/devices/", "/account/devices/"),
        ("https://evil.example/", "/account/"),
        ("//evil.example", "/account/"),
    ],
)
def test_a_sign_up_leads_on_to_where_somebody_wanted_but_to_no_other_site(
    page: Client, mailbox: Mailbox, wanted: str, reached: str
) -> None:
    assert sign_up(page, next=wanted).headers["Location"] == "/account/confirm-email/"
    answer = page.post("/account/confirm-email/", {"code": mailbox.code("ada@example.com")})
    assert answer.headers["Location"] == reached


def test_a_domain_that_the_operator_refuses_is_said_beside_the_address(
    alices_page: Client, refused_domains: Path
) -> None:
    refused_domains.write_text("mailinator.com\n")
    other = Client(SERVER_NAME="localhost", REMOTE_ADDR=random_ip())
    refused(sign_up(other, email="ada@mailinator.com"), "email")
    refused(alices_page.post("/account/email/", {"email": "a@x.mailinator.com", "password": PASSWORD}), "email")
    assert not User.objects.filter(email__contains="mailinator").exists()
