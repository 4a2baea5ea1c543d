"""MFA: after a password or an emailed code, a code of a TOTP authenticator (RFC 6238: SHA-1, 6 digits, 30 s) or a
recovery code, which works once.

`sessions.begin` asks whether it is on, so no way to sign in can bypass it. A passkey is both factors in one
(passkeys.py). Turning MFA on and off: authentication/totp.py."""

import base64
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NoReturn
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.hotp import HOTP
from django.db import transaction
from django.db.models import F
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from accounts.caller import Caller
from accounts.errors import InvalidCode, InvalidTicket, MfaRequired, RateLimited
from accounts.lib import sealing, typed
from accounts.models import TotpAuthenticator, User
from accounts.services import mail
from accounts.services.security import audit, rate_limits, tickets

MFA = "mfa"  # RFC 8176: more than one factor
STEP = 30  # seconds
DRIFT = 1  # steps that a clock may be early or late
DIGITS = 6
RECOVERY_CODES = 10
RECOVERY_LENGTH = 12  # characters of Base32: 60 bits


# --- Asking for it ------------------------------------------------------------------------------------------


def is_on(user: User) -> bool:
    return TotpAuthenticator.objects.filter(user=user).exists()


def require(user: User, methods: Sequence[str]) -> None:
    """Whether these methods are enough for a change that could lock the owner out. Raises MfaRequired."""
    if MFA not in methods and is_on(user):
        refuse(user, methods)


def refuse(user: User, methods: Sequence[str], identity: UUID | None = None) -> NoReturn:
    """Raises MfaRequired, with the ticket for the second factor."""
    raise MfaRequired(_issue(user, methods, identity))


def _password_of(user: User) -> bytes:
    return f"{user.id} {user.password}".encode()


def _print(user: User) -> str:
    """A ticket stops working when the password changes."""
    return sealing.mac("ticket password", _password_of(user)).hex()


@dataclass(frozen=True, kw_only=True)
class HalfWay(tickets.Ticket):
    """The first factor was right."""

    PURPOSE = "mfa"
    user: str
    password: str
    methods: Sequence[str]
    identity: str = ""  # by which the user came in, if by one


def _issue(user: User, methods: Sequence[str], identity: UUID | None = None) -> str:
    came_by = identity.hex if identity else ""
    return tickets.issue(HalfWay(user=user.id.hex, password=_print(user), methods=methods, identity=came_by))


@dataclass(frozen=True)
class Passed:
    """Who has passed, by which `methods` (RFC 8176), and by which identity at a provider."""

    user: User
    methods: tuple[str, ...]
    identity: UUID | None = None


def check(*, ticket: str, code: str, caller: Caller) -> Passed:
    """Use up a TOTP or recovery code, and the ticket. A try is spent before anything is compared.

    Raises InvalidTicket, InvalidCode (the ticket stays valid), RateLimited."""
    rate_limits.count_address("code_per_ip", caller=caller)
    found = tickets.read(HalfWay, ticket)
    user = User.objects.filter(id=found.user).first()
    if user is None or not sealing.is_mac("ticket password", _password_of(user), bytes.fromhex(found.password)):
        raise InvalidTicket("changed in the meantime")
    given = read_code(code)
    is_recovery = len(given) == RECOVERY_LENGTH
    limits = LIMITS[is_recovery]
    for limit in limits:
        try:
            rate_limits.spend_or_refuse(limit, user.id)
        except RateLimited as error:
            error.instead = INSTEAD[is_recovery]
            raise
    with transaction.atomic():
        # First, as everywhere (models.UserQuerySet.lock): the account may be erased at this moment.
        held = User.objects.lock().filter(id=user.id).first()
        right = held is not None and _use(held, given, caller)
        if right:
            tickets.spend(found)
    if not right:
        _note_failure(user, caller)
        raise wrong_code(given, "wrong code of the second step")
    rate_limits.refund_each(*((limit, user.id) for limit in limits))
    came_by = UUID(hex=found.identity) if found.identity else None
    return Passed(user, tuple(dict.fromkeys([*found.methods, "otp", MFA])), came_by)


# Three in a million TOTP codes are right at any time; recovery codes cannot be guessed. Guessing at the former must not
# keep the owner from using the latter.
LIMITS = {
    False: ("wrong_second_step_per_account", "wrong_second_step_per_day"),
    True: ("wrong_recovery_code_per_account",),
}
INSTEAD = {
    False: _("A recovery code still works."),
    True: _("A code from your authenticator app still works."),
}


def _note_failure(user: User, caller: Caller) -> None:
    """A wrong code means that somebody knows the password or reads the email. The third in a day notifies the owner."""
    audit.record(audit.Kind.TWO_STEP_FAILED, user=user, caller=caller)
    if rate_limits.spend("quiet_second_step_per_account", user.id).allowed:
        return
    with transaction.atomic():
        if rate_limits.spend("second_step_notice_per_account", user.id).allowed:
            mail.send(mail.Message.SECOND_STEP_TRIED, user=user, caller=caller)


def clear_tries(user: User) -> None:
    """Give all tries back."""
    rate_limits.clear(*((limit, user.id) for limit in (*LIMITS[False], *LIMITS[True])))


def step_up(*, user: User, code: str, caller: Caller) -> tuple[str, ...]:
    """A device that signed in before MFA was turned on gives a code. Returns the methods to add.

    Raises InvalidCode, RateLimited."""
    ticket = _issue(User.objects.get(id=user.id), methods=())
    return check(ticket=ticket, code=code, caller=caller).methods


# --- Codes --------------------------------------------------------------------------------------------------


def _use(user: User, given: str, caller: Caller) -> bool:
    """Whether this is an unused TOTP or recovery code. It is used up."""
    row = TotpAuthenticator.objects.filter(user=user).select_related("user").first()
    if row is None:
        return False
    if len(given) == RECOVERY_LENGTH:
        # Base32 has no digits 0, 1 and 8: they are letters that were misread.
        return _use_recovery_code(row, given.translate(str.maketrans("018", "olb")), caller)
    step = matching_step(unseal(row.sealed_seed), given)
    # Of several at once with one code, one moves the row on.
    newer = TotpAuthenticator.objects.filter(user=user, last_step__lt=step or 0)
    return bool(newer.update(last_step=step, last_used_at=now()))


TOTP_CODE = re.compile(f"[0-9]{{{DIGITS}}}")
ANY_CODE = re.compile(f"[0-9]{{{DIGITS}}}|[a-z0-9]{{{RECOVERY_LENGTH}}}")


def read_code(code: str, kind: re.Pattern[str] = ANY_CODE) -> str:
    """A code, however it was typed. What can't be one guesses nothing and spends no try. Raises InvalidCode."""
    given = typed.code(code.lower())
    if not kind.fullmatch(given):
        raise wrong_code(given, "no code of this kind")
    return given


def wrong_code(given: str, reason: str) -> InvalidCode:
    # Recovery codes have 12 characters, one or two more or less where they were mistyped.
    kind = "recovery_code_wrong" if len(given) > RECOVERY_LENGTH - 3 else "totp_code_wrong"
    return InvalidCode(reason, kind=kind)


def seal(secret: bytes) -> bytes:
    return sealing.seal("two-step seed", secret)


def unseal(sealed: bytes | memoryview) -> bytes:
    """Raises RuntimeError if neither SECRET_KEY nor a fallback opens it."""
    secret = sealing.unseal("two-step seed", bytes(sealed))
    if secret is None:
        raise RuntimeError("SECRET_KEY and its fallbacks do not open what two-step verification was sealed with")
    return secret


def is_sealed_anew(sealed: bytes) -> bool:
    """Whether SECRET_KEY itself sealed this, not a fallback."""
    return sealing.is_current("two-step seed", sealed)


def code_at(seed: bytes, step: int) -> str:
    """The six digits of one time step."""
    return HOTP(seed, DIGITS, SHA1()).generate(step).decode()  # noqa: S303 - the one that every app knows


def matching_step(seed: bytes, given: str) -> int | None:
    """The time step that these digits belong to, if it is the present one or a neighbour."""
    newest = int(now().timestamp()) // STEP
    found = None
    for step in range(newest - DRIFT, newest + DRIFT + 1):
        if hmac.compare_digest(code_at(seed, step).encode(), given.encode()):
            found = step
    return found


def recovery_codes(seed: bytes) -> list[str]:
    """All that are made from this, used or not."""
    macs = [hmac.digest(seed, number.to_bytes(1, "big"), sha256) for number in range(RECOVERY_CODES)]
    return [base64.b32encode(mac).decode().lower()[:RECOVERY_LENGTH] for mac in macs]


def recovery_codes_left(row: TotpAuthenticator) -> int:
    return RECOVERY_CODES - row.recovery_used.bit_count()


def shown(seed: bytes) -> list[str]:
    """The recovery codes as people read them: in groups of four."""
    return ["-".join(code[start : start + 4] for start in range(0, len(code), 4)) for code in recovery_codes(seed)]


def _use_recovery_code(row: TotpAuthenticator, given: str, caller: Caller) -> bool:
    bit = 0
    for number, code in enumerate(recovery_codes(unseal(row.sealed_recovery_seed))):
        if hmac.compare_digest(code.encode(), given.encode()):
            bit = 1 << number
    # Not used before, nor by another request at the same time.
    same = TotpAuthenticator.objects.filter(
        user=row.user, recovery_used=row.recovery_used, recovery_made_at=row.recovery_made_at
    )
    if not bit or row.recovery_used & bit:
        return False
    if not same.update(recovery_used=F("recovery_used").bitor(bit), last_used_at=now()):
        return False
    row.recovery_used |= bit
    left = recovery_codes_left(row)
    audit.record(audit.Kind.RECOVERY_CODE_USED, user=row.user, caller=caller, left=left)
    mail.send(mail.Message.RECOVERY_CODE_USED, user=row.user, caller=caller, context={"left": left})
    return True
