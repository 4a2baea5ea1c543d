"""Whether a password was leaked: asked of Have I Been Pwned or a mirror (BREACHED_PASSWORDS_URL; off by default).

Only five letters of the password's SHA-1 leave this service, and the answer is padded, so that its length does not
reveal the question (k-anonymity). No answer means that the password is accepted: a sign-up must not depend on another
server, nor wait for it longer than TIME."""

import logging
from hashlib import sha1

from django.conf import settings

from accounts.lib import fetching
from accounts.lib.breaker import Breaker

log = logging.getLogger(__name__)

TIME = 0.3  # seconds for all of it: name, connection, TLS, request and answer
PAUSE = 30.0  # seconds after a failure before one request tries again for all
ANSWER_MAX_BYTES = 1024 * 1024  # some 40 KB are usual

_breaker = Breaker(PAUSE)


def is_breached(password: str) -> bool:
    """False if this is turned off, or no answer comes in time."""
    url = settings.BREACHED_PASSWORDS_URL
    # What is not protected is an error of `manage.py check`.
    if not url or not fetching.is_protected(url) or not _breaker.may_ask():
        return False
    digest = sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
    try:
        answer = fetching.fetch(
            f"{url.rstrip('/')}/{digest[:5]}",
            seconds=TIME,
            max_bytes=ANSWER_MAX_BYTES,
            internal=True,
            headers={"Add-Padding": "true"},
        ).decode("ascii")
    except Exception as error:  # noqa: BLE001 - the server may break it anywhere
        _breaker.failed()
        # Only its name: its message may quote the request.
        why = f"refused: {error}" if isinstance(error, fetching.Refused) else type(error).__name__
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
