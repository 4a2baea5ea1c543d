"""Forms with a picture, as a server sees them; what a browser adds stands in tests/e2e/test_pictures.py."""

import gzip
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils.timezone import now

from accounts.models import User
from accounts.services.profile import pictures
from tests.conftest import PASSWORD, picture
from tests.web.conftest import refused, sound, upload

AGAIN = "Choose the picture again"
BASE: Path = settings.BASE_DIR
PERSON = {"username": "dora", "email": "dora@example.com", "password": PASSWORD, "first_name": "Dora"}
PROFILE = {"username": "alice", "first_name": "Alice", "last_name": "Lind", "gender": "female"}


def test_what_every_page_loads_stays_small() -> None:
    """In bytes as they are sent; pages with a picture load what that takes."""

    def sent(*names: str) -> int:
        return sum(len(gzip.compress((BASE / "static" / name).read_bytes(), 9)) for name in names)

    assert sent("css/account.css", "js/account.js") < 9_000
    assert sent("js/picture.js") < 3_500


@pytest.mark.parametrize("wrong", [{"username": "a"}, {"first_name": "<"}, {"password": "short"}])
def test_a_sign_up_with_a_problem_asks_for_the_picture_again_and_keeps_the_rest(
    page: Client, wrong: dict[str, str]
) -> None:
    html = refused(page.post("/account/signup/", {**PERSON, "picture": upload(), **wrong}), *wrong)
    assert html.count(AGAIN) == 1
    for field in {"username", "email", "first_name"} - wrong.keys():
        assert f'value="{PERSON[field]}"' in html
    assert AGAIN not in sound(page.post("/account/signup/", {**PERSON, **wrong}))


def test_a_profile_with_a_problem_asks_for_the_picture_again_and_keeps_the_rest(alices_page: Client, bob: User) -> None:
    html = refused(
        alices_page.post("/account/profile/", {**PROFILE, "username": "bob", "picture": upload()}), "username"
    )
    assert html.count(AGAIN) == 1
    assert 'value="Lind"' in html
    assert AGAIN not in sound(alices_page.post("/account/profile/", {**PROFILE, "username": "bob"}))
    assert AGAIN not in sound(alices_page.get("/account/profile/"))


def test_a_picture_that_broke_off_is_told_so_beside_its_field(alices_page: Client, page: Client) -> None:
    cut = picture(kind="JPEG")[:-300]
    for browser, path, body in ((alices_page, "/account/profile/", PROFILE), (Client(), "/account/signup/", PERSON)):
        html = refused(browser.post(path, {**body, "picture": upload(cut, "me.jpg", "image/jpeg")}), "picture")
        assert "arrive whole" in html, path


def test_a_browser_that_is_signed_out_meanwhile_changes_nothing(
    alices_page: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = pictures.store

    def signed_out_meanwhile(user: User, encoded: pictures.Encoded) -> pictures.Prepared:
        user.sessions.update(ended_at=now())
        return store(user, encoded)

    monkeypatch.setattr(pictures, "store", signed_out_meanwhile)
    alices_page.post("/account/profile/", {**PROFILE, "picture": upload()})
    changed = User.objects.get(id=alice.id)
    assert (changed.picture, changed.last_name) == ("", "")


def test_a_picture_that_is_the_problem_is_named_and_not_asked_for_twice(alices_page: Client) -> None:
    html = refused(alices_page.post("/account/profile/", {**PROFILE, "picture": upload(b"no picture")}), "picture")
    assert AGAIN not in html


def test_a_script_that_sends_a_form_is_told_where_it_leads_and_uses_up_no_notice(alices_page: Client) -> None:
    answer = alices_page.post("/account/profile/", PROFILE, headers={"x-follow": "self"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Location"] == "/account/profile/"
    assert "Your profile has been saved." in sound(alices_page.get("/account/profile/"))


def test_a_script_that_sends_a_sign_up_is_signed_in_by_it(page: Client) -> None:
    answer = page.post("/account/signup/", PERSON, headers={"x-follow": "self"})
    assert (answer.status_code, answer.headers["Location"]) == (200, "/account/confirm-email/")
    assert page.get("/account/").status_code == 200


def test_a_script_gets_the_same_page_with_the_problems(alices_page: Client) -> None:
    refused(
        alices_page.post("/account/profile/", {**PROFILE, "username": ""}, headers={"x-follow": "self"}), "username"
    )


def test_the_words_of_the_script_are_in_the_page(page: Client) -> None:
    html = sound(page.get("/account/signup/", headers={"accept-language": "de"}))
    assert '<dialog class="crop" aria-labelledby="crop-title">' in html
    assert 'data-short="Noch zu kurz."' in html
    assert 'data-least="12"' in html
    assert "data-own-zone" in html
    field = re.search(r'<input type="hidden" name="time_zone"[^>]*>', html)
    assert field
    assert "value" not in field[0]


def test_only_a_code_alone_on_its_page_is_sent_by_itself(alices_page: Client, page: Client) -> None:
    User.objects.update(email_verified=False)
    assert 'data-digits="8"' in sound(alices_page.get("/account/confirm-email/"))
    other = Client(SERVER_NAME="localhost")
    other.post("/account/password/reset/", {"email": "alice"})
    html = sound(other.get("/account/password/reset/done/"))
    assert 'name="code"' in html
    assert "data-digits" not in html
