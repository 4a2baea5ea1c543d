"""What staff do to other accounts, by the same rules as the owners themselves.

The owner's log says that staff did it, not who: it is copied into exports and outlives the staff account. Operators
find the name in the admin's history (LogEntry), which is deleted with either account."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction

from accounts.caller import Caller
from accounts.errors import NotAllowed, OwnAccount
from accounts.models import User
from accounts.services.account import deletion, email_addresses, password_resets, users
from accounts.services.authentication import identities, totp
from accounts.services.security import audit
from accounts.services.sessions import sessions

RIGHT = "accounts.change_user"


def may_act(staff: User, user: User) -> bool:
    """Whether this member of staff has the permission. Only superusers act on other staff."""
    if not (staff.is_active and staff.is_staff and staff.has_perm(RIGHT)):
        return False
    return staff.is_superuser or not (user.is_staff or user.is_superuser)


@contextmanager
def _acting(what: str, *, staff: User, user: User, caller: Caller) -> Iterator[tuple[User, Caller]]:
    """Lock both accounts and check the permission again. The action and its history entry are one transaction."""
    if not may_act(staff, user):
        raise NotAllowed
    with transaction.atomic():
        held = {row.id: row for row in User.objects.lock().filter(id__in={staff.id, user.id}).order_by("id")}
        actor, target = held.get(staff.id), held.get(user.id)
        if actor is None or target is None or not may_act(actor, target):
            raise NotAllowed("changed in the meantime")
        # The owner must not see the address or language of staff.
        yield target, Caller(ip=None, known_as=settings.SITE_NAME, by_staff=True)
        LogEntry.objects.create(
            user=actor,
            content_type=ContentType.objects.get_for_model(User),
            object_id=str(target.id),
            object_repr=target.username,
            action_flag=CHANGE,
            change_message=f"{what}, from {caller.ip}",
        )


def disable(*, staff: User, user: User, caller: Caller) -> None:
    """Switch an account off, which ends every session at once. Raises NotAllowed, OwnAccount, LastSuperuser."""
    _refuse_oneself(staff, user)
    with transaction.atomic():
        if may_act(staff, user):
            deletion.require_another_superuser(user)  # before `_acting`, because it locks more than two accounts
        with _acting("disable", staff=staff, user=user, caller=caller) as (target, ours):
            if target.is_active:
                users.set_active(user=target, active=False, caller=ours)


def enable(*, staff: User, user: User, caller: Caller) -> None:
    """Switch it on again. Raises NotAllowed."""
    with _acting("enable", staff=staff, user=user, caller=caller) as (target, ours):
        if not target.is_active:
            users.set_active(user=target, active=True, caller=ours)


def revoke_password(*, staff: User, user: User, caller: Caller) -> None:
    """Sign out every device and make the password unusable; an email lets the owner choose a new one.

    Raises NotAllowed, OwnAccount."""
    _refuse_oneself(staff, user)
    with _acting("revoke password", staff=staff, user=user, caller=caller) as (target, ours):
        password_resets.revoke(target, caller=ours)


def end_sessions(*, staff: User, user: User, caller: Caller) -> None:
    """Sign every device out. Raises NotAllowed."""
    with _acting("end sessions", staff=staff, user=user, caller=caller) as (target, ours):
        sessions.end_others(user=target, keep=None, caller=ours)


def resend_confirmation(*, staff: User, user: User, caller: Caller) -> None:
    """Send the verification email again, if the address is not verified. Raises NotAllowed."""
    with _acting("resend confirmation", staff=staff, user=user, caller=caller) as (target, ours):
        if target.email and not target.email_verified:
            email_addresses.send_confirmation(target, target.email, caller=ours)
            audit.record(audit.Kind.EMAIL_CONFIRMATION_RESENT, user=target, caller=ours)


def remove_second_factors(*, staff: User, user: User, caller: Caller) -> None:
    """Remove passkeys and MFA of an owner who has lost them and has shown who they are. An email tells of each.

    Raises NotAllowed, OwnAccount."""
    _refuse_oneself(staff, user)
    with _acting("remove second factors", staff=staff, user=user, caller=caller) as (target, ours):
        totp.remove_all(user=target, caller=ours)


def disconnect_identities(*, staff: User, user: User, caller: Caller) -> None:
    """Disconnect all sign-in providers, for an owner who has lost control of one. An email tells of each.

    Raises NotAllowed, OwnAccount."""
    _refuse_oneself(staff, user)
    with _acting("disconnect identities", staff=staff, user=user, caller=caller) as (target, ours):
        identities.unlink_all(user=target, caller=ours)


def call_off_deletion(*, staff: User, user: User, caller: Caller) -> None:
    """Cancel a planned deletion, if there is one. Raises NotAllowed."""
    with _acting("call off deletion", staff=staff, user=user, caller=caller) as (target, ours):
        deletion.cancel_locked(target, caller=ours)


def _refuse_oneself(staff: User, user: User) -> None:
    if staff.id == user.id:
        raise OwnAccount
