"""Signing in by a mailed code in the browser."""

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.models import Session, User
from accounts.services.account import email_requests
from tests.conftest import Mailbox
from tests.web.conftest import refused, signed_in, sound

ASK, TYPE = "/account/login/code/", "/account/login/code/confirm/"


@pytest.fixture
def code(page: Client, alice: User, mailbox: Mailbox) -> str:
    answer = page.post(f"{ASK}?next=/account/profile/", {"login": "alice", "next": "/account/profile/"})
    assert answer.headers["Location"] == TYPE
    email_requests.answer()
    return mailbox.code(alice.email)


def test_a_code_signs_in_and_leads_to_where_somebody_was_on_the_way_to(page: Client, code: str, alice: User) -> None:
    assert "alice" in sound(page.get(TYPE))
    answer = page.post(TYPE, {"code": f"{code[:4]} {code[4:]}"})
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/account/profile/"
    assert signed_in(page)
    assert Session.objects.get(user=alice).authenticated_by == "otp"


def test_a_wrong_code_is_said_beside_the_field(page: Client, code: str) -> None:
    refused(page.post(TYPE, {"code": "00000000"}), "code")
    assert not signed_in(page)


def test_another_browser_without_the_question_is_asked_first(code: str, alice: User) -> None:
    other = Client(SERVER_NAME="localhost")
    assert other.get(TYPE).headers["Location"] == ASK
    assert other.post(TYPE, {"code": code}).headers["Location"] == ASK


def test_next_leads_nowhere_else(page: Client, alice: User, mailbox: Mailbox) -> None:
    page.post(ASK, {"login": "alice", "next": "https://evil.example.com/"})
    email_requests.answer()
    assert page.post(TYPE, {"code": mailbox.code(alice.email)}).headers["Location"] == "/account/"


def test_the_sign_in_page_shows_the_way_only_while_it_is_open(page: Client, settings: Settings) -> None:
    assert ASK in sound(page.get("/account/login/"))
    settings.SIGN_IN_BY_CODE = False
    assert ASK not in sound(page.get("/account/login/"))
    assert page.get(ASK).status_code == page.get(TYPE).status_code == 404
    assert page.post(ASK, {"login": "alice"}).status_code == 404
