"""Mails: composed here, kept as rows of django-post-office in the transaction of the change, delivered by the worker.

post_office's own backend would render a finished mail once more as a template, and its sender locks with a file
and sends twice after a crash (docs/decisions/mail.md). So the rows, the log and the admin are its, the rest is ours.

A row is claimed by one UPDATE that moves its `scheduled_time` to the end of a lease: a sender that dies leaves a
row that is taken again when the lease is over."""

import logging
import random
import smtplib
from collections.abc import Sequence
from datetime import datetime, timedelta
from email.utils import formatdate
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from celery import shared_task
from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend as SMTPBackend
from django.db import connection
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.timezone import now
from post_office.models import PRIORITY, STATUS, Email, Log

from accounts.models import User, uuid7
from accounts.origin import Origin
from accounts.services import worker

log = logging.getLogger(__name__)


class Message(StrEnum):
    """Every mail. Each has three templates: templates/mail/<name>.{subject.txt,txt,html}."""

    CONFIRM_EMAIL = "confirm_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - the name of a mail
    ADDRESS_TAKEN = "address_taken"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    EMAIL_CHANGED = "email_changed"
    REFRESH_REUSED = "refresh_reused"
    NEW_DEVICE = "new_device"
    SIGN_IN = "sign_in"


# Somebody is waiting for these: before the notices.
CODES = frozenset({Message.CONFIRM_EMAIL, Message.RESET_PASSWORD, Message.SIGN_IN})

# --- Composing ----------------------------------------------------------------------------------------------


def send(
    message: Message,
    *,
    user: User,
    origin: Origin,
    to: str | None = None,
    context: dict[str, Any] | None = None,
    expires_at: datetime | None = None,
) -> None:
    """Queue one mail to a user, at `to` or at the address they have. In the caller's transaction.

    Notices go to proved addresses only: whoever claims a stranger's address could fill the stranger's mail box by
    changing their own password."""
    address = to or user.email
    if not address or not (to or message in CODES or user.email_verified):
        return
    with translation.override(language_of(user, origin)):
        subject, text, html = render(message, user=user, origin=origin, to=address, context=context or {})
    mail = EmailMultiAlternatives(subject, text, settings.DEFAULT_FROM_EMAIL, [address])
    mail.attach_alternative(html, "text/html")
    _queue(mail, priority=PRIORITY.high if message in CODES else PRIORITY.medium, expires_at=expires_at)


def render(message: Message, *, user: User, origin: Origin, to: str, context: dict[str, Any]) -> tuple[str, str, str]:
    """Subject, text part and HTML part, in the active language."""
    words = {
        "site_name": settings.SITE_NAME,
        "public_url": settings.PUBLIC_URL,
        "domain": urlsplit(settings.PUBLIC_URL).hostname,
        "username": _unlinked(user.username),
        "to": to,
        "device": _plain(origin.label),
        "ip": origin.ip,
        "at": now(),
        **context,
    }
    if "other" in words:
        words["other"] = _unlinked(words["other"])
    subject = " ".join(render_to_string(f"mail/{message}.subject.txt", words).split())
    return (
        subject,
        render_to_string(f"mail/{message}.txt", words).strip() + "\n",
        render_to_string(f"mail/{message}.html", words),
    )


def language_of(user: User, origin: Origin) -> str:
    """The user's own, else that of whoever asked, else the service's."""
    known = dict(settings.LANGUAGES)
    return next((code for code in (user.language, origin.language) if code in known), settings.LANGUAGE_CODE)


def _unlinked(username: str) -> str:
    """A username such as free.example.com must not become a link in the mail of a stranger: behind each dot stands
    a word joiner, which nobody sees."""
    return username.replace(".", ".\N{WORD JOINER}")


def _plain(label: str) -> str:
    """A device's name without what mail programs make links of: a stranger who asks for somebody's reset mail
    chooses it."""
    kept = "".join(character if character.isalnum() or character in " '\u2019()-_" else " " for character in label)
    return " ".join(kept.split())[:60]


class QueueBackend(BaseEmailBackend):
    """EMAIL_BACKEND: whatever Django or allauth sends becomes a row as well, and never blocks a request."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        for mail in email_messages:
            _queue(mail, priority=PRIORITY.medium)
        return len(email_messages)


def _queue(mail: EmailMessage, *, priority: int, expires_at: datetime | None = None) -> None:
    html = next((part.content for part in getattr(mail, "alternatives", []) if part.mimetype == "text/html"), "")
    Email.objects.create(
        from_email=mail.from_email,
        to=mail.to,
        cc=mail.cc,
        bcc=mail.bcc,
        subject=" ".join(str(mail.subject).split()),
        message=mail.body,
        html_message=html,
        headers={"Auto-Submitted": "auto-generated", "Date": formatdate(localtime=True), **mail.extra_headers},
        # Ours and made once, so that a mail box can tell a doubled mail from a second one.
        message_id=f"<{uuid7()}@{urlsplit(settings.PUBLIC_URL).hostname}>",
        priority=priority,
        status=STATUS.queued,
        scheduled_time=now(),
        expires_at=expires_at,
        number_of_retries=0,
    )
    worker.tell(deliver_mail)


# --- Delivering ---------------------------------------------------------------------------------------------

SERVER_PAUSE = 10.0  # seconds until a mail that met no server is tried again
MAX_TRIES = 14  # with the pauses below: about a day
_CLAIM = """
    UPDATE post_office_email SET scheduled_time = %(lease)s, status = %(requeued)s, last_updated = %(now)s
    WHERE id = (
        SELECT id FROM post_office_email
        WHERE status IN (%(queued)s, %(requeued)s) AND scheduled_time <= %(now)s
            AND (expires_at IS NULL OR expires_at > %(now)s)
        ORDER BY priority DESC, id FOR UPDATE SKIP LOCKED LIMIT 1
    ) RETURNING id
"""


@shared_task(name="accounts.deliver_mail")
def deliver_mail() -> int:
    return deliver()


def deliver() -> int:
    """Send what is due, one row after the other over one connection, until nothing is left or the server
    fails. The number of mails sent."""
    server = SMTPBackend(fail_silently=False)
    sent = 0
    try:
        while mail := _claim():
            if not _deliver_one(mail, server):
                break
            sent += 1
    finally:
        _hang_up(server)
    return sent


def _lease() -> timedelta:
    # Longer than the slowest conversation that the time-out lets happen (connect, TLS, and six commands).
    return timedelta(seconds=settings.EMAIL_TIMEOUT * 8)


def _claim() -> Email | None:
    at = now()
    with connection.cursor() as cursor:
        cursor.execute(
            _CLAIM, {"lease": at + _lease(), "now": at, "queued": STATUS.queued, "requeued": STATUS.requeued}
        )
        row = cursor.fetchone()
    return Email.objects.get(id=row[0]) if row else None


def _deliver_one(mail: Email, server: SMTPBackend) -> bool:
    """Whether the next mail is worth a try over this connection."""
    try:
        server.open()
    except (smtplib.SMTPException, OSError) as error:
        # The server is away or will not have us: no mail's fault, so it is no try of this one, and all wait alike.
        _hang_up(server)
        _wait(mail, SERVER_PAUSE, error)
        return False
    try:
        message = mail.prepare_email_message()
        message.extra_headers.pop("Expires", None)  # post_office writes it without a year
        server.send_messages([message])
    except (smtplib.SMTPException, OSError) as error:
        _hang_up(server)
        if _is_permanent(error):
            _finish(mail, STATUS.failed, error)
            return True
        _try_later(mail, error)
        return isinstance(error, smtplib.SMTPRecipientsRefused | smtplib.SMTPDataError)
    except Exception as error:  # a mail that can't even be written must not hold up those behind it
        log.exception("mail %s can't be made into a message", mail.id)
        _finish(mail, STATUS.failed, error)
        return True
    _finish(mail, STATUS.sent)
    return True


def _hang_up(server: SMTPBackend) -> None:
    try:
        server.close()
    except (smtplib.SMTPException, OSError):
        server.connection = None


def _is_permanent(error: Exception) -> bool:
    """Whether the server said of this very mail that it will never take it (5xx), and not of us."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500


def _mine(mail: Email) -> Any:
    # Only while the lease is still this sender's.
    return Email.objects.filter(id=mail.id, scheduled_time=mail.scheduled_time, status=STATUS.requeued)


def _finish(mail: Email, status: int, error: Exception | None = None) -> None:
    _mine(mail).update(status=status, message="", html_message="", context=None, last_updated=now())
    if error is not None:
        _note(mail, error)
        log.warning("mail %s is given up: %s", mail.id, type(error).__name__)


def _try_later(mail: Email, error: Exception) -> None:
    tries = (mail.number_of_retries or 0) + 1
    if tries >= MAX_TRIES:
        _finish(mail, STATUS.failed, error)
        return
    _wait(mail, min(3 * 2**tries, 3 * 3600), error, number_of_retries=tries)
    _note(mail, error)


def _wait(mail: Email, seconds: float, error: Exception, **changes: int) -> None:
    pause = seconds * random.uniform(0.8, 1.2)  # noqa: S311 - only spreads the load
    _mine(mail).update(scheduled_time=now() + timedelta(seconds=pause), last_updated=now(), **changes)
    log.warning("mail %s waits %d s: %s", mail.id, pause, type(error).__name__)


def _note(mail: Email, error: Exception) -> None:
    code = getattr(error, "smtp_code", "")
    Log.objects.create(email=mail, status=STATUS.failed, exception_type=type(error).__name__, message=str(code))


def prune() -> int:
    """Blank what can no longer be sent, and forget the records of old mails."""
    at = now()
    Email.objects.filter(
        status__in=[STATUS.queued, STATUS.requeued], expires_at__lte=at, scheduled_time__lte=at
    ).update(status=STATUS.failed, message="", html_message="", context=None)
    count, _ = Email.objects.filter(created__lt=at - settings.MAIL_RETENTION).delete()
    return int(count)
