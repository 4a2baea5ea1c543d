"""Whether a password is in the collections that attackers have: asked of Have I Been Pwned or of a mirror, where
the operator turns it on (BREACHED_PASSWORDS_URL).

Only five letters of the password's SHA-1 leave this service, and the answer is padded, so that neither it nor its
length tells who asked for what (k-anonymity). No answer means good: a sign-up must not depend on somebody else's
server, nor wait for it for longer than TIME."""

import contextlib
import http.client
import ipaddress
import logging
import socket
import ssl
import threading
import time
from functools import lru_cache
from hashlib import sha1
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

log = logging.getLogger(__name__)

TIME = 0.3  # seconds for all of it: name, connection, TLS, request and answer
PAUSE = 30.0  # seconds after a failure before one request tries again for all
ANSWER_MAX_BYTES = 1024 * 1024  # some 40 KB are usual

_lock = threading.Lock()
_paused_until: float | None = None  # None: all is well


def is_breached(password: str) -> bool:
    """Never where this is turned off, or where no answer comes in time."""
    url = settings.BREACHED_PASSWORDS_URL
    if not url or not is_private(url) or not _may_ask():  # what is not private is an error of `manage.py check`
        return False
    digest = sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
    question = _Question(urlsplit(url), digest[:5])
    failure = question.wait()
    _note(failure)
    return failure is None and _is_listed(question.answer, digest[5:])


def _is_listed(answer: str, rest: str) -> bool:
    """Lines of `the other 35 letters:how often`. Padding stands there with 0."""
    for line in answer.splitlines():
        found, _, times = line.strip().partition(":")
        if found.upper() == rest:
            return times.strip().isdecimal() and int(times) > 0
    return False


# --- Not twice in vain --------------------------------------------------------------------------------------


def _may_ask() -> bool:
    """While the server is away one request in PAUSE tries again; the others don't wait."""
    global _paused_until  # noqa: PLW0603 - one for the process
    with _lock:
        if _paused_until is None:
            return True
        if time.monotonic() < _paused_until:
            return False
        _paused_until = time.monotonic() + PAUSE
        return True


def _note(failure: str | None) -> None:
    global _paused_until  # noqa: PLW0603
    with _lock:
        _paused_until = time.monotonic() + PAUSE if failure else None
    if failure:
        log.warning(
            "breached passwords could not be asked for (%s); none is refused for it for %d s", failure, int(PAUSE)
        )


def forget() -> None:
    """What this process knows of the server."""
    global _paused_until  # noqa: PLW0603
    _paused_until = None


# --- The question -------------------------------------------------------------------------------------------


class _Question:
    """One request in a thread of its own: looking up a name can't be given a time, and a socket's time is for each
    read, which a server that drips never exceeds."""

    def __init__(self, url: SplitResult, prefix: str) -> None:
        self.answer = ""
        self._url, self._prefix = url, prefix
        self._failure: str | None = None
        self._connection = _connection(self._url)
        self._socket: socket.socket | None = None  # the connection forgets its own once an answer has begun
        self._given_up = False
        self._done = threading.Event()

    def wait(self) -> str | None:
        """Why there is no answer, or None where there is one."""
        threading.Thread(target=self._run, name="breached-passwords", daemon=True).start()
        if self._done.wait(TIME):
            return self._failure
        self._give_up()
        return "no answer in time"

    def _give_up(self) -> None:
        self._given_up = True
        if reading := self._socket or self._connection.sock:  # the latter while TLS begins
            with contextlib.suppress(OSError):  # it may have ended by itself
                reading.shutdown(socket.SHUT_RDWR)  # wakes the thread, which then closes it

    def _run(self) -> None:
        try:
            self.answer = self._ask()
        except Exception as error:  # noqa: BLE001 - the server, or the shut socket, may break it anywhere
            # Its name alone: its words may quote the request.
            self._failure = f"{type(error).__name__} {error}" if isinstance(error, _Refused) else type(error).__name__
        finally:
            self._done.set()

    def _ask(self) -> str:
        try:
            self._connection.connect()
            self._socket = self._connection.sock
            if self._given_up:
                return ""
            self._connection.request(
                "GET",
                f"{self._url.path.rstrip('/')}/{self._prefix}",
                headers={"Add-Padding": "true", "User-Agent": "user-service"},
            )
            response = self._connection.getresponse()
            if response.status != 200:
                raise _Refused(response.status)
            return response.read(ANSWER_MAX_BYTES).decode("ascii")
        finally:
            self._connection.close()


class _Refused(Exception):
    """The server answered with another status."""


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "https":
        return http.client.HTTPSConnection(host, url.port, timeout=TIME, context=_tls())
    return http.client.HTTPConnection(host, url.port, timeout=TIME)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def is_private(url: str) -> bool:
    """Whether nobody on the way can read or change what is asked there: https, or this machine."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme == "https" and parts.hostname:
        return True
    return parts.scheme == "http" and _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
