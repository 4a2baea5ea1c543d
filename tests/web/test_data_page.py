"""The page "Data": a copy of everything, and the way out."""

import io
import urllib.request
import zipfile
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from accounts.models import Export, Session, User
from accounts.services.account import deletion, export
from tests.conftest import PASSWORD, Mailbox, random_ip
from tests.web.conftest import refused, signed_in, sound, words


@pytest.fixture
def planned(bobs_page: Client, bob: User) -> User:
    assert bobs_page.post("/account/delete/", {"password": PASSWORD}).status_code == 302
    return bob


def deletes_at(user: User) -> Any:
    return User.objects.values_list("deletes_at", flat=True).get(id=user.id)


def signed_in_long_ago() -> None:
    Session.objects.update(authenticated_at=now() - timedelta(hours=1))


# --- The copy -----------------------------------------------------------------------------------------------


def test_a_copy_is_asked_for_waited_for_and_downloaded(bobs_page: Client) -> None:
    assert "Request a copy" in sound(bobs_page.get("/account/data/"))
    assert bobs_page.get("/account/data/export/download/").headers["Location"] == "/account/data/"
    html = sound(bobs_page.post("/account/data/export/", follow=True))
    assert "preparing your copy" in html
    assert 'id="copy" aria-live="polite" data-waits>' in html  # account.js asks until it is another
    assert "Check again" in html
    assert "Request a copy" not in html
    export.make_queued()
    html = sound(bobs_page.get("/account/data/"))
    assert 'id="copy" aria-live="polite">' in html
    assert "Download" in html
    answer = bobs_page.get("/account/data/export/download/")
    assert answer.status_code == 302
    with urllib.request.urlopen(answer.headers["Location"], timeout=5) as file:  # noqa: S310 - signed by us
        assert "profile.json" in zipfile.ZipFile(io.BytesIO(file.read())).namelist()
    Export.objects.update(expires_at=now())
    assert "no copy to download" in sound(bobs_page.get("/account/data/export/download/", follow=True))


def test_a_copy_that_could_not_be_made_says_so(bobs_page: Client) -> None:
    bobs_page.post("/account/data/export/")
    Export.objects.update(state="failed", expires_at=now() + timedelta(days=1))
    html = sound(bobs_page.get("/account/data/"))
    assert "make your copy" in html
    assert "Request a copy" in html


def test_too_many_copies_are_refused_with_the_time(bobs_page: Client, limits: Any) -> None:
    limits("export_per_account=1/7200")
    bobs_page.post("/account/data/export/")
    export.make_queued()
    assert "Try again in 120 minutes" in sound(bobs_page.post("/account/data/export/", follow=True))


def test_nobody_downloads_the_copy_of_somebody_else(bobs_page: Client, alices_page: Client) -> None:
    alices_page.post("/account/data/export/")
    export.make_queued()
    assert bobs_page.get("/account/data/export/download/").headers["Location"] == "/account/data/"


# --- The deletion -------------------------------------------------------------------------------------------


def test_the_address_for_app_stores_leads_through_the_sign_in(bob: User) -> None:
    page = Client(SERVER_NAME="localhost", REMOTE_ADDR=random_ip())
    answer = page.get("/account/delete/")
    assert answer.headers["Location"] == "/account/login/?next=/account/delete/"
    answer = page.post(answer.headers["Location"], {"login": "bob", "password": PASSWORD}, follow=True)
    assert answer.redirect_chain[-1][0] == "/account/delete/"
    html = sound(answer)
    assert "after 14 days" in html
    assert 'name="password"' not in html  # the sign-in of a moment ago counts


def test_a_deletion_is_planned_with_the_password_said_on_every_page_and_taken_back(
    bobs_page: Client, bob: User
) -> None:
    signed_in_long_ago()
    assert 'name="password"' in sound(bobs_page.get("/account/delete/"))
    refused(bobs_page.post("/account/delete/", {}), "password")
    refused(bobs_page.post("/account/delete/", {"password": "wrong"}), "password")
    assert deletes_at(bob) is None
    html = sound(bobs_page.post("/account/delete/", {"password": PASSWORD}, follow=True))
    day = f"{deletes_at(bob):%-d %B %Y, %H:%M}"
    assert f"will be deleted on {day} UTC" in html
    for path in ("", "profile/", "email/", "password/change/", "devices/", "activity/", "data/", "delete/"):
        html = sound(bobs_page.get(f"/account/{path}"))
        assert f"will be deleted on {day} UTC" in html, path
        assert 'action="/account/delete/cancel/"' in html, path
    html = sound(bobs_page.post("/account/delete/cancel/", follow=True))
    assert "kept your account" in html
    assert "will be deleted" not in html
    assert deletes_at(bob) is None


def test_a_recent_sign_in_is_enough(bobs_page: Client, bob: User) -> None:
    assert bobs_page.post("/account/delete/").status_code == 302
    assert deletes_at(bob)


def test_looking_plans_and_cancels_nothing(bobs_page: Client, planned: User) -> None:
    assert bobs_page.get("/account/delete/cancel/").status_code == 405
    assert bobs_page.head("/account/delete/").status_code == 200
    assert deletes_at(planned)


def test_signing_in_says_so_and_takes_nothing_back(planned: User) -> None:
    page = Client(SERVER_NAME="localhost", REMOTE_ADDR=random_ip())
    html = sound(page.post("/account/login/", {"login": "bob", "password": PASSWORD}, follow=True))
    assert "will be deleted on" in html
    assert "Keep my account" in html
    assert deletes_at(planned)


def test_whoever_has_every_right_alone_is_told(alices_page: Client, alice: User) -> None:
    html = refused(alices_page.post("/account/delete/", {"password": PASSWORD}))
    assert "the only account with full rights" in html
    assert deletes_at(alice) is None


# --- The link of the mail -----------------------------------------------------------------------------------


def test_one_press_of_the_mails_link_keeps_the_account(planned: User, mailbox: Mailbox) -> None:
    link = mailbox.link(planned.email)
    stranger = Client(SERVER_NAME="localhost", REMOTE_ADDR=random_ip())
    for method in (stranger.get, stranger.head, stranger.get):
        assert method(link).status_code == 200
    assert "bob" in sound(stranger.get(link))
    assert deletes_at(planned)
    html = sound(stranger.post(link))
    assert "kept your account" in html
    assert "/account/password/reset/" in html
    assert deletes_at(planned) is None
    assert not signed_in(stranger)
    assert "no longer works" in sound(stranger.get(link))
    assert "no longer works" in sound(stranger.post(link))


def test_a_link_that_no_longer_works_says_so(page: Client) -> None:
    for gone in ("/account/delete/undo/x/", "/account/delete/undo/00000000000000000000000000000000-x/"):
        assert "no longer works" in sound(page.get(gone))
        assert "no longer works" in sound(page.post(gone))


def test_the_key_does_not_reach_the_log(
    planned: User, mailbox: Mailbox, page: Client, caplog: pytest.LogCaptureFixture
) -> None:
    link = mailbox.link(planned.email)
    page.post(link)
    with caplog.at_level("INFO"):
        page.post(link)
    assert "invalid_key" in caplog.text
    assert link.rstrip("/").rpartition("/")[2] not in caplog.text


def test_after_the_day_the_browser_is_a_strangers(bobs_page: Client, planned: User) -> None:
    User.objects.filter(id=planned.id).update(deletes_at=now())
    deletion.erase_due()
    assert not signed_in(bobs_page)
    answer = bobs_page.post("/account/login/", {"login": "bob", "password": PASSWORD})
    assert "don&#x27;t match" in words(answer)
