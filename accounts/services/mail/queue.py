"""The queue of emails: rows of django-post-office, written in the transaction of the change and sent by the worker.

post_office's own backend would render a finished email once more as a template, and its sender sends twice after a
crash (docs/decisions/mail.md). Its rows, log and admin are used."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import datetime
from email.mime.base import MIMEBase
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db.models import QuerySet
from post_office.models import PRIORITY, STATUS, Email

from accounts.lib import jobs
from accounts.lib.clock import now
from accounts.models import Seen, User, uuid7
from accounts.services.mail.delivery import deliver_mail


class QueueBackend(BaseEmailBackend):
    """EMAIL_BACKEND: whatever Django or allauth sends becomes a row as well, and never blocks a request."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        for message in email_messages:
            add(message, priority=PRIORITY.medium)
        return len(email_messages)


def add(message: EmailMessage, *, priority: int, expires_at: datetime | None = None) -> Email:
    text, html = _bodies(message)
    email: Email = Email.objects.create(
        from_email=message.from_email,
        to=message.to,
        cc=message.cc,
        bcc=message.bcc,
        subject=" ".join(str(message.subject).split()),
        message=text,
        html_message=html,
        context=_attachments(message),
        headers=_headers(message),
        # Ours and made once, so that an inbox can tell a doubled email from a second one.
        message_id=f"<{uuid7()}@{urlsplit(settings.PUBLIC_URL).hostname}>",
        priority=priority,
        status=STATUS.queued,
        scheduled_time=now(),
        expires_at=expires_at,
        number_of_retries=0,
    )
    jobs.enqueue(deliver_mail)
    return email


def _bodies(message: EmailMessage) -> tuple[str, str]:
    """Text and HTML. Refuses loudly what a row has no place for."""
    if message.content_subtype == "html":
        return "", str(message.body)
    alternatives = getattr(message, "alternatives", [])
    if any(part.mimetype != "text/html" for part in alternatives) or len(alternatives) > 1:
        raise ValueError("an email has one text and one HTML part")
    return str(message.body), str(alternatives[0].content) if alternatives else ""


def _attachments(message: EmailMessage) -> dict[str, list[list[str | None]]] | None:
    """In the row itself, and so blanked and removed with it. Refuses loudly what is not a plain file."""
    files: list[list[str | None]] = []
    for part in message.attachments:
        if isinstance(part, MIMEBase):
            raise TypeError("an attachment is a name, its content and its type")
        name, content, mimetype = part
        raw = content.encode() if isinstance(content, str) else content
        files.append([name, b64encode(raw).decode(), mimetype])
    return {"attachments": files} if files else None


def _headers(message: EmailMessage) -> dict[str, str]:
    reply_to = ", ".join(message.reply_to) or settings.SUPPORT_EMAIL
    return {
        "Auto-Submitted": "auto-generated",
        "Date": formatdate(localtime=True),
        **({"Reply-To": reply_to} if reply_to else {}),
        **message.extra_headers,
    }


# --- Forgetting ---------------------------------------------------------------------------------------------


def forget(user: User) -> None:
    """Every email about an account that is erased, sent or not, and all others to the address that it had verified."""
    Email.objects.filter(owner__user=user).delete()
    if user.email_verified:
        Email.objects.filter(to=[user.email]).delete()


def _waiting() -> QuerySet[Email]:
    waiting: QuerySet[Email] = Email.objects.filter(status__in=[STATUS.queued, STATUS.requeued])
    return waiting


def _give_up(emails: QuerySet[Email]) -> int:
    return int(emails.update(status=STATUS.failed, message="", html_message="", context=None))


def drop_queued(before: datetime, *, apply: bool) -> int:
    """Send none of those that were queued before this moment. How many they are."""
    found = _waiting().filter(created__lt=before)
    return _give_up(found) if apply else int(found.count())


def prune() -> int:
    """Blank what can no longer be sent, and remove the records of old emails."""
    at = now()
    if late := _give_up(_waiting().filter(expires_at__lte=at, scheduled_time__lte=at)):
        Seen.objects.note(Seen.MAIL_FAILED, late)
    # The last emails of accounts that are gone, once they are sent or given up.
    Email.objects.filter(owner__isnull=False, owner__user=None, status__in=[STATUS.sent, STATUS.failed]).delete()
    count, _ = Email.objects.filter(created__lt=at - settings.MAIL_RETENTION).delete()
    return int(count)


_STATES = {STATUS.sent: "sent", STATUS.failed: "failed", STATUS.queued: "waiting", STATUS.requeued: "waiting"}


def export(user: User) -> Iterator[dict[str, Any]]:
    """For the copy of the data: which emails were sent and when, not their text."""
    for row in Email.objects.filter(owner__user=user).order_by("id").iterator():
        yield {"to": row.to, "subject": row.subject, "at": row.created, "state": _STATES[row.status]}
