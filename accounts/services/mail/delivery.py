"""Sending what is queued: each email is claimed with a lease, sent over one connection, and blanked.

post_office has the rows and their log. The message of a row, claiming, and what follows a refusal or an outage are
ours."""

import json
import logging
import math
import random
import re
import smtplib
import time
import traceback
from base64 import b64decode
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.smtp import EmailBackend
from django.db.models import Q
from post_office.models import STATUS, Email, Log, RecipientDeliveryStatus

from accounts.lib import jobs
from accounts.lib.clock import now
from accounts.lib.leases import Queue
from accounts.models import Seen
from accounts.services.mail import server

log = logging.getLogger(__name__)

MAX_TRIES = 14  # with the pauses below: about a day
LONG_PUT_OFF = 7  # the try after about six minutes: servers that put off every stranger take the email before
TURN = 3.0  # seconds

# Served by an index of ours (migration 0006).
_queue: Queue[Email] = Queue(
    rows=Email.objects,
    waiting=Q(status__in=[STATUS.queued, STATUS.requeued]),
    until="scheduled_time",
    not_before="scheduled_time",
    order=("-priority", "id"),
    on_claim=f"status = {STATUS.requeued}, last_updated = now()",
    # The last email of an account that is gone is removed once it is sent.
    returning=", EXISTS (SELECT FROM accounts_mailowner WHERE mail_id = post_office_email.id AND user_id IS NULL)"
    " AS is_orphan",
)


@shared_task(name="accounts.deliver_mail")
def deliver_mail() -> int:
    """In the worker: some seconds of sending, and then again behind whatever came meanwhile. Somebody who forgot their
    password must not wait until ten thousand notices are sent. The number of emails sent."""
    end = time.monotonic() + TURN
    sent = deliver(until=end)
    if time.monotonic() >= end:
        jobs.enqueue(deliver_mail)
    return sent


def deliver(*, until: float = math.inf) -> int:
    """Send what is due, one email after the other over one connection, until nothing is left, the server fails or the
    time is over. The number of emails sent."""
    line = server.connection()
    sent, goes_on = 0, True
    while goes_on and time.monotonic() < until and (email := _claim()):
        goes_on = _deliver_one(email, line)
        sent += email.status == STATUS.sent
    server.used()
    if sent:
        server.end_outage()
        Seen.objects.note(Seen.MAIL_SENT, sent)
    return sent


def _claim() -> Email | None:
    # Longer than the slowest conversation that the time-out allows (connect, TLS, and six commands).
    lease = timedelta(seconds=settings.EMAIL_TIMEOUT * 8)
    return _queue.claim(Q(expires_at=None) | Q(expires_at__gt=now()), lease=lease)


def _deliver_one(email: Email, line: EmailBackend) -> bool:
    """Whether the next email is worth a try."""
    kept = line.connection is not None
    try:
        line.open()
    except server.ERRORS as error:
        return _nobody_there(email, line, error)
    try:
        line.send_messages([_message(email)])
    except smtplib.SMTPSenderRefused as error:
        return _nobody_there(email, line, error)
    except server.ERRORS as error:
        server.close(line)
        if _has_hung_up(error) and kept:
            # Many servers take so many emails over one connection and no more: at once again over a new one.
            _wait(email, 0, error)
            return True
        return _refused(email, error)
    except Exception as error:  # noqa: BLE001 - an email that can't even be written must not hold up those behind it
        server.close(line)
        # Without its words, which may be those of the email.
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("email %s can't be made into a message: %s\n%s", email.id, type(error).__name__, where)  # noqa: TRY400
        _finish(email, STATUS.failed, error)
        return True
    _finish(email, STATUS.sent)
    return True


def _message(email: Email) -> EmailMessage:
    """Of finished text: what a stranger typed stays what it is. post_office would render it once more as a template,
    and look into its table of attachments for each."""
    own_id = {"Message-ID": email.message_id} if email.message_id else {}
    made = EmailMultiAlternatives(
        subject=email.subject,
        body=email.message or email.html_message,
        from_email=email.from_email,
        to=email.to,
        cc=email.cc,
        bcc=email.bcc,
        headers={**(email.headers or {}), **own_id, **_tracked(email.message_id)},
    )
    if email.message and email.html_message:
        made.attach_alternative(email.html_message, "text/html")
    elif email.html_message:
        made.content_subtype = "html"
    for name, content, mimetype in (email.context or {}).get("attachments", []):
        made.attach(name, b64decode(content), mimetype)
    return made


def _tracked(message_id: str | None) -> dict[str, str]:
    """What makes a mail service name our Message-ID in its webhooks, where it does not by itself."""
    match settings.ANYMAIL_ESP if message_id else "":
        case "postmark":
            return {"X-PM-Metadata-message_id": str(message_id)}
        case "amazon_ses":
            return {"X-Metadata": json.dumps({"message_id": message_id})}
        case _:
            return {}


def _nobody_there(email: Email, line: EmailBackend, error: Exception) -> bool:
    """The server is away or takes nothing from us. That is no email's fault: none is charged a try, and all wait."""
    server.close(line)
    server.begin_outage()
    _wait(email, settings.SWEEP_INTERVAL * 2, error)
    return False


def _refused(email: Email, error: Exception) -> bool:
    if _is_permanent(error):
        email.recipient_delivery_status = RecipientDeliveryStatus.HARD_BOUNCED
        _finish(email, STATUS.failed, error)
        return True
    _try_later(email, error)
    return _is_about_this_email(error) and not _has_hung_up(error)


def _answers(error: Exception) -> list[tuple[int, bytes | str]]:
    """What the server said, of each recipient or of the email."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return list(error.recipients.values())
    return [(error.smtp_code, error.smtp_error)] if isinstance(error, smtplib.SMTPResponseException) else []


def _codes(error: Exception) -> set[int]:
    return {code for code, _ in _answers(error)}


_ENHANCED = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}\b")  # RFC 3463


def _numbers(error: Exception) -> str:
    """550 5.7.1: the words behind it may hold the address."""
    found = set()
    for code, words in _answers(error):
        enhanced = _ENHANCED.match(words if isinstance(words, bytes) else words.encode())
        found.add(f"{code} {enhanced[0].decode()}" if enhanced else str(code))
    return ", ".join(sorted(found))


def _name(error: Exception) -> str:
    return f"{type(error).__name__} {_numbers(error)}".rstrip()


def _has_hung_up(error: Exception) -> bool:
    return isinstance(error, smtplib.SMTPServerDisconnected) or 421 in _codes(error)


def _is_about_this_email(error: Exception) -> bool:
    return isinstance(error, smtplib.SMTPRecipientsRefused | smtplib.SMTPDataError)


def _is_permanent(error: Exception) -> bool:
    """Whether the server said of this very email that it will never take it (5xx), and not of us."""
    return _is_about_this_email(error) and all(code >= 500 for code in _codes(error))


def _finish(email: Email, status: int, error: Exception | None = None) -> None:
    """Sent or given up. Codes and links in it are blanked."""
    done = _queue.finish(
        email,
        status=status,
        recipient_delivery_status=email.recipient_delivery_status,
        message="",
        html_message="",
        context=None,
        last_updated=now(),
    )
    email.status = status
    if done and status == STATUS.failed:
        Seen.objects.note(Seen.MAIL_FAILED)
    if error is not None:
        _note(email, error)
        log.warning("email %s is given up: %s", email.id, _name(error))
    if done and email.is_orphan:
        email.delete()


def _try_later(email: Email, error: Exception) -> None:
    tries = (email.number_of_retries or 0) + 1
    if tries >= MAX_TRIES:
        _finish(email, STATUS.failed, error)
        return
    if tries == LONG_PUT_OFF:
        Seen.objects.note(Seen.MAIL_PUT_OFF)
    _wait(email, min(3 * 2**tries, 3 * 3600), error, number_of_retries=tries)
    _note(email, error)


def _wait(email: Email, seconds: float, error: Exception, **changes: int) -> None:
    pause = seconds * random.uniform(0.8, 1.2)  # noqa: S311 - only spreads the load
    _queue.retry_later(email, timedelta(seconds=pause), last_updated=now(), **changes)
    log.warning("email %s waits %d s: %s", email.id, pause, _name(error))


def _note(email: Email, error: Exception) -> None:
    if not Email.objects.filter(id=email.id).exists():
        return  # erased with its account while it was being sent
    Log.objects.create(email=email, status=STATUS.failed, exception_type=type(error).__name__, message=_numbers(error))
