"""Our backend for Postgres: what it asks, what it lets take its time, and what counts as away."""

import logging
import sys

import pytest
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError, connection, transaction

from accounts.lib import clock, postgres
from accounts.lib.postgres import base
from accounts.models import User
from project.logs import Formatter, Outages


def error_of(statement: str) -> BaseException:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    except (DatabaseError, InterfaceError) as error:
        return error
    raise AssertionError(statement)


def raised(code: str) -> BaseException:
    return error_of(f"DO $$ BEGIN RAISE EXCEPTION 'plum' USING ERRCODE = '{code}'; END $$")


@pytest.mark.parametrize("code", ["57P01", "57P03", "53300", "53100", "25006", "58030", "57014"])
def test_these_say_that_postgres_is_away(db: None, code: str) -> None:
    assert postgres.is_away(raised(code))


@pytest.mark.parametrize("code", ["42P01", "23505", "40P01", "22003", "25001"])
def test_these_are_ours(db: None, code: str) -> None:
    assert not postgres.is_away(raised(code))


def test_a_lost_connection_is_away_and_another_error_is_none_of_it() -> None:
    assert postgres.is_away(OperationalError("server closed the connection unexpectedly"))
    assert postgres.is_away(InterfaceError("connection already closed"))
    assert not postgres.is_away(IntegrityError("duplicate key"))
    assert not postgres.is_away(ValueError("plum"))
    assert not postgres.is_away(None)


@pytest.mark.django_db(transaction=True)
def test_a_statement_that_takes_long_on_purpose_is_not_cut() -> None:
    """Longer than the watch waits before it asks the server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [base.PATIENCE + 3 * base.TICK])
        cursor.execute("SELECT 1")
    assert connection.is_usable()


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_ended_at_rest_is_replaced_before_it_is_used(alice: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [mine] = cursor.fetchone()
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [mine])
    other.close()
    connection.close_if_unusable_or_obsolete()  # as at the beginning of each request
    with transaction.atomic():
        assert User.objects.lock().get(id=alice.id) == alice


def line(error: BaseException) -> logging.LogRecord:
    try:
        raise error
    except type(error):
        return logging.LogRecord("any", logging.ERROR, "", 0, "unforeseen %s", ("/me",), sys.exc_info())


def test_an_outage_is_one_line_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    at = [100.0]
    monkeypatch.setattr("project.logs.time.monotonic", lambda: at[0])
    outages = Outages()
    record = line(OperationalError("it went away\nDETAIL: a whole row"))
    assert outages.filter(record)
    assert Formatter().format(record).endswith("WARNING any - Postgres does not do its work: it went away")
    assert not any(outages.filter(line(OperationalError("away"))) for _ in range(100))
    at[0] += 1.0
    assert outages.filter(line(OperationalError("away")))
    ours = line(ValueError("plum"))
    assert outages.filter(ours)
    assert "Traceback" in Formatter().format(ours)


def test_things_are_due_by_the_clock_of_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_ahead", clock._ahead)
    real = clock.now()
    clock.set_by(real + 3600 * clock.SLACK, asked_at=real)
    assert clock.now() - real >= 3599 * clock.SLACK
    clock.set_by(real - 3600 * clock.SLACK, asked_at=real)
    assert clock.now() - real <= -3500 * clock.SLACK
    clock.set_by(real + clock.SLACK / 2, asked_at=real)
    assert clock._ahead == 0 * clock.SLACK
    # Ten minutes passed before it was asked, or before its answer came.
    for read_at in (real, real - 600 * clock.SLACK):
        clock.set_by(read_at, asked_at=real - 600 * clock.SLACK)
        assert clock._ahead == 0 * clock.SLACK
