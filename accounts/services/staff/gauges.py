"""What Postgres knows for GET /metrics: a few statements, each of which reads a handful of rows, however many users
there are."""

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db import connection

from accounts.lib import metrics
from accounts.lib.clock import now
from accounts.lib.metrics import Reading
from accounts.models import Seen, User
from accounts.services import mail
from accounts.services.security.audit import Kind
from accounts.services.sessions import signing_keys
from accounts.services.staff import counts

LATE = timedelta(hours=1)
_MAILS = (
    (metrics.MAIL_SENT, Seen.MAIL_SENT),
    (metrics.MAIL_FAILED, Seen.MAIL_FAILED),
    (metrics.MAIL_PUT_OFF, Seen.MAIL_PUT_OFF),
)


def read() -> Iterator[Reading]:
    """Raises django.db.Error where Postgres is away."""
    yield metrics.MAIL_OLDEST, (), mail.oldest()
    seen = {row.name: row for row in Seen.objects.all()}
    # 1970 if it never was: that is too long ago as well.
    yield metrics.BEAT_SEEN, (), seen[Seen.BEAT].at.timestamp() if Seen.BEAT in seen else 0
    yield metrics.WORKER_SEEN, (), seen[Seen.WORKER].at.timestamp() if Seen.WORKER in seen else 0
    for metric, name in _MAILS:
        yield metric, (), seen[name].times if name in seen else 0
    yield from _events()
    yield from _signing_keys()
    late = User.objects.filter(deletes_at__lt=now() - LATE)
    yield metrics.ERASURES_OVERDUE, (), len(late.values_list("deletes_at")[:1000])
    yield from _connections()


def _events() -> Iterator[Reading]:
    """Only today's, so that it costs the same after years. Prometheus takes the next day's 0 for a restart."""
    today = now().date()
    found = {kind: n for (kind, day), n in counts.events_by_day(Kind, since=today).items() if day == today}
    for kind in Kind:
        yield metrics.EVENTS, (kind,), found.get(kind, 0)
    yield metrics.SIGN_UPS, (), found.get(Kind.USER_SIGNED_UP, 0)
    yield metrics.CONFIRMATIONS, (), found.get(Kind.EMAIL_CONFIRMED, 0)


def _signing_keys() -> Iterator[Reading]:
    """Nothing of keys in files, whose age nobody knows."""
    if settings.SIGNING_KEY_FILES:
        return
    ring, at = signing_keys.ring(), now()
    yield metrics.SIGNING_KEY_AGE, (), max(0.0, (at - ring.signing.signs_from).total_seconds())
    yield metrics.SIGNING_KEY_MAX_AGE, (), settings.SIGNING_KEY_LIFETIME.total_seconds()
    yield metrics.NEXT_KEY, (), float(any(key.signs_from > at for key in ring.keys))


def _connections() -> Iterator[Reading]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(numbackends), current_setting('max_connections')::int FROM pg_stat_database")
        [connections, most] = cursor.fetchone()
    yield metrics.DB_CONNECTIONS, (), connections
    yield metrics.DB_MAX_CONNECTIONS, (), most
