"""The TOTP authenticator and its recovery codes: turning MFA on and off. What requires a code: sessions/mfa.py.

An unfinished set-up leaves nothing behind: the secret travels in a ticket until a code of it is entered. If it were
stored, it would be offered again later, to somebody who may have seen it on a borrowed device."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Value
from django.db.models.functions import Replace
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import EmailNotVerified, MfaIsOff, MfaIsOn
from accounts.models import Passkey, Session, TotpAuthenticator, User
from accounts.services import mail
from accounts.services.authentication import reauthentication
from accounts.services.security import audit, rate_limits, tickets
from accounts.services.sessions import locks, mfa, sessions


@dataclass(frozen=True, kw_only=True)
class _SettingUp(tickets.SetupTicket):
    PURPOSE = "two-step"
    LIFETIME = timedelta(minutes=30)  # an app has to be found and installed first
    secret: str


@dataclass(frozen=True)
class Setup:
    """`secret` (Base32) is typed into an authenticator app, `uri` is for a QR code; `state` comes back with a code."""

    secret: str
    uri: str
    state: str


def begin(*, user: User, session: Session) -> Setup:
    """A new secret. MFA is off until `turn_on`. Raises RecentSignInNeeded, EmailNotVerified, MfaIsOn."""
    reauthentication.require_recent(user, session)
    require_verified(user)
    if mfa.is_on(user):
        raise MfaIsOn
    secret = base64.b32encode(secrets.token_bytes(20)).decode()
    ticket = _SettingUp(user=user.id.hex, session=session.id.hex, secret=secret)
    return _setup(user, secret, tickets.issue(ticket))


def begun(*, user: User, session: Session, state: str) -> Setup:
    """The set-up that a state belongs to, to show it again. Raises SetupExpired."""
    return _setup(user, tickets.read_own(_SettingUp, state, user, session).secret, state)


def _setup(user: User, secret: str, state: str) -> Setup:
    # The label is "issuer:account", so an issuer has no colon. Apps read "+" as a plus sign, not as a blank.
    issuer = " ".join(settings.SITE_NAME.replace(":", " ").split())
    query = urlencode({"secret": secret, "issuer": issuer}, quote_via=quote, safe="")
    return Setup(
        secret, f"otpauth://totp/{quote(issuer, safe='')}:{quote(user.username_display, safe='')}?{query}", state
    )


def turn_on(*, user: User, session: Session, state: str, code: str, caller: Caller) -> Sequence[str]:
    """Turn MFA on: the right code shows that the app has the secret. Returns the recovery codes, which are never shown
    again. Raises SetupExpired, InvalidCode (the state stays valid), MfaIsOn, RateLimited."""
    found = tickets.read_own(_SettingUp, state, user, session)
    given = mfa.read_code(code, mfa.TOTP_CODE)
    rate_limits.spend_or_refuse("wrong_second_step_per_account", user.id)
    seed = base64.b32decode(found.secret)
    step = mfa.matching_step(seed, given)
    if step is None:
        raise mfa.wrong_code(given, "not what the app shows")
    rate_limits.refund("wrong_second_step_per_account", user.id)
    recovery = secrets.token_bytes(32)
    with transaction.atomic():
        require_verified(locks.lock_signed_in(user, session))
        if mfa.is_on(user):
            raise MfaIsOn
        tickets.spend(found)
        TotpAuthenticator.objects.create(
            user=user,
            sealed_seed=mfa.seal(seed),
            last_step=step,
            sealed_recovery_seed=mfa.seal(recovery),
        )
        sessions.strengthen(session, ("otp", mfa.MFA))
        audit.record(audit.Kind.TWO_STEP_ENABLED, user=user, caller=caller, session=session)
        mail.send(mail.Message.FACTOR_ADDED, user=user, caller=caller, context={"factor": "two_step"})
    return mfa.shown(recovery)


def require_verified(user: User) -> None:
    """A user without a verified address may have signed up with somebody else's, and must not set up what would keep
    the owner out. Raises EmailNotVerified."""
    if not user.email_verified:
        raise EmailNotVerified("second factors need a proved address")


def turn_off(*, user: User, session: Session, caller: Caller) -> None:
    """The recovery codes are removed too. Raises RecentSignInNeeded, MfaIsOff."""
    reauthentication.require_recent(user, session)
    with transaction.atomic():
        locks.lock_signed_in(user, session)
        if not _remove_step(user, caller, session):
            raise MfaIsOff


def _remove_step(user: User, caller: Caller, session: Session | None = None) -> bool:
    if not TotpAuthenticator.objects.filter(user=user).delete()[0]:
        return False
    _weaken(user)
    audit.record(audit.Kind.TWO_STEP_DISABLED, user=user, caller=caller, session=session)
    mail.send(mail.Message.FACTOR_REMOVED, user=user, caller=caller, context={"factor": "two_step"})
    return True


def remove_passkey(passkey: Passkey, caller: Caller, session: Session | None = None) -> None:
    """In the caller's transaction, which has locked the user."""
    user, name = passkey.user, passkey.name
    passkey.delete()
    _weaken(user)
    audit.record(audit.Kind.PASSKEY_REMOVED, user=user, caller=caller, session=session, name=name)
    context = {"factor": "passkey", "other": name}
    mail.send(mail.Message.FACTOR_REMOVED, user=user, caller=caller, context=context)


def _weaken(user: User) -> None:
    """When the last second factor is removed, no open session counts as MFA any longer."""
    if not mfa.is_on(user) and not Passkey.objects.filter(user=user).exists():
        without = Replace(F("authenticated_by"), Value(f" {mfa.MFA}"), Value(""))
        Session.objects.open().filter(user=user).update(authenticated_by=without)


def remove_all(*, user: User, caller: Caller) -> int:
    """By an operator or staff, for an owner who has lost them. Returns how many were removed."""
    with transaction.atomic():
        list(User.objects.lock().filter(id=user.id).values_list("id"))
        keys = list(Passkey.objects.filter(user=user).select_related("user"))
        for passkey in keys:
            remove_passkey(passkey, caller)
        return len(keys) + _remove_step(user, caller)


def make_recovery_codes(*, user: User, session: Session, caller: Caller) -> Sequence[str]:
    """Ten new ones; the old ones stop working. Raises RecentSignInNeeded, MfaIsOff."""
    reauthentication.require_recent(user, session)
    seed = secrets.token_bytes(32)
    with transaction.atomic():
        locks.lock_signed_in(user, session)
        changed = TotpAuthenticator.objects.filter(user=user).update(
            sealed_recovery_seed=mfa.seal(seed), recovery_used=0, recovery_made_at=now()
        )
        if not changed:
            raise MfaIsOff
        audit.record(audit.Kind.RECOVERY_CODES_MADE, user=user, caller=caller, session=session)
        mail.send(mail.Message.FACTOR_ADDED, user=user, caller=caller, context={"factor": "recovery_codes"})
    return mfa.shown(seed)


@dataclass(frozen=True)
class Factors:
    """What a user has set up beside the password. `recovery_codes_left` is 0 where two-step verification is off."""

    two_step_since: datetime | None
    recovery_codes_left: int
    passkeys: Sequence[Passkey]


def overview(user: User) -> Factors:
    row = TotpAuthenticator.objects.filter(user=user).first()
    return Factors(
        row.created_at if row else None,
        mfa.recovery_codes_left(row) if row else 0,
        list(user.passkeys.order_by("id")),
    )


@dataclass(frozen=True)
class Summary:
    """The same in numbers, by one statement."""

    two_step_since: datetime | None
    recovery_codes_left: int
    passkeys: int


def summary(user: User) -> Summary:
    found = User.objects.filter(id=user.id).values_list("totp__created_at", "totp__recovery_used", Count("passkeys"))
    since, used, passkeys = found.get()
    return Summary(since, mfa.RECOVERY_CODES - used.bit_count() if since else 0, passkeys)


# --- When an account changes hands --------------------------------------------------------------------------


def forget(user: User, *, since: datetime | None = None) -> None:
    """Remove the authenticator, or leave it if its recovery codes are older than `since`: a stranger who made new
    ones may still have them. The caller's transaction has locked the user."""
    found = TotpAuthenticator.objects.filter(user=user)
    (found.filter(recovery_made_at__gte=since) if since else found).delete()


def revoke(user: User, *, since: datetime | None, taken_over: bool, caller: Caller) -> None:
    """Remove an authenticator that was set up after `since` (lifecycle.Revocation), in the caller's transaction.

    The tries at its codes are given back: a stranger who knew the earlier password may have spent them."""
    mfa.clear_tries(user)
    if since and taken_over:
        forget(user, since=since)
    elif since and TotpAuthenticator.objects.filter(user=user, created_at__gte=since).exists():
        _remove_step(user, caller)


def seal_anew() -> int:
    """Re-seal what an earlier SECRET_KEY sealed, so that the fallback can be dropped. Returns how many rows changed."""
    if not settings.SECRET_KEY_FALLBACKS:
        return 0
    return sum(_seal_row_anew(row) for row in TotpAuthenticator.objects.iterator())


def _seal_row_anew(row: TotpAuthenticator) -> int:
    sealed = {"sealed_seed": bytes(row.sealed_seed), "sealed_recovery_seed": bytes(row.sealed_recovery_seed)}
    if all(mfa.is_sealed_anew(value) for value in sealed.values()):
        return 0
    anew = {name: mfa.seal(mfa.unseal(value)) for name, value in sealed.items()}
    # Not if the user has just made new codes.
    return TotpAuthenticator.objects.filter(user=row.user_id, **sealed).update(**anew)


PASSKEY = ("id", "name", "synced", "created_at", "last_used_at")


def export(user: User) -> dict[str, Any]:
    """For the copy of the data: what is set up, and since when. The secrets themselves would only help a thief."""
    found = overview(user)
    return {
        "authenticator_app_since": found.two_step_since,
        "recovery_codes_left": found.recovery_codes_left,
        "passkeys": [{name: getattr(one, name) for name in PASSKEY} for one in found.passkeys],
    }
