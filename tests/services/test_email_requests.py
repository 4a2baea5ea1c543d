"""Requests for an email that anybody may make by a name: one queue, answered by one task."""

import logging
from datetime import timedelta

import pytest
from django.db import connection
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.models import Challenge, User
from accounts.services.account import email_addresses, email_requests, password_resets, sign_in_codes
from accounts.services.credentials import challenges
from tests.conftest import Mailbox, make_user
from tests.threads import at_once


def test_one_task_answers_every_kind(alice: User, carol: User, caller: Caller, mailbox: Mailbox) -> None:
    password_resets.request_reset(login="alice", caller=caller)
    sign_in_codes.request(login="alice", caller=caller)
    email_addresses.resend(email=carol.email, caller=caller)
    password_resets.request_reset(login="nobody", caller=caller)
    assert email_requests.answer() == 4
    assert [row.to for row in mailbox.all()] == [[alice.email], [alice.email], [carol.email]]
    assert not Challenge.objects.asked().exists()
    assert email_requests.answer() == 0


def test_one_that_fails_holds_up_none_behind_it_and_is_tried_again(
    alice: User, bob: User, caller: Caller, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("alice", "bob"):
        password_resets.request_reset(login=name, caller=caller)

    def answer(request: Challenge) -> None:
        password_resets.answer(request)
        if request.login == "alice":
            raise ValueError("of the first")

    with caplog.at_level(logging.ERROR):
        assert challenges.answer_asked(answer) == 2
    assert "could not be answered" in caplog.text
    assert [row.to for row in mailbox.all()] == [[bob.email]], "what a failed one wrote is rolled back"
    assert email_requests.answer() == 0, "it waits"
    Challenge.objects.asked().update(claimed_until=now())
    assert email_requests.answer() == 1
    assert len(mailbox.all()) == 2


def test_one_that_fails_for_an_hour_is_given_up(alice: User, caller: Caller) -> None:
    password_resets.request_reset(login="alice", caller=caller)
    Challenge.objects.update(created_at=now() - challenges.GIVEN_UP_AFTER)

    def answer(request: Challenge) -> None:
        raise ValueError("each time")

    assert challenges.answer_asked(answer) == 1
    assert not Challenge.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_was_too_slow_sends_nothing_twice(
    alice: User, caller: Caller, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    password_resets.request_reset(login="alice", caller=caller)
    monkeypatch.setattr(challenges, "LEASE", timedelta())  # it is over at once

    def slowly(request: Challenge) -> None:
        assert at_once(1, email_requests.answer.run) == [1]
        password_resets.answer(request)

    assert challenges.answer_asked(slowly) == 1
    assert len(mailbox.all()) == 1


@pytest.mark.django_db(transaction=True)
def test_several_workers_answer_each_once(caller: Caller, mailbox: Mailbox) -> None:
    for number in range(6):
        make_user(f"dora{number}")
        password_resets.request_reset(login=f"dora{number}", caller=caller)
    assert sum(count for count in at_once(3, email_requests.answer.run) if isinstance(count, int)) == 6
    assert len({row.to[0] for row in mailbox.all()}) == len(mailbox.all()) == 6


@pytest.mark.parametrize("kind", ["reset_password", "sign_in", "confirm_email"])
def test_a_request_to_an_earlier_version_is_answered(alice: User, carol: User, mailbox: Mailbox, kind: str) -> None:
    """As SQL, in the columns that version 1.2 wrote."""
    login = carol.email if kind == "confirm_email" else "alice"
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO accounts_challenge (id, kind, login, email, attempts, created_at, ip, device, language)
            VALUES (gen_random_uuid(), %s, %s, '', 0, %s, '192.0.2.1', 'A phone', 'en')
            """,
            [kind, login, now() - timedelta(seconds=3)],
        )
    assert email_requests.answer() == 1
    assert len(mailbox.all()) == 1
