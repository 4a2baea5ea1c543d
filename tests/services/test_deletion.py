"""Deleting an account: planned, taken back, erased, and what is left of it."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.signals import pre_delete
from django.utils.timezone import now
from post_office.models import STATUS, Email, Log
from pytest_django import Settings

from accounts.caller import Caller, Device
from accounts.errors import (
    InvalidCode,
    InvalidCredentials,
    InvalidKey,
    LastSuperuser,
    RateLimited,
    RecentSignInNeeded,
    SessionRevoked,
    UsernameTaken,
    WrongPassword,
)
from accounts.lib import sealing
from accounts.models import Challenge, Event, MailOwner, ReservedUsername, Session, Tombstone, User
from accounts.services import mail
from accounts.services.account import (
    deletion,
    email_addresses,
    email_recovery,
    email_requests,
    export,
    lifecycle,
    password_resets,
    passwords,
    signup,
)
from accounts.services.authentication import sign_in
from accounts.services.credentials import challenges, hashing, identifiers, reserved_usernames
from accounts.services.mail import delivery
from accounts.services.profile import exports, pictures, profiles
from accounts.services.security import audit
from accounts.services.sessions import access_tokens, sessions
from tests.conftest import PASSWORD, Mailbox, make_user, random_ip
from tests.services.conftest import Mute
from tests.threads import at_once, each_at_once

NEW = "another lagoon tractor"


@pytest.fixture
def bobs_phone(bob: User) -> Session:
    where = Caller(ip=random_ip(), device=Device("Bob's phone"))
    return sessions.begin(user=bob, kind=Session.Kind.APP, caller=where)


@pytest.fixture
def plan(bob: User, bobs_phone: Session, caller: Caller) -> Callable[[], None]:
    def plan() -> None:
        deletion.request(user=bob, session=bobs_phone, password=PASSWORD, caller=caller)

    return plan


@pytest.fixture
def planned(plan: Callable[[], None], bob: User) -> User:
    plan()
    return bob


@pytest.fixture
def due(planned: User) -> User:
    """Bob, whose grace is over."""
    User.objects.filter(id=planned.id).update(deletes_at=now() - timedelta(seconds=1))
    return planned


def signed_in_long_ago(session: Session) -> None:
    Session.objects.filter(id=session.id).update(authenticated_at=now() - timedelta(minutes=10, seconds=1))


def deletes_at(user: User) -> Any:
    return User.objects.values_list("deletes_at", flat=True).get(id=user.id)


# --- Planning -----------------------------------------------------------------------------------------------


def test_a_deletion_is_planned_for_the_end_of_the_grace(
    bob: User, bobs_phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    before = bob.version
    found = deletion.request(user=bob, session=bobs_phone, password=PASSWORD, caller=caller)
    assert abs(found - now() - timedelta(days=14)) < timedelta(hours=1)
    assert deletes_at(bob) == bob.deletes_at == found
    assert bob.version != before  # a profile that is cached shows the plan
    assert Event.objects.filter(user=bob, kind="user.deletion_planned", ip=caller.ip).count() == 1
    told = mailbox.last("bob@example.com")
    assert "will be deleted" in told.subject
    assert f"{found:%-d %B %Y, %H:%M}" in told.message
    assert found == told.expires_at


def test_the_grace_is_the_operators(bob: User, bobs_phone: Session, caller: Caller, settings: Settings) -> None:
    settings.DELETION_GRACE = timedelta(days=3)
    found = deletion.request(user=bob, session=bobs_phone, password=PASSWORD, caller=caller)
    assert abs(found - now() - timedelta(days=3)) < timedelta(hours=1)


def test_a_wrong_password_plans_nothing(bob: User, bobs_phone: Session, caller: Caller) -> None:
    with pytest.raises(WrongPassword):
        deletion.request(user=bob, session=bobs_phone, password="wrong", caller=caller)
    assert deletes_at(bob) is None


def test_a_sign_in_of_ten_minutes_ago_counts_as_the_password(bob: User, bobs_phone: Session, caller: Caller) -> None:
    signed_in_long_ago(bobs_phone)
    with pytest.raises(RecentSignInNeeded):
        deletion.request(user=bob, session=bobs_phone, password="", caller=caller)
    assert deletes_at(bob) is None
    Session.objects.filter(id=bobs_phone.id).update(authenticated_at=now() - timedelta(minutes=9))
    assert deletion.request(user=bob, session=bobs_phone, password="", caller=caller) == deletes_at(bob)


def test_a_device_that_was_signed_out_meanwhile_plans_nothing(bob: User, bobs_phone: Session, caller: Caller) -> None:
    sessions.end_others(user=bob, keep=None, caller=caller)
    with pytest.raises(RecentSignInNeeded):
        deletion.request(user=bob, session=bobs_phone, password="", caller=caller)


def test_a_password_that_is_changed_at_this_moment_plans_nothing(
    bob: User, bobs_phone: Session, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    matches = hashing.matches

    def slowly(user: User | None, password: str) -> bool:
        right = matches(user, password)
        passwords.change_by_operator(user=bob, new_password=NEW, caller=caller)
        return right

    monkeypatch.setattr(hashing, "matches", slowly)
    with pytest.raises(WrongPassword):
        deletion.request(user=bob, session=bobs_phone, password=PASSWORD, caller=caller)
    assert deletes_at(bob) is None


def test_asked_for_again_it_stays_as_it_was(planned: User, plan: Callable[[], None], mailbox: Mailbox) -> None:
    first, mails = deletes_at(planned), len(mailbox.all())
    plan()
    assert (deletes_at(planned), len(mailbox.all())) == (first, mails)
    assert Event.objects.filter(kind="user.deletion_planned").count() == 1


def test_an_address_that_was_never_proved_gets_no_mail(carol: User, caller: Caller, mailbox: Mailbox) -> None:
    session = sessions.begin(user=carol, kind=Session.Kind.APP, caller=caller)
    deletion.request(user=carol, session=session, password=PASSWORD, caller=caller)
    User.objects.update(deletes_at=now())
    assert deletion.erase_due() == 1
    assert mailbox.all() == []


def test_whoever_has_every_right_alone_stays(alice: User, phone: Session, caller: Caller) -> None:
    with pytest.raises(LastSuperuser):
        deletion.request(user=alice, session=phone, password=PASSWORD, caller=caller)
    other = make_user("dora", is_superuser=True, is_staff=True, is_active=False)
    with pytest.raises(LastSuperuser):
        deletion.request(user=alice, session=phone, password=PASSWORD, caller=caller)
    User.objects.filter(id=other.id).update(is_active=True)
    deletion.request(user=alice, session=phone, password=PASSWORD, caller=caller)


@pytest.mark.django_db(transaction=True)
def test_of_two_who_have_every_right_and_go_at_once_one_stays(alice: User, phone: Session, caller: Caller) -> None:
    dora = make_user("dora", is_superuser=True, is_staff=True)
    doras = sessions.begin(user=dora, kind=Session.Kind.APP, caller=caller)
    found = each_at_once(
        [
            lambda: deletion.request(user=alice, session=phone, password=PASSWORD, caller=caller),
            lambda: deletion.request(user=dora, session=doras, password="", caller=caller),
        ]
    )
    assert sum(isinstance(item, LastSuperuser) for item in found) == 1, found
    assert User.objects.filter(deletes_at=None, is_superuser=True).count() == 1


# --- While it is planned ------------------------------------------------------------------------------------


def test_everything_works_as_before_and_signing_in_takes_nothing_back(
    planned: User, bobs_phone: Session, caller: Caller
) -> None:
    tokens = sessions.tokens(bobs_phone)
    renewed = sessions.refresh(refresh_token=tokens.refresh_token, caller=caller)
    user, _ = sessions.authenticate(access_tokens.verify(renewed.access_token))
    assert user.deletes_at == deletes_at(planned)
    assert sign_in.sign_in_app(login="bob", password=PASSWORD, caller=caller).user.deletes_at is not None
    assert deletion.erase_due() == 0
    assert deletes_at(planned) is not None


def test_a_new_password_takes_nothing_back(planned: User, caller: Caller, mailbox: Mailbox) -> None:
    password_resets.request_reset(login="bob", caller=caller)
    email_requests.answer()
    password_resets.reset_by_code(login="bob", code=mailbox.code(planned.email), new_password=NEW, caller=caller)
    assert sign_in.check(login="bob", password=NEW, caller=caller).deletes_at == deletes_at(planned) is not None


# --- Taking it back -----------------------------------------------------------------------------------------


def test_cancel_keeps_the_account_and_tells_its_owner(planned: User, caller: Caller, mailbox: Mailbox) -> None:
    key = mailbox.key(planned.email)
    deletion.cancel(user=planned, caller=caller)
    assert deletes_at(planned) is planned.deletes_at is None
    assert Event.objects.filter(user=planned, kind="user.deletion_cancelled").count() == 1
    assert "kept your" in mailbox.last(planned.email).subject
    with pytest.raises(InvalidKey):
        deletion.cancel_by_key(key=key, caller=caller)


def test_cancel_is_quiet_where_nothing_is_planned(bob: User, caller: Caller, mailbox: Mailbox) -> None:
    deletion.cancel(user=bob, caller=caller)
    assert not Event.objects.filter(kind="user.deletion_cancelled").exists()
    assert mailbox.all() == []


def test_nobody_keeps_or_deletes_the_account_of_somebody_else(
    planned: User, alice: User, phone: Session, caller: Caller
) -> None:
    deletion.cancel(user=alice, caller=caller)
    assert deletes_at(planned) is not None
    assert deletes_at(alice) is None


def test_looking_at_the_link_changes_nothing_and_it_works_once(planned: User, caller: Caller, mailbox: Mailbox) -> None:
    key = mailbox.key(planned.email)
    for _ in range(3):
        assert deletion.match_key(key).user == planned
    assert deletes_at(planned) is not None
    assert deletion.cancel_by_key(key=key, caller=caller) == planned
    assert deletes_at(planned) is None
    with pytest.raises(InvalidKey):
        deletion.cancel_by_key(key=key, caller=caller)


def test_the_link_outlives_new_passwords_another_address_and_pruning_for_the_whole_grace(
    planned: User, caller: Caller, mailbox: Mailbox
) -> None:
    key = mailbox.key("bob@example.com")
    passwords.change(user=planned, current_password=PASSWORD, new_password=NEW, keep=None, caller=caller)
    email_addresses.request_change(user=planned, email="mallory@example.com", password=NEW, caller=caller)
    email_addresses.confirm_mine(user=planned, code=mailbox.code("mallory@example.com"), caller=caller)

    def asked(**ago: float) -> None:
        then = now() - timedelta(**ago)
        Challenge.objects.filter(kind="keep_account").update(created_at=then, answered_at=then)
        challenges.prune()

    asked(days=13, hours=23)
    assert deletion.match_key(key).user == planned
    asked(days=14, seconds=1)
    with pytest.raises(InvalidKey):
        deletion.cancel_by_key(key=key, caller=caller)
    asked(days=15, seconds=1)
    assert not Challenge.objects.filter(kind="keep_account").exists()


@pytest.mark.parametrize("forged", ["", "x", "-", "00000000000000000000000000000000-x", "é-é", "a" * 5000])
def test_a_forged_key_is_refused(forged: str, caller: Caller, db: None) -> None:
    with pytest.raises(InvalidKey):
        deletion.cancel_by_key(key=forged, caller=caller)


def test_the_key_of_a_reset_keeps_nothing(planned: User, caller: Caller, mailbox: Mailbox) -> None:
    password_resets.request_reset(login="bob", caller=caller)
    email_requests.answer()
    with pytest.raises(InvalidKey):
        deletion.cancel_by_key(key=mailbox.key(planned.email), caller=caller)


def test_guessing_is_limited(caller: Caller, db: None) -> None:
    for _ in range(100):
        with pytest.raises(InvalidKey):
            deletion.cancel_by_key(key="00000000000000000000000000000000-x", caller=caller)
    with pytest.raises(RateLimited):
        deletion.cancel_by_key(key="00000000000000000000000000000000-x", caller=caller)


@pytest.mark.django_db(transaction=True)
def test_of_many_presses_at_once_one_counts(planned: User, caller: Caller, mailbox: Mailbox) -> None:
    key = mailbox.key(planned.email)
    found = at_once(8, lambda: deletion.cancel_by_key(key=key, caller=caller))
    assert sum(isinstance(item, User) for item in found) == 1, found
    assert all(isinstance(item, User | InvalidCode | InvalidKey) for item in found), found
    assert Event.objects.filter(kind="user.deletion_cancelled").count() == 1


def test_the_owner_of_the_earlier_address_takes_a_planned_deletion_back_too(
    bob: User, caller: Caller, mailbox: Mailbox
) -> None:
    email_addresses.request_change(user=bob, email="mallory@example.com", password=PASSWORD, caller=caller)
    email_addresses.confirm_mine(user=bob, code=mailbox.code("mallory@example.com"), caller=caller)
    key = mailbox.key("bob@example.com")
    where = sessions.begin(user=bob, kind=Session.Kind.APP, caller=caller)
    deletion.request(user=bob, session=where, password="", caller=caller)
    email_recovery.undo(key=key, caller=caller)
    assert deletes_at(bob) is None
    assert "kept your" in mailbox.last("bob@example.com").subject


def test_what_a_squatter_planned_and_copied_is_not_the_owners(carol: User, caller: Caller, mailbox: Mailbox) -> None:
    """Carol never proved the address. Whoever reads its mail takes the account over, and keeps it."""
    session = sessions.begin(user=carol, kind=Session.Kind.APP, caller=caller)
    export.request(user=carol, caller=caller)
    export.make_queued()
    deletion.request(user=carol, session=session, password=PASSWORD, caller=caller)
    password_resets.request_reset(login="carol@example.com", caller=caller)
    email_requests.answer()
    password_resets.reset_by_code(login="carol", code=mailbox.code(carol.email), new_password=NEW, caller=caller)
    assert deletes_at(carol) is None
    assert exports.latest(carol) is None


# --- Erasing ------------------------------------------------------------------------------------------------


def test_nothing_is_erased_before_its_day(planned: User) -> None:
    User.objects.filter(id=planned.id).update(deletes_at=now() + timedelta(minutes=5))
    assert deletion.erase_due() == 0
    assert User.objects.filter(id=planned.id).exists()


def test_erased_is_who_asked_and_nobody_else(due: User, alice: User, carol: User, bobs_phone: Session) -> None:
    tokens = sessions.tokens(bobs_phone)
    assert deletion.erase_due() == 1
    assert set(User.objects.all()) == {alice, carol}
    assert Tombstone.objects.get().erased_on == now().date()
    assert not Session.objects.exists()
    with pytest.raises(SessionRevoked):
        sessions.authenticate(access_tokens.verify(tokens.access_token))
    with pytest.raises(SessionRevoked):
        sessions.refresh(refresh_token=tokens.refresh_token, caller=Caller(ip=random_ip()))
    with pytest.raises(InvalidCredentials):
        sign_in.check(login="bob", password=PASSWORD, caller=Caller(ip=random_ip()))
    assert deletion.erase_due() == 0
    assert Tombstone.objects.count() == 1


def test_what_an_erased_account_had_under_way_is_refused(due: User, bobs_phone: Session, caller: Caller) -> None:
    offer = Challenge.objects.get(kind="keep_account")
    deletion.erase_due()
    with pytest.raises(SessionRevoked):
        deletion.request(user=due, session=bobs_phone, password="", caller=caller)
    with pytest.raises(SessionRevoked):
        export.request(user=due, caller=caller)
    deletion.cancel(user=due, caller=caller)
    with pytest.raises(InvalidKey):
        deletion.cancel_by_key(key=f"{offer.id.hex}-x", caller=caller)


def test_a_link_that_is_pressed_while_its_account_is_erased_opens_nothing(due: User, caller: Caller) -> None:
    pressed = [
        challenges.issue(kind, user=due, email=due.email, caller=caller).challenge
        for kind in (Challenge.Kind.RESET_PASSWORD, Challenge.Kind.SIGN_IN)
    ]
    deletion.erase_due()
    for challenge in pressed:
        with pytest.raises(InvalidCode), transaction.atomic():
            challenges.use(challenge)


@pytest.mark.django_db(transaction=True)
def test_a_request_that_a_worker_answers_at_that_moment_and_the_erasure_do_not_wait_for_each_other(
    due: User, caller: Caller
) -> None:
    password_resets.request_reset(login="bob", caller=caller)
    taken, going = threading.Event(), threading.Event()

    def answer(request: Challenge) -> None:
        taken.set()
        assert going.wait(5)

    def work() -> None:
        challenges.answer_asked(answer)
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert taken.wait(5)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        assert deletion.erase_due() == 1
    finally:
        going.set()
        worker.join()
        connection.close()
    assert not Challenge.objects.exists()


def test_a_tombstone_says_only_that_it_happened() -> None:
    assert {field.name for field in Tombstone._meta.get_fields()} == {"id", "erased_on"}


def test_its_log_stays_without_whom_where_and_which_device(due: User, caller: Caller, alice: User) -> None:
    audit.record(audit.Kind.PROFILE_CHANGED, user=due, caller=caller, fields=["first_name"])
    audit.record(audit.Kind.PROFILE_CHANGED, user=alice, caller=caller)
    kinds = sorted(Event.objects.values_list("kind", flat=True))
    deletion.erase_due()
    assert sorted(Event.objects.values_list("kind", flat=True)) == kinds
    left = Event.objects.exclude(user=alice)
    assert [event for event in left if event.user or event.ip or event.device or event.session_id] == []
    assert [event.data for event in left if event.data] == []
    assert Event.objects.get(user=alice).ip == caller.ip


def test_tries_of_its_phone_that_met_nobody_stay_nameless_and_those_of_others_as_they_are(
    due: User, bobs_phone: Session
) -> None:
    here = Caller(ip=bobs_phone.ip, device=Device("Bob's phone"))
    elsewhere = Caller(ip=random_ip(), device=Device("Bob's phone"))
    for where in (here, elsewhere):
        with pytest.raises(InvalidCredentials):
            sign_in.check(login="bobb", password=PASSWORD, caller=where)
    deletion.erase_due()
    assert list(Event.objects.exclude(ip=None).values_list("ip", "device")) == [(elsewhere.ip, "Bob's phone")]


def test_its_mails_go_whatever_address_they_went_to_and_those_of_others_stay(
    due: User, alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    mail.send(mail.Message.PASSWORD_CHANGED, user=due, to="bob.before@example.net", caller=caller)
    mail.send(mail.Message.PASSWORD_CHANGED, user=alice, caller=caller)
    Email.objects.create(from_email="x@example.com", to=["bob@example.com"], subject="of nobody's account")
    Log.objects.create(email=mailbox.last("bob.before@example.net"), status=STATUS.failed, message="no such bob")
    deletion.erase_due()
    assert [(row.to, row.subject) for row in mailbox.all()] == [
        (["alice@example.com"], "Your Crew password was changed"),
        (["bob@example.com"], "Your Crew account is deleted"),
    ]
    assert not Log.objects.exists()


def test_the_last_mail_leaves_nothing_behind_once_it_is_sent(due: User, mailbox: Mailbox) -> None:
    deletion.erase_due()
    assert "is deleted" in mailbox.last("bob@example.com").subject
    assert mail.deliver() == 1
    assert not Email.objects.exists()
    assert not MailOwner.objects.exists()


def test_the_last_mail_waits_for_a_server_that_is_away_and_is_given_up_after_a_week(
    due: User, settings: Settings, mailbox: Mailbox
) -> None:
    deletion.erase_due()
    with Mute() as mute:
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", mute.port, 0.2
        assert mail.deliver() == 0
    mail.prune()
    waiting = mailbox.last("bob@example.com")
    assert waiting.status == STATUS.requeued
    Email.objects.update(expires_at=now(), scheduled_time=now())
    mail.prune()
    assert not Email.objects.exists()


def test_a_mail_that_is_being_sent_at_that_moment_does_no_harm(due: User, mailbox: Mailbox) -> None:
    row = delivery._claim()
    assert row is not None
    deletion.erase_due()
    delivery._finish(row, STATUS.failed, ValueError("of the server"))
    assert not Log.objects.exists()
    assert [one.subject for one in mailbox.all()] == ["Your Crew account is deleted"]


def test_its_picture_goes(due: User, caller: Caller) -> None:
    User.objects.filter(id=due.id).update(picture="some-key")
    deletion.erase_due()
    assert pictures.remove_discarded() == 1


def test_links_of_others_to_an_address_that_it_had_before_stay_good(
    due: User, alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    """Alice gave the address up, Bob proved it: her way back is hers."""
    secrets = challenges.issue(Challenge.Kind.UNDO_EMAIL, user=alice, email=due.email, caller=caller)
    deletion.erase_due()
    assert email_recovery.match_key(secrets.key).user == alice


def test_who_keeps_the_account_while_others_are_erased_is_spared(due: User, caller: Caller) -> None:
    first = make_user("dora", deletes_at=now() - timedelta(days=1))

    def change_of_mind(instance: User, **_: Any) -> None:
        if instance.id == first.id:
            deletion.cancel(user=due, caller=caller)

    pre_delete.connect(change_of_mind, sender=User)
    try:
        assert deletion.erase_due() == 1
    finally:
        pre_delete.disconnect(change_of_mind, sender=User)
    assert User.objects.get() == due


def test_one_that_cannot_be_erased_holds_up_no_other(
    due: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_user("dora", deletes_at=now() - timedelta(days=1))
    erase = lifecycle.erase

    def fail(user: User) -> None:
        erase(user)
        if user.username == "dora":
            raise RuntimeError("something that nobody foresaw")

    monkeypatch.setattr(lifecycle, "erase", fail)
    assert deletion.erase_due() == 1
    assert User.objects.get().username == "dora"
    assert "could not be erased" in caplog.text
    monkeypatch.undo()
    assert deletion.erase_due() == 1


@pytest.mark.django_db(transaction=True)
def test_of_several_workers_each_account_has_one(db: None) -> None:
    for number in range(6):
        make_user(f"dora{number}", deletes_at=now())
    found = at_once(4, deletion.erase_due)
    assert all(isinstance(count, int) for count in found), found
    assert sum(count for count in found if isinstance(count, int)) == 6
    assert Tombstone.objects.count() == 6
    assert Email.objects.count() == 6
    assert not User.objects.exists()


KILLED = """
import os, sys, time, django
django.setup()
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[1]
from accounts.models import Tombstone
from accounts.services.account import deletion
def stop(**_):
    print("there", flush=True)
    time.sleep(30)
Tombstone.objects.create = stop
deletion.erase_due()
"""


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_killed_half_way_leaves_all_as_it_was(due: User, mailbox: Mailbox) -> None:
    before = (Event.objects.filter(user=due).count(), Session.objects.count(), len(mailbox.all()))
    database = connection.settings_dict["NAME"]
    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(database)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    try:
        assert worker.stdout
        assert worker.stdout.readline().strip() == b"there"
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
    assert (Event.objects.filter(user=due).count(), Session.objects.count(), len(mailbox.all())) == before
    deadline = time.monotonic() + 120
    while not deletion.erase_due():  # Postgres holds the worker's locks until it sees that its connection is gone
        assert time.monotonic() < deadline
    assert Tombstone.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_who_signs_in_or_keeps_the_account_at_that_moment_gets_one_answer(due: User, caller: Caller) -> None:
    checked = sign_in.check(login="bob", password=PASSWORD, caller=caller)

    def begin() -> object:
        with transaction.atomic():
            return sessions.begin(user=checked, kind=Session.Kind.BROWSER, caller=caller)

    def cancel() -> object:
        deletion.cancel(user=due, caller=caller)
        return None

    found = each_at_once([deletion.erase_due.run, begin, cancel, deletion.erase_due.run])
    erased = Tombstone.objects.count()
    assert User.objects.filter(id=due.id).exists() == (not erased)
    assert [item for item in found if isinstance(item, Exception)] == [
        item for item in found if isinstance(item, InvalidCredentials)
    ]
    assert Session.objects.exists() == (not erased)


# --- The name afterwards ------------------------------------------------------------------------------------


def sign_up(username: str, caller: Caller) -> User:
    return signup.sign_up(username=username, email=f"{username}@example.net", password=PASSWORD, caller=caller)


def test_nobody_passes_for_whoever_was_erased(due: User, alice: User, caller: Caller, settings: Settings) -> None:
    deletion.erase_due()
    for name in ("bob", "BOB", "b0b"):
        with pytest.raises(UsernameTaken):
            sign_up(name, caller)
        with pytest.raises(UsernameTaken):
            profiles.update(user=alice, changes={"username": name}, caller=caller)
    # A SECRET_KEY that was changed since understands what the earlier one wrote.
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "n" * 60
    with pytest.raises(UsernameTaken):
        sign_up("bob", caller)
    assert sign_up("bobby", caller).username == "bobby"


def test_after_ninety_days_the_name_is_free(due: User, caller: Caller) -> None:
    deletion.erase_due()
    rest = ReservedUsername.objects.get()
    assert abs(rest.until - now() - timedelta(days=90)) < timedelta(hours=1)
    assert bytes(rest.mac) == sealing.mac("resting username", identifiers.skeleton("bob").encode())
    assert reserved_usernames.prune() == 0
    ReservedUsername.objects.update(until=now())
    assert sign_up("bob", caller).username == "bob"
    assert reserved_usernames.prune() == 1


def test_the_address_is_free_at_once(due: User, alice: User, caller: Caller, mailbox: Mailbox) -> None:
    deletion.erase_due()
    user = signup.sign_up(username="robert", email="bob@example.com", password=PASSWORD, caller=caller)
    email_addresses.confirm_mine(user=user, code=mailbox.code("bob@example.com"), caller=caller)
    assert User.objects.get(email="bob@example.com", email_verified=True) == user
