"""Proof of work: over a limit that most networks never meet, a try costs the caller some computing.

A challenge asks for a number that only our key names at once. Everybody else tries up to `max` of them. It is signed
and kept nowhere; that it was solved is remembered in Postgres (tickets.py). See docs/decisions/bots.md."""

import base64
import hmac
import os
import struct
from enum import StrEnum
from hashlib import sha256
from uuid import UUID

from django.conf import settings
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import ChallengeRequired, Puzzle
from accounts.lib import sealing
from accounts.services.security import rate_limits, tickets
from accounts.services.security.rate_limits import Counted

LIFETIME = 600  # seconds
# Numbers to try: more with each try over the limit, and never more than a slow phone tries in three seconds.
STEP = 20_000
MOST = 150_000


class Operation(StrEnum):
    """What may ask for a proof. Never a sign-in or a refresh: that would lock people out."""

    SIGN_UP = "sign_up"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - not a password
    SIGN_IN_CODE = "sign_in_code"


_LIMITS = {
    Operation.SIGN_UP: ("signup_per_ip", "signup_challenge_per_ip"),
    Operation.RESET_PASSWORD: ("mail_per_ip", "mail_challenge_per_ip"),
    Operation.SIGN_IN_CODE: ("mail_per_ip", "mail_challenge_per_ip"),
}
_CORE = struct.Struct(">8sII")  # chance, until when, how many numbers


def count(operation: Operation, *, caller: Caller) -> Counted:
    """One more try from this network address. Raises RateLimited."""
    limit, lower = _LIMITS[operation]
    return rate_limits.count_both(limit, lower, caller=caller)


def require(operation: Operation, *, caller: Caller, counted: Counted | None = None) -> None:
    """One more try, unless it is `counted` already. Over the limit, use up the proof that the caller brings.

    Raises RateLimited, and ChallengeRequired with a new challenge."""
    counted = counted or count(operation, caller=caller)
    if counted.over <= 0 or not settings.PROOF_OF_WORK:
        return
    if not caller.proof:
        counted.take_back()  # asking for a challenge is no try
    elif _is_new(operation, caller):
        return
    puzzle = _puzzle(operation, caller, min(MOST, STEP * counted.over))
    reason = f"{counted.name}, {'wrong, old or used proof' if caller.proof else 'no proof'}"
    raise ChallengeRequired(counted.retry_after, counted.name, reason=reason, challenge=puzzle)


def _puzzle(operation: Operation, caller: Caller, most: int) -> Puzzle:
    core = _CORE.pack(os.urandom(8), int(now().timestamp()) + LIFETIME, most)
    mac = sealing.mac("proof of work", _bound(operation, caller, core))
    prefix = base64.urlsafe_b64encode(core + mac[:16]).decode().rstrip("=") + "."
    target = sha256(f"{prefix}{_number(mac, most)}".encode()).hexdigest()
    return {"algorithm": "SHA-256", "prefix": prefix, "target": target, "max": most, "expires_in": LIFETIME}


def _bound(operation: Operation, caller: Caller, core: bytes) -> bytes:
    assert caller.ip is not None
    return f"{operation} {rate_limits.network_of(caller.ip)} ".encode() + core


def _number(mac: bytes, most: int) -> int:
    """The half of the code that is not shown chooses it."""
    return int.from_bytes(mac[16:]) % (most + 1)


def _is_new(operation: Operation, caller: Caller) -> bool:
    """Whether the caller solved a challenge of ours, for this operation and network, that nobody has used."""
    head, _dot, number = caller.proof.partition(".")
    try:
        given = base64.urlsafe_b64decode(f"{head}=")
        core, signature = given[:16], given[16:]
        _chance, until, most = _CORE.unpack(core)
    except (ValueError, struct.error):
        return False
    macs = sealing.macs("proof of work", _bound(operation, caller, core))
    ours = any(hmac.compare_digest(m[:16] + b"%d" % _number(m, most), signature + number.encode()) for m in macs)
    return ours and until > now().timestamp() and tickets.use_once(UUID(bytes=signature), until=until)
