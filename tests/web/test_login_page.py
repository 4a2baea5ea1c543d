"""Signing in and out in the browser."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from accounts.models import Session, User
from accounts.services.credentials import hashing
from tests.conftest import PASSWORD
from tests.web.conftest import refused, signed_in, sound


def sign_in(
    page: Client, login: str = "alice", password: str = PASSWORD, path: str = "/account/login/", **extra: Any
) -> Any:
    return page.post(path, {"login": login, "password": password, **extra})


@pytest.mark.parametrize("login", ["alice", "ALICE", " alice ", "alice@example.com", "ALICE@example.com"])
def test_a_username_or_an_address_signs_in(page: Client, alice: User, login: str) -> None:
    answer = sign_in(page, login)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/account/"
    assert "alice" in sound(page.get("/account/"))
    assert Session.objects.get().kind == "browser"


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("alice", "mistaken ferry"),
        ("nobody", PASSWORD),
        ("alice@example.com", "mistaken ferry"),
        ("nobody@example.com", PASSWORD),
        ("alice", "x" * 4000),
    ],
)
def test_every_wrong_pair_gets_the_same_page(page: Client, alice: User, login: str, password: str) -> None:
    answer = sign_in(page, login, password)
    html = refused(answer)
    assert "password don&#x27;t match" in html
    assert f'value="{login}"' in html
    assert password not in html.replace(login, "")
    assert not signed_in(page)
    assert not Session.objects.exists()


def test_what_is_missing_is_said_beside_each_field(page: Client) -> None:
    refused(page.post("/account/login/", {}), "login", "password")


@pytest.mark.parametrize("value", ["\x00", "a\x00", "a" * 5000, "@", "%", "\u202e", "{{x}}"])
def test_strange_input_is_refused(page: Client, alice: User, value: str) -> None:
    refused(sign_in(page, value))
    refused(sign_in(page, "alice", value))


def test_a_disabled_user_is_refused_with_the_right_password_only(page: Client, alice: User) -> None:
    User.objects.update(is_active=False)
    assert "switched off" in refused(sign_in(page))
    assert "switched off" not in refused(sign_in(page, password="wrong"))
    assert not signed_in(page)


def test_a_user_who_is_disabled_is_signed_out_at_once(alices_page: Client) -> None:
    assert signed_in(alices_page)
    User.objects.update(is_active=False)
    assert not signed_in(alices_page)


def test_too_many_wrong_passwords_say_when_to_come_back(page: Client, alice: User) -> None:
    for _ in range(10):
        refused(sign_in(page, password="wrong"))
    answer = sign_in(page)
    html = refused(answer, status=429)
    assert re.search(r"Try again in \d+ minutes", html)
    assert int(answer.headers["Retry-After"]) > 600
    assert not signed_in(page)


def test_both_faces_count_together(page: Client, alice: User) -> None:
    for _ in range(10):
        body = '{"login": "alice", "password": "wrong"}'
        assert page.post("/api/v1/token", body, content_type="application/json").status_code == 401
    assert "Too many tries" in sign_in(page).content.decode()


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example",
        "http:evil.example",
        "http:///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "https:/evil.example",
        "\thttps://evil.example",
        "/\t/evil.example",
        "http://localhost@evil.example/",
        "http://localhost.evil.example/",
        "data:text/html,x",
        " //evil.example",
    ],
)
def test_nobody_is_led_to_another_site(page: Client, alice: User, target: str) -> None:
    for answer in (
        sign_in(page, next=target),
        Client(SERVER_NAME="localhost").post(
            "/account/login/", {"login": "alice", "password": PASSWORD}, query_params={"next": target}
        ),
    ):
        assert answer.status_code == 302
        assert answer.headers["Location"] == "/account/"
    assert page.get("/account/login/", query_params={"next": target}).headers["Location"] == "/account/"


def test_where_somebody_was_on_the_way_to_is_kept(page: Client, alice: User) -> None:
    html = sound(page.get("/account/login/?next=/account/devices/"))
    assert 'value="/account/devices/"' in html
    refused(sign_in(page, password="wrong", next="/account/devices/"))
    assert sign_in(page, next="/account/devices/").headers["Location"] == "/account/devices/"


def test_signing_in_gives_a_new_session_key(page: Client, alice: User) -> None:
    page.get("/account/password/reset/done/")
    page.post("/account/password/reset/", {"email": "alice"})
    before = page.cookies["session"].value
    sign_in(page)
    assert page.cookies["session"].value != before


def test_the_cookie_is_kept_from_scripts_and_other_sites(page: Client, alice: User) -> None:
    cookie = sign_in(page).cookies["session"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


def test_remember_me_decides_how_long_the_cookie_lives(page: Client, alice: User) -> None:
    assert not sign_in(page).cookies["session"]["max-age"]
    assert sign_in(Client(SERVER_NAME="localhost"), remember="on").cookies["session"]["max-age"] == 30 * 86400


# --- Signing out --------------------------------------------------------------------------------------------


def test_looking_at_the_page_signs_nobody_out(alices_page: Client) -> None:
    sound(alices_page.get("/account/logout/"))
    alices_page.head("/account/logout/")
    assert signed_in(alices_page)


def test_signing_out_ends_the_device(alices_page: Client) -> None:
    old = alices_page.cookies["session"].value
    answer = alices_page.post("/account/logout/")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/account/login/"
    assert not signed_in(alices_page)
    assert Session.objects.get().ended_at is not None
    thief = Client(SERVER_NAME="localhost")
    thief.cookies["session"] = old
    assert not signed_in(thief)


def test_signing_out_twice_is_no_error(page: Client, alice: User) -> None:
    assert page.post("/account/logout/").status_code == 302


def test_a_cookie_without_a_row_in_the_list_of_devices_signs_nobody_in(alices_page: Client) -> None:
    Session.objects.all().delete()
    assert not signed_in(alices_page)


def test_a_row_of_somebody_else_signs_nobody_in(alices_page: Client, bob: User) -> None:
    Session.objects.update(user=bob)
    assert not signed_in(alices_page)


# --- A crowd ------------------------------------------------------------------------------------------------


@pytest.fixture
def crowd(settings: Any) -> Iterator[None]:
    """All places for a hash in this process are taken."""
    settings.PASSWORD_HASH_WAIT = 0
    size = 0
    while hashing._places.acquire(blocking=False):
        size += 1
    yield
    for _ in range(size):
        hashing._places.release()


def test_a_crowd_is_asked_to_come_again(page: Client, alice: User, crowd: None) -> None:
    answer = sign_in(page)
    assert "very busy right now" in refused(answer, status=503)
    assert answer.headers["Retry-After"]
    answer = page.post("/account/signup/", {"username": "ada", "email": "ada@example.com", "password": PASSWORD})
    assert "very busy right now" in refused(answer, status=503)
    assert answer.headers["Retry-After"]


def test_a_huge_form_is_refused(page: Client, alice: User) -> None:
    html = sound(sign_in(page, password="x" * 200_000), 400)
    assert "Traceback" not in html
    sound(page.post("/account/login/", {f"field{number}": "x" for number in range(200)}), 400)
