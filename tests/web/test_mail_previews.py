"""The developers' page of mails, and the frame around what allauth writes."""

from pathlib import Path

import allauth
import pytest
from allauth.account.adapter import get_adapter
from allauth.core import context
from django.conf import settings as configured
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.urls import reverse
from pytest_django import Settings

from accounts.models import User
from accounts.services.mail import Message
from tests.web.conftest import sound

LANGUAGES = [code for code, _name in configured.LANGUAGES]
ALLAUTH = sorted(
    path.relative_to(folder).as_posix().removesuffix("_message.txt")
    for folder in [Path(allauth.__file__).parent / "templates"]
    for path in folder.glob("*/email/*_message.txt")
    if not path.name.startswith("base_")
)


@pytest.fixture
def development(settings: Settings) -> None:
    settings.DEBUG = True


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.usefixtures("development")
def test_in_development_every_mail_is_shown_in_every_language(page: Client, language: str) -> None:
    answer = page.get(reverse("mail_list"), {"language": language})
    html = sound(answer)
    assert "frame-src 'self'" in answer.headers["Content-Security-Policy"]
    for message in Message:
        address = reverse("mail_html", args=[language, message])
        assert f'src="{address}"' in html
        part = page.get(address)
        assert part.headers["X-Frame-Options"] == "SAMEORIGIN"
        assert "script" not in part.headers["Content-Security-Policy"]
        text = part.content.decode()
        assert f'<html lang="{language}"' in text
        assert "48291375"[:4] in text or message not in {Message.SIGN_IN, Message.RESET_PASSWORD}


@pytest.mark.usefixtures("development")
def test_what_is_not_there_is_not_found(page: Client) -> None:
    assert page.get(reverse("mail_list"), {"language": "xx"}).status_code == 404
    assert page.get("/account/mails/xx/sign_in/").status_code == 404
    assert page.get("/account/mails/en/frame/").status_code == 404


def test_elsewhere_there_is_no_such_page(alices_page: Client) -> None:
    sound(alices_page.get("/account/mails/"), 404)
    sound(alices_page.get("/account/mails/en/sign_in/"), 404)


@pytest.fixture
def request_of_alice(alice: User) -> HttpRequest:
    request = RequestFactory(SERVER_NAME="localhost").get("/")
    request.user = alice
    return request


@pytest.mark.parametrize("prefix", ALLAUTH)
def test_each_mail_of_allauth_has_the_frame_and_the_reader_s_language(
    prefix: str, alice: User, request_of_alice: HttpRequest
) -> None:
    alice.language = "ar"
    with context.request_context(request_of_alice):
        words = {"user": alice, "request": request_of_alice, "password_reset_url": "http://localhost/", "code": "1"}
        sent = get_adapter().render_mail(prefix, alice.email, words)
    ((html, kind),) = sent.alternatives
    assert kind == "text/html"
    assert '<html lang="ar" dir="rtl">' in html
    assert 'class="card text"' in html
    assert sent.subject in html
    assert any("\u0600" <= letter <= "\u06ff" for letter in sent.body)
