"""What Postgres knows for GET /metrics."""

import re
import smtplib
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from post_office.models import STATUS, Email

from accounts import tasks
from accounts.caller import Caller
from accounts.lib import metrics, replica
from accounts.lib.clock import now
from accounts.lib.metrics import Metric
from accounts.models import Challenge, EventCount, MailOutage, Seen, SigningKey, User
from accounts.services import mail
from accounts.services.mail import delivery
from accounts.services.security import audit, rate_limits
from accounts.services.sessions import signing_keys
from accounts.services.staff import gauges
from project.celery import _note_beat
from tests.threads import each_at_once

HOUR = timedelta(hours=1)


def read(metric: Metric, *labels: str) -> float:
    [found] = [value for each, its, value in gauges.read() if (each, its) == (metric, labels)]
    return found


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Metric], int]:
    """How often something was counted in this process."""
    seen: list[Metric] = []
    monkeypatch.setattr(metrics, "add", lambda metric, *_: seen.append(metric))
    return seen.count


def waits(age: timedelta, **fields: Any) -> None:
    email = Email.objects.create(
        from_email="a@example.com",
        to=["b@example.com"],
        subject="x",
        **{"priority": 1, "scheduled_time": now() - 9 * HOUR} | fields,
    )
    Email.objects.filter(id=email.id).update(created=now() - age)


def test_a_fresh_service_is_quiet_but_for_those_that_were_never_seen(db: None) -> None:
    signing_keys.ring()
    quiet = {metric.name: value for metric, _, value in gauges.read() if value == 0}
    mails = {metric.name for metric in metrics.METRICS if metric.name.startswith("us_mail")}
    assert {name for name in quiet if name.startswith("us_mail")} == mails
    assert read(metrics.BEAT_SEEN) == read(metrics.WORKER_SEEN) == 0


def test_the_oldest_email_is_the_one_that_waits_longest_for_us(db: None) -> None:
    waiting: dict[str, Any] = {"status": STATUS.queued}
    waits(timedelta(hours=9), **waiting | {"status": STATUS.sent})
    waits(timedelta(hours=9), **waiting | {"status": STATUS.failed})
    waits(timedelta(hours=9), **waiting | {"number_of_retries": 2})  # its recipient's server put it off
    waits(timedelta(hours=9), **waiting | {"expires_at": now() - HOUR})
    assert read(metrics.MAIL_OLDEST) == 0
    waits(timedelta(minutes=3), **waiting | {"priority": 2})
    assert 180 <= read(metrics.MAIL_OLDEST) < 500
    waits(timedelta(minutes=20), **waiting | {"priority": 0, "status": STATUS.requeued})
    assert 1200 <= read(metrics.MAIL_OLDEST) < 1500


def test_a_request_that_no_worker_answers_and_an_outage_count_as_email_that_waits(db: None) -> None:
    Challenge.objects.create(kind=Challenge.Kind.RESET_PASSWORD, login="ada", created_at=now() - HOUR)
    assert 3600 <= read(metrics.MAIL_OLDEST) < 4000
    MailOutage.objects.create(began_at=now() - 2 * HOUR)
    assert 7200 <= read(metrics.MAIL_OLDEST) < 7600


def test_emails_that_were_given_up_are_counted_for_good(db: None) -> None:
    waits(HOUR, status=STATUS.queued, expires_at=now() - HOUR)
    mail.prune()
    assert read(metrics.MAIL_FAILED) == 1
    waits(HOUR, status=STATUS.queued)
    email = delivery._claim()
    assert email
    delivery._finish(email, STATUS.failed)
    delivery._finish(email, STATUS.failed)  # no longer ours
    Email.objects.all().delete()
    assert read(metrics.MAIL_FAILED) == 2


def test_emails_that_are_put_off_for_long_are_counted_once_and_those_that_are_sent_too(db: None) -> None:
    waits(HOUR, status=STATUS.queued)
    later = smtplib.SMTPRecipientsRefused({"b@example.com": (451, b"4.7.1 later")})
    counted = []
    for _ in range(9):
        Email.objects.update(scheduled_time=now() - HOUR)
        email = delivery._claim()
        assert email
        delivery._refused(email, later)
        counted.append(read(metrics.MAIL_PUT_OFF))
    assert counted == [0, 0, 0, 0, 0, 0, 1, 1, 1]
    assert read(metrics.MAIL_FAILED) == read(metrics.MAIL_SENT) == 0
    Email.objects.update(scheduled_time=now() - HOUR)
    assert mail.deliver() == read(metrics.MAIL_SENT) == 1


def test_worker_and_beat_leave_their_time(db: None) -> None:
    before = now().timestamp()
    tasks.poll()
    assert read(metrics.WORKER_SEEN) >= before
    assert read(metrics.BEAT_SEEN) == 0
    _note_beat()
    _note_beat()
    assert read(metrics.BEAT_SEEN) >= before
    assert Seen.objects.get(name=Seen.BEAT).times == 2


def test_events_are_those_of_today(alice: User, caller: Caller) -> None:
    for kind in (audit.Kind.USER_SIGNED_UP, audit.Kind.EMAIL_CONFIRMED, audit.Kind.EMAIL_CONFIRMED):
        audit.record(kind, user=alice, caller=caller)
    EventCount.objects.create(day=now().date() - timedelta(days=1), kind=audit.Kind.LOGIN_FAILED, count=1000)
    EventCount.objects.create(day=now().date(), kind=audit.Kind.LOGIN_FAILED, count=2)  # another piece
    assert read(metrics.EVENTS, "login.failed") == 2
    assert read(metrics.EVENTS, "session.reused") == 0
    assert (read(metrics.SIGN_UPS), read(metrics.CONFIRMATIONS)) == (1, 2)


def test_the_signing_key_grows_old_and_the_next_one_is_announced(db: None, settings: Any) -> None:
    signing_keys.ring()
    assert read(metrics.SIGNING_KEY_AGE) < 600
    SigningKey.objects.update(signs_from=now() - timedelta(days=91))
    signing_keys.forget()
    assert 91 * 86400 <= read(metrics.SIGNING_KEY_AGE) < 92 * 86400
    assert read(metrics.SIGNING_KEY_MAX_AGE) == 90 * 86400
    assert read(metrics.NEXT_KEY) == 0
    signing_keys.maintain()
    signing_keys.forget()
    assert read(metrics.NEXT_KEY) == 1
    settings.SIGNING_KEY_FILES = ["/a/key"]
    assert metrics.SIGNING_KEY_AGE not in {metric for metric, _, _ in gauges.read()}


def test_an_erasure_is_overdue_after_an_hour(alice: User, bob: User) -> None:
    User.objects.filter(id=alice.id).update(deletes_at=now() - timedelta(minutes=50))
    assert read(metrics.ERASURES_OVERDUE) == 0
    User.objects.filter(id=bob.id).update(deletes_at=now() - timedelta(minutes=70))
    assert read(metrics.ERASURES_OVERDUE) == 1


def test_connections_are_those_of_the_server(db: None) -> None:
    assert 1 <= read(metrics.DB_CONNECTIONS) <= read(metrics.DB_MAX_CONNECTIONS)


def test_tries_and_reads_that_something_away_made_different_are_counted(
    db: None, counted: Callable[[Metric], int], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    who = Caller(ip="192.0.2.1")
    rate_limits.count_address("login_per_ip", caller=who)
    assert counted(metrics.FALLBACK_LIMITS) == 0
    monkeypatch.setattr(rate_limits._counters(), "_away_until", float("inf"))
    rate_limits.count_address("login_per_ip", caller=who)
    assert counted(metrics.FALLBACK_LIMITS) == 1
    replica.read(lambda using: using)
    assert counted(metrics.REPLICA_AWAY) == 0  # there is none
    monkeypatch.setitem(connections.databases, "replica", {})
    assert replica.read(lambda using: using) == "replica"
    assert counted(metrics.REPLICA_AWAY) == 0
    replica.breaker.failed()
    assert replica.read(lambda using: using) == "default"
    assert counted(metrics.REPLICA_AWAY) == 1
    replica.breaker.worked()


def test_a_scrape_reads_a_handful_of_rows_whatever_there_is(db: None) -> None:
    """At size: tests/bench/metrics.py. Here: each statement finds an index, and none counts users."""
    signing_keys.ring()
    with CaptureQueriesContext(connection) as seen:
        list(gauges.read())
    assert len(seen) == 5
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        plans = []
        for query in seen.captured_queries:
            cursor.execute(f"EXPLAIN {query['sql']}")
            plans.append("\n".join(row[0] for row in cursor.fetchall()))
    read_whole = re.findall(r"Seq Scan on ((?:accounts|post_office)_\w+)", "\n".join(plans))
    assert set(read_whole) <= {"accounts_mailoutage", "accounts_seen"}  # of a row and of three


@pytest.mark.django_db(transaction=True)
def test_a_sign_of_life_waits_for_nobody() -> None:
    """The commit of another may wait for a standby that is away, with the row locked."""
    Seen.objects.is_alive(Seen.BEAT)
    with transaction.atomic():
        Seen.objects.note(Seen.BEAT)
        [failure] = each_at_once([partial(_alive, Seen.BEAT)])
    assert failure is None
    assert Seen.objects.get(name=Seen.BEAT).times == 2


def _alive(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '1s'")
    Seen.objects.is_alive(name)
