"""The system checks: what would bite an operator later is named, with a hint."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import CheckMessage, Error, run_checks
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from accounts.services.security import rate_limits


@pytest.fixture(autouse=True)
def _limits_are_read_again() -> Iterator[None]:
    rate_limits.limits.cache_clear()
    yield
    rate_limits.limits.cache_clear()


@pytest.fixture
def well(settings: Settings) -> Settings:
    settings.HTTPS, settings.TRUSTED_PROXY_COUNT, settings.SECRET_KEY = True, 1, "k" * 50
    settings.RATE_LIMITS = []
    settings.DEFAULT_FROM_EMAIL = "Crew <no-reply@example.com>"
    return settings


def found(*, deploy: bool = True) -> dict[str, CheckMessage]:
    messages = run_checks(tags=["security"], include_deployment_checks=deploy)
    return {str(message.id): message for message in messages if str(message.id).startswith("accounts.")}


def test_a_well_configured_service_has_nothing_to_say(well: Settings) -> None:
    assert found() == {}


def test_every_message_has_a_hint(settings: Settings) -> None:
    settings.HTTPS, settings.SECRET_KEY, settings.RATE_LIMITS = False, "short", ["nonsense"]
    settings.DEFAULT_FROM_EMAIL = "no-reply@127.0.0.1"
    messages = found()
    assert set(messages) == {"accounts.E001", "accounts.E002", "accounts.E005", "accounts.W001"}
    assert all(message.hint for message in messages.values())


@pytest.mark.parametrize(
    "item",
    [
        "nonsense",
        "login_per_ip",
        "login_per_ip=5",
        "login_per_ip=five/6",
        "no_such_limit=5/6",
        "login_per_ip=5/6/7",
        "=",
    ],
)
def test_a_limit_that_cannot_be_read_is_an_error_that_names_it(well: Settings, item: str) -> None:
    well.RATE_LIMITS = ["signup_per_ip=1/2", item]
    message = found(deploy=False)["accounts.E001"]
    assert isinstance(message, Error)
    assert repr(item) in message.msg
    with pytest.raises(ImproperlyConfigured):
        rate_limits.limits()


def test_plain_http_is_warned_of_only_before_deployment(well: Settings) -> None:
    well.HTTPS, well.TRUSTED_PROXY_COUNT = False, 0
    assert isinstance(found()["accounts.W001"], CheckWarning)
    assert set(found()) == {"accounts.W001"}
    assert found(deploy=False) == {}


def test_https_without_a_trusted_proxy_is_warned_of(well: Settings) -> None:
    well.TRUSTED_PROXY_COUNT = 0
    assert isinstance(found()["accounts.W002"], CheckWarning)


@pytest.mark.parametrize(("length", "said"), [(49, True), (50, False)])
def test_a_short_secret_key_is_an_error(well: Settings, length: int, said: bool) -> None:
    well.SECRET_KEY = "k" * length
    assert ("accounts.E002" in found()) is said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", False),
        ("https://passwords.example.com/range", False),
        ("http://127.0.0.1:8080/range", False),
        ("http://[::1]/range", False),
        ("http://localhost/range", False),
        ("http://passwords.example.com/range", True),
        ("http://localhost.example.com/range", True),
        ("http://10.0.0.1/range", True),
        ("ftp://passwords.example.com/range", True),
        ("passwords.example.com/range", True),
        ("https:///range", True),
        ("https://passwords.example.com:port/range", True),
        ("http://[/range", True),
    ],
)
def test_breached_passwords_that_would_be_asked_for_in_the_open_are_an_error(
    well: Settings, url: str, said: bool
) -> None:
    well.BREACHED_PASSWORDS_URL = url
    assert ("accounts.E003" in found(deploy=False)) is said


@pytest.mark.parametrize(
    ("seconds", "said"), [(-1, True), (0, True), (1, False), (3600, False), (604_800, False), (604_801, True)]
)
def test_addresses_of_pictures_that_the_storage_would_refuse_are_an_error(
    well: Settings, seconds: int, said: bool
) -> None:
    well.PICTURE_URL_LIFETIME = seconds
    assert ("accounts.E009" in found(deploy=False)) is said


@pytest.mark.parametrize(("key", "said"), [("", False), ("c2VjcmV0", False), ("not base64!", True)])
def test_a_firebase_key_that_cannot_be_read_is_an_error(well: Settings, key: str, said: bool) -> None:
    well.FIREBASE_SIGNER_KEY = key
    assert ("accounts.E004" in found(deploy=False)) is said


@pytest.mark.parametrize(
    ("contact", "said"),
    [
        ("mailto:security@example.com", False),
        ("https://example.com/security", False),
        ("tel:+1-201-555-0123", False),
        ("mailto:security", True),
        ("http://example.com", True),
    ],
)
def test_a_contact_for_security_that_is_no_address_is_an_error(well: Settings, contact: str, said: bool) -> None:
    well.SECURITY_CONTACT = [contact]
    assert ("accounts.E011" in found(deploy=False)) is said


@pytest.mark.parametrize("sender", ["no-reply@127.0.0.1", "Crew", "Crew <>", "Crew <no-reply@intranet>"])
def test_a_sender_that_is_no_address_is_an_error(well: Settings, sender: str) -> None:
    well.DEFAULT_FROM_EMAIL = sender
    assert isinstance(found(deploy=False)["accounts.E005"], Error)


def test_a_provider_that_nobody_could_sign_in_with_is_an_error_that_names_the_setting(well: Settings) -> None:
    good = {"issuer": "https://id.example", "client_ids": ("web",)}
    rows: list[tuple[str, dict[str, Any], str]] = [
        ("corp", good, ""),
        ("google", {"client_ids": ("web", "app")}, ""),
        ("microsoft", {"client_ids": ("web",), "tenants": ("72f988bf-86f1-41af-91ab-2d7cd011db47",)}, ""),
        ("corp", {**good, "issuer": "http://127.0.0.1:8080/realms/crew", "internal": True}, ""),
        ("corp", {"client_ids": ("web",)}, "PROVIDER_CORP_ISSUER"),
        ("corp", {**good, "issuer": "http://id.example"}, "PROVIDER_CORP_ISSUER"),
        ("corp", {**good, "issuer": "id.example"}, "PROVIDER_CORP_ISSUER"),
        ("google", {}, "PROVIDER_GOOGLE_CLIENT_IDS"),
        ("github", {"client_ids": ("web",)}, "ID tokens"),
        ("microsoft", {"client_ids": ("web",), "tenants": ("common",)}, "common"),
        ("corp-sso", good, "name"),
        ("Corp", good, "name"),
    ]
    for name, given, expected in rows:
        well.PROVIDERS = {name: given}
        messages = found(deploy=False)
        assert messages.keys() == ({"accounts.E012"} if expected else set()), (name, given)
        assert expected in messages["accounts.E012"].msg if expected else True


def test_a_setting_of_a_provider_that_nothing_reads_is_warned_of(well: Settings) -> None:
    well.PROVIDER_SETTINGS_UNREAD = ["PROVIDER_GOOGEL_CLIENT_IDS"]
    assert "PROVIDER_GOOGEL_CLIENT_IDS" in found(deploy=False)["accounts.W004"].msg


def test_a_token_that_can_be_guessed_is_an_error(well: Settings) -> None:
    for token, ids in (("", set()), ("x", {"accounts.E013"}), ("x" * 15, {"accounts.E013"}), ("x" * 16, set())):
        well.METRICS_TOKEN = token
        assert set(found()) == ids, token
