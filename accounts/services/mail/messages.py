"""Which emails there are, and how one is written: composed in the transaction of the change, then queued."""

import unicodedata
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.utils import timezone, translation
from post_office.models import PRIORITY, Email

from accounts.caller import Caller
from accounts.lib import addresses, brand, time_zones
from accounts.lib.clock import now
from accounts.models import MailOwner, User
from accounts.services.mail import queue


class Message(StrEnum):
    """Every email. Each has three templates: templates/mail/<name>.{subject.txt,txt,html}."""

    CONFIRM_EMAIL = "confirm_email"
    SIGN_UP = "sign_up"
    WELCOME = "welcome"
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
    IDENTITY_LINKED = "identity_linked"
    IDENTITY_UNLINKED = "identity_unlinked"
    RECOVERY_CODE_USED = "recovery_code_used"
    SECOND_STEP_TRIED = "second_step_tried"


# Somebody is waiting for these: they are sent before the notices.
CODES = frozenset(
    {Message.CONFIRM_EMAIL, Message.SIGN_UP, Message.RESET_PASSWORD, Message.PASSWORD_REVOKED, Message.SIGN_IN}
)
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
    """Queue one email to a user, at `to` or at the address they have. In the caller's transaction. A user who is not
    written yet leaves no record of it.

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
    is_written = not user._state.adding  # noqa: SLF001 - Django has no public word for it
    MailOwner.objects.create(mail=email, user=user if is_written else None)
    return email


def render(message: Message, *, user: User, caller: Caller, to: str, context: dict[str, Any]) -> tuple[str, str, str]:
    """Subject, text part and HTML part, in the active language and the user's time zone."""
    words = {
        **frame(),
        "domain": urlsplit(settings.PUBLIC_URL).hostname,
        "username": _unlinked(user.username_display),
        "name": _greeted(user),
        "to": addresses.shown(to),
        "device": _plain(caller.label),
        "ip": caller.ip,
        "at": now(),
        **context,
    }
    if "other" in words:
        words["other"] = _unlinked(words["other"])
    with timezone.override(time_zones.zone_of(user.time_zone)):
        subject = " ".join(render_to_string(f"mail/{message}.subject.txt", words).split())
        text = render_to_string(f"mail/{message}.txt", words).strip() + "\n"
        # What the text part says after the greeting: the same in the HTML part, and the preview in an inbox's list.
        words["sentence"] = text.split("\n\n")[1]
        return subject, text, render_to_string(f"mail/{message}.html", words)


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
    follows each dot."""
    return username.replace(".", ".\N{WORD JOINER}")


def _greeted(user: User) -> str:
    """The first name, else the username. A stranger who enters somebody's address chooses the name: what is long or
    has digits, such as a message with a telephone number, greets nobody."""
    name = _plain(user.first_name)
    if 0 < len(name) <= 40 and not any(character.isdigit() for character in name):
        return name
    return _unlinked(user.username_display)


def _plain(label: str) -> str:
    """A device's name without what mail programs turn into links. A stranger who asks for somebody's reset email
    chooses it."""
    kept = "".join(letter if _is_harmless(letter) else " " for letter in label)
    return " ".join(kept.split())[:60]


def _is_harmless(letter: str) -> bool:
    # With marks and joiners, such as in Hindi and Persian names, and with emoji.
    kind = unicodedata.category(letter)
    return letter.isalnum() or letter in " '\u2019()-_\u200c\u200d" or kind[0] == "M" or kind in {"So", "Sk"}
