"""One GET from a server that may hang, send byte by byte or for ever, or point to somewhere inside."""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit


class Refused(Exception):
    """An address that is not asked, or an answer that is not taken."""


def fetch(
    url: str, *, seconds: float, max_bytes: int, internal: bool = False, headers: Mapping[str, str] | None = None
) -> bytes:
    """The body of a 200, after `seconds` at most for all of it: name, connection, TLS, request and answer. No redirect
    is followed. Private addresses are asked only if `internal`.

    Raises Refused, or what the network raises: OSError (TimeoutError is one), HTTPException, ValueError."""
    if not is_protected(url):
        raise Refused("not https")
    parts, end = urlsplit(url), time.monotonic() + seconds
    answer: Future[bytes] = Future()
    sockets: list[socket.socket] = []

    def ask() -> None:
        try:
            with contextlib.closing(_connection(parts, end, internal, sockets)) as connection:
                answer.set_result(_body(connection, parts, headers or {}, end, max_bytes))
        except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
            answer.set_exception(error)
        finally:
            for one in sockets:
                one.close()

    # In a thread of its own: a name look-up has no timeout, and a socket's timeout is for each read, which a server
    # that sends byte by byte never exceeds.
    threading.Thread(target=ask, name="fetch", daemon=True).start()
    try:
        return answer.result(seconds)
    finally:
        for one in sockets:
            with contextlib.suppress(OSError):  # it may have ended by itself
                socket.socket.shutdown(one, socket.SHUT_RDWR)  # wakes the thread


def _connection(
    url: SplitResult, end: float, internal: bool, sockets: list[socket.socket]
) -> http.client.HTTPConnection:
    """Connected to an address that was looked at."""
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    opened = _open(host, port, end, internal, sockets)
    if url.scheme != "https":
        connection = http.client.HTTPConnection(host, port)
        connection.sock = opened
        return connection
    connection = http.client.HTTPSConnection(host, port, context=_tls())
    connection.sock = tls = _tls().wrap_socket(opened, server_hostname=host, do_handshake_on_connect=False)
    sockets.append(tls)
    if time.monotonic() > end:  # nobody can wake this thread any more
        raise TimeoutError
    tls.do_handshake()
    return connection


def _open(host: str, port: int, end: float, internal: bool, sockets: list[socket.socket]) -> socket.socket:
    # The very addresses that were looked at: a second look-up may name others.
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if any(_is_off_limits(str(address[0]), internal) for *_, address in found):
        raise Refused("an address inside")
    failed: OSError = TimeoutError()
    for family, kind, protocol, _name, address in found:
        left = end - time.monotonic()
        if left <= 0:
            break
        opened = socket.socket(family, kind, protocol)
        sockets.append(opened)
        opened.settimeout(left)
        try:
            opened.connect(address)
            return opened
        except OSError as error:
            failed = error
    raise failed


def _body(
    connection: http.client.HTTPConnection, url: SplitResult, headers: Mapping[str, str], end: float, max_bytes: int
) -> bytes:
    path = url._replace(scheme="", netloc="", fragment="").geturl() or "/"
    connection.request("GET", path, headers={"User-Agent": "user-service", **headers})
    body = b""
    with connection.getresponse() as response:
        if response.status != 200:
            raise Refused(f"status {response.status}")
        # The connection may have forgotten its socket by now, so that nobody can wake this thread.
        while time.monotonic() < end and (part := response.read1(65536)):
            body += part
            if len(body) > max_bytes:
                raise Refused("too long")
    return body


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def is_protected(url: str) -> bool:
    """Whether nobody in between can read or change what is said: https, or this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        if parts.scheme == "https":
            return bool(host)
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _is_off_limits(text: str, internal: bool) -> bool:
    """Where clouds keep their machines' credentials (169.254.169.254) nobody is asked, however configured."""
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        translated = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
        address = address.ipv4_mapped or address.sixtofour or translated or address
    return address.is_link_local or (not internal and (not address.is_global or address.is_multicast))
