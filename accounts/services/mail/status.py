"""What became of an email, and how late emails are."""

import logging
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from django.db import connection, transaction
from post_office.models import STATUS, Email, Log, RecipientDeliveryStatus

from accounts.lib import addresses
from accounts.lib.clock import now

log = logging.getLogger(__name__)


def came_back(*, message_id: str, to: str, reason: str, complaint: bool = False) -> bool:
    """A mail service says later that it could not deliver an email, or that the reader calls it spam. False for an
    email that is pruned or not ours."""
    email = _sent_as(message_id)
    if email is None or addresses.fold(to) not in map(addresses.fold, email.to):
        log.warning("a mail service reports an email that is not known")
        return False
    what = RecipientDeliveryStatus.SPAM_COMPLAINT if complaint else RecipientDeliveryStatus.HARD_BOUNCED
    with transaction.atomic():
        Email.objects.filter(id=email.id).update(recipient_delivery_status=what, last_updated=now())
        Log.objects.create(email=email, status=what, exception_type="", message=reason[:100])
    log.warning("email %s came back: %s", email.id, what.name)
    return True


def _sent_as(message_id: str) -> Email | None:
    """The email with one of our Message-IDs, which begin with a UUID of their time: post_office's table has an index
    of the time and none of the Message-ID."""
    try:
        made = UUID(message_id.strip("<>").partition("@")[0])
        at, apart = datetime.fromtimestamp((made.int >> 80) / 1000, UTC), timedelta(minutes=1)
    except ValueError:  # not a UUID, or of a year that does not exist
        return None
    around = Email.objects.filter(created__gte=at - apart, created__lte=at + apart)
    return around.filter(message_id=f"<{message_id.strip('<>')}>").first()


class Delivery(StrEnum):
    QUEUED = "queued"
    SENT = "sent"
    BOUNCED = "bounced"


BOUNCES = frozenset({RecipientDeliveryStatus.HARD_BOUNCED, RecipientDeliveryStatus.SPAM_COMPLAINT})


def delivery_of(email: Email) -> Delivery | None:
    """What became of an email, in words for its reader; None if it is not sent any more."""
    if email.recipient_delivery_status in BOUNCES:
        return Delivery.BOUNCED
    if email.status == STATUS.sent:
        return Delivery.SENT
    waits = email.status in {STATUS.queued, STATUS.requeued} and (email.expires_at is None or email.expires_at > now())
    return Delivery.QUEUED if waits else None


# Anybody who asks for a reset email may see this number, so no single email may show in it: it would tell whether
# there was one. There is a request for any name; the server is asked each minute without an email; and of the codes
# that wait only a crowd counts.
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
    """How late emails are now, the same for everybody who asks; nothing below half a minute."""
    with connection.cursor() as cursor:
        cursor.execute(_DELAY, {"now": now(), "crowd": CROWD - 1})
        [seconds] = cursor.fetchone()
    return timedelta(seconds=round(seconds)) if seconds and seconds >= 30 else timedelta()


def minutes_late() -> int:
    """The same for a page: whole minutes, 0 where emails are sent at once."""
    return -(-delay() // timedelta(minutes=1))


# The first of each priority, from the index that the worker claims from. An email that the mail server put off counts
# elsewhere (us_mail_put_off_total): most servers do so for their recipients' sake.
_OLDEST = """
    SELECT EXTRACT(EPOCH FROM %(now)s - LEAST(
        (SELECT began_at FROM accounts_mailoutage LIMIT 1),
        (SELECT created_at FROM accounts_challenge WHERE answered_at IS NULL ORDER BY id LIMIT 1),
        (SELECT min(created) FROM generate_series(0, 3) AS kind CROSS JOIN LATERAL (
            SELECT created FROM post_office_email
            WHERE status IN (2, 3) AND priority = kind AND COALESCE(number_of_retries, 0) = 0
                AND (expires_at IS NULL OR expires_at > %(now)s)
            ORDER BY id LIMIT 1
        ) AS first)
    ))
"""


def oldest() -> float:
    """Seconds that the oldest email, or request for one, has waited. For operators, who may know it of each."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST, {"now": now()})
        [seconds] = cursor.fetchone()
    return max(0.0, float(seconds or 0))
