"""The operator's brand: a colour that can be read wherever it stands, a logo, an address for help."""

import random
from typing import Any

import pytest
from pytest_django import Settings

from accounts.caller import Caller
from accounts.lib import brand
from accounts.models import User
from accounts.pages.mail_previews import SAMPLES
from accounts.services import mail
from accounts.services.mail import Message
from tests.conftest import Mailbox
from tests.services.test_checks import found

ANY = ["#000000", "#ffffff", "#ffcc00", "#2e9e4f", "#7f7fff", "#ff0000", "#808080", *(
    f"#{random.Random(number).randrange(1 << 24):06x}" for number in range(40)
)]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "ratio"), [("#000000", "#ffffff", 21.0), ("#ffffff", "#767676", 4.54), ("#ff0000", "#ffffff", 4.0)]
)
def test_contrast_is_that_of_wcag(one: str, other: str, ratio: float) -> None:
    assert brand.contrast(one, other) == brand.contrast(other, one) == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize("color", ANY)
def test_any_colour_becomes_one_that_can_be_read(settings: Settings, color: str) -> None:
    settings.ACCENT_COLOR = color
    palette = brand.palette()
    # Words in it, and words on it.
    assert all(brand.contrast(palette.light, surface) >= 4.5 for surface in ("#ffffff", "#f5f6f8"))
    assert all(brand.contrast(palette.dark, surface) >= 4.5 for surface in ("#101113", "#191b1e", "#0d1826", "#0d1b2e"))


def test_a_colour_that_can_be_read_stays_as_it_is(settings: Settings) -> None:
    settings.ACCENT_COLOR = "#1D569F"
    assert brand.palette().light == "#1d569f"
    settings.ACCENT_COLOR = "#ffcc00"
    assert brand.palette().dark == "#ffcc00"
    assert brand.palette().light != "#ffcc00"


@pytest.mark.parametrize("color", ["", "blue", "#12345", "1d569f", "#1d569f; }", "#1d569f\n", "#gggggg"])
def test_what_is_no_colour_leaves_our_own(settings: Settings, color: str) -> None:
    settings.ACCENT_COLOR = color
    assert brand.palette() == brand.DEFAULT
    assert ("accounts.E006" in found(deploy=False)) is bool(color)


@pytest.mark.parametrize(("color", "said"), [("#1d569f", False), ("#000000", False), ("#ffcc00", True)])
def test_a_colour_that_had_to_be_changed_is_told_with_the_one_that_is_used(
    settings: Settings, color: str, said: bool
) -> None:
    settings.ACCENT_COLOR = color
    message = found(deploy=False).get("accounts.W003")
    assert (message is not None) is said
    if message:
        assert brand.palette().light in message.msg
        settings.ACCENT_COLOR = brand.palette().light
        assert "accounts.W003" not in found(deploy=False), "the colour that the hint names is taken"


@pytest.mark.parametrize(
    ("logo", "address", "said"),
    [
        ("", "", False),
        ("https://cdn.example.com/logo.svg", "https://cdn.example.com/logo.svg", False),
        ("/logo.svg", "/logo.svg", False),
        ("img/icon.svg", "/static/img/icon.svg", False),
        ("img/nothing.svg", "/static/img/nothing.svg", True),
        ("http://cdn.example.com/logo.svg", "http://cdn.example.com/logo.svg", True),
    ],
)
def test_a_logo_is_an_address_a_path_or_a_file_of_ours(settings: Settings, logo: str, address: str, said: bool) -> None:
    settings.SITE_LOGO = logo
    assert brand.logo() == address
    assert ("accounts.E007" in found(deploy=False)) is said


def test_a_logo_that_was_not_collected_costs_no_page(settings: Any) -> None:
    manifest = {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": manifest}
    settings.SITE_LOGO = "img/nothing.svg"
    assert brand.logo() == ""


@pytest.mark.parametrize(("address", "said"), [("", False), ("help@example.com", False), ("Help <h@x.org>", True)])
def test_an_address_for_help_that_is_none_is_an_error(settings: Settings, address: str, said: bool) -> None:
    settings.SUPPORT_EMAIL = address
    assert ("accounts.E008" in found(deploy=False)) is said


@pytest.mark.parametrize("message", list(Message))
def test_a_mail_names_the_address_for_help_and_answers_go_there(
    alice: User, caller: Caller, mailbox: Mailbox, settings: Settings, message: Message
) -> None:
    context = dict(SAMPLES[message])
    mail.send(message, user=alice, caller=caller, context=context)
    assert "Reply-To" not in mailbox.last().headers
    assert "Help:" not in mailbox.last().message + mailbox.last().html_message
    settings.SUPPORT_EMAIL = "help@example.com"
    mail.send(message, user=alice, caller=caller, context=context)
    assert mailbox.last().headers["Reply-To"] == "help@example.com"
    assert "\nHelp: help@example.com\n" in mailbox.last().message
    assert 'href="mailto:help@example.com"' in mailbox.last().html_message


def test_a_mail_wears_the_colour(alice: User, caller: Caller, mailbox: Mailbox, settings: Settings) -> None:
    settings.ACCENT_COLOR = "#7a1f5c"
    context = {"code": "48291375", "link": "https://example.com/"}
    mail.send(Message.RESET_PASSWORD, user=alice, caller=caller, context=context)
    html = mailbox.last().html_message
    assert "background-color: #7a1f5c;" in html
    assert f".button {{ background-color: {brand.palette().dark} !important" in html
    assert brand.DEFAULT.light not in html
