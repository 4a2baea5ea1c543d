"""The mail server: one connection that a worker keeps for a while, and how long the server has refused our emails."""

import smtplib
import threading
import time
from email.utils import parseaddr

from celery import shared_task
from django.conf import settings
from django.core.mail.backends.smtp import EmailBackend

from accounts.lib.clock import now
from accounts.models import MailOutage

KEPT_OPEN = 20.0  # seconds that a connection without mail is still used; less than servers and firewalls wait
ERRORS = (smtplib.SMTPException, OSError)


class _Line(threading.local):
    """The one connection of a worker process, kept for the emails of the next seconds."""

    backend: EmailBackend | None = None
    used_at = 0.0


_line = _Line()


def connection() -> EmailBackend:
    """The kept one, or one that is not open yet."""
    wanted, kept = EmailBackend(fail_silently=False), _line.backend
    if kept is not None and kept.connection is not None:
        same = (kept.host, kept.port, kept.timeout) == (wanted.host, wanted.port, wanted.timeout)
        if same and time.monotonic() - _line.used_at < KEPT_OPEN:
            return kept
        kept.connection.close()  # without QUIT: there may be no server any more to answer it
    _line.backend = wanted
    return wanted


def used() -> None:
    """Keep the connection for a while from now on."""
    _line.used_at = time.monotonic()


def hang_up() -> None:
    """For a process that has no more emails to send."""
    if _line.backend is not None:
        close(_line.backend)


def close(server: EmailBackend) -> None:
    try:
        server.close()
    except ERRORS:
        server.connection = None


@shared_task(name="accounts.check_mail_server")
def check_server() -> bool:
    """Whether the mail server would take an email from us. Asked each minute, so that an outage is known although
    nobody sends anything (status.delay)."""
    server = connection()
    kept = server.connection is not None
    is_there = _would_take(server) or (kept and _would_take(server))
    end_outage() if is_there else begin_outage()
    return is_there


def _would_take(server: EmailBackend) -> bool:
    try:
        server.open()
        assert server.connection is not None
        server.connection.ehlo_or_helo_if_needed()
        code, _ = server.connection.mail(parseaddr(settings.DEFAULT_FROM_EMAIL)[1])
        server.connection.rset()
    except ERRORS:
        code = 0
    if not 200 <= code < 300:
        close(server)
    used()
    return 200 <= code < 300


def begin_outage() -> None:
    MailOutage.objects.bulk_create([MailOutage(id=1, began_at=now())], ignore_conflicts=True)


def end_outage() -> None:
    MailOutage.objects.all().delete()
