"""In which zone people are told times, in mails and by the rule itself."""

from datetime import UTC, datetime

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone, translation
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import InvalidInput
from accounts.lib import time_zones
from accounts.models import Event, User
from accounts.services import mail
from accounts.services.account import email_requests, password_resets, signup
from accounts.services.mail import Message
from accounts.services.profile import profiles
from project import env
from tests.conftest import PASSWORD, Mailbox

NOON = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)


def test_what_browsers_say_is_known_and_what_is_no_zone_is_not() -> None:
    assert {"UTC", "Europe/Berlin", "Asia/Calcutta", "America/Argentina/Buenos_Aires"} <= time_zones.names()
    for name in ("localtime", "Factory", "posixrules", "Europe/Nowhere", "../Europe/Berlin", "europe/berlin", ""):
        assert time_zones.known_or_none(name) == ""


def test_cities_stand_in_their_regions() -> None:
    found = time_zones.cities()
    assert "Europe/Berlin" in found["Europe"]
    assert sum(len(names) for names in found.values()) > 300
    assert all(name.startswith(f"{region}/") for region, names in found.items() for name in names)


def test_a_zone_is_kept_and_noted_and_can_be_given_up(bob: User, caller: Caller) -> None:
    user = profiles.update(user=bob, changes={"time_zone": "Asia/Tokyo"}, caller=caller)
    assert User.objects.get(id=bob.id).time_zone == user.time_zone == "Asia/Tokyo"
    assert Event.objects.get(user=bob, kind="profile.changed").data == {"fields": ["time_zone"]}
    assert profiles.update(user=bob, changes={"time_zone": ""}, caller=caller).time_zone == ""


@pytest.mark.parametrize("name", ["Europe/Nowhere", "localtime", "+02:00", "x" * 100])
def test_refuses_a_zone_that_nobody_knows(bob: User, caller: Caller, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        profiles.update(user=bob, changes={"time_zone": name}, caller=caller)
    assert [(error.field, error.code) for error in refused.value.errors] == [("time_zone", "time_zone_unknown")]
    assert User.objects.get(id=bob.id).time_zone == ""


@pytest.mark.parametrize(("said", "kept"), [("Europe/Paris", "Europe/Paris"), ("Mars/Olympus", ""), ("", "")])
def test_a_sign_up_takes_the_zone_of_the_device_and_never_fails_for_it(
    db: None, caller: Caller, said: str, kept: str
) -> None:
    signup.sign_up(username="dora", email="dora@example.com", password=PASSWORD, time_zone=said, caller=caller)
    assert User.objects.get().time_zone == kept


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        ("", "3 May 2026, 12:00 UTC"),
        ("Europe/Berlin", "3 May 2026, 14:00 (Europe/Berlin)"),
        ("America/New_York", "3 May 2026, 08:00 (America/New York)"),
        ("Gone/Since", "3 May 2026, 12:00 UTC"),
    ],
)
def test_a_mail_tells_times_in_the_zone_of_its_reader_and_names_it(
    alice: User, caller: Caller, mailbox: Mailbox, zone: str, told: str
) -> None:
    alice.time_zone = zone
    for message in (Message.PASSWORD_CHANGED, Message.NEW_DEVICE, Message.REFRESH_REUSED):
        mail.send(message, user=alice, caller=caller, context={"at": NOON})
        for part in (mailbox.last().message, mailbox.last().html_message):
            assert told in part
    link = {"erased_at": NOON, "link": "https://example.com/"}
    mail.send(Message.DELETION_PLANNED, user=alice, caller=caller, context=link)
    for part in (mailbox.last().message, mailbox.last().html_message):
        assert told in part
        assert f"{told} UTC" not in part


def test_the_zone_of_one_reader_is_not_that_of_the_next(alice: User, bob: User, caller: Caller) -> None:
    alice.time_zone = "Asia/Tokyo"
    mail.send(Message.PASSWORD_CHANGED, user=alice, caller=caller)
    assert str(timezone.get_current_timezone()) == "UTC"
    assert "Tokyo" not in mail.send(Message.PASSWORD_CHANGED, user=bob, caller=caller).message  # type: ignore[union-attr]


def test_the_services_own_zone_is_the_operators(alice: User, settings: Settings) -> None:
    settings.TIME_ZONE = "Africa/Nairobi"
    assert str(time_zones.zone_of(alice.time_zone)) == "Africa/Nairobi"


def test_an_operator_s_zone_that_nobody_knows_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIME_ZONE", "Berlin")
    with pytest.raises(ImproperlyConfigured, match="TIME_ZONE must be a name such as Europe/Berlin, not 'Berlin'"):
        env.time_zone("TIME_ZONE", "UTC", env.asked["TIME_ZONE"].help)


def test_a_moment_is_written_as_the_language_writes_it() -> None:
    with translation.override("de"), timezone.override("Europe/Berlin"):
        assert time_zones.moment(NOON) == "3. Mai 2026 14:00 (Europe/Berlin)"


def test_who_gets_an_account_by_its_address_does_not_get_the_zone_of_a_squatter(
    carol: User, caller: Caller, mailbox: Mailbox
) -> None:
    profiles.update(user=carol, changes={"time_zone": "Asia/Tokyo"}, caller=caller)
    password_resets.request_reset(login="carol@example.com", caller=caller)
    email_requests.answer()
    code = mailbox.code("carol@example.com")
    password_resets.reset_by_code(
        login="carol@example.com", code=code, new_password="another lagoon tractor", caller=caller
    )
    assert User.objects.get(id=carol.id).time_zone == ""
