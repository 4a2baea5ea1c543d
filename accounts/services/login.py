"""Who may sign in. A right password is not enough: whether the account is switched off or still waits for the
proof of its address is decided here too, for both faces."""

from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts.errors import (
    AccountDisabled,
    AccountError,
    EmailNotVerified,
    InvalidCredentials,
    Overloaded,
    WrongPassword,
)
from accounts.models import Session, User
from accounts.origin import Origin
from accounts.services import audit, hashing, identifiers, rate_limits, sessions
from accounts.services.sessions import SignedIn


def find(login: str) -> User | None:
    """Whom a username or an address means: the account that proved the address, else its oldest claim. One look-up."""
    folded = identifiers.fold_login(login)
    if "@" in folded:
        return User.objects.claiming(folded).first()
    return User.objects.filter(username=folded).first()


def check(*, login: str, password: str, origin: Origin) -> User:
    """The user who may sign in with this pair. One hash and the same answer for every wrong pair.

    Raises RateLimited, InvalidCredentials, AccountDisabled, EmailNotVerified, Overloaded."""
    rate_limits.count_address("login_per_ip", origin=origin)
    folded = identifiers.fold_login(login)
    rate_limits.spend_or_refuse("wrong_password_per_login", folded)
    user = find(login)
    # An account whose tries are used up under another of its names answers like a wrong password: a 429 here
    # would tell that the two names are one person.
    account = user.id if user else folded
    left = rate_limits.spend("wrong_password_per_account", account).allowed
    try:
        right = hashing.matches(user if left else None, password)
    except Overloaded:  # nothing was compared, so nothing is spent
        _give_back(folded, account if left else None)
        raise
    if user is None or not right:
        _note_failure(audit.Kind.LOGIN_FAILED if left else audit.Kind.LOGIN_PAUSED, user, origin)
        raise InvalidCredentials("unknown name" if user is None else "wrong password" if left else "tries used up")
    _give_back(folded, account)
    try:
        admit(user)
    except AccountError:
        audit.record(audit.Kind.LOGIN_REFUSED, user=user, origin=origin)
        raise
    return user


def _give_back(login: str, account: UUID | str | None) -> None:
    rate_limits.refund("wrong_password_per_login", login)
    if account is not None:
        rate_limits.refund("wrong_password_per_account", account)


def _note_failure(kind: audit.Kind, user: User | None, origin: Origin) -> None:
    """Written for nobody too, so that the time of the answer tells nothing; operators see who tries names."""
    audit.record(kind, user=user, origin=origin)


def admit(user: User) -> None:
    """Whether somebody who has proved to be this user may come in."""
    if not user.is_active:
        raise AccountDisabled
    if settings.EMAIL_VERIFICATION == "mandatory" and not user.email_verified:
        raise EmailNotVerified


def sign_in(*, login: str, password: str, origin: Origin) -> SignedIn:
    """Sign an app in. Raises what `check` raises."""
    user = check(login=login, password=password, origin=origin)
    with transaction.atomic():
        return begin_app(user, origin)


def begin_app(user: User, origin: Origin) -> SignedIn:
    session = sessions.begin(user=user, kind=Session.Kind.APP, origin=origin)
    return SignedIn(user, sessions.tokens(session))


def confirm_password(*, user: User, password: str, origin: Origin) -> None:
    """A signed-in user gives the password once more, before something dangerous. Raises WrongPassword, RateLimited."""
    rate_limits.count_address("login_per_ip", origin=origin)
    rate_limits.spend_or_refuse("wrong_password_per_account", user.id)
    full = User.objects.get(id=user.id)
    try:
        right = hashing.matches(full, password)
    except Overloaded:
        rate_limits.refund("wrong_password_per_account", user.id)
        raise
    if not right:
        _note_failure(audit.Kind.LOGIN_FAILED, full, origin)
        raise WrongPassword
    rate_limits.refund("wrong_password_per_account", user.id)
