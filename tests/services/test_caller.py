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
        ("Mozilla/5.0", "Unknown device"),
        ("Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/UQ1A)", "Android"),
        ("Mozilla/5.0 (Linux; U; Android 4.0.3) AppleWebKit/534 (KHTML, like Gecko) Version/4.0 Safari/534", "Android"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605 Mobile/15E148", "iOS"),
        ("User%20Service/1 CFNetwork/1490.0.4 Darwin/23.2.0", "User Service on iOS"),
        ("%D8%AD%D8%B3%D8%A7%D8%A8%D9%8A/3 CFNetwork/1490 Darwin/23.0.0", "حسابي on iOS"),
        ("%E2%80%AECrew/1 CFNetwork/1490 Darwin/23.0.0", "Crew on iOS"),
        ("%3Cscript%3E/1", "Unknown device"),
        ("User Service/2 (iPhone; iOS 18.0; Scale/3.00)", "User Service on iOS"),
        ("Crew/2.1 (Android 14; Pixel 8)", "Crew on Android"),
        ("Dart/3.5 (dart:io)", "Dart"),
        ("Ktor client", "Ktor client"),
        ("ktor-client", "ktor-client"),
        ("okhttp/4.12.0", "okhttp"),
    ],
)
def test_a_browser_is_named_in_plain_words(user_agent: str, name: str) -> None:
    assert browser_name(user_agent) == Caller(ip=None, user_agent=user_agent).label == name


def test_a_system_without_a_known_browser_is_named_alone() -> None:
    assert browser_name("Mozilla/5.0 (Windows NT 10.0)") == "Windows"


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
