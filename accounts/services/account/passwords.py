"""Changing a password, and what follows every new one."""

from uuid import UUID

from django.db import transaction
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import WrongPassword
from accounts.models import Session, User
from accounts.services import mail
from accounts.services.account import lifecycle
from accounts.services.account.lifecycle import Revocation
from accounts.services.authentication import reauthentication
from accounts.services.credentials import password_policy
from accounts.services.security import audit
from accounts.services.sessions import locks

# --- Changing -----------------------------------------------------------------------------------------------


def change(*, user: User, current_password: str, new_password: str, keep: UUID | None, caller: Caller) -> None:
    """A signed-in user chooses another, or the first one; every session but `keep`, that of the device that asks, ends.

    Raises MfaRequired, RecentSignInNeeded (of a user without one), WrongPassword, InvalidInput, RateLimited."""
    session = Session(id=keep, user=user) if keep else None
    if session:
        reauthentication.require_mfa(user, session)
    try:
        confirmed = reauthentication.confirm(user=user, session=session, password=current_password, caller=caller)
        encoded = password_policy.hashed(new_password, user)
        with transaction.atomic():
            locks.lock(user, confirmed)
            if session and not current_password:
                locks.lock_signed_in(user, session)
            set_new(user, encoded, Revocation(caller, keep=keep), audit.Kind.PASSWORD_CHANGED)
    except WrongPassword as error:
        error.field = "current_password"
        raise


def change_by_operator(*, user: User, new_password: str, caller: Caller) -> None:
    """At a terminal, for somebody whom no mail reaches; every session ends. Raises InvalidInput."""
    set_new(user, password_policy.hashed(new_password, user), Revocation(caller), audit.Kind.PASSWORD_CHANGED)


def set_new(user: User, encoded: str, why: Revocation, kind: audit.Kind) -> None:
    """What follows every new password: access that others may have ends, and the owner is told."""
    with transaction.atomic():
        User.objects.filter(id=user.id).update(password=encoded, updated_at=now())
        user.password = encoded
        lifecycle.revoke(user, why)
        audit.record(kind, user=user, caller=why.caller)
        mail.send(mail.Message.PASSWORD_CHANGED, user=user, caller=why.caller)
