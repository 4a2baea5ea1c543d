"""The security log. Every kind of event stands here; each is written in the transaction of what it tells."""

from enum import StrEnum
from uuid import UUID

from django.conf import settings
from django.utils.timezone import now

from accounts.models import Event, Session, User
from accounts.origin import Origin


class Kind(StrEnum):
    USER_SIGNED_UP = "user.signed_up"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    LOGIN_FAILED = "login.failed"
    SESSION_STARTED = "session.started"
    SESSION_ENDED = "session.ended"
    SESSION_REUSED = "session.reused"
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - the name of an event
    PASSWORD_RESET_REQUESTED = "password.reset_requested"  # noqa: S105
    PASSWORD_RESET = "password.reset"  # noqa: S105
    EMAIL_CHANGE_REQUESTED = "email.change_requested"
    EMAIL_CHANGED = "email.changed"
    EMAIL_CONFIRMED = "email.confirmed"
    EMAIL_CLAIM_LAPSED = "email.claim_lapsed"
    PROFILE_CHANGED = "profile.changed"
    PICTURE_CHANGED = "picture.changed"
    PICTURE_REMOVED = "picture.removed"


def record(
    kind: Kind,
    *,
    user: User | UUID,
    origin: Origin,
    session: Session | UUID | None = None,
    **data: str | int | list[str],
) -> None:
    """`data` holds names and counts, never a secret and never an address's text."""
    Event.objects.create(
        kind=kind,
        user_id=user.id if isinstance(user, User) else user,
        ip=origin.ip,
        device=origin.label[:200],
        session_id=session.id if isinstance(session, Session) else session,
        data=data,
    )


def prune() -> int:
    count, _ = Event.objects.filter(created_at__lt=now() - settings.EVENT_RETENTION).delete()
    return count
