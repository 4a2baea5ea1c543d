"""The page that a form leads to from a network with many requests: with JavaScript it goes on by itself."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now
from pytest_django import Settings

from accounts.models import Challenge, Event, MailOwner, SpentTicket, User
from accounts.services.account import signup
from accounts.services.security import tickets
from tests.conftest import PASSWORD, Mailbox
from tests.proofs import solve
from tests.web.conftest import refused, signed_in, sound, upload

ADA = {"username": "Ada", "email": "ada@example.com", "password": PASSWORD, "first_name": "Ada", "gender": "female"}
RESET, CODE, SIGN_UP = "/account/password/reset/", "/account/login/code/", "/account/signup/"


@pytest.fixture(autouse=True)
def _over_at_the_first_try(page: Client, limits: Callable[..., None]) -> None:
    limits("signup_challenge_per_ip=1/864000", "mail_challenge_per_ip=1/864000")
    other = Client(SERVER_NAME="localhost", REMOTE_ADDR=page.defaults["REMOTE_ADDR"])
    assert other.post(SIGN_UP, {**ADA, "username": "first", "email": "first@example.com"}).status_code == 302
    assert other.post(RESET, {"email": "first"}).status_code == 302


def challenged(answer: Any) -> tuple[dict[str, str], str]:
    """The hidden fields of the page, and what its script would put into `proof`."""
    html = sound(answer, 429)
    assert int(answer.headers["Retry-After"]) > 0
    assert "no-store" in answer.headers["Cache-Control"]
    assert PASSWORD not in html
    form = html[html.index("data-module") :].partition("</form>")[0]
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))
    words = {name: unescape(value) for name, value in re.findall(r'data-(prefix|target|max)="([^"]*)"', html)}
    fields = {name: unescape(value) for name, value in hidden.items() if name != "csrfmiddlewaretoken"}
    return fields, solve({**words, "max": int(words["max"])})


@pytest.mark.parametrize(
    ("path", "typed", "next_page"),
    [
        (RESET, {"email": "first"}, "/account/devices/"),
        (RESET, {"email": "nobody@example.com"}, "/account/devices/"),
        (CODE, {"login": "first"}, "/account/login/code/confirm/"),
        (CODE, {"login": "nobody"}, "/account/login/code/confirm/"),
        (SIGN_UP, ADA, "/account/confirm-email/"),
    ],
)
def test_the_form_goes_on_with_the_solution(page: Client, path: str, typed: dict[str, str], next_page: str) -> None:
    fields, proof = challenged(page.post(path, {**typed, "next": "/account/devices/"}))
    assert fields["next"] == "/account/devices/"
    answer = page.post(path, {**fields, "proof": proof})
    assert (answer.status_code, answer.headers["Location"]) == (302, next_page)


def test_a_solution_works_once_and_the_page_brings_a_new_one(page: Client) -> None:
    fields, proof = challenged(page.post(RESET, {"email": "first"}))
    assert page.post(RESET, {**fields, "proof": proof}).status_code == 302
    challenged(page.post(RESET, {**fields, "proof": "nonsense"}))
    fields, another = challenged(page.post(RESET, {**fields, "proof": proof}))
    assert page.post(RESET, {**fields, "proof": another}).status_code == 302


def test_what_was_typed_is_in_the_account(page: Client) -> None:
    fields, proof = challenged(page.post(SIGN_UP, {**ADA, "picture": upload()}))
    assert page.post(SIGN_UP, {**fields, "proof": proof}).status_code == 302
    user = User.objects.get(username="ada")
    assert (user.username_display, user.first_name, user.gender, user.picture) == ("Ada", "Ada", "female", "")
    assert user.check_password(PASSWORD)
    assert signed_in(page)


def test_mistakes_are_shown_before_anything_is_computed(page: Client) -> None:
    refused(page.post(SIGN_UP, {**ADA, "username": "a", "email": "x"}), "username", "email")


def test_a_ticket_that_is_old_or_made_up_leads_back_to_the_form(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    fields, proof = challenged(page.post(SIGN_UP, ADA))
    html = refused(page.post(SIGN_UP, {**fields, "ticket": "x", "proof": proof}), "username")
    assert "That took too long" in html
    later = now() + timedelta(minutes=31)
    monkeypatch.setattr(tickets, "now", lambda: later)
    refused(page.post(SIGN_UP, {**fields, "proof": proof}), "username")
    assert not User.objects.filter(username="ada").exists()


# --- Without JavaScript -------------------------------------------------------------------------------------


def by_code(page: Client, **changes: str) -> dict[str, str]:
    fields, _proof = challenged(page.post(SIGN_UP, {**ADA, "next": "/account/devices/", **changes}))
    answer = page.post(SIGN_UP, {**fields, "proof": "", "by_code": "1"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/account/confirm-email/")
    return fields


def confirm(page: Client, code: str) -> Any:
    return page.post("/account/confirm-email/", {"code": code})


def test_without_javascript_the_account_is_made_after_the_code(page: Client, mailbox: Mailbox) -> None:
    by_code(page)
    assert not User.objects.filter(username="ada").exists()
    assert "create your account" in sound(page.get("/account/confirm-email/"))
    kept = tickets.read(signup.CodeTicket, page.session["signing_up"])
    assert PASSWORD not in str(kept)
    refused(confirm(page, "00000000"), "code")
    answer = confirm(page, mailbox.code("ada@example.com"))
    assert (answer.status_code, answer.headers["Location"]) == (302, "/account/devices/")
    user = User.objects.get(username="ada")
    assert user.email_verified
    assert user.check_password(PASSWORD)
    assert signed_in(page)
    kinds = Event.objects.filter(user=user).values_list("kind", flat=True)
    assert set(kinds) >= {"user.signed_up", "email.confirmed", "session.started"}
    assert not SpentTicket.objects.exists()


def test_the_code_works_once_and_an_earlier_one_stays_good(page: Client, mailbox: Mailbox) -> None:
    by_code(page)
    first = mailbox.code("ada@example.com")
    assert page.post("/account/confirm-email/again/").status_code == 302
    second = mailbox.code("ada@example.com")
    assert first != second
    other = Client(SERVER_NAME="localhost", REMOTE_ADDR=page.defaults["REMOTE_ADDR"])
    by_code(other, username="ada2")
    third = mailbox.code("ada@example.com")
    assert confirm(page, first).status_code == 302
    for code in (first, second, third):  # the address is Ada's by now
        refused(confirm(other, code), "code")
    assert User.objects.filter(email="ada@example.com").count() == 1


def test_who_guesses_from_another_browser_spends_no_try_of_this_one(page: Client, mailbox: Mailbox) -> None:
    by_code(page)
    code = mailbox.code("ada@example.com")
    other = Client(SERVER_NAME="localhost", REMOTE_ADDR=page.defaults["REMOTE_ADDR"])
    by_code(other)
    refused(confirm(other, code), "code")  # not even the right one: it is for the other password
    for _ in range(6):
        refused(confirm(other, "00000000"), "code")
    assert confirm(page, code).status_code == 302
    assert User.objects.get(username="ada").email_verified


def test_an_owner_of_the_address_gets_a_notice_and_nobody_learns_of_it(
    page: Client, bob: User, mailbox: Mailbox
) -> None:
    by_code(page, email=bob.email)
    [mail] = mailbox.all(bob.email)
    assert "Ada" in mail.message or "ada" in mail.message
    assert MailOwner.objects.get(mail=mail).user == bob
    refused(confirm(page, "00000000"), "code")
    assert not Challenge.objects.filter(kind="sign_up").exists()


def test_an_email_to_somebody_without_an_account_is_forgotten_once_it_is_sent(page: Client, mailbox: Mailbox) -> None:
    by_code(page)
    mailbox.code("ada@example.com")
    assert MailOwner.objects.filter(user=None).count() == 1


def test_a_username_that_was_taken_meanwhile_is_said_and_the_code_stays_good(page: Client, mailbox: Mailbox) -> None:
    by_code(page)
    code = mailbox.code("ada@example.com")
    taken = User.objects.get(username="first")
    User.objects.filter(id=taken.id).update(username="ada", username_skeleton="ada")
    for _more_often_than_a_code_may_be_wrong in range(6):
        assert "username is taken" in refused(confirm(page, code))
    User.objects.filter(id=taken.id).update(username="first", username_skeleton="first")
    assert confirm(page, code).status_code == 302


def test_a_code_that_comes_too_late_leads_to_the_form(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    by_code(page)
    later = now() + timedelta(minutes=31)
    monkeypatch.setattr(tickets, "now", lambda: later)
    answer = page.get("/account/confirm-email/")
    assert (answer.status_code, answer.headers["Location"]) == (302, SIGN_UP)
    assert "That took too long" in sound(page.get(SIGN_UP))


def test_a_sign_up_with_the_solution_takes_the_place_of_one_by_code(
    page: Client, mailbox: Mailbox, settings: Settings
) -> None:
    settings.EMAIL_VERIFICATION = "mandatory"
    by_code(page)
    fields, proof = challenged(page.post(SIGN_UP, {**ADA, "username": "eve", "email": "eve@example.com"}))
    assert page.post(SIGN_UP, {**fields, "proof": proof}).status_code == 302
    assert "eve@example.com" in sound(page.get("/account/confirm-email/"))
    assert confirm(page, mailbox.code("eve@example.com")).status_code == 302
    assert User.objects.get(username="eve").email_verified
