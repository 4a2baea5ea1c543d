"""Lock an account until the transaction ends, and refuse if it changed since it was checked."""

from accounts.errors import SessionRevoked, WrongPassword
from accounts.models import Session, User


def lock(user: User, confirmed: str) -> None:
    """Until the end of the transaction nobody else changes this user; WrongPassword where the password was changed
    since it was confirmed: by an owner who takes the account back at this very moment."""
    if not User.objects.lock().filter(id=user.id, password=confirmed).exists():
        raise WrongPassword("changed meanwhile")


def lock_signed_in(user: User, session: Session) -> User:
    """Until the end of the transaction nobody else changes this user; SessionRevoked where the device was signed out or
    the account erased meanwhile: by an owner who takes it back at this very moment."""
    held = User.objects.lock().filter(id=user.id).first()
    if held is None or not Session.objects.open().filter(id=session.id, user=held).exists():
        raise SessionRevoked("signed out at this moment")
    return held


def lock_active(user: User, session: Session | None) -> User:
    """The same for an account that must not be switched off either, and without a device where none asks for it: a
    sign-up, or the worker."""
    held = lock_signed_in(user, session) if session else User.objects.lock().filter(id=user.id).first()
    if held is None or not held.is_active:
        raise SessionRevoked("erased or switched off at this moment")
    return held
