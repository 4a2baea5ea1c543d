"""Mails: composed here, kept as rows of django-post-office in the transaction of the change, delivered by the worker.

post_office's own backend would render a finished mail once more as a template, and its sender locks with a file
and sends twice after a crash (docs/decisions/mail.md). So the rows, the log and the admin are its, the rest is ours.

A row is claimed by one UPDATE that moves its `scheduled_time` to the end of a lease: a sender that dies leaves a
row that is taken again when the lease is over."""

import json
import logging
import math
import random
import smtplib
import threading
import time
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import formatdate, parseaddr
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend as SMTPBackend
from django.db import connection, transaction
from django.db.models import QuerySet
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.timezone import now
from post_office.models import PRIORITY, STATUS, Email, Log, RecipientDeliveryStatus

from accounts.caller import Caller
from accounts.lib import brand, jobs, time_zones
from accounts.models import MailOutage, MailOwner, User, uuid7

log = logging.getLogger(__name__)


class Message(StrEnum):
    """Every mail. Each has three templates: templates/mail/<name>.{subject.txt,txt,html}."""

    CONFIRM_EMAIL = "confirm_email"
    WELCOME = "welcome"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - the name of a mail
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


# Somebody is waiting for these: before the notices.
CODES = frozenset({Message.CONFIRM_EMAIL, Message.RESET_PASSWORD, Message.PASSWORD_REVOKED, Message.SIGN_IN})
# The notice goes in place of a code, where somebody else has proved the address: whoever asked sees when it leaves,
# and must not see which of the two it is.
URGENT = CODES | {Message.ADDRESS_TAKEN}

# --- Composing ----------------------------------------------------------------------------------------------


def send(
    message: Message,
    *,
    user: User,
    caller: Caller,
    to: str | None = None,
    context: dict[str, Any] | None = None,
    expires_at: datetime | None = None,
) -> Email | None:
    """Queue one mail to a user, at `to` or at the address they have. In the caller's transaction.

    Notices go to proved addresses only: whoever claims a stranger's address could fill the stranger's mail box by
    changing their own password."""
    address = to or user.email
    if not address or not (to or message in CODES or user.email_verified):
        return None
    with translation.override(language_of(user, caller)):
        subject, text, html = render(message, user=user, caller=caller, to=address, context=context or {})
    mail = EmailMultiAlternatives(subject, text, settings.DEFAULT_FROM_EMAIL, [address])
    mail.attach_alternative(html, "text/html")
    row = _queue(mail, priority=PRIORITY.high if message in URGENT else PRIORITY.medium, expires_at=expires_at)
    MailOwner.objects.create(mail=row, user=user)
    return row


def render(message: Message, *, user: User, caller: Caller, to: str, context: dict[str, Any]) -> tuple[str, str, str]:
    """Subject, text part and HTML part, in the active language and the user's time zone."""
    words = {
        **frame(),
        "domain": urlsplit(settings.PUBLIC_URL).hostname,
        "username": _unlinked(user.username),
        "name": _greeted(user),
        "to": to,
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
    """What every mail has around its words."""
    return {
        "site_name": settings.SITE_NAME,
        "public_url": settings.PUBLIC_URL,
        "support_email": settings.SUPPORT_EMAIL,
        "accent": brand.palette(),
    }


def language_of(user: User, caller: Caller) -> str:
    """The user's own, else that of whoever asked, else the service's."""
    known = dict(settings.LANGUAGES)
    return next((code for code in (user.language, caller.language) if code in known), settings.LANGUAGE_CODE)


def _unlinked(username: str) -> str:
    """A username such as free.example.com must not become a link in the mail of a stranger: behind each dot stands
    a word joiner, which nobody sees."""
    return username.replace(".", ".\N{WORD JOINER}")


def _greeted(user: User) -> str:
    """The first name, else the username. A stranger who enters somebody's address chooses the name: what is long or
    has digits, such as a message with a telephone number, greets nobody."""
    name = _plain(user.first_name)
    if 0 < len(name) <= 40 and not any(character.isdigit() for character in name):
        return name
    return _unlinked(user.username)


def _plain(label: str) -> str:
    """A device's name without what mail programs make links of: a stranger who asks for somebody's reset mail
    chooses it."""
    kept = "".join(letter if _is_harmless(letter) else " " for letter in label)
    return " ".join(kept.split())[:60]


def _is_harmless(letter: str) -> bool:
    # With marks, such as the vowels of Hindi names.
    return letter.isalnum() or letter in " '\u2019()-_" or unicodedata.category(letter).startswith("M")


class QueueBackend(BaseEmailBackend):
    """EMAIL_BACKEND: whatever Django or allauth sends becomes a row as well, and never blocks a request."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        for mail in email_messages:
            _queue(mail, priority=PRIORITY.medium)
        return len(email_messages)


def _queue(mail: EmailMessage, *, priority: int, expires_at: datetime | None = None) -> Email:
    html = next((part.content for part in getattr(mail, "alternatives", []) if part.mimetype == "text/html"), "")
    row: Email = Email.objects.create(
        from_email=mail.from_email,
        to=mail.to,
        cc=mail.cc,
        bcc=mail.bcc,
        subject=" ".join(str(mail.subject).split()),
        message=mail.body,
        html_message=html,
        headers={
            "Auto-Submitted": "auto-generated",
            "Date": formatdate(localtime=True),
            **({"Reply-To": settings.SUPPORT_EMAIL} if settings.SUPPORT_EMAIL else {}),
            **mail.extra_headers,
        },
        # Ours and made once, so that a mail box can tell a doubled mail from a second one.
        message_id=f"<{uuid7()}@{urlsplit(settings.PUBLIC_URL).hostname}>",
        priority=priority,
        status=STATUS.queued,
        scheduled_time=now(),
        expires_at=expires_at,
        number_of_retries=0,
    )
    jobs.enqueue(deliver_mail)
    return row


# --- Delivering ---------------------------------------------------------------------------------------------

MAX_TRIES = 14  # with the pauses below: about a day
TURN = 3.0  # seconds
KEPT_OPEN = 20.0  # seconds that a connection without mail is still used; less than servers and firewalls wait
# Served by an index of ours (migration 0005); its condition is written as here.
_CLAIM = """
    UPDATE post_office_email SET scheduled_time = %(lease)s, status = 3, last_updated = %(now)s
    WHERE id = (
        SELECT id FROM post_office_email
        WHERE status IN (2, 3) AND scheduled_time <= %(now)s AND (expires_at IS NULL OR expires_at > %(now)s)
        ORDER BY priority DESC, id FOR UPDATE SKIP LOCKED LIMIT 1
    ) RETURNING *
"""


@shared_task(name="accounts.deliver_mail")
def deliver_mail() -> int:
    return take_turn()


def take_turn() -> int:
    """In the worker: some seconds of sending, and then again behind whatever came meanwhile. Who forgot a password
    must not wait until ten thousand notices have left. The number of mails sent."""
    end = time.monotonic() + TURN
    sent = deliver(until=end)
    if time.monotonic() >= end:
        jobs.enqueue(deliver_mail)
    return sent


def deliver(*, until: float = math.inf) -> int:
    """Send what is due, one row after the other over one connection, until nothing is left, the server fails or
    the clock says so. The number of mails sent."""
    server = _server()
    sent, goes_on = 0, True
    while goes_on and time.monotonic() < until and (mail := _claim()):
        goes_on = _deliver_one(mail, server)
        sent += mail.status == STATUS.sent
    _line.used_at = time.monotonic()
    if sent:
        _end_outage()
    return sent


class _Line(threading.local):
    """The one connection of a worker process, kept for the mails of the next seconds."""

    backend: SMTPBackend | None = None
    used_at = 0.0


_line = _Line()


def _server() -> SMTPBackend:
    wanted, kept = SMTPBackend(fail_silently=False), _line.backend
    if kept is not None and kept.connection is not None:
        same = (kept.host, kept.port, kept.timeout) == (wanted.host, wanted.port, wanted.timeout)
        if same and time.monotonic() - _line.used_at < KEPT_OPEN:
            return kept
        kept.connection.close()  # without a word: nobody may be there any more to answer it
    _line.backend = wanted
    return wanted


def hang_up() -> None:
    """For a process that has no more mails to send."""
    if _line.backend is not None:
        _hang_up(_line.backend)


def _lease() -> timedelta:
    # Longer than the slowest conversation that the time-out lets happen (connect, TLS, and six commands).
    return timedelta(seconds=settings.EMAIL_TIMEOUT * 8)


def _claim() -> Email | None:
    at = now()
    return next(iter(Email.objects.raw(_CLAIM, {"lease": at + _lease(), "now": at})), None)


def _deliver_one(mail: Email, server: SMTPBackend) -> bool:
    """Whether the next mail is worth a try."""
    kept = server.connection is not None
    try:
        server.open()
    except (smtplib.SMTPException, OSError) as error:
        return _nobody_there(mail, server, error)
    try:
        server.send_messages([_written(mail)])
    except smtplib.SMTPSenderRefused as error:
        return _nobody_there(mail, server, error)
    except (smtplib.SMTPException, OSError) as error:
        _hang_up(server)
        if _has_hung_up(error) and kept:
            # Many servers take so many mails over one connection and no more: at once again over a new one.
            _wait(mail, 0, error)
            return True
        return _refused(mail, error)
    except Exception as error:  # a mail that can't even be written must not hold up those behind it
        _hang_up(server)
        log.exception("mail %s can't be made into a message", mail.id)
        _finish(mail, STATUS.failed, error)
        return True
    _finish(mail, STATUS.sent)
    return True


def _written(mail: Email) -> EmailMultiAlternatives:
    """What post_office would make of a row, without its look for a template and for attachments."""
    headers = dict(mail.headers or {})
    if mail.message_id:
        headers |= {"Message-ID": mail.message_id, **_tracked(mail.message_id)}
    message = EmailMultiAlternatives(
        mail.subject, mail.message, mail.from_email, mail.to, bcc=mail.bcc, cc=mail.cc, headers=headers
    )
    if mail.html_message:
        message.attach_alternative(mail.html_message, "text/html")
    return message


def _tracked(message_id: str) -> dict[str, str]:
    """What makes a mail service name our Message-ID in its webhooks, where it does not by itself."""
    match settings.ANYMAIL_ESP:
        case "postmark":
            return {"X-PM-Metadata-message_id": message_id}
        case "amazon_ses":
            return {"X-Metadata": json.dumps({"message_id": message_id})}
        case _:
            return {}


def _nobody_there(mail: Email, server: SMTPBackend, error: Exception) -> bool:
    """The server is away or will not have us: no mail's fault, so it is no try of this one, and all wait alike."""
    _hang_up(server)
    _begin_outage()
    _wait(mail, settings.SWEEP_INTERVAL * 2, error)
    return False


def _refused(mail: Email, error: Exception) -> bool:
    if _is_permanent(error):
        mail.recipient_delivery_status = RecipientDeliveryStatus.HARD_BOUNCED
        _finish(mail, STATUS.failed, error)
        return True
    _try_later(mail, error)
    about_this_mail = isinstance(error, smtplib.SMTPRecipientsRefused | smtplib.SMTPDataError)
    return about_this_mail and not _has_hung_up(error)


def _hang_up(server: SMTPBackend) -> None:
    try:
        server.close()
    except (smtplib.SMTPException, OSError):
        server.connection = None


def _codes(error: Exception) -> set[int]:
    """What the server said, of each recipient or of the mail."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return {code for code, _ in error.recipients.values()}
    return {error.smtp_code} if isinstance(error, smtplib.SMTPResponseException) else set()


def _has_hung_up(error: Exception) -> bool:
    return isinstance(error, smtplib.SMTPServerDisconnected) or 421 in _codes(error)


def _is_permanent(error: Exception) -> bool:
    """Whether the server said of this very mail that it will never take it (5xx), and not of us."""
    about_this_mail = isinstance(error, smtplib.SMTPRecipientsRefused | smtplib.SMTPDataError)
    return about_this_mail and all(code >= 500 for code in _codes(error))


def _mine(mail: Email) -> Any:
    # Only while the lease is still this sender's.
    return Email.objects.filter(id=mail.id, scheduled_time=mail.scheduled_time, status=STATUS.requeued)


def _finish(mail: Email, status: int, error: Exception | None = None) -> None:
    _mine(mail).update(
        status=status,
        recipient_delivery_status=mail.recipient_delivery_status,
        message="",
        html_message="",
        context=None,
        last_updated=now(),
    )
    mail.status = status
    if error is not None:
        _note(mail, error)
        log.warning("mail %s is given up: %s", mail.id, type(error).__name__)
    _orphans().filter(id=mail.id).delete()


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
    if not Email.objects.filter(id=mail.id).exists():
        return  # erased with its account while it was being sent
    code = ",".join(str(code) for code in sorted(_codes(error)))
    Log.objects.create(email=mail, status=STATUS.failed, exception_type=type(error).__name__, message=code)


# --- What people are told -----------------------------------------------------------------------------------


def came_back(*, message_id: str, to: str, reason: str, complaint: bool = False) -> bool:
    """A mail service says later that it could not deliver a mail, or that whoever got it calls it unwanted. Whether
    the mail is known. Nothing for a mail that is pruned or not ours."""
    row = _sent_as(message_id)
    if row is None or to.lower() not in {address.lower() for address in row.to}:
        log.warning("told of a mail that is not known")
        return False
    what = RecipientDeliveryStatus.SPAM_COMPLAINT if complaint else RecipientDeliveryStatus.HARD_BOUNCED
    with transaction.atomic():
        Email.objects.filter(id=row.id).update(recipient_delivery_status=what, last_updated=now())
        Log.objects.create(email=row, status=what, exception_type="", message=reason[:100])
    log.warning("mail %s came back: %s", row.id, what.name)
    return True


def _sent_as(message_id: str) -> Email | None:
    """The row of one of our Message-IDs, which begin with a UUID of their time: that has an index in post_office's
    table, the Message-ID has none."""
    try:
        made = UUID(message_id.strip("<>").partition("@")[0])
    except ValueError:
        return None
    at, apart = datetime.fromtimestamp((made.int >> 80) / 1000, UTC), timedelta(minutes=1)
    around = Email.objects.filter(created__gte=at - apart, created__lte=at + apart)
    return around.filter(message_id=f"<{message_id.strip('<>')}>").first()


class Delivery(StrEnum):
    QUEUED = "queued"
    SENT = "sent"
    BOUNCED = "bounced"


BOUNCES = frozenset({RecipientDeliveryStatus.HARD_BOUNCED, RecipientDeliveryStatus.SPAM_COMPLAINT})


def delivery(mail: Email) -> Delivery | None:
    """What became of a mail, in words for the one whom it is about; None where it will not leave any more."""
    if mail.recipient_delivery_status in BOUNCES:
        return Delivery.BOUNCED
    if mail.status == STATUS.sent:
        return Delivery.SENT
    waits = mail.status in {STATUS.queued, STATUS.requeued} and (mail.expires_at is None or mail.expires_at > now())
    return Delivery.QUEUED if waits else None


# Whoever asks for a reset mail may see this number, so that no single mail may show in it: else it would tell
# whether there was a mail. A request stands there for any name; the server is asked each minute without a mail; and
# of the codes that wait only a crowd counts.
CROWD = 50
_DELAY = """
    SELECT EXTRACT(EPOCH FROM %(now)s - LEAST(
        (SELECT began_at FROM accounts_mailoutage LIMIT 1),
        (SELECT created_at FROM accounts_challenge WHERE answered_at IS NULL ORDER BY id LIMIT 1),
        (SELECT created FROM post_office_email
            WHERE status IN (2, 3) AND priority = 2 AND scheduled_time <= %(now)s AND expires_at > %(now)s
            ORDER BY priority DESC, id OFFSET %(crowd)s LIMIT 1)
    ))
"""


def delay() -> timedelta:
    """How late mail is at present, whoever asks; nothing below half a minute."""
    with connection.cursor() as cursor:
        cursor.execute(_DELAY, {"now": now(), "crowd": CROWD - 1})
        [seconds] = cursor.fetchone()
    return timedelta(seconds=round(seconds)) if seconds and seconds >= 30 else timedelta()


def minutes_late() -> int:
    """The same for a page: whole minutes, 0 where mail leaves at once."""
    return -(-delay() // timedelta(minutes=1))


@shared_task(name="accounts.check_mail_server")
def check_mail_server() -> None:
    check_server()


def check_server() -> bool:
    """Whether the mail server would take mail from us. Asked each minute, mail or no mail, see `delay`."""
    server = _server()
    kept = server.connection is not None
    is_there = _would_take(server) or (kept and _would_take(server))
    _end_outage() if is_there else _begin_outage()
    return is_there


def _would_take(server: SMTPBackend) -> bool:
    try:
        server.open()
        assert server.connection is not None
        server.connection.ehlo_or_helo_if_needed()
        code, _ = server.connection.mail(parseaddr(settings.DEFAULT_FROM_EMAIL)[1])
        server.connection.rset()
    except (smtplib.SMTPException, OSError):
        code = 0
    if not 200 <= code < 300:
        _hang_up(server)
    _line.used_at = time.monotonic()
    return 200 <= code < 300


def _begin_outage() -> None:
    MailOutage.objects.bulk_create([MailOutage(id=1, began_at=now())], ignore_conflicts=True)


def _end_outage() -> None:
    MailOutage.objects.all().delete()


# --- Forgetting ---------------------------------------------------------------------------------------------


def forget(user: User) -> None:
    """Every mail about an account that is erased, sent or not, and whatever else went to the address that it had
    proved."""
    Email.objects.filter(owner__user=user).delete()
    if user.email_verified:
        Email.objects.filter(to=[user.email]).delete()


def _orphans() -> QuerySet[Email]:
    """The last mails of accounts that are gone, once they are sent or given up."""
    found: QuerySet[Email] = Email.objects.filter(
        owner__isnull=False, owner__user=None, status__in=[STATUS.sent, STATUS.failed]
    )
    return found


def prune() -> int:
    """Blank what can no longer be sent, and forget the records of old mails."""
    at = now()
    Email.objects.filter(
        status__in=[STATUS.queued, STATUS.requeued], expires_at__lte=at, scheduled_time__lte=at
    ).update(status=STATUS.failed, message="", html_message="", context=None)
    _orphans().delete()
    count, _ = Email.objects.filter(created__lt=at - settings.MAIL_RETENTION).delete()
    return int(count)
