"""Mails speak the language of who reads them."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.utils import translation
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import InvalidInput
from accounts.models import Challenge, User
from accounts.services import mail
from accounts.services.account import email_requests, password_resets, signup
from accounts.services.mail import Message
from accounts.services.profile import profiles
from tests.conftest import PASSWORD, Mailbox

IN_GERMAN = "Passwort wurde geändert"
IN_FRENCH = "mot de passe"


def spoken(user: User, caller: Caller, mailbox: Mailbox) -> str:
    mail.send(Message.PASSWORD_CHANGED, user=user, caller=caller)
    subject: str = mailbox.last(user.email).subject
    return subject


def test_who_signs_up_is_written_to_in_the_language_of_the_page(db: None, caller: Caller, mailbox: Mailbox) -> None:
    user = signup.sign_up(
        username="ada", email="ada@example.com", password=PASSWORD, caller=replace(caller, language="de")
    )
    assert User.objects.get(id=user.id).language == "de"
    assert mailbox.last("ada@example.com").subject.startswith("Bestätige deine E-Mail-Adresse")


def test_who_signs_up_in_a_language_that_nobody_speaks_here_has_none(db: None, caller: Caller) -> None:
    user = signup.sign_up(
        username="ada", email="ada@example.com", password=PASSWORD, caller=replace(caller, language="xx")
    )
    assert user.language == ""


def test_the_reader_s_language_goes_before_that_of_the_request(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    alice.language = "de"
    with translation.override("fr"):
        assert IN_GERMAN in spoken(alice, replace(caller, language="fr"), mailbox)
        assert translation.get_language() == "fr"


def test_without_one_the_mail_speaks_that_of_the_request_and_else_the_service_s(
    alice: User, caller: Caller, mailbox: Mailbox, settings: Settings
) -> None:
    assert IN_FRENCH in spoken(alice, replace(caller, language="fr"), mailbox)
    settings.LANGUAGE_CODE = "de"
    assert IN_GERMAN in spoken(alice, caller, mailbox)
    alice.language = "tlh"  # one that was taken away since
    assert IN_GERMAN in spoken(alice, caller, mailbox)


def test_what_the_worker_writes_speaks_the_language_of_who_asked(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    password_resets.request_reset(login="alice", caller=replace(caller, language="ar"))
    assert Challenge.objects.get().language == "ar"
    with translation.override(None):
        assert email_requests.answer() == 1
    sent = mailbox.last("alice@example.com")
    assert 'dir="rtl"' in sent.html_message
    assert sent.message.rstrip().splitlines()[-1].startswith("@")
    code = mailbox.code("alice@example.com")
    assert f"    {code[:4]} {code[4:]}\n" in sent.message


@pytest.mark.parametrize(
    ("language", "written"),
    [
        ("en", "3 May 2026, 14:05"),
        ("de", "3. Mai 2026 14:05"),
        ("fr", "3 mai 2026 14:05"),
        ("es", "3 de mayo de 2026 a las 14:05"),
        ("ar", "3 مايو 2026، 14:05"),
    ],
)
def test_times_are_written_as_the_language_writes_them(
    alice: User, caller: Caller, mailbox: Mailbox, language: str, written: str
) -> None:
    alice.language = language
    at = datetime(2026, 5, 3, 14, 5, tzinfo=UTC)
    mail.send(Message.PASSWORD_CHANGED, user=alice, caller=caller, context={"at": at})
    for part in (mailbox.last().message, mailbox.last().html_message):
        assert f"{written} UTC" in part


def test_a_language_that_nobody_speaks_here_is_refused(bob: User, caller: Caller) -> None:
    with pytest.raises(InvalidInput) as refused:
        profiles.update(user=bob, changes={"language": "xx"}, caller=caller)
    assert [(error.field, error.code) for error in refused.value.errors] == [("language", "language_unknown")]
    assert profiles.update(user=bob, changes={"language": "es"}, caller=caller).language == "es"
