"""Who may sign in, for both faces. A right password is not enough: the account must be active, and verified where that
is mandatory."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from accounts.caller import Caller
from accounts.errors import (
    AccountDisabled,
    AccountError,
    EmailNotVerified,
    InvalidCode,
    InvalidCredentials,
    Overloaded,
    RateLimited,
)
from accounts.models import Session, User
from accounts.services.credentials import hashing, identifiers
from accounts.services.security import audit, rate_limits
from accounts.services.sessions import mfa, sessions
from accounts.services.sessions.mfa import Passed
from accounts.services.sessions.sessions import SignedIn

# How a first factor was proved, in the words of RFC 8176.
BY_PASSWORD = ("pwd",)
BY_MAIL = ("otp",)  # a one-time password
BY_PROVIDER = ("fed",)  # no word of RFC 8176: a provider signed the user in (OpenID Connect)
# What works while the password is paused.
INSTEAD = _("Until then, sign in with an emailed code or a passkey, or choose a new password.")
INSTEAD_WITHOUT_CODES = _("Until then, sign in with a passkey, or choose a new password.")


@dataclass
class _Try:
    """A password against one place. It is spent before anything is compared."""

    user: User | None
    account: str
    left: bool = False
    compared: bool = False

    @property
    def budget(self) -> rate_limits.Wanted:
        return "wrong_password_per_account", self.account

    def is_right(self, password: str) -> bool:
        # An account whose tries are used up under another of its names answers like a wrong password. A 429 here would
        # reveal that the two names belong to one person.
        right = hashing.matches(self.user if self.left else None, password)
        self.compared = True
        return right

    def event(self) -> audit.Kind:
        return audit.Kind.LOGIN_FAILED if self.left else audit.Kind.LOGIN_PAUSED


def check(*, login: str, password: str, caller: Caller) -> User:
    """The user who may sign in with this pair. One hash for each place, and the same answer for every wrong pair.

    Raises RateLimited, InvalidCredentials, AccountDisabled, EmailNotVerified, Overloaded."""
    rate_limits.count_address("login_per_ip", caller=caller)
    folded = identifiers.fold_login(login)
    tries = [
        _Try(user, str(user.id) if user else f"{folded} {place}")
        for place, user in enumerate(identifiers.candidates(folded))
    ]
    typed = ("wrong_password_per_login", folded)
    try:
        found = rate_limits.spend_or_refuse(*typed, *(one.budget for one in tries))
    except RateLimited as error:
        error.instead = INSTEAD if settings.SIGN_IN_BY_CODE else INSTEAD_WITHOUT_CODES
        raise
    for one, left in zip(tries, found, strict=True):
        one.left = left
    try:
        user = next((one.user for one in tries if one.is_right(password)), None)
    except Overloaded:  # what was not compared is not spent
        unspent = [one.budget for one in tries if one.left and not one.compared]
        rate_limits.refund_each(*unspent if tries[0].compared else (typed, *unspent))
        raise
    if user is None:
        # Recorded for unknown names too, so that timing reveals nothing and operators see who tries names.
        audit.record_each([(one.event(), one.user) for one in tries], caller=caller)
        raise InvalidCredentials(", ".join(_reason(one) for one in tries))
    rate_limits.refund_each(typed, *(one.budget for one in tries if one.left))
    try:
        admit(user)
    except AccountError:
        audit.record(audit.Kind.LOGIN_REFUSED, user=user, caller=caller)
        raise
    return user


def clear_tries(user: User) -> None:
    """Give all tries back, under every name that the user may type."""
    names = [("wrong_password_per_login", name) for name in (user.username, user.email) if name]
    rate_limits.clear(("wrong_password_per_account", user.id), *names)


def _reason(one: _Try) -> str:
    if one.user is None:
        return "unknown name"
    return "wrong password" if one.left else "tries used up"


def admit(user: User) -> None:
    """Raises AccountDisabled, EmailNotVerified."""
    if not user.is_active:
        raise AccountDisabled
    if settings.EMAIL_VERIFICATION == "mandatory" and not user.email_verified:
        raise EmailNotVerified


def sign_in_app(*, login: str, password: str, caller: Caller) -> SignedIn:
    """Sign an app in. Raises what `check` raises."""
    user = check(login=login, password=password, caller=caller)
    return begin_app(user, caller)


def begin_app(
    user: User, caller: Caller, *, methods: Sequence[str] = BY_PASSWORD, identity: UUID | None = None
) -> SignedIn:
    session = sessions.begin(user=user, kind=Session.Kind.APP, caller=caller, methods=methods, identity=identity)
    return SignedIn(user, sessions.tokens(session))


def finish(*, ticket: str, code: str, caller: Caller) -> SignedIn:
    """Finish an app's sign-in with a code (sessions/mfa.py). Raises InvalidTicket, InvalidCode, RateLimited and what
    `admit` raises."""
    passed = check_mfa(ticket=ticket, code=code, caller=caller)
    return begin_app(passed.user, caller, methods=passed.methods, identity=passed.identity)


def check_mfa(*, ticket: str, code: str, caller: Caller) -> Passed:
    """Return whom this code signs in, and by which methods. Raises what `finish` raises."""
    passed = mfa.check(ticket=ticket, code=code, caller=caller)
    admit(passed.user)
    return passed


def begin_app_by_mail(user: User, caller: Caller) -> SignedIn:
    """Sign an app in that has shown a code from the account's email. Raises what `admit` raises, and InvalidCode if the
    password has changed in the meantime."""
    admit(user)
    try:
        return begin_app(user, caller, methods=BY_MAIL)
    except InvalidCredentials:
        raise InvalidCode("changed in the meantime") from None
