"""Whether a password was leaked: asked of Have I Been Pwned or a mirror (BREACHED_PASSWORDS_URL; off by default).

Only five letters of the password's SHA-1 leave this service, and the answer is padded, so that its length does not
reveal the question (k-anonymity). No answer means that the password is accepted: a sign-up must not depend on another
server, nor wait for it longer than TIME."""

import contextlib
import http.client
import ipaddress
import logging
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from functools import lru_cache
from hashlib import sha1
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from accounts.lib.breaker import Breaker

log = logging.getLogger(__name__)

TIME = 0.3  # seconds for all of it: name, connection, TLS, request and answer
PAUSE = 30.0  # seconds after a failure before one request tries again for all
ANSWER_MAX_BYTES = 1024 * 1024  # some 40 KB are usual

_breaker = Breaker(PAUSE)


def is_breached(password: str) -> bool:
    """False if this is turned off, or no answer comes in time."""
    url = settings.BREACHED_PASSWORDS_URL
    if not url or not is_private(url) or not _breaker.may_ask():  # what is not private is an error of `manage.py check`
        return False
    digest = sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
    try:
        answer = _in_time(urlsplit(url), digest[:5])
    except Exception as error:  # noqa: BLE001 - the server may break it anywhere
        _breaker.failed()
        # Only its name: its message may quote the request.
        why = f"refused: {error}" if isinstance(error, _Refused) else type(error).__name__
        log.warning("breached passwords could not be asked for (%s); none is refused for it for %d s", why, int(PAUSE))
        return False
    _breaker.worked()
    return _is_listed(answer, digest[5:])


def _is_listed(answer: str, rest: str) -> bool:
    """Lines of `the other 35 letters:how often`. Padding has 0."""
    for line in answer.splitlines():
        found, _, times = line.strip().partition(":")
        if found.upper() == rest:
            return times.strip().isdecimal() and int(times) > 0
    return False


# --- The question -------------------------------------------------------------------------------------------


class _Refused(Exception):
    """The server answered with another status."""


def _in_time(url: SplitResult, prefix: str) -> str:
    """In a thread of its own: a name look-up has no timeout, and a socket's timeout is for each read, which a server
    that sends byte by byte never exceeds."""
    answer: Future[str] = Future()
    connection = _connection(url)
    end = time.monotonic() + TIME

    def ask() -> None:
        try:
            answer.set_result(_ask(connection, f"{url.path.rstrip('/')}/{prefix}", end))
        except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
            answer.set_exception(error)

    threading.Thread(target=ask, name="breached-passwords", daemon=True).start()
    try:
        return answer.result(TIME)
    finally:
        with contextlib.suppress(OSError, AttributeError):  # it may have ended by itself
            connection.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread, which then closes it


def _ask(connection: http.client.HTTPConnection, path: str, end: float) -> str:
    with contextlib.closing(connection):
        connection.connect()
        if time.monotonic() > end:
            raise TimeoutError
        connection.request("GET", path, headers={"Add-Padding": "true", "User-Agent": "user-service"})
        response, body = connection.getresponse(), b""
        with response:
            if response.status != 200:
                raise _Refused(response.status)
            # The connection may have forgotten its socket by now, so that nobody can wake this thread.
            while time.monotonic() < end and len(body) < ANSWER_MAX_BYTES and (part := response.read1(65536)):
                body += part
    return body.decode("ascii")


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    if url.scheme == "https":
        return http.client.HTTPSConnection(url.hostname or "", url.port, timeout=TIME, context=_tls())
    return http.client.HTTPConnection(url.hostname or "", url.port, timeout=TIME)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def is_private(url: str) -> bool:
    """Whether nobody in between can read or change the question: https, or this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        if parts.scheme == "https":
            return bool(host)
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False
