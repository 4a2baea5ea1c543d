"""The switcher in the footer, and pages without a word of another language."""

import re
from html import unescape
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from accounts.models import Event, User
from accounts.services.security import audit
from tests.conftest import PASSWORD, Mailbox
from tests.web.conftest import sound, words
from tests.web.test_every_page import MEMBER, VISITOR

LANGUAGES = [code for code, _name in settings.LANGUAGES]
# What is the same in every language.
NAMES = re.compile(
    r"https?://\S+|\S+@\S+|@?\balice\b|Alice|Crew|JPEG|PNG|WebP|HEIC|AVIF|Firefox|Linux|Unknown device|\bUTC\b"
    r"|English|Deutsch|Français|Español|JavaScript|\bQR\b"
)


def choose(client: Client, language: str, **extra: str) -> Any:
    return client.post(reverse("language"), {"language": language, **extra})


# --- Choosing -----------------------------------------------------------------------------------------------


def test_the_footer_offers_every_language_and_marks_the_present_one(page: Client) -> None:
    html = words(page.get("/account/login/", headers={"accept-language": "fr"}))
    footer = html[html.index("<footer") :]
    assert re.findall(r'name="language" value="(\w+)"', footer) == LANGUAGES
    assert re.findall(r'value="(\w+)"[^>]*aria-current="true"', footer) == ["fr"]
    for _code, name in settings.LANGUAGES:
        assert name in footer
    # The script keeps it, but for passwords and codes.
    assert '<noscript><p class="muted">Changer de langue efface ce que vous avez saisi.</p></noscript>' in footer


def test_a_choice_keeps_the_page_and_holds_for_this_browser(page: Client) -> None:
    where = "/account/login/?next=/account/profile/"
    assert 'name="next" value="/account/login/?next=/account/profile/"' in words(page.get(where))
    answer = choose(page, "de", next=where)
    assert (answer.status_code, answer.headers["Location"]) == (302, where)
    html = words(page.get(where, headers={"accept-language": "fr"}))
    assert '<html lang="de" dir="ltr">' in html
    assert "Anmelden" in html
    choose(page, "ar", next=where)
    assert '<html lang="ar" dir="rtl">' in words(page.get(where))


def test_the_cookie_is_for_no_script_and_no_other_site(page: Client) -> None:
    choose(page, "de")
    cookie = page.cookies[settings.LANGUAGE_COOKIE_NAME]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert cookie["path"] == "/"
    assert not cookie["domain"]
    assert cookie["max-age"] == 60 * 60 * 24 * 365


def test_a_choice_leads_to_no_other_site(page: Client) -> None:
    for elsewhere in ("https://evil.example/", "//evil.example", "javascript:alert(1)", ""):
        assert choose(page, "de", next=elsewhere).headers["Location"] == "/"


def test_a_choice_is_a_post_with_its_token(page: Client) -> None:
    assert page.get(reverse("language"), {"language": "de"}).status_code == 405
    strict = Client(SERVER_NAME="localhost", enforce_csrf_checks=True)
    assert choose(strict, "de").status_code == 403
    assert settings.LANGUAGE_COOKIE_NAME not in strict.cookies


@pytest.mark.parametrize("language", ["xx", "", "de-tlh-x", "<b>", "a" * 5000])
def test_a_language_that_nobody_speaks_here_changes_nothing(alices_page: Client, alice: User, language: str) -> None:
    choose(alices_page, "de")
    assert choose(alices_page, language).status_code == 302
    alice.refresh_from_db()
    assert alice.language == "de"


def test_who_is_signed_in_gets_mails_in_the_language_they_chose(
    alices_page: Client, alice: User, bob: User, mailbox: Mailbox
) -> None:
    choose(alices_page, "es")
    alice.refresh_from_db()
    bob.refresh_from_db()
    assert (alice.language, bob.language) == ("es", "")
    assert Event.objects.filter(user=alice, kind=audit.Kind.PROFILE_CHANGED, data={"fields": ["language"]}).exists()
    change = {"current_password": PASSWORD, "new_password": "another lagoon tractor"}
    alices_page.post("/account/password/change/", change, headers={"accept-language": "ar"})
    assert mailbox.last("alice@example.com").subject.startswith("Tu contraseña")


def test_who_signs_up_on_a_german_page_is_written_to_in_german(page: Client, mailbox: Mailbox) -> None:
    person = {"username": "heidi", "email": "heidi@example.com", "password": PASSWORD}
    page.post("/account/signup/", person, headers={"accept-language": "de-CH,de;q=0.9"})
    assert User.objects.get(username="heidi").language == "de"
    assert mailbox.last("heidi@example.com").subject.startswith("Bestätige")


# --- Every page in every language ---------------------------------------------------------------------------


def seen(html: str) -> str:
    """What a person sees or hears of a page."""
    heard = " ".join(re.findall(r'(?:aria-label|title|alt|placeholder|data-[a-z-]*label)="([^"]*)"', html))
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", " ", body)) + " " + unescape(heard)


def foreign(html: str) -> list[str]:
    """Latin words on an Arabic page."""
    # Cities of time zones, which everybody knows by these names, and keys.
    known = re.compile(r"<option value=\"\w+/.*?</option>|<code\b.*?</code>")
    return re.findall(r"[A-Za-z]{2,}(?: [A-Za-z]+)*", NAMES.sub(" ", seen(known.sub("", html))))


def pages(client: Client, expected: dict[str, int | str], language: str) -> dict[str, str]:
    return {
        name: sound(client.get(reverse(name), headers={"accept-language": language}))
        for name, status in expected.items()
        if status == 200
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_whole_in_every_language(alices_page: Client, language: str) -> None:
    for name, html in pages(Client(SERVER_NAME="localhost"), VISITOR, language).items():
        assert f'<html lang="{language}"' in html, name
    for name, html in pages(alices_page, MEMBER, language).items():
        assert f'<html lang="{language}"' in html, name


def test_no_page_has_an_english_leftover(alices_page: Client, page: Client, alice: User) -> None:
    """Told by the letters, in Arabic; that the other languages have every string, tests/test_languages.py tells."""
    found = {name: foreign(html) for name, html in pages(Client(SERVER_NAME="localhost"), VISITOR, "ar").items()}
    found |= {f"{name} of a member": foreign(html) for name, html in pages(alices_page, MEMBER, "ar").items()}
    User.objects.update(email_verified=False)
    # What is set up after the proof leads elsewhere.
    without = {name: what for name, what in MEMBER.items() if name not in {"two_step_turn_on", "passkey_add"}}
    found |= {f"{name} without proof": foreign(html) for name, html in pages(alices_page, without, "ar").items()}
    assert {name: left for name, left in found.items() if left} == {}


def test_a_page_in_front_of_everything_speaks_the_language_of_its_request(page: Client) -> None:
    page.get("/account/login/", headers={"accept-language": "ar"})
    for language, title in (("en", "That file is too large"), ("de", "Diese Datei ist zu groß")):
        answer = page.post("/account/profile/", CONTENT_LENGTH="x", headers={"accept-language": language})
        assert title in sound(answer, 413)


def test_no_refusal_has_an_english_leftover(page: Client) -> None:
    arabic = {"accept-language": "ar"}
    for path, data in (
        ("/account/login/", {"login": "nobody", "password": "wrong"}),
        ("/account/login/", {}),
        ("/account/signup/", {"username": "?", "email": "?", "password": "?"}),
        ("/account/signup/", {}),
        ("/account/password/reset/", {}),
        ("/nothing", None),
    ):
        answer = page.get(path, headers=arabic) if data is None else page.post(path, data, headers=arabic)
        assert foreign(words(answer)) == [], path
