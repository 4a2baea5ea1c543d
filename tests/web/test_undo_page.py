"""The link that takes a change of address back, in the browser."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.models import Challenge, User
from accounts.services.account import email_addresses
from tests.conftest import PASSWORD, Mailbox, random_ip
from tests.web.conftest import NEW, signed_in, sound


@pytest.fixture
def link(alice: User, mailbox: Mailbox) -> str:
    caller = Caller(ip=random_ip())
    email_addresses.request_change(user=alice, email="mallory@example.com", password=PASSWORD, caller=caller)
    email_addresses.confirm_mine(user=alice, code=mailbox.code("mallory@example.com"), caller=caller)
    return mailbox.link("alice@example.com")


def test_a_link_that_is_over_promises_no_other(page: Client, link: str) -> None:
    """Nobody can ask for a second one: of this kind, and of that which keeps an account."""
    Challenge.objects.update(created_at=now() - timedelta(days=8), answered_at=now() - timedelta(days=8))
    for path in (link, f"{link[:-2]}x/", "/account/delete/undo/x-y/"):
        for answer in (page.get(path), page.post(path)):
            html = sound(answer)
            assert "That link has expired or was already used." in html
            assert "new one" not in html


def key_of(link: str) -> str:
    return link.rstrip("/").rpartition("/")[2]


def test_one_press_restores_the_address_and_asks_for_a_new_password(
    page: Client, alices_page: Client, link: str, alice: User
) -> None:
    stranger = Client(SERVER_NAME="localhost", REMOTE_ADDR=random_ip())
    for method in (stranger.get, stranger.head, stranger.get):
        assert method(link).status_code == 200
    alice.refresh_from_db()
    assert alice.email == "mallory@example.com"

    answer = stranger.post(link, follow=True)
    html = sound(answer)
    assert "Choose a new password" in html
    assert "alice" in html
    shown_at = answer.redirect_chain[-1][0]
    assert key_of(link) not in shown_at
    assert not signed_in(alices_page)
    answer = stranger.post(shown_at, {"new_password": NEW})
    assert answer.status_code == 302
    assert stranger.post("/account/login/", {"login": "alice@example.com", "password": NEW}).status_code == 302
    assert signed_in(stranger)


def test_a_link_that_no_longer_works_says_so(page: Client, link: str, bob: User) -> None:
    for gone in ("/account/email/undo/x/", "/account/email/undo/00000000000000000000000000000000-x/"):
        assert "can&#x27;t be undone" in sound(page.get(gone)) or "can't be undone" in sound(page.get(gone))
        sound(page.post(gone))
    User.objects.filter(id=bob.id).update(email="alice@example.com")
    assert "Another account has confirmed this address" in sound(page.post(link))


def test_the_key_does_not_reach_the_log(page: Client, link: str, bob: User, caplog: pytest.LogCaptureFixture) -> None:
    User.objects.filter(id=bob.id).update(email="alice@example.com")
    with caplog.at_level("INFO"):
        page.post(link)
    assert "email_in_use" in caplog.text
    assert key_of(link) not in caplog.text
