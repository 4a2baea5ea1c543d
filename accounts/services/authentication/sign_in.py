"""Who may sign in. A right password is not enough: whether the account is switched off or still waits for the
proof of its address is decided here too, for both faces."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.utils.timezone import now

from accounts.caller import Origin
from accounts.errors import (
    AccountDisabled,
    AccountError,
    EmailNotVerified,
    InvalidCode,
    InvalidCredentials,
    Overloaded,
    RecentSignInNeeded,
    SessionRevoked,
    WrongPassword,
)
from accounts.lib import sealing
from accounts.models import Challenge, Session, TwoStep, User
from accounts.services.credentials import challenges, hashing, identifiers
from accounts.services.security import audit, rate_limits
from accounts.services.sessions import mfa, sessions
from accounts.services.sessions.mfa import Passed
from accounts.services.sessions.sessions import SignedIn

# How a first factor was proved, in the words of RFC 8176.
BY_PASSWORD = ("pwd",)
BY_MAIL = ("otp",)  # a one-time password


def find(login: str) -> User | None:
    """Whom a username or an address means: the account that proved the address, else its oldest claim. One look-up."""
    folded = identifiers.fold_login(login)
    if "@" in folded:
        return User.objects.claiming(folded).first()
    return User.objects.filter(username=folded).first()


def candidates(login: str) -> Sequence[User | None]:
    """Whose password may be meant: with a username one place, with an address two, filled or not.

    The second place is the newest other claim on the address. Without it, whoever signs up with a stranger's address
    and then signs in by it would learn whether the stranger has an account: they would get in only if not."""
    first = find(login)
    folded = identifiers.fold_login(login)
    if "@" not in folded:
        return (first,)
    others = User.objects.filter(email=folded).exclude(id=first.id if first else UUID(int=0))
    return (first, others.order_by("-created_at", "-id").first())


@dataclass
class _Try:
    """A password against one place. It is spent before anything is compared."""

    user: User | None
    account: str
    left: bool = False
    compared: bool = False

    def is_right(self, password: str) -> bool:
        # An account whose tries are used up under another of its names answers like a wrong password: a 429 here
        # would tell that the two names are one person.
        self.left = rate_limits.spend("wrong_password_per_account", self.account).allowed
        right = hashing.matches(self.user if self.left else None, password)
        self.compared = True
        return right

    def give_back(self) -> None:
        if self.left:
            rate_limits.refund("wrong_password_per_account", self.account)

    def note(self, origin: Origin) -> None:
        """Written for nobody too, so that the time of the answer tells nothing; operators see who tries names."""
        kind = audit.Kind.LOGIN_FAILED if self.left else audit.Kind.LOGIN_PAUSED
        audit.record(kind, user=self.user, origin=origin)


def check(*, login: str, password: str, origin: Origin) -> User:
    """The user who may sign in with this pair. One hash for each place, and the same answer for every wrong pair.

    Raises RateLimited, InvalidCredentials, AccountDisabled, EmailNotVerified, Overloaded."""
    rate_limits.count_address("login_per_ip", origin=origin)
    folded = identifiers.fold_login(login)
    rate_limits.spend_or_refuse("wrong_password_per_login", folded)
    tries = [_Try(user, str(user.id) if user else f"{folded} {place}") for place, user in enumerate(candidates(folded))]
    try:
        user = next((one.user for one in tries if one.is_right(password)), None)
    except Overloaded:  # what was not compared is not spent
        _give_back(folded, [one for one in tries if not one.compared], whole=not tries[0].compared)
        raise
    if user is None:
        for one in tries:
            one.note(origin)
        raise InvalidCredentials(", ".join(_reason(one) for one in tries))
    _give_back(folded, tries)
    try:
        admit(user)
    except AccountError:
        audit.record(audit.Kind.LOGIN_REFUSED, user=user, origin=origin)
        raise
    return user


def _reason(one: _Try) -> str:
    if one.user is None:
        return "unknown name"
    return "wrong password" if one.left else "tries used up"


def _give_back(login: str, tries: Sequence[_Try], *, whole: bool = True) -> None:
    if whole:
        rate_limits.refund("wrong_password_per_login", login)
    for one in tries:
        one.give_back()


def admit(user: User) -> None:
    """Whether somebody who has proved to be this user may come in."""
    if not user.is_active:
        raise AccountDisabled
    if settings.EMAIL_VERIFICATION == "mandatory" and not user.email_verified:
        raise EmailNotVerified


def sign_in_app(*, login: str, password: str, origin: Origin) -> SignedIn:
    """Sign an app in. Raises what `check` raises."""
    user = check(login=login, password=password, origin=origin)
    return begin_app(user, origin)


def begin_app(user: User, origin: Origin, *, methods: Sequence[str] = BY_PASSWORD) -> SignedIn:
    mfa.ask(user, methods, origin=origin)
    session = sessions.begin(user=user, kind=Session.Kind.APP, origin=origin, methods=methods)
    return SignedIn(user, sessions.tokens(session))


def finish(*, ticket: str, code: str, origin: Origin) -> SignedIn:
    """The second step of signing an app in (second_step.py). Raises InvalidTicket, InvalidCode, RateLimited and what
    `admit` raises."""
    passed = check_second_step(ticket=ticket, code=code, origin=origin)
    return begin_app(passed.user, origin, methods=passed.methods)


def check_second_step(*, ticket: str, code: str, origin: Origin) -> Passed:
    """Who may come in with this code, and how that was proved. Raises as `finish`."""
    passed = mfa.check(ticket=ticket, code=code, origin=origin)
    admit(passed.user)
    return passed


def begin_app_by_mail(user: User, origin: Origin) -> SignedIn:
    """Sign an app in that has shown to read the account's mail. Raises what `admit` raises, and InvalidCode where the
    password was changed at this very moment."""
    admit(user)
    try:
        return begin_app(user, origin, methods=BY_MAIL)
    except InvalidCredentials:
        raise InvalidCode("changed meanwhile") from None


def confirm_password(*, user: User, password: str, origin: Origin) -> str:
    """A signed-in user gives the password once more, before something dangerous; `hold` takes what this returns.
    Raises WrongPassword, RateLimited."""
    rate_limits.count_address("login_per_ip", origin=origin)
    rate_limits.spend_or_refuse("wrong_password_per_account", user.id)
    full = User.objects.get(id=user.id)
    try:
        right = hashing.matches(full, password)
    except Overloaded:
        rate_limits.refund("wrong_password_per_account", user.id)
        raise
    if not right:
        audit.record(audit.Kind.LOGIN_FAILED, user=full, origin=origin)
        raise WrongPassword
    rate_limits.refund("wrong_password_per_account", user.id)
    return full.password


def reauthenticate(*, user: User, session: Session, password: str, code: str = "", origin: Origin) -> None:
    """A signed-in device proves once more who uses it; with a `code` of the second step where that was turned on
    since it signed in. Raises WrongPassword, MfaRequired, InvalidCode, RateLimited."""
    confirm_password(user=user, password=password, origin=origin)
    if code and lacks_second_step(session):
        sessions.strengthen(session, mfa.step_up(user=user, code=code, origin=origin))
    require_second_step(user, session)
    sessions.strengthen(session, BY_PASSWORD)


def _methods(session: Session) -> Sequence[str]:
    """As they are now: a request of the API knows only a part of its session."""
    found = Session.objects.filter(id=session.id).values_list("authenticated_by", flat=True).first()
    return (found or "").split()


def lacks_second_step(session: Session) -> bool:
    """Whether this device signed in before two-step verification was on, and has not done the step since."""
    return mfa.MFA not in _methods(session) and TwoStep.objects.filter(user=session.user_id).exists()


def require_second_step(user: User, session: Session) -> None:
    """Before a dangerous change the password alone is not enough for such a device either: whoever turned the step on
    may have done it because somebody knows the password. Raises MfaRequired."""
    mfa.require(user, _methods(session))


RECENT = timedelta(minutes=10)


def is_recent(session: Session) -> bool:
    """Whether this device, which is still signed in, has just proved who uses it: that counts as the password."""
    recent = Session.objects.open().filter(id=session.id, authenticated_at__gt=now() - RECENT).exists()
    return recent and not lacks_second_step(session)


def require_recent(user: User, session: Session) -> None:
    """Before a change that could lock its owner out or let somebody else in. Raises MfaRequired, RecentSignInNeeded."""
    require_second_step(user, session)
    if not is_recent(session):
        raise RecentSignInNeeded


def may_administer(user: User, session: Session) -> bool:
    """Staff, and only by more than a password: what they may do to others is worth more than one secret."""
    return user.is_active and user.is_staff and mfa.MFA in session.methods


def hold(user: User, confirmed: str) -> None:
    """Until the end of the transaction nobody else changes this user; WrongPassword where the password was changed
    since it was confirmed: by an owner who takes the account back at this very moment."""
    if not User.objects.hold().filter(id=user.id, password=confirmed).exists():
        raise WrongPassword("changed meanwhile")


def hold_signed_in(user: User, session: Session) -> User:
    """Until the end of the transaction nobody else changes this user; SessionRevoked where the device was signed out or
    the account erased meanwhile: by an owner who takes it back at this very moment."""
    held = User.objects.hold().filter(id=user.id).first()
    if held is None or not Session.objects.open().filter(id=session.id, user=held).exists():
        raise SessionRevoked("signed out at this moment")
    return held


def hold_active(user: User, session: Session | None) -> User:
    """The same for an account that must not be switched off either, and without a device where none asks for it: a
    sign-up, or the worker."""
    held = hold_signed_in(user, session) if session else User.objects.hold().filter(id=user.id).first()
    if held is None or not held.is_active:
        raise SessionRevoked("erased or switched off at this moment")
    return held


# --- By a code that is mailed (passwords.py and sign_in_codes.py) -------------------------------------------


def match_code(kind: Challenge.Kind, *, login: str, code: str, origin: Origin) -> Challenge:
    """The open challenge of whoever this name means that the code belongs to; a try is spent, twenty wrong ones a
    day lock the account's codes. Raises InvalidCode, RateLimited."""
    rate_limits.count_address("code_per_ip", origin=origin)
    folded = identifiers.fold_login(login)
    user = find(folded)
    subject = user.id if user else folded
    if not rate_limits.spend("wrong_code_per_account", subject).allowed:
        raise InvalidCode("the account's codes are locked for today")
    # For nobody the same statements run, with an id that nobody has: one for each name, as for somebody.
    user_id = user.id if user else UUID(bytes=sealing.mac("nobody", folded.encode())[:16])
    challenge = challenges.match_code(kind, code, origin=origin, user_id=user_id)
    rate_limits.refund("wrong_code_per_account", subject)
    return challenge
