"""Where a request came from, in words that a person recognises."""

import pytest

from accounts.caller import NOBODY, Caller, Device, browser_name

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        (SAFARI, "Mobile Safari on iOS"),
        ("", "Unknown device"),
        ("x", "Unknown device"),
        ("\x00\xff<script>", "Unknown device"),
        ("(" * 100_000, "Unknown device"),
    ],
)
def test_a_browser_is_named_in_plain_words(user_agent: str, name: str) -> None:
    assert browser_name(user_agent) == Caller(ip=None, user_agent=user_agent).label == name


def test_a_system_without_a_known_browser_is_named_alone() -> None:
    assert browser_name("Nobody/1.0 (Windows NT 10.0)") == "Windows"


def test_a_browser_without_a_known_system_is_named_alone() -> None:
    assert browser_name("curl/8.5.0") == "curl"


def test_an_app_says_itself_what_it_is_called() -> None:
    assert Caller(ip="10.0.0.1", user_agent=FIREFOX, device=Device("Ada's iPhone")).label == "Ada's iPhone"


def test_what_was_stored_wins() -> None:
    assert Caller(ip=None, user_agent=FIREFOX, device=Device("x"), known_as="Ada's iPhone").label == "Ada's iPhone"


def test_nobody_has_no_address() -> None:
    assert NOBODY.ip is None
    assert NOBODY.label == "Unknown device"


@pytest.mark.parametrize(
    ("given", "shown"),
    [("  Ada's   iPhone ", "Ada's iPhone"), ("a\u202eb\u200bc\x1b[31m", "abc [31m"), (" \u200b ", "Unknown device")],
)
def test_of_a_device_name_only_what_is_seen_is_kept(given: str, shown: str) -> None:
    assert Caller(ip=None, device=Device(given)).label == shown
