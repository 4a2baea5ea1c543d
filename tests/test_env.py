"""Settings from the environment: what counts as set, and which of NAME and NAME_FILE goes first."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from project import env
from project.devstack.servers import BASE
from tests.conftest import PASSWORD


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for here belongs into no reference page."""
    monkeypatch.setattr(env, "asked", {})


@pytest.mark.parametrize("blank", ["", " "])
def test_a_blank_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    monkeypatch.setenv("PLUM", blank)
    assert env.text("PLUM", "tractor", "") == "tractor"
    assert env.flag("PLUM", True, "") is True
    assert env.flag("PLUM", False, "") is False
    assert env.number("PLUM", 7, "") == 7
    assert env.choice("PLUM", "red", ("red", "blue"), "") == "red"
    assert env.items("PLUM", "a,b", "") == ["a", "b"]
    assert env.time_zone("PLUM", "UTC", "") == "UTC"
    assert env.moment("PLUM", "") is None
    with pytest.raises(ImproperlyConfigured, match="PLUM is not set"):
        env.text("PLUM", None, "")


def test_a_flag_is_turned_off_by_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUM", "0")
    assert env.flag("PLUM", True, "") is False


def test_a_share_is_a_number_from_0_to_1(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, share in {"": 0.01, "0": 0.0, "0.5": 0.5, "1": 1.0}.items():
        monkeypatch.setenv("PLUM", given)
        assert env.share("PLUM", 0.01, "") == share
    for wrong in ("-1", "1.1", "nan", "half"):
        monkeypatch.setenv("PLUM", wrong)
        with pytest.raises(ImproperlyConfigured, match="PLUM must be a number from 0 to 1"):
            env.share("PLUM", 0.01, "")


def test_a_blank_secret_is_read_from_its_file_and_another_goes_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "plum"
    file.write_text("of the file\n")
    monkeypatch.setenv("PLUM_FILE", str(file))
    monkeypatch.setenv("PLUM", "")
    assert env.text("PLUM", None, "", secret=True) == "of the file"
    assert env.items("PLUM", "", "", secret=True) == ["of the file"]
    monkeypatch.setenv("PLUM", "of the environment")
    assert env.text("PLUM", None, "", secret=True) == "of the environment"


def test_a_blank_file_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "plum").write_text("\n")
    monkeypatch.setenv("PLUM_FILE", str(tmp_path / "plum"))
    with pytest.raises(ImproperlyConfigured, match="PLUM is not set"):
        env.text("PLUM", None, "", secret=True)
    monkeypatch.setenv("PLUM_FILE", "")
    assert env.text("PLUM", "tractor", "", secret=True) == "tractor"


def test_a_family_of_names_is_read_for_each_member_and_remembered_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(env, "_read", set())
    file = tmp_path / "secret"
    file.write_text("plum\n")
    for name, value in {
        "PROVIDER_CORP_IDS": "web,app", "PROVIDER_CORP_OPEN": "0", "PROVIDER_CORP_SECRET_FILE": str(file),
        "PROVIDER_CORP_MISTYPED": "x", "PROVIDER_OTHER_IDS": "y", "PROVIDER_OTHER_EMPTY": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert env.items("PROVIDER_X_IDS", "", "", x="CORP") == ["web", "app"]
    assert env.items("PROVIDER_X_IDS", "", "") == []
    assert env.flag("PROVIDER_X_OPEN", True, "", x="CORP") is False
    assert env.text("PROVIDER_X_SECRET", "", "", secret=True, x="CORP") == "plum"
    assert list(env.asked) == ["PROVIDER_X_IDS", "PROVIDER_X_OPEN", "PROVIDER_X_SECRET"]
    assert env.unread("PROVIDER_") == ["PROVIDER_CORP_MISTYPED", "PROVIDER_OTHER_IDS"]
    monkeypatch.setenv("PROVIDER_CORP_OPEN", "perhaps")
    with pytest.raises(ImproperlyConfigured, match="PROVIDER_CORP_OPEN must be 1 or 0"):
        env.flag("PROVIDER_X_OPEN", True, "", x="CORP")


# --- The service's own address ----------------------------------------------------------------------------------


def public_url(monkeypatch: pytest.MonkeyPatch, given: str) -> str:
    monkeypatch.setenv("PUBLIC_URL", given)
    return env.public_url("PUBLIC_URL", "")


SENT = {
    "https://Accounts.Example.com": "https://accounts.example.com",
    "https://accounts.example.com:443": "https://accounts.example.com",
    "  https://accounts.example.com/\n": "https://accounts.example.com",
    "HTTPS://accounts.example.com.//": "https://accounts.example.com",
    "https://accounts.example.com:": "https://accounts.example.com",
    "http://Accounts.Example.com:80": "http://accounts.example.com",
    "https://accounts.example.com:80": "https://accounts.example.com:80",
    "http://localhost:8000": "http://localhost:8000",
    "http://127.0.0.1:8000": "http://127.0.0.1:8000",
    "http://[::1]:8000": "http://[::1]:8000",
    "https://[2001:DB8:0:0::1]": "https://[2001:db8::1]",
    "https://b\u00fccher.example": "https://xn--bcher-kva.example",
    "https://B\u00dcCHER.example:8443/": "https://xn--bcher-kva.example:8443",
    "https://stra\u00dfe.example": "https://xn--strae-oqa.example",
    "https://\uff25xample.com": "https://example.com",
    "https://\u4f8b\u3048\u3002jp": "https://xn--r8jz45g.jp",
}
BELOW = [
    "https://example.com/auth", "https://example.com/auth/", "https://example.com/?x=1", "https://example.com?x",
    "https://example.com/#top", "https://ada:plum@example.com", "https://@example.com", "https://example.com/%20",
]  # fmt: skip
UNSENT = [
    "accounts.example.com", "ftp://example.com", "https://", "https:/example.com", "https://exa mple.com", "http://*",
    "https://web_1", "https://example.com:99999", "https://example.com:port", "https://[::1", "https://::1",
    "https://[v1.x]", "https://127.1", "https://1.2.3.400", "https://b\u00fccher_1.example", "https://\u2603.net",
    "https://" + "\u00fc" * 70 + ".example", "javascript:alert(1)", "https://example..com",
]  # fmt: skip


def test_the_public_address_is_what_browsers_send_or_a_sentence_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(given: str) -> str:
        try:
            return public_url(monkeypatch, given)
        except ImproperlyConfigured as refused:
            return " ".join(str(refused).split()[:4] + ["and the password"] * ("plum" in str(refused)))

    assert {given: found(given) for given in SENT} == SENT
    assert {found(given) for given in BELOW} == {"PUBLIC_URL must end after"}
    assert {given: told for given in UNSENT if (told := found(given)) != "PUBLIC_URL must be like"} == {}


SERVERS = {
    "EMAIL_URL": [
        "smtp.example.com",
        "smtp.example.com:587",
        "//smtp.example.com",
        "smtp://",
        "http://smtp.example.com",
    ],
    "DATABASE_URL": ["db.example.com:5432/app", "db.example.com", "//app:plum@db.example.com/app", "http://db/app"],
    "DATABASE_REPLICA_URL": ["db.example.com:5432/app", "app:plum@db.example.com/app"],
    "REDIS_URL": ["redis.example.com:6379", "redis.example.com", "//redis.example.com", "redis://"],
    "S3_ENDPOINT_URL": ["s3.example.com", "s3.example.com:9000", "//s3.example.com", "https://", "s3://pictures"],
    "S3_PUBLIC_ENDPOINT_URL": ["s3.example.com", "s3.example.com:9000"],
    "PICTURE_CDN_URL": ["cdn.example.com", "/pictures"],
    "BREACHED_PASSWORDS_URL": ["api.pwnedpasswords.com/range"],
    "OTEL_EXPORTER_OTLP_ENDPOINT": ["collector:4318", "collector", "grpc://collector:4317"],
    "LOG_LEVEL": ["chatty", "info", "5"],
    "HSTS": ["a year", "-1"],
}


def settings_of(**environment: str) -> dict[str, Any]:
    """The settings file, read once more. A caller that asked for it before keeps what it found."""
    with pytest.MonkeyPatch.context() as given:
        for name, value in environment.items():
            given.setenv(name, value)
        return runpy.run_path(str(BASE / "project/settings.py"))


def test_the_address_of_a_server_without_its_scheme_ends_the_start_in_words() -> None:
    def told(name: str, value: str) -> str:
        try:
            settings_of(**{name: value})
        except ImproperlyConfigured as refused:
            return str(refused)
        return "taken"

    given = [(name, value) for name, values in SERVERS.items() for value in values]
    given += [("EMAIL_URL", f"smtp://ada:plum@host:587?{typed}") for typed in ("tls=yes", "TLS=1", "tls", "starttls=1")]
    words = {pair: told(*pair) for pair in given}
    assert {pair: said for pair, said in words.items() if pair[0] not in said or "plum" in said} == {}


def test_the_address_of_a_mail_server_is_read_as_it_is_written() -> None:
    def found(url: str) -> list[Any]:
        read = settings_of(EMAIL_URL=url)
        return [read[f"EMAIL_{name}"] for name in ("HOST", "PORT", "USE_SSL", "USE_TLS", "HOST_PASSWORD")]

    assert found("smtp://smtp.example.com") == ["smtp.example.com", 25, False, False, ""]
    assert found("smtp://ada:pl%2Fum@smtp.example.com:587?tls=1") == ["smtp.example.com", 587, False, True, "pl/um"]
    assert found("smtps://smtp.example.com?tls=0") == ["smtp.example.com", 465, True, False, ""]


def test_hsts_is_for_this_host_alone_and_only_under_https() -> None:
    def found(**given: str) -> list[Any]:
        read = settings_of(**given)
        return [read.get(f"SECURE_HSTS_{name}") for name in ("SECONDS", "INCLUDE_SUBDOMAINS", "PRELOAD")]

    assert found(PUBLIC_URL="https://example.com") == [31_536_000, None, None]
    assert found(PUBLIC_URL="https://example.com", HSTS="60") == [60, None, None]
    assert found(PUBLIC_URL="http://localhost:8000", HSTS="60") == [0, None, None]


def test_the_whole_service_starts_under_a_network_address() -> None:
    """Hosts, origins and the default sender are made of PUBLIC_URL; no check has anything to say of them."""
    ask = (
        "import django; django.setup()\n"
        "from django.conf import settings as s; from django.core.management import call_command\n"
        "call_command('check', verbosity=0)\n"
        "print(s.ALLOWED_HOSTS, s.CSRF_TRUSTED_ORIGINS, s.DEFAULT_FROM_EMAIL)"
    )
    environment = {**os.environ, "PUBLIC_URL": "http://[::1]:8000", "DJANGO_SETTINGS_MODULE": "tests.settings"}
    environment["ALLOWED_HOSTS"] = environment["EMAIL_FROM"] = ""
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=BASE, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["['[::1]'] ['http://[::1]:8000'] Crew <no-reply@localhost>"], done.stderr


@pytest.mark.parametrize(
    "given", ["https://Accounts.Example.com:443", "http://[::1]:8000", "https://b\u00fccher.example"]
)
def test_a_form_is_taken_from_a_browser_at_the_public_address(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, alice: User, given: str
) -> None:
    settings.PUBLIC_URL = address = public_url(monkeypatch, given)
    settings.CSRF_TRUSTED_ORIGINS = [address]
    settings.ALLOWED_HOSTS = [urlsplit(address).netloc.removesuffix(":8000")]
    browser = Client(enforce_csrf_checks=True)
    sent: Any = {"secure": address.startswith("https"), "HTTP_HOST": urlsplit(address).netloc, "HTTP_ORIGIN": address}
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', browser.get("/account/login/", **sent).content.decode())
    assert token is not None
    typed = {"login": "alice", "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
    assert browser.post("/account/login/", typed, **sent).status_code == 302
