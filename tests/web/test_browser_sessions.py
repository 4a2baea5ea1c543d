"""What may end a browser's session: the end of its row in the list of devices, and nothing else."""

from collections.abc import Callable

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from accounts.services.credentials import hashing
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
