"""The addresses of Postgres and Valkey: several hosts, TLS that is verified, and a sentence where one can't be read."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import kombu
import pytest
import redis
from django.core.exceptions import ImproperlyConfigured

from project import env


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "asked", {})


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgres://u:p@one:5433/db", "one", 5433),
        ("postgres://u:p@one:5433,two:5434/db?target_session_attrs=read-write", "one,two", "5433,5434"),
        ("postgres://u:p%40:@one,[::1]:5434/db", "one,::1", "5432,5434"),
    ],
)
def test_a_database_may_have_several_hosts(url: str, host: str, port: int | str) -> None:
    found = env.database(url)
    assert (found["HOST"], found["PORT"], found["NAME"]) == (host, port, "db")


@pytest.mark.parametrize(
    "url", ["mysql://one/db", "one:5432/db", "postgres://u:p@one:x/db", "postgres://u:p@a:1,b:x/db"]
)
def test_a_database_that_cannot_be_read_ends_the_start(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="must be like postgres://") as told:
        env.database(url)
    assert "u:p" not in str(told.value)


def read(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    monkeypatch.setenv("REDIS_URL", url)
    return env.redis_url("REDIS_URL", "redis://…")


@pytest.mark.parametrize(
    "url",
    [
        "http://one", "unix:///run/valkey", "redis://", "redis://one:x/0", "redis://one/zero", "redis://one/0?db=1",
        "redis://one/0?ssl_cert_reqs=none", "rediss://one/0?ssl_cert_reqs=maybe", "rediss://one/0?ssl_ca_certs=/nowhere",
        "rediss://one/0?socket_timeout=5",
    ],
)  # fmt: skip
def test_a_broker_that_cannot_be_read_ends_the_start(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL"):
        read(monkeypatch, url)


@pytest.mark.parametrize(
    ("given", "verified"), [("", True), ("CERT_REQUIRED", True), ("CERT_NONE", False), ("none", False)]
)
def test_both_clients_read_it_alike(monkeypatch: pytest.MonkeyPatch, given: str, verified: bool) -> None:
    url = read(monkeypatch, f"rediss://one/0{'?ssl_cert_reqs=' * bool(given)}{given}")
    mode = ssl.CERT_REQUIRED if verified else ssl.CERT_NONE
    assert vars(redis.Redis.from_url(url).connection_pool.make_connection())["cert_reqs"] == mode
    assert kombu.Connection(url).info()["ssl"] == {"ssl_cert_reqs": mode}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A TLS server with a certificate that nobody we know has signed, and that certificate."""
    folder = tmp_path_factory.mktemp("tls")
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "key",
    ]
    named = ["-out", "certificate", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*made, *named], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        threading.Thread(target=_answer, args=(server, context), daemon=True).start()
        yield server.getsockname()[1], folder / "certificate"
        server.shutdown(socket.SHUT_RDWR)


def _answer(server: socket.socket, context: ssl.SSLContext) -> None:
    """What clients want to hear of a Valkey at first."""
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        try:
            with context.wrap_socket(client, server_side=True) as line:
                while data := line.recv(65536):
                    hello = b"%1\r\n+proto\r\n:3\r\n" * data.count(b"HELLO")
                    pong = b"+PONG\r\n" * data.count(b"PING")
                    line.sendall(hello + pong or b"+OK\r\n" * data.count(b"*"))
        except OSError:
            client.close()


def limits(url: str) -> None:
    with redis.Redis.from_url(url, protocol=2, retry=None) as client:
        client.ping()


def broker(url: str) -> None:
    with kombu.Connection(url) as connection:
        connection.ensure_connection(max_retries=1)
        _ = connection.default_channel


@pytest.mark.parametrize("client", [limits, broker])
def test_a_strangers_certificate_is_refused_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch, stranger: tuple[int, Path], client: Callable[[str], None]
) -> None:
    port, certificate = stranger
    address = f"rediss://localhost:{port}/0"
    with pytest.raises((redis.ConnectionError, kombu.exceptions.OperationalError), match="CERTIFICATE_VERIFY_FAILED"):
        client(read(monkeypatch, address))
    client(read(monkeypatch, f"{address}?ssl_ca_certs={certificate}"))
    client(read(monkeypatch, f"{address}?ssl_cert_reqs=CERT_NONE"))
