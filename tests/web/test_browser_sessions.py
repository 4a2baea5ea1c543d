"""What may end a browser's session: the end of its row in the list of devices, and nothing else."""

from collections.abc import Callable

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client
from pytest_django import Settings

from accounts.caller import Caller
from accounts.models import Session, User
from accounts.services.credentials import hashing
from accounts.services.sessions import sessions
from tests.conftest import PASSWORD
from tests.web.conftest import signed_in


def another_request_of(page: Client) -> Client:
    """A request that leaves with the cookies of now, as a browser sends several at once."""
    request = Client(SERVER_NAME="localhost")
    for name, cookie in page.cookies.items():
        request.cookies[name] = cookie.value
    return request


def test_a_changed_secret_key_signs_no_browser_out_whatever_it_asks_at_once(
    alices_page: Client, settings: Settings
) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another" * 10, [settings.SECRET_KEY]
    at_once = [another_request_of(alices_page) for _ in range(3)]
    for request in at_once:
        assert signed_in(request)


def test_a_sign_in_that_strengthens_the_hash_signs_no_other_browser_out(
    alices_page: Client, alice: User, another_browser: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing.Argon2id, "time_cost", hashing.Argon2id.time_cost + 1)
    other = another_browser(alice)
    assert User.objects.get(id=alice.id).password != alice.password
    assert signed_in(alices_page)
    assert signed_in(other)


def test_giving_the_password_once_more_after_the_settings_changed_signs_nobody_out(
    alices_page: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing.Argon2id, "time_cost", hashing.Argon2id.time_cost + 1)
    assert alices_page.post("/account/reauthenticate/", {"password": PASSWORD}).status_code == 302
    assert signed_in(alices_page)


# What version 0.1.0 wrote into Django's session at a sign-in. Browsers keep their cookie for a month.
WRITTEN = {"_auth_user_backend": "accounts.adapter.Backend", "_auth_user_hash": "ends with its row"}


def test_a_browser_that_an_earlier_version_signed_in_is_still_signed_in(bob: User, caller: Caller) -> None:
    device = sessions.begin(user=bob, kind=Session.Kind.BROWSER, caller=caller)
    store = SessionStore()
    store.update(WRITTEN | {"_auth_user_id": str(bob.pk), "device": str(device.id)})
    store.create()
    browser = Client(SERVER_NAME="localhost")
    browser.cookies["session"] = store.session_key or ""
    assert signed_in(browser)


def test_an_earlier_version_that_is_rolled_back_to_knows_the_browsers_of_this_one(alices_page: Client) -> None:
    assert {name: alices_page.session[name] for name in WRITTEN} == WRITTEN
