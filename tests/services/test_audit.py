"""The security log: the user's own, complete, and without secrets."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from accounts.caller import Caller, Device
from accounts.errors import AccountDisabled, InvalidCode, InvalidCredentials, InvalidCursor
from accounts.models import Budget, Event, Session, User
from accounts.services.account import email_requests, password_resets, sign_in_codes, signup, users
from accounts.services.authentication import sign_in
from accounts.services.security import audit, cursors
from accounts.services.sessions import sessions
from tests.conftest import PASSWORD, Mailbox, make_user


def test_a_page_after_the_other_gives_every_event_once_the_newest_first(alice: User, bob: User, caller: Caller) -> None:
    for number in range(7):
        audit.record(audit.Kind.PROFILE_CHANGED, user=alice, caller=caller, fields=[str(number)])
        audit.record(audit.Kind.PROFILE_CHANGED, user=bob, caller=caller)
    seen: list[list[str]] = []
    cursor = None
    while True:
        page = audit.list_for(alice, limit=3, cursor=cursor)
        seen += [event.data["fields"] for event in page.events]
        cursor = page.next
        if not cursor:
            break
    assert seen == [[str(number)] for number in reversed(range(7))]


def test_a_cursor_of_another_list_is_refused(alice: User) -> None:
    for cursor in ("x", "é", cursors.write("users", alice.id)):
        with pytest.raises(InvalidCursor):
            audit.list_for(alice, limit=3, cursor=cursor)


def test_a_failed_sign_in_stands_in_the_log_with_where_it_came_from(alice: User, caller: Caller) -> None:
    with pytest.raises(InvalidCredentials):
        sign_in.check(login="alice", password="wrong", caller=caller)
    [event] = audit.list_for(alice, limit=5).events
    assert (event.kind, event.ip, event.device) == ("login.failed", caller.ip, "Ada's iPhone")


def kinds(user: User | None) -> list[str]:
    return list(Event.objects.filter(user=user).order_by("id").values_list("kind", flat=True))


def test_a_pause_and_a_refused_right_password_stand_in_the_log(alice: User, caller: Caller) -> None:
    for number in range(11):
        name = "alice" if number % 2 else alice.email
        with pytest.raises(InvalidCredentials):
            sign_in.check(login=name, password="wrong", caller=caller)
    assert kinds(alice) == ["login.failed"] * 10 + ["login.paused"]
    Event.objects.all().delete()
    Budget.objects.all().delete()
    users.set_active(user=alice, active=False, caller=caller)
    with pytest.raises(AccountDisabled):
        sign_in.check(login="alice", password=PASSWORD, caller=caller)
    assert kinds(alice) == ["user.disabled", "login.refused"]


def test_a_wrong_code_stands_in_the_log_of_its_owner_and_for_nobody_as_well(alice: User, caller: Caller) -> None:
    for name in ("alice", "nobody-has-this"):
        with pytest.raises(InvalidCode):
            password_resets.reset_by_code(login=name, code="00000000", new_password="x", caller=caller)
    assert kinds(alice) == kinds(None) == ["code.failed"]


def test_who_only_claims_an_address_does_not_learn_from_the_own_log_whom_it_means(
    alice: User, carol: User, caller: Caller
) -> None:
    """Eve claims an address that is nobody's, Mallory one that is Alice's: their logs tell no difference."""
    mallory = make_user("mallory", verified=False)
    User.objects.filter(id=mallory.id).update(email=alice.email)
    for email in (carol.email, alice.email):
        password_resets.request_reset(login=email, caller=caller)
        email_requests.answer()
        sign_in_codes.request(login=email, caller=caller)
        email_requests.answer()
        with pytest.raises(InvalidCode):
            password_resets.reset_by_code(login=email, code="00000000", new_password="x", caller=caller)
        with pytest.raises(InvalidCode):
            sign_in_codes.check(login=email, code="00000000", caller=caller)
        with pytest.raises(InvalidCredentials):
            sign_in.check(login=email, password="wrong", caller=caller)
    assert kinds(carol) == kinds(mallory) == ["login.failed"]
    assert "password.reset_requested" in kinds(alice)


def test_ending_the_others_is_one_line_and_an_owner_sees_who_claims_their_address(alice: User, caller: Caller) -> None:
    begin(alice, "Phone")
    begin(alice, "Tablet")
    sessions.end_others(user=alice, keep=None, caller=caller)
    sessions.end_others(user=alice, keep=None, caller=caller)
    signup.sign_up(username="mallory", email=alice.email, password=PASSWORD, caller=caller)
    email_requests.answer()
    assert kinds(alice)[2:] == ["session.others_ended", "email.claimed_elsewhere"]


def test_the_device_that_had_to_go_stands_in_the_log(
    alice: User, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_OPEN", 2)
    oldest = begin(alice, "Phone")
    begin(alice, "Tablet")
    begin(alice, "Laptop")
    assert Event.objects.get(kind="session.replaced").session_id == oldest.id


def test_every_kind_has_words() -> None:
    assert set(audit.WORDS) == set(audit.Kind)
    assert set(audit.Kind) > audit.NOTABLE | audit.GUESSES


def test_old_events_are_pruned_and_young_ones_stay(alice: User, caller: Caller) -> None:
    audit.record(audit.Kind.PROFILE_CHANGED, user=alice, caller=caller)
    audit.record(audit.Kind.PICTURE_CHANGED, user=alice, caller=caller)
    Event.objects.filter(kind="profile.changed").update(created_at=now() - timedelta(days=401))
    Event.objects.filter(kind="picture.changed").update(created_at=now() - timedelta(days=399))
    assert audit.prune() == 1
    assert [event.kind for event in audit.list_for(alice, limit=5).events] == ["picture.changed"]


# --- A new device -------------------------------------------------------------------------------------------


def begin(user: User, name: str) -> Session:
    return sessions.begin(user=user, kind=Session.Kind.APP, caller=Caller(ip="192.0.2.1", device=Device(name)))


def test_the_first_device_is_no_news_a_second_one_is_and_a_known_one_is_not(alice: User, mailbox: Mailbox) -> None:
    begin(alice, "Phone")
    assert mailbox.all() == []
    begin(alice, "Tablet")
    assert "new" in mailbox.last(alice.email).subject.lower()
    assert "Tablet" in mailbox.last().message
    begin(alice, "Phone")
    begin(alice, "Tablet")
    assert len(mailbox.all()) == 1
    assert Event.objects.filter(user=alice, kind="session.new_device").count() == 1


def test_notices_go_to_proved_addresses_only(carol: User, mailbox: Mailbox) -> None:
    """Else whoever claims a stranger's address could fill that mail box with words of their own choosing."""
    begin(carol, "Phone")
    begin(carol, "Tablet")
    assert mailbox.all() == []


def test_signing_in_is_known_by_its_name_whoever_signs_in_next(alice: User, bob: User, mailbox: Mailbox) -> None:
    begin(alice, "Phone")
    begin(bob, "Tablet")
    sign_in.sign_in_app(login="bob", password=PASSWORD, caller=Caller(ip="192.0.2.1", device=Device("Phone")))
    assert [mail.to for mail in mailbox.all()] == [[bob.email]]
