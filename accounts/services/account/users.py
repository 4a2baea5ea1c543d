"""Accounts as a whole: made by an operator, switched off, and removed when nobody verified an address."""

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import InvalidInput, UsernameTaken
from accounts.models import User
from accounts.services.account import deletion, lifecycle
from accounts.services.credentials import hashing, identifiers, password_policy
from accounts.services.security import audit


def make_staff(*, username: str, email: str, password: str) -> User:
    """An account with every right, made by an operator at a terminal, who vouches for the address."""
    spelling = identifiers.as_typed(username)
    username, email = identifiers.fold_username(username), identifiers.fold_email(email)
    problems = [
        identifiers.username_problem(username, by_operator=True),
        identifiers.email_problem(email),
        password_policy.problem(password, username, email),
    ]
    if found := [problem for problem in problems if problem]:
        raise InvalidInput(found)
    try:
        with transaction.atomic():
            return User.objects.create(
                username=username,
                username_typed=spelling,
                username_skeleton=identifiers.skeleton(username),
                email=email,
                email_verified=True,
                password=hashing.hashed(password),
                is_staff=True,
                is_superuser=True,
            )
    except IntegrityError:
        raise UsernameTaken("the username or the address is taken") from None


def set_active(*, user: User, active: bool, caller: Caller) -> None:
    """Switch an account off, which ends every session at once, or on again."""
    with transaction.atomic():
        User.objects.filter(id=user.id).update(is_active=active)
        user.is_active = active
        if not active:
            lifecycle.switch_off(user, caller=caller)
        audit.record(audit.Kind.USER_ENABLED if active else audit.Kind.USER_DISABLED, user=user, caller=caller)


# --- Removing -----------------------------------------------------------------------------------------------


def remove_unverified() -> int:
    """Accounts that never proved an address, older than UNPROVED_ACCOUNT_LIFETIME and not used or changed for as
    long."""
    before = now() - settings.UNPROVED_ACCOUNT_LIFETIME
    stale = (
        # updated_at: an account that was imported may be old and has still just arrived.
        User.objects.filter(email_verified=False, is_staff=False, created_at__lt=before, updated_at__lt=before)
        .filter(identities=None)  # who comes by a provider may never need an address
        .exclude(sessions__last_used_at__gte=before)
        .order_by("created_at")[:1000]
    )
    count = 0
    for user_id in list(stale.values_list("id", flat=True)):
        with transaction.atomic():
            # Looked at again: the address may have been proved, or a device used, since the list was made.
            user = User.objects.lock().filter(id=user_id, email_verified=False, is_staff=False).first()
            if user is None or user.sessions.filter(last_used_at__gte=before).exists() or user.identities.exists():
                continue
            deletion.remove(user)
        count += 1
    return count
