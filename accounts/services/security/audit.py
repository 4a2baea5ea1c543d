"""The security log. All event kinds are listed here. Each is written in the transaction of the change it reports."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from accounts.caller import Caller
from accounts.errors import Words
from accounts.models import Event, Session, User
from accounts.services.security import cursors


class Kind(StrEnum):
    USER_SIGNED_UP = "user.signed_up"
    USER_HANDED_OVER = "user.handed_over"
    USER_IMPORTED = "user.imported"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    USER_DELETION_PLANNED = "user.deletion_planned"
    USER_DELETION_CANCELLED = "user.deletion_cancelled"
    LOGIN_CODE_REQUESTED = "login.code_requested"
    LOGIN_FAILED = "login.failed"
    LOGIN_PAUSED = "login.paused"
    LOGIN_REFUSED = "login.refused"
    LOGIN_HALF_WAY = "login.half_way"
    SESSION_STARTED = "session.started"
    SESSION_NEW_DEVICE = "session.new_device"
    SESSION_ENDED = "session.ended"
    SESSION_OTHERS_ENDED = "session.others_ended"
    SESSION_REPLACED = "session.replaced"
    SESSION_REUSED = "session.reused"
    CODE_FAILED = "code.failed"
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - the name of an event
    PASSWORD_RESET_REQUESTED = "password.reset_requested"  # noqa: S105
    PASSWORD_RESET = "password.reset"  # noqa: S105
    PASSWORD_REVOKED = "password.revoked"  # noqa: S105
    TWO_STEP_ENABLED = "two_step.enabled"
    TWO_STEP_DISABLED = "two_step.disabled"
    TWO_STEP_FAILED = "two_step.failed"
    RECOVERY_CODES_MADE = "recovery_codes.made"
    RECOVERY_CODE_USED = "recovery_code.used"
    PASSKEY_ADDED = "passkey.added"
    PASSKEY_RENAMED = "passkey.renamed"
    PASSKEY_REMOVED = "passkey.removed"
    PASSKEY_REFUSED = "passkey.refused"
    IDENTITY_LINKED = "identity.linked"
    IDENTITY_UNLINKED = "identity.unlinked"
    IDENTITY_REFUSED = "identity.refused"
    EMAIL_CHANGE_REQUESTED = "email.change_requested"
    EMAIL_CHANGE_CANCELLED = "email.change_cancelled"
    EMAIL_CHANGED = "email.changed"
    EMAIL_CHANGE_UNDONE = "email.change_undone"
    EMAIL_CONFIRMED = "email.confirmed"
    EMAIL_CONFIRMATION_RESENT = "email.confirmation_resent"
    EMAIL_CLAIM_LAPSED = "email.claim_lapsed"
    EMAIL_CLAIMED_ELSEWHERE = "email.claimed_elsewhere"
    USERNAME_CHANGED = "username.changed"
    PROFILE_CHANGED = "profile.changed"
    PICTURE_CHANGED = "picture.changed"
    PICTURE_REMOVED = "picture.removed"
    EXPORT_REQUESTED = "export.requested"
    EXPORT_READY = "export.ready"
    DIRECTORY_EXPORTED = "directory.exported"


# What each kind means to the person whose log it is.
WORDS: dict[Kind, Words] = {
    Kind.USER_SIGNED_UP: _("Account created"),
    Kind.USER_HANDED_OVER: _("Account taken over by the owner of its email address; name, picture and devices cleared"),
    Kind.USER_IMPORTED: _("Account imported from another service"),
    Kind.USER_DISABLED: _("Account switched off"),
    Kind.USER_ENABLED: _("Account switched on again"),
    Kind.USER_DELETION_PLANNED: _("Account deletion requested"),
    Kind.USER_DELETION_CANCELLED: _("Account deletion cancelled"),
    Kind.LOGIN_CODE_REQUESTED: _("Sign-in code requested"),
    Kind.LOGIN_FAILED: _("Failed sign-in: wrong password"),
    Kind.LOGIN_PAUSED: _("Failed sign-in: paused after too many wrong passwords"),
    Kind.LOGIN_HALF_WAY: _("Right password or emailed code; second step still needed"),
    Kind.LOGIN_REFUSED: _("Sign-in refused: right password, but the account can't sign in"),
    Kind.SESSION_STARTED: _("Signed in"),
    Kind.SESSION_NEW_DEVICE: _("Signed in on a new device"),
    Kind.SESSION_ENDED: _("Signed out"),
    Kind.SESSION_OTHERS_ENDED: _("Other devices signed out"),
    Kind.SESSION_REPLACED: _("Signed out: too many devices"),
    Kind.SESSION_REUSED: _("Signed out for safety: an old key of this device was used again"),
    Kind.CODE_FAILED: _("Wrong code entered"),
    Kind.PASSWORD_CHANGED: _("Password changed"),
    Kind.PASSWORD_RESET_REQUESTED: _("Password reset requested"),
    Kind.PASSWORD_RESET: _("Password reset by email"),
    Kind.PASSWORD_REVOKED: _("Password reset by staff: a new one must be chosen"),
    Kind.TWO_STEP_ENABLED: _("Two-step verification turned on"),
    Kind.TWO_STEP_DISABLED: _("Two-step verification turned off"),
    Kind.TWO_STEP_FAILED: _("Failed sign-in: right password, wrong second-step code"),
    Kind.RECOVERY_CODES_MADE: _("New recovery codes created; the old ones no longer work"),
    Kind.RECOVERY_CODE_USED: _("Signed in with a recovery code"),
    Kind.PASSKEY_ADDED: _("Passkey added"),
    Kind.PASSKEY_RENAMED: _("Passkey renamed"),
    Kind.PASSKEY_REMOVED: _("Passkey removed"),
    Kind.PASSKEY_REFUSED: _("Passkey refused: it may have been copied"),
    Kind.IDENTITY_LINKED: _("Sign-in provider connected"),
    Kind.IDENTITY_UNLINKED: _("Sign-in provider disconnected"),
    Kind.IDENTITY_REFUSED: _("Sign-in with a provider refused"),
    Kind.EMAIL_CHANGE_REQUESTED: _("Email address change requested"),
    Kind.EMAIL_CHANGE_CANCELLED: _("Email address change cancelled"),
    Kind.EMAIL_CHANGED: _("Email address changed"),
    Kind.EMAIL_CHANGE_UNDONE: _("Email address change undone; all devices signed out"),
    Kind.EMAIL_CONFIRMED: _("Email address confirmed"),
    Kind.EMAIL_CONFIRMATION_RESENT: _("Confirmation email sent again"),
    Kind.EMAIL_CLAIM_LAPSED: _("Email address removed: someone else confirmed it"),
    Kind.EMAIL_CLAIMED_ELSEWHERE: _("Someone entered your email address for another account"),
    Kind.USERNAME_CHANGED: _("Username changed"),
    Kind.PROFILE_CHANGED: _("Profile changed"),
    Kind.PICTURE_CHANGED: _("Picture changed"),
    Kind.PICTURE_REMOVED: _("Picture removed"),
    Kind.EXPORT_REQUESTED: _("Data export requested"),
    Kind.EXPORT_READY: _("Data export ready"),
    Kind.DIRECTORY_EXPORTED: _("List of users downloaded (as staff)"),
}
# What a person should look at.
NOTABLE = frozenset(
    {
        Kind.LOGIN_FAILED,
        Kind.LOGIN_PAUSED,
        Kind.LOGIN_REFUSED,
        Kind.CODE_FAILED,
        Kind.TWO_STEP_DISABLED,
        Kind.TWO_STEP_FAILED,
        Kind.RECOVERY_CODE_USED,
        Kind.PASSKEY_ADDED,
        Kind.PASSKEY_REFUSED,
        Kind.IDENTITY_LINKED,
        Kind.IDENTITY_REFUSED,
        Kind.SESSION_NEW_DEVICE,
        Kind.SESSION_REUSED,
        Kind.EMAIL_CLAIM_LAPSED,
        Kind.USER_DELETION_PLANNED,
    }
)
# What somebody else did, on an account of their own: where they did it is not the reader's to take away.
OF_OTHERS = frozenset({Kind.EMAIL_CLAIMED_ELSEWHERE, Kind.EMAIL_CLAIM_LAPSED})

# What is written for names that nobody has, so that it takes as long as for somebody; kept for a shorter time.
GUESSES = frozenset({Kind.LOGIN_FAILED, Kind.LOGIN_PAUSED, Kind.CODE_FAILED, Kind.EMAIL_CLAIMED_ELSEWHERE})
GUESSES_RETENTION = timedelta(days=30)


@dataclass(frozen=True)
class Page:
    events: Sequence[Event]
    next: str | None


def list_for(user: User, *, limit: int, cursor: str | None = None) -> Page:
    """The user's own security log, the newest first. Raises InvalidCursor."""
    found = Event.objects.filter(user=user).order_by("-id")
    if cursor:
        found = found.filter(id__lt=cursors.read("events", cursor))
    events = list(found[: limit + 1])
    more = len(events) > limit
    return Page(events[:limit], cursors.write("events", events[limit - 1].id) if more else None)


def record(
    kind: Kind,
    *,
    user: User | None,
    caller: Caller,
    session: Session | UUID | None = None,
    **data: str | int | list[str],
) -> None:
    """`data` holds names and counts, never a secret and never an address's text."""
    draft(kind, user=user, caller=caller, session=session, **data).save(force_insert=True)


def draft(
    kind: Kind,
    *,
    user: User | None,
    caller: Caller,
    session: Session | UUID | None = None,
    **data: str | int | list[str],
) -> Event:
    """The same for a statement that writes it beside something else."""
    return Event(
        kind=kind,
        user=user,
        ip=caller.ip,
        device=caller.label[:200],
        session_id=session.id if isinstance(session, Session) else session,
        data={**data, "by": "staff"} if caller.by_staff else data,
    )


def record_each(events: Iterable[tuple[Kind, User | None]], *, caller: Caller) -> None:
    """Several at once, in one statement."""
    Event.objects.bulk_create([draft(kind, user=user, caller=caller) for kind, user in events])


def make_anonymous(user: User) -> None:
    """Strip the log of an erased account to the kind and time of each event. The same for failed tries of one of its
    apps that met no account, since an app's name is the person's own words."""
    apps = user.sessions.filter(kind=Session.Kind.APP).exclude(name="")
    names, networks = set(apps.values_list("name", flat=True)), set(apps.values_list("ip", flat=True))
    nobodys = Q(user=None, created_at__gte=now() - GUESSES_RETENTION, device__in=names, ip__in=networks)
    Event.objects.filter(Q(user=user) | nobodys if names else Q(user=user)).update(
        user=None, ip=None, device="", session=None, data={}
    )


def prune() -> int:
    """Delete old events, and guesses at unknown names sooner."""
    old = Q(created_at__lt=now() - settings.EVENT_RETENTION)
    nobodys = Q(user=None, kind__in=GUESSES, created_at__lt=now() - GUESSES_RETENTION)
    count, _kinds = Event.objects.filter(old | nobodys).delete()
    return count


def export(user: User) -> Iterator[dict[str, Any]]:
    """The log for the copy of the data. Where somebody else did something, not from where."""
    for event in Event.objects.filter(user=user).order_by("id").iterator():
        kind = Kind(event.kind)
        theirs = kind in OF_OTHERS
        yield {
            "id": event.id,
            "kind": kind,
            "what": str(WORDS[kind]),
            "at": event.created_at,
            "ip": None if theirs else event.ip,
            "device": "" if theirs else event.device,
            "session_id": event.session_id,
            **({"data": event.data} if event.data else {}),
        }
