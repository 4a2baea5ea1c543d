"""Lock an account until the transaction ends, and refuse if it changed since it was checked."""

from accounts.errors import SessionRevoked, WrongPassword
from accounts.models import Session, User


def lock(user: User, confirmed: str) -> None:
    """Lock the user's row. Raises WrongPassword if the password has changed since it was confirmed, for example by an
    owner who is recovering the account."""
    if not User.objects.lock().filter(id=user.id, password=confirmed).exists():
        raise WrongPassword("changed in the meantime")


def lock_signed_in(user: User, session: Session) -> User:
    """Lock the user's row and return it. Raises SessionRevoked if the session was ended or the account erased in the
    meantime, for example by an owner who is recovering it."""
    locked = User.objects.lock().filter(id=user.id).first()
    if locked is None or not Session.objects.open().filter(id=session.id, user=locked).exists():
        raise SessionRevoked("signed out in the meantime")
    return locked


def lock_active(user: User, session: Session | None) -> User:
    """The same for an account that must also be active. A sign-up and the worker have no session."""
    locked = lock_signed_in(user, session) if session else User.objects.lock().filter(id=user.id).first()
    if locked is None or not locked.is_active:
        raise SessionRevoked("erased or switched off in the meantime")
    return locked
