"""A signed-in device proves once more who uses it, before a change that could lock the owner out."""

from collections.abc import Sequence
from datetime import timedelta

from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import Overloaded, RecentSignInNeeded, WrongPassword
from accounts.models import Session, TotpAuthenticator, User
from accounts.services.authentication.sign_in import BY_PASSWORD
from accounts.services.credentials import hashing
from accounts.services.security import audit, rate_limits
from accounts.services.sessions import mfa, sessions


def confirm_password(*, user: User, password: str, caller: Caller) -> str:
    """A signed-in user enters the password again before a dangerous change. Returns the hash for `locks.lock`.

    Raises WrongPassword, RateLimited, Overloaded."""
    rate_limits.count_address("login_per_ip", caller=caller)
    rate_limits.spend_or_refuse("wrong_password_per_account", user.id)
    full = User.objects.get(id=user.id)
    try:
        right = hashing.matches(full, password)
    except Overloaded:
        rate_limits.refund("wrong_password_per_account", user.id)
        raise
    if not right:
        audit.record(audit.Kind.LOGIN_FAILED, user=full, caller=caller)
        raise WrongPassword
    rate_limits.refund("wrong_password_per_account", user.id)
    return full.password


def confirm(*, user: User, session: Session | None, password: str, caller: Caller) -> str:
    """The same for a change that a user without a password makes too, on a device that has signed in recently.

    Raises RecentSignInNeeded, MfaRequired and what `confirm_password` raises."""
    if session and not password:
        full = User.objects.get(id=user.id)
        if not full.has_usable_password():
            require_recent(full, session)
            return full.password
    return confirm_password(user=user, password=password, caller=caller)


def reauthenticate(*, user: User, session: Session, password: str, code: str = "", caller: Caller) -> None:
    """A signed-in device proves again who is using it. `code` is needed if MFA was turned on after it signed in.

    Raises WrongPassword, MfaRequired, InvalidCode, RateLimited."""
    confirm_password(user=user, password=password, caller=caller)
    prove(user=user, session=session, methods=BY_PASSWORD, code=code, caller=caller)


def prove(*, user: User, session: Session, methods: Sequence[str], code: str, caller: Caller) -> None:
    """The first factor was right; `code` as in `reauthenticate`. Raises MfaRequired, InvalidCode, RateLimited."""
    if code and lacks_mfa(session):
        sessions.strengthen(session, mfa.step_up(user=user, code=code, caller=caller))
    mfa.require(user, (*_methods(session), *methods))
    sessions.strengthen(session, methods)


def _methods(session: Session) -> Sequence[str]:
    """Read from Postgres: an API request loads only a part of its session."""
    found = Session.objects.filter(id=session.id).values_list("authenticated_by", flat=True).first()
    return (found or "").split()


def lacks_mfa(session: Session) -> bool:
    """Whether this device signed in before MFA was turned on and has not given a code since."""
    return mfa.MFA not in _methods(session) and TotpAuthenticator.objects.filter(user=session.user_id).exists()


def require_mfa(user: User, session: Session) -> None:
    """The password alone is not enough for a dangerous change on such a device: the owner may have turned MFA on
    because somebody else knows the password. Raises MfaRequired."""
    mfa.require(user, _methods(session))


RECENT = timedelta(minutes=10)


def is_recent(session: Session) -> bool:
    """Whether this session is open and has just proved who is using it, which counts as the password."""
    recent = Session.objects.open().filter(id=session.id, authenticated_at__gt=now() - RECENT).exists()
    return recent and not lacks_mfa(session)


def require_recent(user: User, session: Session) -> None:
    """Required before a change that could lock the owner out or let somebody else in.

    Raises MfaRequired, RecentSignInNeeded."""
    require_mfa(user, session)
    if not is_recent(session):
        raise RecentSignInNeeded


def may_administer(user: User, session: Session) -> bool:
    """Staff need more than a password, because of what they may do to other accounts."""
    return user.is_active and user.is_staff and mfa.MFA in session.methods
