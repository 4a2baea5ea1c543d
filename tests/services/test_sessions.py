"""Refresh tokens: one successor whatever happens, and a copy is noticed."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.sessions.models import Session as BrowserSession
from django.utils.timezone import now
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import InvalidCredentials, RefreshExpired, RefreshReused, SessionNotFound, SessionRevoked
from accounts.models import Event, Session, User
from accounts.services.sessions import access_tokens, sessions
from accounts.services.sessions.sessions import Tokens
from tests.conftest import Mailbox
from tests.threads import at_once


class Clock:
    """Moves the time that the rules see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by = timedelta()
        monkeypatch.setattr(sessions, "now", lambda: now() + self.by)

    def forward(self, **delta: float) -> None:
        self.by += timedelta(**delta)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def refresh(tokens: Tokens, caller: Caller) -> Tokens:
    return sessions.refresh(refresh_token=tokens.refresh_token, caller=caller)


def use(tokens: Tokens) -> None:
    sessions.authenticate(access_tokens.verify(tokens.access_token))


def test_who_was_switched_off_after_the_password_was_compared_gets_no_session(alice: User, caller: Caller) -> None:
    User.objects.filter(id=alice.id).update(is_active=False)  # `alice` still says that she is active
    with pytest.raises(InvalidCredentials):
        sessions.begin(user=alice, kind=Session.Kind.APP, caller=caller)
    assert not alice.sessions.exists()


def test_a_session_that_ends_while_it_is_refreshed_is_not_advanced(phone: Session, caller: Caller) -> None:
    read = Session.objects.get(id=phone.id)
    sessions.end(user=phone.user, session_id=phone.id, caller=caller)
    assert not sessions._advance(read, now(), caller)
    phone.refresh_from_db()
    assert phone.generation == read.generation


def test_each_earlier_token_has_a_minute_of_its_own(tokens: Tokens, caller: Caller, clock: Clock) -> None:
    first = refresh(tokens, caller)
    use(first)
    clock.forward(seconds=50)
    second = refresh(first, caller)
    use(second)
    clock.forward(seconds=5)
    third = refresh(second, caller)
    clock.forward(seconds=15)
    # The successor of `first` was used twenty seconds ago, that of `tokens` seventy.
    assert refresh(first, caller).refresh_token == second.refresh_token
    with pytest.raises(RefreshReused):
        refresh(tokens, caller)
    with pytest.raises(SessionRevoked):
        refresh(third, caller)


def test_a_lost_answer_can_be_asked_for_again_an_hour_later(tokens: Tokens, caller: Caller, clock: Clock) -> None:
    first = refresh(tokens, caller)
    clock.forward(hours=1)
    assert refresh(tokens, caller).refresh_token == first.refresh_token


def test_the_old_token_answers_for_a_minute_after_its_successor_was_used_by_access_token(
    tokens: Tokens, caller: Caller, clock: Clock
) -> None:
    successor = refresh(tokens, caller)
    use(successor)
    clock.forward(seconds=59)
    assert refresh(tokens, caller).refresh_token == successor.refresh_token
    clock.forward(seconds=2)
    with pytest.raises(RefreshReused):
        refresh(tokens, caller)


def test_the_old_token_answers_for_a_minute_after_its_successor_was_used_to_refresh(
    tokens: Tokens, caller: Caller, clock: Clock
) -> None:
    successor = refresh(tokens, caller)
    third = refresh(successor, caller)
    clock.forward(seconds=59)
    assert refresh(tokens, caller).refresh_token == successor.refresh_token
    assert refresh(successor, caller).refresh_token == third.refresh_token
    clock.forward(seconds=2)
    with pytest.raises(RefreshReused):
        refresh(tokens, caller)


def test_each_of_a_quick_row_of_refreshes_keeps_its_own_minute(tokens: Tokens, caller: Caller, clock: Clock) -> None:
    row = [tokens]
    for _ in range(5):
        row.append(refresh(row[-1], caller))
        clock.forward(seconds=20)
    # Now 100 s have passed since row[1] was made; row[1] was first used 80 s ago, row[2] 60 s, row[3] 40 s ago.
    clock.forward(seconds=-1)
    assert refresh(row[2], caller).refresh_token == row[3].refresh_token
    with pytest.raises(RefreshReused):
        refresh(row[0], caller)


def test_a_successor_first_used_long_ago_by_access_token_is_not_made_young_by_refreshing(
    tokens: Tokens, caller: Caller, clock: Clock
) -> None:
    successor = refresh(tokens, caller)
    use(successor)
    clock.forward(minutes=10)
    refresh(successor, caller)
    with pytest.raises(RefreshReused):
        refresh(tokens, caller)


def test_reuse_ends_the_session_tells_the_owner_and_spares_the_others(
    alice: User, phone: Session, tokens: Tokens, caller: Caller, clock: Clock, mailbox: Mailbox
) -> None:
    other = sessions.begin(user=alice, kind=Session.Kind.APP, caller=caller)
    latest = refresh(refresh(tokens, caller), caller)
    clock.forward(minutes=2)
    for _ in range(2):  # a second time it is simply gone, and told only once
        with pytest.raises((RefreshReused, SessionRevoked)):
            refresh(tokens, caller)
    with pytest.raises(SessionRevoked):
        refresh(latest, caller)
    with pytest.raises(SessionRevoked):
        use(latest)
    assert list(alice.sessions.open()) == [other]
    assert Event.objects.filter(user=alice, kind="session.reused", session=phone).count() == 1
    assert len(mailbox.all("alice@example.com")) == 1


def test_nobody_is_signed_out_when_postgres_goes_back(tokens: Tokens, caller: Caller, clock: Clock) -> None:
    """A backup is restored from before these refreshes."""
    before = Session.objects.filter(id=tokens.session_id).values().get()
    stolen = refresh(tokens, caller)
    newest = refresh(stolen, caller)
    Session.objects.filter(id=tokens.session_id).update(**before)
    again = refresh(newest, caller)
    assert refresh(newest, caller).refresh_token == again.refresh_token
    claims = access_tokens.verify(again.access_token)
    assert sessions.authenticate(claims)[1].generation == claims.generation == 3
    clock.forward(minutes=2)
    with pytest.raises(RefreshReused):
        refresh(stolen, caller)


@pytest.mark.django_db(transaction=True)
def test_when_postgres_went_back_a_token_that_several_use_at_once_gives_one_successor(
    tokens: Tokens, caller: Caller
) -> None:
    before = Session.objects.filter(id=tokens.session_id).values().get()
    for _ in range(3):
        tokens = refresh(tokens, caller)
    Session.objects.filter(id=tokens.session_id).update(**before)
    found = at_once(8, lambda: refresh(tokens, caller).refresh_token)
    assert len(set(found)) == 1
    row = Session.objects.get(id=tokens.session_id)
    assert (row.generation, row.ended_at) == (4, None)
    assert not Event.objects.filter(kind="session.reused").exists()


def test_a_session_that_ended_before_postgres_went_back_stays_ended(tokens: Tokens, caller: Caller) -> None:
    newest = refresh(tokens, caller)
    Session.objects.filter(id=tokens.session_id).update(generation=0, ended_at=now())
    with pytest.raises(SessionRevoked):
        refresh(newest, caller)


@pytest.mark.django_db(transaction=True)
def test_fifty_refreshes_at_once_give_one_successor(tokens: Tokens, caller: Caller) -> None:
    for _ in range(5):
        found = at_once(50, lambda: refresh(tokens, caller).refresh_token)
        assert len(set(found)) == 1
        assert isinstance(found[0], str)
        tokens = Tokens("", 0, found[0], tokens.session_id)
    row = Session.objects.get(id=tokens.session_id)
    assert row.generation == 5
    assert row.ended_at is None


def test_refreshing_adds_no_row(tokens: Tokens, caller: Caller) -> None:
    def count() -> tuple[int, int]:
        return Session.objects.count(), Event.objects.count()

    before = count()
    for _ in range(10):
        tokens = refresh(tokens, caller)
    assert count() == before


def test_an_unused_session_ends_after_its_idle_lifetime(tokens: Tokens, caller: Caller, clock: Clock) -> None:
    clock.forward(days=31)
    with pytest.raises(RefreshExpired):
        refresh(tokens, caller)


def test_a_used_session_ends_after_its_absolute_lifetime(tokens: Tokens, caller: Caller, clock: Clock) -> None:
    for _ in range(8):
        clock.forward(days=22)
        tokens = refresh(tokens, caller)
    clock.forward(days=5)
    with pytest.raises(RefreshExpired):
        refresh(tokens, caller)


@pytest.mark.parametrize(
    "spoil", [lambda t: t[:-2] + "AA", lambda _: "x", lambda _: "", lambda t: t + "é", lambda t: t[8:]]
)
def test_a_forged_token_is_refused(tokens: Tokens, caller: Caller, spoil: object) -> None:
    with pytest.raises(SessionRevoked):
        sessions.refresh(refresh_token=spoil(tokens.refresh_token), caller=caller)  # type: ignore[operator]


def test_a_changed_secret_key_with_a_fallback_signs_nobody_out(
    tokens: Tokens, caller: Caller, settings: Settings
) -> None:
    old = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another" * 10, [old]
    newer = refresh(tokens, caller)
    use(newer)
    settings.SECRET_KEY_FALLBACKS = []
    refresh(newer, caller)
    with pytest.raises(SessionRevoked):
        refresh(tokens, caller)


@pytest.mark.parametrize("how", ["disabled", "deleted", "ended"])
def test_a_user_or_session_that_is_gone_is_refused_at_once(
    how: str, alice: User, phone: Session, tokens: Tokens, caller: Caller
) -> None:
    if how == "disabled":
        User.objects.filter(id=alice.id).update(is_active=False)
    elif how == "deleted":
        alice.delete()
    else:
        sessions.end(user=alice, session_id=phone.id, caller=caller)
    with pytest.raises(SessionRevoked):
        use(tokens)
    with pytest.raises(SessionRevoked):
        refresh(tokens, caller)


def test_the_access_token_of_a_later_generation_than_the_row_is_refused(phone: Session, tokens: Tokens) -> None:
    later = sessions.tokens(phone, generation=7)
    with pytest.raises(Exception, match="invalid_token"):
        use(later)


def test_last_use_is_written_at_most_once_a_minute(phone: Session, tokens: Tokens, clock: Clock) -> None:
    use(tokens)
    first = Session.objects.get(id=phone.id).last_used_at
    clock.forward(seconds=50)
    use(tokens)
    assert Session.objects.get(id=phone.id).last_used_at == first
    clock.forward(seconds=20)
    use(tokens)
    assert Session.objects.get(id=phone.id).last_used_at > first


def test_end_refuses_a_device_of_someone_else(bob: User, phone: Session, caller: Caller) -> None:
    with pytest.raises(SessionNotFound):
        sessions.end(user=bob, session_id=phone.id, caller=caller)
    phone.refresh_from_db()
    assert phone.ended_at is None


def test_end_refuses_one_that_ended_and_one_that_never_was(alice: User, phone: Session, caller: Caller) -> None:
    sessions.end(user=alice, session_id=phone.id, caller=caller)
    for session_id in (phone.id, uuid4()):
        with pytest.raises(SessionNotFound):
            sessions.end(user=alice, session_id=session_id, caller=caller)
    assert Event.objects.filter(user=alice, kind="session.ended").count() == 1


def test_end_others_keeps_this_one_and_those_of_others(alice: User, bob: User, phone: Session, caller: Caller) -> None:
    sessions.begin(user=alice, kind=Session.Kind.BROWSER, caller=caller)
    sessions.begin(user=bob, kind=Session.Kind.APP, caller=caller)
    assert sessions.end_others(user=alice, keep=phone.id, caller=caller) == 1
    assert sessions.end_others(user=alice, keep=phone.id, caller=caller) == 0
    assert sessions.list_for(alice) == [phone]
    assert len(sessions.list_for(bob)) == 1


def test_sign_out_ends_the_session_and_is_quiet_the_second_time(phone: Session, tokens: Tokens, caller: Caller) -> None:
    for token in (tokens.refresh_token, tokens.refresh_token, "nonsense"):
        sessions.sign_out(refresh_token=token, caller=caller)
    phone.refresh_from_db()
    assert phone.ended_at is not None


def test_a_browsers_row_is_found_only_by_its_own_user(alice: User, bob: User, caller: Caller, clock: Clock) -> None:
    row = sessions.begin(user=alice, kind=Session.Kind.BROWSER, caller=caller)
    assert sessions.browser(row.id, bob.id) is None
    assert sessions.browser(row.id, alice.id) == row
    clock.forward(minutes=2)
    sessions.browser(row.id, alice.id)
    assert Session.objects.get(id=row.id).last_used_at > row.last_used_at
    clock.forward(days=40)
    assert sessions.browser(row.id, alice.id) is None


def test_prune_forgets_only_what_ended_long_ago(phone: Session, clock: Clock) -> None:
    assert sessions.prune() == 0
    clock.forward(days=31)
    assert sessions.prune() == 0  # it ran out yesterday, and its app is told so
    clock.forward(days=180)
    assert sessions.prune() == 1


def test_an_account_has_at_most_a_hundred_devices_and_the_one_unused_for_longest_goes(
    alice: User, bob: User, phone: Session, caller: Caller
) -> None:
    sessions.begin(user=bob, kind=Session.Kind.APP, caller=caller)
    made = [sessions.begin(user=alice, kind=Session.Kind.APP, caller=caller) for _ in range(sessions.MAX_OPEN)]
    assert {row.id for row in sessions.list_for(alice)} == {row.id for row in made}
    assert len(sessions.list_for(bob)) == 1


def test_django_s_own_sessions_are_forgotten_when_they_have_run_out(db: None) -> None:
    for key, days in (("old", -1), ("young", 1)):
        BrowserSession.objects.create(session_key=key, session_data="", expire_date=now() + timedelta(days=days))
    sessions.prune()
    assert [row.session_key for row in BrowserSession.objects.all()] == ["young"]
