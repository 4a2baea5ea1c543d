"""Asking for breached passwords, against real servers of every bad habit."""

import http.server
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import connection
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import InvalidInput
from accounts.lib import breached_passwords, fetching
from accounts.models import User
from accounts.services.account import password_resets, passwords, signup
from accounts.services.authentication import sign_in
from accounts.services.credentials import password_policy
from tests.conftest import PASSWORD, Mailbox
from tests.services.conftest import Mute
from tests.services.test_passwords import ask as ask_for_reset
from tests.threads import at_once

BREACHED = "correct horse battery"
TIME = breached_passwords.TIME


class Server:
    """A small Have I Been Pwned on this machine. `answer` may be replaced by worse manners."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.times = {BREACHED: 7}
        self.during: Callable[[], None] = lambda: None
        self.answer: Callable[[http.server.BaseHTTPRequestHandler], None] = self.usual
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, dict(self.headers)))
                outer.during()
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port

    def usual(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        lines = [f"{rest(password)}:{times}" for password, times in self.times.items()]
        body = "\r\n".join(["0" * 35 + ":3", *lines, "F" * 35 + ":0"]).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def digest(password: str) -> str:
    return sha1(password.encode(), usedforsecurity=False).hexdigest().upper()


def rest(password: str) -> str:
    return digest(password)[5:]


@contextmanager
def running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.server.shutdown()
    thread.join()
    server.server.server_close()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a good server may be late."""
    monkeypatch.setattr(breached_passwords, "TIME", 300.0)


@pytest.fixture
def server(settings: Settings, patience: None) -> Iterator[Server]:
    with running(Server()) as made:
        settings.BREACHED_PASSWORDS_URL = f"http://127.0.0.1:{made.port}/range/"
        yield made


def codes(found: pytest.ExceptionInfo[InvalidInput]) -> Sequence[tuple[str, str]]:
    return [(error.field, error.code) for error in found.value.errors]


# --- What is asked, and what the answer means ---------------------------------------------------------------


def test_a_breached_password_is_refused_with_a_code_of_its_own(server: Server) -> None:
    problem = password_policy.problem(BREACHED)
    assert problem is not None
    assert (problem.field, problem.code) == ("password", "password_breached")
    assert password_policy.problem(PASSWORD) is None
    assert len(server.asked) == 2


def test_only_five_letters_of_the_hash_are_sent_and_padding_is_asked_for(server: Server) -> None:
    password_policy.problem(BREACHED)
    ((path, headers),) = server.asked
    assert path == f"/range/{digest(BREACHED)[:5]}"
    assert headers["Add-Padding"] == "true"
    assert rest(BREACHED)[:6] not in repr(headers)


def test_padding_does_not_count(server: Server) -> None:
    server.times = {BREACHED: 0}
    assert password_policy.problem(BREACHED) is None


def test_a_password_that_is_refused_anyway_is_not_asked_for(server: Server) -> None:
    for password in ("short", "x" * 129, "q1w2e3r4t5y6"):
        assert password_policy.problem(password) is not None
    assert server.asked == []


def test_nothing_is_asked_where_it_is_turned_off(server: Server, settings: Settings) -> None:
    settings.BREACHED_PASSWORDS_URL = ""
    assert password_policy.problem(BREACHED) is None
    assert server.asked == []


# --- Who asks -----------------------------------------------------------------------------------------------


def test_sign_up_change_and_reset_refuse_it_and_signing_in_does_not_ask(
    alice: User, caller: Caller, mailbox: Mailbox, server: Server
) -> None:
    with pytest.raises(InvalidInput) as refused:
        signup.sign_up(username="dora", email="dora@example.com", password=BREACHED, caller=caller)
    assert codes(refused) == [("password", "password_breached")]
    with pytest.raises(InvalidInput) as refused:
        passwords.change(user=alice, current_password=PASSWORD, new_password=BREACHED, keep=None, caller=caller)
    assert codes(refused) == [("new_password", "password_breached")]
    ask_for_reset("alice", caller)
    with pytest.raises(InvalidInput) as refused:
        password_resets.reset_by_code(login="alice", code=mailbox.code(), new_password=BREACHED, caller=caller)
    assert codes(refused) == [("new_password", "password_breached")]
    with pytest.raises(InvalidInput):
        password_resets.reset_by_key(key=mailbox.key(), new_password=BREACHED, caller=caller)
    assert len(server.asked) == 4
    sign_in.check(login="alice", password=PASSWORD, caller=caller)
    assert len(server.asked) == 4


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_the_server_is_asked(
    alice: User, caller: Caller, mailbox: Mailbox, server: Server
) -> None:
    open_ones: list[int] = []

    def look() -> None:
        with connection.cursor() as sql:
            sql.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%%'"
            )
            open_ones.append(sql.fetchone()[0])
        connection.close()

    ask_for_reset("alice", caller)
    server.during = look
    signup.sign_up(username="dora", email="dora@example.com", password="another plum lagoon", caller=caller)
    passwords.change(
        user=alice, current_password=PASSWORD, new_password="another plum tractor", keep=None, caller=caller
    )
    ask_for_reset("alice", caller)
    password_resets.reset_by_key(
        key=mailbox.key("alice@example.com"), new_password="a third plum tractor", caller=caller
    )
    assert open_ones == [0, 0, 0]


# --- A server with bad manners ------------------------------------------------------------------------------


def five_hundred(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_error(500)


def elsewhere(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/other")
    handler.end_headers()


def nonsense(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\xff" * 500 + b"\r\n\r\n")


def drip_headers(handler: http.server.BaseHTTPRequestHandler) -> None:
    drip(handler, b"HTTP/1.0 200 OK\r\nX-Slow: yes\r\n\r\n" + listed())


def drip_body(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    drip(handler, listed())


def endless_headers(handler: http.server.BaseHTTPRequestHandler) -> None:
    drip(handler, b"HTTP/1.0 200 OK\r\nX-Slow: " + b"y" * 60_000)


def endless_body(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    drip(handler, b"0" * 60_000)


def listed() -> bytes:
    """Whoever waits for all of a slow answer finds the password refused."""
    return f"{rest(BREACHED)}:7\r\n".encode()


def drip(handler: http.server.BaseHTTPRequestHandler, text: bytes) -> None:
    for place in range(len(text)):
        try:
            handler.wfile.write(text[place : place + 1])
        except OSError:
            return
        time.sleep(0.05)


@pytest.mark.parametrize("manners", [five_hundred, elsewhere, nonsense, drip_headers, drip_body])
def test_any_other_answer_than_a_list_in_time_fails_open_with_one_line_that_tells_nothing(
    server: Server, manners: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breached_passwords, "TIME", TIME)
    server.answer = manners
    with caplog.at_level(logging.INFO):
        assert password_policy.problem(BREACHED) is None
    (line,) = caplog.records
    assert line.name == breached_passwords.__name__
    for secret in (BREACHED, digest(BREACHED)[:5], rest(BREACHED), "range"):
        assert secret not in line.getMessage()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_mute_server_costs_its_time_once_and_then_nothing_until_the_pause_is_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with Mute() as mute:
        settings.BREACHED_PASSWORDS_URL = f"{scheme}://127.0.0.1:{mute.port}/range"
        assert password_policy.problem(BREACHED) is None
        for _ in range(5):
            assert password_policy.problem(BREACHED) is None
        assert len(mute._taken) == 1
        monkeypatch.setattr(breached_passwords._breaker, "_closed_until", time.monotonic())
        assert set(at_once(5, lambda: password_policy.problem(BREACHED))) == {None}  # of many at once, one tries again
        assert len(mute._taken) == 2


def test_after_the_pause_an_answer_counts_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer = five_hundred
    assert password_policy.problem(BREACHED) is None
    server.answer = server.usual
    assert password_policy.problem(BREACHED) is None
    monkeypatch.setattr(breached_passwords._breaker, "_closed_until", time.monotonic())
    for _ in range(2):
        assert password_policy.problem(BREACHED) is not None


def test_a_server_that_is_down_and_a_name_that_is_nobodys_fail_open(settings: Settings) -> None:
    for url in ("http://127.0.0.1:9/range", "https://nobody.invalid/range"):
        breached_passwords._breaker.worked()
        settings.BREACHED_PASSWORDS_URL = url
        assert password_policy.problem(BREACHED) is None


@pytest.mark.parametrize("manners", [endless_headers, endless_body])
def test_no_thread_is_left_behind(server: Server, monkeypatch: pytest.MonkeyPatch, manners: Any) -> None:
    monkeypatch.setattr(breached_passwords, "TIME", TIME)
    server.answer = manners
    password_policy.problem(BREACHED)
    for thread in threading.enumerate():
        if thread.name == "fetch":
            thread.join(120)
            assert not thread.is_alive(), "the thread still reads"


# --- On the way ---------------------------------------------------------------------------------------------


def test_nothing_is_sent_in_the_open_over_a_network(server: Server, settings: Settings) -> None:
    settings.BREACHED_PASSWORDS_URL = f"http://0.0.0.0:{server.port}/range"
    assert password_policy.problem(BREACHED) is None
    assert server.asked == []


def test_https_is_checked(settings: Settings, patience: None, tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    settings.BREACHED_PASSWORDS_URL = f"https://localhost:{server.port}/range"
    with running(server):
        assert password_policy.problem(BREACHED) is None  # nobody vouches for this server
        assert server.asked == []
        breached_passwords._breaker.worked()
        fetching._tls().load_verify_locations(cadata=pem)
        assert password_policy.problem(BREACHED) is not None
    fetching._tls.cache_clear()


def certificate(folder: Path) -> str:
    """Of localhost, signed by itself; its key lies with it in `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "pem").write_bytes(private + pem)
    return pem.decode()
