"""The owner of the earlier address takes an account back after a change of address."""

from dataclasses import dataclass

from django.conf import settings
from django.db import transaction

from accounts.caller import Caller
from accounts.errors import EmailInUse
from accounts.models import Challenge, User
from accounts.services.account import deletion, email_addresses, lifecycle
from accounts.services.account.lifecycle import Revocation
from accounts.services.credentials import challenges
from accounts.services.security import audit, rate_limits


@dataclass(frozen=True)
class Undone:
    """`reset_key` sets the new password, as the key of a reset link does."""

    user: User
    reset_key: str


def match_key(key: str) -> Challenge:
    """The open offer that a link belongs to. Changes nothing. Raises InvalidKey."""
    return challenges.match_key(Challenge.Kind.UNDO_EMAIL, key)


def undo(*, key: str, caller: Caller) -> Undone:
    """The owner of the earlier address recovers the account, whatever was changed since.

    The address is restored. All sessions, the password, and later links and codes stop working. A planned deletion is
    cancelled. Passkeys and a TOTP authenticator from the week before the change, or newer, are removed.

    Raises InvalidKey, EmailInUse (somebody else has verified the address since; the link stays valid), RateLimited."""
    rate_limits.count_address("code_per_ip", caller=caller)
    offer = match_key(key)
    assert offer.user_id is not None
    with transaction.atomic():
        challenges.lock_with_users(offer.email, offer.user_id)
        match_key(key)  # if the button was pressed twice at once, one of them counts
        user = User.objects.get(id=offer.user_id)
        challenges.close(offer)
        if email_addresses.is_verified_by_another(user, offer.email):
            raise EmailInUse
        email_addresses.give(user, offer.email, caller)
        user.set_unusable_password()
        user.save(update_fields=["password"])
        # A thief sets up a way back in first. What is older is the owner's.
        since = offer.created_at - settings.UNDO_LIFETIME
        lifecycle.revoke(user, Revocation(caller, since=since, taken_over=True))
        # Those who changed the address again since have offers of their own; the offers before this one stay.
        Challenge.objects.open().filter(user=user, kind=Challenge.Kind.UNDO_EMAIL, id__gt=offer.id).close()
        deletion.cancel_locked(user, caller=caller)
        audit.record(audit.Kind.EMAIL_CHANGE_UNDONE, user=user, caller=caller)
        secrets = challenges.issue(Challenge.Kind.RESET_PASSWORD, user=user, email=offer.email, caller=caller)
    return Undone(user, secrets.key)
