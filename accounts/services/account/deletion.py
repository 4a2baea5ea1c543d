"""Deleting an account: planned after re-authentication, cancelled at any time in the grace period, then erased.

Until then everything works as before, and every page and profile shows the date: an owner must notice if somebody else
asked for the deletion. Signing in does not cancel it. Erasing is one transaction per account and leaves an
anonymous tombstone, and a note in the bucket by which a restored backup is told (restoring.py)."""

import logging
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.contrib.sessions.models import Session as BrowserSession
from django.db import transaction

from accounts.caller import NOBODY, Caller
from accounts.errors import InvalidKey, LastSuperuser, RecentSignInNeeded
from accounts.lib import sealing
from accounts.lib.clock import now
from accounts.lib.storage import bucket
from accounts.models import Challenge, Session, Tombstone, User
from accounts.services import mail
from accounts.services.account import lifecycle
from accounts.services.authentication import reauthentication
from accounts.services.credentials import challenges, identifiers, reserved_usernames
from accounts.services.profile import objects
from accounts.services.security import audit, rate_limits
from accounts.services.sessions import locks

log = logging.getLogger(__name__)

LAST_MAIL = timedelta(days=7)  # after which the mail that it is done is given up, and its row removed

# --- Planning -----------------------------------------------------------------------------------------------


def request(*, user: User, session: Session, password: str, caller: Caller) -> datetime:
    """Plan the deletion. The user gives the password or has just signed in on this device. Returns when the account is
    erased; a second request does not change it.

    Raises WrongPassword, MfaRequired, RecentSignInNeeded, LastSuperuser, RateLimited, Overloaded, SessionRevoked."""
    reauthentication.require_mfa(user, session)
    confirmed = reauthentication.confirm_password(user=user, password=password, caller=caller) if password else None
    with transaction.atomic():
        require_another_superuser(user)
        if confirmed is not None:
            locks.lock(user, confirmed)
        row = locks.lock_active(user, None)
        if confirmed is None and not reauthentication.is_recent(session):
            raise RecentSignInNeeded
        if row.deletes_at is None:
            plan_locked(row, caller=caller)
    assert row.deletes_at is not None
    user.deletes_at, user.updated_at = row.deletes_at, row.updated_at
    return row.deletes_at


def require_another_superuser(user: User) -> None:
    """The last superuser can't be deleted. All of them are locked, so that no two leave at the same time."""
    if not user.is_superuser:
        return
    supers = User.objects.lock().filter(is_superuser=True, is_active=True).order_by("id")
    if not [other for other in supers if other.id != user.id and other.deletes_at is None]:
        raise LastSuperuser


def plan_locked(user: User, *, caller: Caller) -> None:
    """The grace period begins now, and the user is told. The caller's transaction has locked the row."""
    user.deletes_at = now() + settings.DELETION_GRACE
    user.save_profile("deletes_at")
    audit.record(audit.Kind.USER_DELETION_PLANNED, user=user, caller=caller)
    secrets = challenges.issue(Challenge.Kind.KEEP_ACCOUNT, user=user, email=user.email, caller=caller)
    at, link = user.deletes_at, f"{settings.PUBLIC_URL}/account/delete/undo/{secrets.key}/"
    words = {"erased_at": at, "link": link}
    mail.send(mail.Message.DELETION_PLANNED, user=user, caller=caller, context=words, expires_at=at)


# --- Taking it back -----------------------------------------------------------------------------------------


def cancel(*, user: User, caller: Caller) -> None:
    """Keep the account. Does nothing if no deletion is planned, or the account has just been erased."""
    with transaction.atomic():
        row = User.objects.lock().filter(id=user.id).first()
        if row:
            cancel_locked(row, caller=caller)
    user.deletes_at = None


def cancel_locked(user: User, *, caller: Caller) -> None:
    """The same for a user whose row the caller has locked."""
    if user.deletes_at is None:
        return
    user.deletes_at = None
    user.save_profile("deletes_at")
    Challenge.objects.open().filter(user=user, kind=Challenge.Kind.KEEP_ACCOUNT).close()
    audit.record(audit.Kind.USER_DELETION_CANCELLED, user=user, caller=caller)
    mail.send(mail.Message.DELETION_CANCELLED, user=user, caller=caller)


def match_key(key: str) -> Challenge:
    """The open offer that a mailed link belongs to. Changes nothing. Raises InvalidKey."""
    return challenges.match_key(Challenge.Kind.KEEP_ACCOUNT, key)


def cancel_by_key(*, key: str, caller: Caller) -> User:
    """Cancel the deletion with the key of the email's link. Raises InvalidKey, InvalidCode, RateLimited."""
    rate_limits.count_address("code_per_ip", caller=caller)
    offer = match_key(key)
    assert offer.user_id is not None
    with transaction.atomic():
        user = User.objects.lock().filter(id=offer.user_id).first()
        if user is None:
            raise InvalidKey("erased in the meantime")
        challenges.close(offer)
        cancel_locked(user, caller=caller)
    return user


# --- Erasing ------------------------------------------------------------------------------------------------


@shared_task(name="accounts.erase_due_accounts")
def erase_due() -> int:
    """In the worker: erase the accounts whose grace period is over. Several workers share them; one account that fails
    does not block the others. Returns how many."""
    due = list(User.objects.filter(deletes_at__lte=now()).order_by("deletes_at").values_list("id", flat=True)[:1000])
    # A copy of the database knows nothing of those who have kept their account since.
    if not (due and objects.may_remove()):
        return 0
    count = 0
    for user_id in due:
        try:
            count += _erase_due(user_id)
        except bucket.ERRORS as error:
            log.warning("accounts whose grace is over wait for the storage: %s", type(error).__name__)
            break
        except Exception:
            log.exception("an account whose grace is over could not be erased; it is tried again")
    return count


def _erase_due(user_id: UUID) -> bool:
    with transaction.atomic():
        # Locked to the end: nobody signs in, and only one worker erases it. FOR UPDATE, not `lock`: no event, session
        # or email about them may be added either.
        due = User.objects.select_for_update(skip_locked=True).filter(id=user_id, deletes_at__lte=now())
        user = due.first()
        if user is None:
            return False
        _erase(user, tell=True)
        _note(user_id)  # last, so that nearly nothing can undo what it says
    return True


def _erase(user: User, *, tell: bool) -> None:
    lifecycle.erase(user)
    _forget_browsers(user)
    reserved_usernames.reserve(user.username_skeleton, owner=None)
    if tell:
        # Its row loses its owner here, and is removed when it is sent (services/mail/delivery.py).
        mail.send(mail.Message.ACCOUNT_ERASED, user=user, caller=NOBODY, expires_at=now() + LAST_MAIL)
    user.delete()
    Tombstone.objects.create(erased_on=now().date())


def remove(user: User) -> None:
    """Erase an account that has been unused for so long that its browser sessions have expired: no tombstone, no email,
    and the name is free at once. The caller's transaction has locked its row."""
    lifecycle.erase(user)
    user.reserved_usernames.all().delete()
    user.delete()


def _forget_browsers(user: User) -> None:
    """Delete Django's sessions of this user, and those in which somebody typed the name or the address. They are signed
    text, so each one is decoded (40 µs)."""
    names = {str(user.id), user.username, user.email} - {""}
    found = [row.pk for row in BrowserSession.objects.iterator() if not names.isdisjoint(_texts(row.get_decoded()))]
    BrowserSession.objects.filter(pk__in=found).delete()


def _texts(value: object) -> Iterator[str]:
    """Every string in a session, folded like names and addresses."""
    if isinstance(value, str):
        yield identifiers.fold_login(value)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)


# --- Notes of the erased ------------------------------------------------------------------------------------

NOTES = "erased/"


def _note(user_id: UUID) -> None:
    """No restored backup takes back what is in the bucket. It names nobody to a reader without SECRET_KEY. Written
    before the transaction is committed, so that no erasure lacks one: if the storage is away, it is tried again."""
    key = f"{NOTES}{now():%Y-%m-%d}/{sealing.mac('erased', user_id.bytes).hex()}"
    bucket.put(key, b"", content_type="text/plain", cache_control="no-store")


def noted_since(moment: datetime) -> frozenset[str]:
    """Notes of the day of this moment and of all days after it."""
    # From the day before on: SeaweedFS skips the whole folder that it is to begin at.
    found = bucket.listing(NOTES, after=f"{NOTES}{moment - timedelta(days=1):%Y-%m-%d}", at_most=sys.maxsize)
    return frozenset(key.rpartition("/")[2] for key, _ in found if key > f"{NOTES}{moment:%Y-%m-%d}")


def is_noted(user_id: UUID, notes: frozenset[str]) -> bool:
    return any(made.hex() in notes for made in sealing.macs("erased", user_id.bytes))


def erase_again(user_id: UUID) -> None:
    """An account that a restored backup brought back. Its owner has had the email already. Noted anew, because a backup
    of before this moment has the account again, and the first note is of before that backup."""
    with transaction.atomic():
        user = User.objects.select_for_update().filter(id=user_id).first()
        if user is not None:
            _erase(user, tell=False)
            _note(user_id)
