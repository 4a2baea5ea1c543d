"""What protects every page: forms of our own only, headers, hosts, proxies, and a log that keeps secrets."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from pytest_django import Settings

from accounts import http
from accounts.caller import Caller
from accounts.http import client_ip
from accounts.models import Event, Session, User
from accounts.pages.middleware import PageMiddleware
from accounts.services.account import email_requests
from tests.conftest import PASSWORD, Mailbox, picture
from tests.factors import two_step_on
from tests.web.conftest import NEW, signed_in, sound, upload, words

FORMS = [
    "/account/login/",
    "/account/signup/",
    "/account/logout/",
    "/account/password/reset/",
    "/account/password/change/",
    "/account/profile/",
    "/account/email/",
    "/account/confirm-email/",
    "/account/confirm-email/again/",
    "/account/devices/end-others/",
    "/account/confirm-email/x-y/",
    "/account/password/reset/key/x-y/",
]


@pytest.mark.parametrize("path", FORMS)
def test_a_form_from_another_site_is_refused(alices_page: Client, path: str) -> None:
    strict = Client(SERVER_NAME="localhost", enforce_csrf_checks=True)
    strict.cookies = alices_page.cookies
    answer = strict.post(path, {"login": "alice", "password": PASSWORD})
    if path in {"/account/login/", "/account/signup/"}:  # a late tab, see below: nothing was done either
        assert answer.headers["Location"] == "/account/"
    else:
        assert "open too long" in sound(answer, 403)
    assert signed_in(alices_page)


def test_a_tab_that_is_late_goes_where_the_person_was_going(alices_page: Client, alice: User) -> None:
    """Another tab signed in first, so the form of this one is out of date."""
    strict = Client(SERVER_NAME="localhost", enforce_csrf_checks=True)
    strict.cookies = alices_page.cookies
    targets = {"/account/devices/": "/account/devices/", "https://evil.example/": "/account/", "": "/account/"}
    for path in ("login/", "signup/", "login/code/", "login/code/confirm/", "login/passkey/"):
        for wanted, there in targets.items():
            answer = strict.post(f"/account/{path}", {"login": "alice", "password": PASSWORD, "next": wanted})
            assert (answer.status_code, answer.headers["Location"]) == (302, there), (path, wanted)
    assert "You&#x27;re already signed in." in sound(strict.get("/account/"))
    assert strict.post("/account/login/second-step/", {"code": "x"}).status_code == 302
    two_step_on(alice, Session.objects.get(), Caller(ip=None))
    Session.objects.update(authenticated_by="pwd")  # signed in before, and the step is still to do
    assert "open too long" in sound(strict.post("/account/login/second-step/", {"code": "x"}), 403)


def test_cookies_are_blamed_where_there_is_none(alices_page: Client) -> None:
    stranger = Client(SERVER_NAME="localhost", enforce_csrf_checks=True)
    assert "allow cookies" in sound(stranger.post("/account/login/"), 403)
    stranger.get("/account/login/")
    html = sound(stranger.post("/account/login/"), 403)
    assert "open too long" in html
    assert "allow cookies" not in html


def test_a_form_of_ours_passes(alice: User) -> None:
    strict = Client(SERVER_NAME="localhost", enforce_csrf_checks=True)
    strict.get("/account/login/")
    body = {"login": "alice", "password": PASSWORD, "csrfmiddlewaretoken": strict.cookies["csrf"].value}
    assert strict.post("/account/login/", body).status_code == 302


def test_pages_may_show_the_pictures_of_the_cdn_and_upload_to_the_bucket(settings: Settings) -> None:
    settings.PICTURE_CDN_URL = "https://cdn.example.com/of/ours"
    policy = PageMiddleware(lambda _: HttpResponse()).headers["Content-Security-Policy"]
    assert "img-src 'self' data: https://cdn.example.com;" in policy
    assert f"connect-src 'self' {settings.S3_PUBLIC_ENDPOINT_URL};" in policy


@pytest.mark.parametrize(
    "path", ["/account/login/", "/account/signup/", "/nothing/", "/account/profile/", "/admin/login/"]
)
def test_every_page_carries_the_headers_of_safety(page: Client, settings: Any, path: str) -> None:
    headers = page.get(path).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    bucket = settings.S3_PUBLIC_ENDPOINT_URL
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "font-src": "'self'",
        "img-src": f"'self' data: {bucket}",
        "connect-src": f"'self' {bucket}",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Permissions-Policy"]
    assert headers["X-Request-Id"]
    assert "Strict-Transport-Security" not in headers


def test_https_alone_promises_https(db: None, settings: Any) -> None:
    settings.SECURE_HSTS_SECONDS = 31_536_000
    client = Client(SERVER_NAME="localhost")
    assert "Strict-Transport-Security" not in client.get("/account/login/").headers
    assert "max-age=31536000" in client.get("/account/login/", secure=True).headers["Strict-Transport-Security"]


def test_a_picture_on_a_page_comes_from_where_the_policy_allows(alices_page: Client, settings: Any) -> None:
    alices_page.post(
        "/account/profile/", {"username": "alice", "gender": "female", "picture": upload(picture((80, 80)))}
    )
    html = sound(alices_page.get("/account/profile/"))
    assert f'src="{settings.S3_PUBLIC_ENDPOINT_URL}/' in html


# --- Hosts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "evil.example:80", "localhost@evil.example", "", "a b", "[::1", "é"],
)
def test_another_host_is_not_answered(page: Client, host: str) -> None:
    for path in ("/account/login/", "/account/password/reset/"):
        answer = page.get(path, HTTP_HOST=host)
        assert answer.status_code == 400
        assert "evil" not in answer.content.decode()
        assert "Traceback" not in answer.content.decode()


def test_links_in_mails_never_follow_the_host(page: Client, alice: User, mailbox: Mailbox, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    extra: dict[str, Any] = {
        "HTTP_HOST": "evil.example",
        "HTTP_X_FORWARDED_HOST": "evil.example",
        "HTTP_FORWARDED": "host=evil.example",
    }
    assert page.post("/account/password/reset/", {"email": "alice"}, **extra).status_code == 302
    email_requests.answer()
    body = {"username": "ada", "email": "ada@example.com", "password": PASSWORD}
    assert page.post("/account/signup/", body, **extra).status_code == 302
    api_body = '{"username": "eve", "email": "eve@example.com", "password": "plum tractor lagoon"}'
    assert page.post("/api/v1/signup", api_body, content_type="application/json", **extra).status_code == 201
    assert len(mailbox.all()) == 3
    for mail in mailbox.all():
        for part in (mail.subject, mail.message, mail.html_message, str(mail.headers), mail.message_id):
            assert "evil" not in part
        assert f"{settings.PUBLIC_URL}/account/" in mail.message


# --- Proxies ------------------------------------------------------------------------------------------------


def ip_of_sign_in(page: Client, **extra: Any) -> str | None:
    assert page.post("/account/login/", {"login": "alice", "password": PASSWORD}, **extra).status_code == 302
    found = Session.objects.latest("created_at").ip
    return str(found) if found else None


def test_a_forged_header_has_no_effect_where_no_proxy_is_trusted(page: Client, alice: User) -> None:
    forged = {"HTTP_X_FORWARDED_FOR": "1.2.3.4", "HTTP_X_REAL_IP": "1.2.3.4", "HTTP_FORWARDED": "for=1.2.3.4"}
    assert ip_of_sign_in(page, REMOTE_ADDR="10.1.1.1", **forged) == "10.1.1.1"


@pytest.mark.parametrize(
    ("count", "header", "expected"),
    [
        (1, "1.2.3.4", "1.2.3.4"),
        (1, "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        (1, "6.6.6.6,1.2.3.4 ", "1.2.3.4"),
        (1, "2001:db8::1", "2001:db8::1"),
        (2, "6.6.6.6, 1.2.3.4, 10.0.0.1", "1.2.3.4"),
        (2, "1.2.3.4", "1.2.3.4"),
        (1, "", "10.1.1.1"),
        (1, "garbage", "10.1.1.1"),
        (1, "1.2.3.4, unknown", "10.1.1.1"),
        (1, ",,,", "10.1.1.1"),
        (1, "<script>", "10.1.1.1"),
        (1, "203.0.113.7:51234", "203.0.113.7"),
        (1, "[2001:db8::7]:51234", "2001:db8::7"),
        (1, "[2001:db8::7]", "2001:db8::7"),
        (1, "2001:DB8:0::0:7", "2001:db8::7"),
        (1, "::ffff:203.0.113.7", "203.0.113.7"),
        (1, "[::ffff:203.0.113.7]:443", "203.0.113.7"),
        (1, "fe80::7%eth0", "fe80::7"),
        (2, "6.6.6.6:1, 1.2.3.4:5678, [2001:db8::1]:443", "1.2.3.4"),
        (1, "[2001:db8::7", "10.1.1.1"),
        (1, "2001:db8::7]:1", "10.1.1.1"),
        (1, "203.0.113.7:", "10.1.1.1"),
        (1, "203.0.113.7:port", "10.1.1.1"),
        (1, "[]:1", "10.1.1.1"),
        (1, "203.0.113.700:51234", "10.1.1.1"),
        (1, "\x00", "10.1.1.1"),
        (1, "é", "10.1.1.1"),
        (3, ",", "10.1.1.1"),
        (1, "9" * 10_000, "10.1.1.1"),
    ],
)
def test_the_outermost_trusted_proxy_says_who_the_client_is(
    page: Client, alice: User, settings: Any, count: int, header: str, expected: str
) -> None:
    settings.TRUSTED_PROXY_COUNT = settings.ALLAUTH_TRUSTED_PROXY_COUNT = count
    assert ip_of_sign_in(page, REMOTE_ADDR="10.1.1.1", HTTP_X_FORWARDED_FOR=header) == expected


def test_behind_a_proxy_that_adds_ports_each_client_has_its_own_budget_and_is_shown_by_its_address(
    page: Client, alice: User, settings: Settings, limits: Any, caplog: pytest.LogCaptureFixture, mailbox: Mailbox
) -> None:
    """One reading of addresses: limits, log, devices, events and emails, on both faces."""
    settings.TRUSTED_PROXY_COUNT = settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    caplog.set_level(logging.INFO)
    limits("login_per_ip=3/86400")

    def wrong(entry: str) -> list[int]:
        about: Any = {"HTTP_X_FORWARDED_FOR": entry, "REMOTE_ADDR": "10.1.1.1"}
        typed = {"login": "nobody", "password": "x"}
        return [
            page.post("/account/login/", typed, **about).status_code,
            page.post("/api/v1/token", typed, content_type="application/json", **about).status_code,
        ]

    for address in ("203.0.113.7", "[2001:db8:1::7]", "[2001:db8:2::7]"):
        assert wrong(f"{address}:51234") == [200, 401]
    assert wrong("203.0.113.7:51235") == [200, 429]
    assert wrong("203.0.113.7") == wrong("[::ffff:203.0.113.7]:1") == [429, 429]
    assert "ip=203.0.113.7 " in caplog.text
    assert "10.1.1.1" not in caplog.text
    ip_of_sign_in(page, HTTP_X_FORWARDED_FOR="[2001:db8:2::7]:51236", REMOTE_ADDR="10.1.1.1")
    for path in ("/account/devices/", "/account/activity/"):
        assert "2001:db8:2::7" in words(page.get(path))
    assert Event.objects.filter(user=alice, ip="2001:db8:2::7").exists()
    page.post("/account/password/reset/", {"email": "alice"}, HTTP_X_FORWARDED_FOR="198.51.100.9:1")
    assert "198.51.100.9" in mailbox.last().message
    assert "198.51.100.9:1" not in mailbox.last().message


@pytest.mark.parametrize("entry", ["unknown", "", "203.0.113.7 51234", "x" * 10_000])
def test_an_entry_that_is_no_address_is_worth_one_warning_an_hour(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    settings.TRUSTED_PROXY_COUNT = 1
    clock = [7.0]
    monkeypatch.setattr(http, "_warned_at", None)
    monkeypatch.setattr(http, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def lines(**meta: str) -> list[str]:
        caplog.clear()
        for _ in range(3):
            assert client_ip({"REMOTE_ADDR": "10.1.1.1", **meta}) == "10.1.1.1"
        return [record.getMessage() for record in caplog.records]

    (line,) = lines(HTTP_X_FORWARDED_FOR=f"6.6.6.6, {entry}")
    assert "TRUSTED_PROXY_COUNT=1" in line
    assert entry[:20] in line
    assert len(line) < 300
    clock[0] += 3599
    assert lines(HTTP_X_FORWARDED_FOR=entry) == []
    clock[0] += 1
    assert len(lines()) == 1  # a proxy that adds no header at all
    settings.TRUSTED_PROXY_COUNT = 0
    clock[0] += 7200
    assert lines(HTTP_X_FORWARDED_FOR=entry) == []


def test_a_missing_network_address_is_no_error_of_ours(page: Client, alice: User, settings: Any) -> None:
    assert client_ip({}) is None
    assert client_ip({"REMOTE_ADDR": "unix:"}) is None
    assert ip_of_sign_in(page, REMOTE_ADDR="") is None


def test_a_limit_is_not_walked_around_with_a_header(page: Client, alice: User, limits: Any) -> None:
    limits("login_per_ip=2/86400")
    answers = [
        page.post("/account/login/", {"login": f"n{number}", "password": "x"}, HTTP_X_FORWARDED_FOR=f"1.2.3.{number}")
        for number in range(4)
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]


# --- The log ------------------------------------------------------------------------------------------------

SECRETS = ["mistaken ferry", "71935028", "secret-of-the-link", "nobody-typed-this"]


def test_a_refusal_is_logged_once_and_without_what_was_typed(
    alices_page: Client, page: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="accounts")
    caplog.set_level(logging.INFO)
    password, code, key, name = SECRETS
    visitor = Client(SERVER_NAME="localhost")
    visitor.post("/account/login/", {"login": name, "password": password})
    visitor.post("/account/password/reset/", {"email": name})
    visitor.post("/account/password/reset/done/", {"code": code, "new_password": password})
    visitor.get(f"/account/password/reset/key/{'0' * 32}-{key}/")
    visitor.get(f"/account/confirm-email/{'0' * 32}-{key}/")
    visitor.post(f"/account/confirm-email/{'0' * 32}-{key}/")
    alices_page.post("/account/password/change/", {"current_password": password, "new_password": NEW})
    alices_page.post("/account/email/", {"email": f"{name}@example.com", "password": password})
    alices_page.post("/account/confirm-email/", {"code": code})
    for path, body in (
        ("/api/v1/token", {"login": name, "password": password}),
        ("/api/v1/password/reset", {"login": name, "code": code, "new_password": password}),
        ("/api/v1/password/reset", {"key": f"{'0' * 32}-{key}", "new_password": password}),
        ("/api/v1/token/refresh", {"refresh_token": key}),
        ("/api/v1/signup", {"username": "!", "email": name, "password": code}),
    ):
        visitor.post(path, body, content_type="application/json")
    visitor.get("/api/v1/me", headers={"authorization": f"Bearer {key}"})
    lines = [record.getMessage() for record in caplog.records if record.name == "accounts.refused"]
    assert len(lines) >= 11
    for line in lines:
        assert "code=" in line
        assert "request_id=" in line
        assert "ip=" in line
    for secret in SECRETS:
        assert secret not in caplog.text


def test_the_admin_has_no_password_page_of_its_own(alices_page: Client) -> None:
    answer = alices_page.get("/admin/password_change/")
    assert (answer.status_code, answer["Location"]) == (302, "/account/password/change/")


@pytest.mark.parametrize("charset", ["utf-16", "latin-1", "UTF-7"])
def test_a_form_in_another_encoding_is_a_bad_request_and_no_failure_of_ours(page: Client, charset: str) -> None:
    for path in ("/account/login/", "/account/signup/", "/admin/login/"):
        kind = f"application/x-www-form-urlencoded; charset={charset}"
        sound(page.post(path, b"login=a&password=b", content_type=kind), 400)
