"""Which emails there are, and how one is written: composed in the transaction of the change, then queued."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.timezone import now
from post_office.models import PRIORITY, Email

from accounts.caller import Caller
from accounts.lib import brand, time_zones
from accounts.models import MailOwner, User
from accounts.services.mail import queue


class Message(StrEnum):
    """Every email. Each has three templates: templates/mail/<name>.{subject.txt,txt,html}."""

    CONFIRM_EMAIL = "confirm_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - the name of an email
    ADDRESS_TAKEN = "address_taken"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    PASSWORD_REVOKED = "password_revoked"  # noqa: S105
    EMAIL_CHANGED = "email_changed"
    REFRESH_REUSED = "refresh_reused"
    NEW_DEVICE = "new_device"
    SIGN_IN = "sign_in"
    DELETION_PLANNED = "deletion_planned"
    DELETION_CANCELLED = "deletion_cancelled"
    ACCOUNT_ERASED = "account_erased"
    EXPORT_READY = "export_ready"
    FACTOR_ADDED = "factor_added"
    FACTOR_REMOVED = "factor_removed"
    RECOVERY_CODE_USED = "recovery_code_used"
    SECOND_STEP_TRIED = "second_step_tried"


# Somebody is waiting for these: they are sent before the notices.
CODES = frozenset({Message.CONFIRM_EMAIL, Message.RESET_PASSWORD, Message.PASSWORD_REVOKED, Message.SIGN_IN})
# This notice takes the place of a code where somebody else has verified the address. Who asked for it sees when it is
# sent, and must not see which of the two it is.
URGENT = CODES | {Message.ADDRESS_TAKEN}


def send(
    message: Message,
    *,
    user: User,
    caller: Caller,
    to: str | None = None,
    context: dict[str, Any] | None = None,
    expires_at: datetime | None = None,
) -> Email | None:
    """Queue one email to a user, at `to` or at the address they have. In the caller's transaction.

    Notices are sent to verified addresses only. Otherwise a person who claims a stranger's address could fill the
    stranger's inbox by changing their own password."""
    address = to or user.email
    if not address or not (to or message in CODES or user.email_verified):
        return None
    with translation.override(language_of(user, caller)):
        subject, text, html = render(message, user=user, caller=caller, to=address, context=context or {})
    written = EmailMultiAlternatives(subject, text, settings.DEFAULT_FROM_EMAIL, [address])
    written.attach_alternative(html, "text/html")
    priority = PRIORITY.high if message in URGENT else PRIORITY.medium
    email = queue.add(written, priority=priority, expires_at=expires_at)
    MailOwner.objects.create(mail=email, user=user)
    return email


def render(message: Message, *, user: User, caller: Caller, to: str, context: dict[str, Any]) -> tuple[str, str, str]:
    """Subject, text part and HTML part, in the active language and the user's time zone."""
    words = {
        **frame(),
        "domain": urlsplit(settings.PUBLIC_URL).hostname,
        "username": _unlinked(user.username),
        "to": to,
        "device": _plain(caller.label),
        "ip": caller.ip,
        "at": now(),
        **context,
    }
    if "other" in words:
        words["other"] = _unlinked(words["other"])
    with timezone.override(time_zones.zone_of(user.time_zone)):
        return (
            " ".join(render_to_string(f"mail/{message}.subject.txt", words).split()),
            render_to_string(f"mail/{message}.txt", words).strip() + "\n",
            render_to_string(f"mail/{message}.html", words),
        )


def frame() -> dict[str, Any]:
    """What every email has around its words."""
    return {
        "site_name": settings.SITE_NAME,
        "public_url": settings.PUBLIC_URL,
        "support_email": settings.SUPPORT_EMAIL,
        "accent": brand.palette(),
    }


def language_of(user: User, caller: Caller) -> str:
    """The user's own, else that of the request, else the service's."""
    known = dict(settings.LANGUAGES)
    return next((code for code in (user.language, caller.language) if code in known), settings.LANGUAGE_CODE)


def _unlinked(username: str) -> str:
    """A username such as free.example.com must not become a link in a stranger's email: an invisible word joiner
    stands behind each dot."""
    return username.replace(".", ".\N{WORD JOINER}")


def _plain(label: str) -> str:
    """A device's name without what mail programs turn into links. A stranger who asks for somebody's reset email
    chooses it."""
    kept = "".join(character if character.isalnum() or character in " '\u2019()-_" else " " for character in label)
    return " ".join(kept.split())[:60]
