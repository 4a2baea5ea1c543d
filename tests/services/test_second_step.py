"""Two-step verification: the second step after a password or a mailed code, turning it on and off, recovery codes."""

import io
import time
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from django.core.management import CommandError, call_command
from django.utils.timezone import now
from pytest_django import Settings

from accounts.errors import (
    AccountDisabled,
    EmailNotVerified,
    InvalidCode,
    InvalidPasskey,
    InvalidTicket,
    MfaRequired,
    RateLimited,
    RecentSignInNeeded,
    TwoStepIsOff,
    TwoStepIsOn,
)
from accounts.models import Budget, Event, Passkey, Session, SpentTicket, TwoStep, User
from accounts.origin import Origin
from accounts.services import (
    deletion,
    email_addresses,
    login,
    passkeys,
    passwords,
    second_step,
    sessions,
    sign_in_codes,
    tickets,
    two_step,
    users,
)  # fmt: skip
from tests.conftest import PASSWORD, Mailbox
from tests.factors import App, Device, passkey_on, two_step_on
from tests.threads import at_once


@pytest.fixture
def app(alice: User, phone: Session, origin: Origin) -> App:
    """Alice's authenticator app: two-step verification is on."""
    return two_step_on(alice, phone, origin)


def ticket(origin: Origin, password: str = PASSWORD) -> str:
    with pytest.raises(MfaRequired) as refused:
        login.sign_in(login="alice", password=password, origin=origin)
    return refused.value.ticket


# --- Signing in ---------------------------------------------------------------------------------------------


def test_a_right_password_begins_no_session(app: App, alice: User, origin: Origin) -> None:
    before = Session.objects.count()
    ticket(origin)
    assert Session.objects.count() == before


def test_a_wrong_password_is_not_told_of_the_second_step(app: App, origin: Origin) -> None:
    with pytest.raises(Exception, match="invalid_credentials"):
        login.sign_in(login="alice", password="mistaken ferry", origin=origin)


def test_the_code_of_the_app_signs_in_and_the_token_says_how(app: App, alice: User, origin: Origin) -> None:
    found = login.finish(ticket=ticket(origin), code=app.code(), origin=origin)
    assert found.user == alice
    claims = jwt.decode(found.tokens.access_token, options={"verify_signature": False})
    assert claims["amr"] == ["pwd", "otp", "mfa"]
    refreshed = sessions.refresh(refresh_token=found.tokens.refresh_token, origin=origin)
    assert jwt.decode(refreshed.access_token, options={"verify_signature": False})["amr"] == claims["amr"]


@pytest.mark.parametrize("typed", ["{} {}", "{}-{}", " {}{} "])
def test_a_code_is_taken_however_it_is_typed(typed: str, app: App, origin: Origin) -> None:
    code = app.code()
    login.finish(ticket=ticket(origin), code=typed.format(code[:3], code[3:]), origin=origin)


def test_a_code_by_mail_is_one_factor_only(app: App, alice: User, origin: Origin, mailbox: Mailbox) -> None:
    sign_in_codes.request(login="alice", origin=origin)
    sign_in_codes.answer_requests()
    with pytest.raises(MfaRequired) as refused:
        sign_in_codes.sign_in(login="alice", code=mailbox.code(), origin=origin)
    found = login.finish(ticket=refused.value.ticket, code=app.code(), origin=origin)
    assert jwt.decode(found.tokens.access_token, options={"verify_signature": False})["amr"] == ["otp", "mfa"]


def test_no_door_leads_around_it(app: App, alice: User, origin: Origin) -> None:
    """Whatever begins a session asks, so a door that is built later cannot forget to."""
    for kind in Session.Kind:
        with pytest.raises(MfaRequired):
            sessions.begin(user=User.objects.get(id=alice.id), kind=kind, origin=origin, methods=("otp",))


def test_a_new_password_does_not_take_an_older_second_step_away(
    app: App, alice: User, origin: Origin, mailbox: Mailbox
) -> None:
    TwoStep.objects.update(created_at=now() - timedelta(days=8))
    passwords.request_reset(login="alice", origin=origin)
    passwords.answer_requests()
    passwords.reset_by_code(login="alice", code=mailbox.code(), new_password="another lagoon tractor", origin=origin)
    found = login.finish(ticket=ticket(origin, "another lagoon tractor"), code=app.code(), origin=origin)
    assert found.user == alice


def test_a_code_works_once(app: App, origin: Origin) -> None:
    code = app.code()
    login.finish(ticket=ticket(origin), code=code, origin=origin)
    with pytest.raises(InvalidCode):
        login.finish(ticket=ticket(origin), code=code, origin=origin)


@pytest.mark.parametrize(("steps", "taken"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_half_a_minute_off(steps: int, taken: bool, app: App, alice: User, origin: Origin) -> None:
    TwoStep.objects.update(last_step=0)
    code = app.code(steps)
    if taken:
        login.finish(ticket=ticket(origin), code=code, origin=origin)
    else:
        with pytest.raises(InvalidCode):
            login.finish(ticket=ticket(origin), code=code, origin=origin)


def test_an_older_code_than_the_last_one_is_refused(app: App, origin: Origin) -> None:
    TwoStep.objects.update(last_step=0)
    login.finish(ticket=ticket(origin), code=app.code(), origin=origin)
    with pytest.raises(InvalidCode):
        login.finish(ticket=ticket(origin), code=app.code(-1), origin=origin)


@pytest.mark.parametrize("code", ["", "12345", "0000000", "abcdef", "١٢٣٤٥٦", "x" * 12, "\x00" * 6, "🦆" * 6])
def test_nonsense_is_a_wrong_code(code: str, app: App, origin: Origin) -> None:
    with pytest.raises(InvalidCode):
        login.finish(ticket=ticket(origin), code=code, origin=origin)


def test_a_wrong_code_keeps_the_ticket_and_is_in_the_log(app: App, alice: User, origin: Origin) -> None:
    held = ticket(origin)
    with pytest.raises(InvalidCode):
        login.finish(ticket=held, code="000000" if app.code() != "000000" else "111111", origin=origin)
    login.finish(ticket=held, code=app.code(), origin=origin)
    assert Event.objects.filter(user=alice, kind="two_step.failed").count() == 1


def tried(mailbox: Mailbox) -> int:
    return sum("is trying to sign in" in mail.subject for mail in mailbox.all("alice@example.com"))


def test_ten_wrong_codes_pause_it_and_the_owner_is_told_at_the_third(
    app: App, alice: User, origin: Origin, mailbox: Mailbox
) -> None:
    held = ticket(origin)
    for number in range(10):
        assert tried(mailbox) == (number > 2)
        with pytest.raises(InvalidCode):
            login.finish(ticket=held, code="x", origin=origin)
    for _ in range(2):
        with pytest.raises(RateLimited):
            login.finish(ticket=held, code=app.code(), origin=origin)
    assert tried(mailbox) == 1


def test_thirty_wrong_codes_a_day_are_all(app: App, origin: Origin) -> None:
    """Ten an hour, day after day, would be a guess in four within a year."""
    held = ticket(origin)
    for number in range(30):
        if number % 10 == 0:
            Budget.objects.filter(key__startswith="wrong_second_step_per_account").delete()  # an hour passes
        with pytest.raises(InvalidCode):
            login.finish(ticket=held, code="x", origin=origin)
    Budget.objects.filter(key__startswith="wrong_second_step_per_account").delete()
    with pytest.raises(RateLimited):
        login.finish(ticket=held, code=app.code(), origin=origin)


def test_who_guesses_at_the_app_keeps_the_owner_from_no_recovery_code(app: App, origin: Origin) -> None:
    held = ticket(origin)
    for _ in range(10):
        with pytest.raises(InvalidCode):
            login.finish(ticket=held, code="x", origin=origin)
    login.finish(ticket=held, code=app.recovery_codes[0], origin=origin)


def test_a_new_password_gives_the_owner_all_tries_back(app: App, alice: User, origin: Origin) -> None:
    held = ticket(origin)
    for _ in range(10):
        with pytest.raises(InvalidCode):
            login.finish(ticket=held, code="x", origin=origin)
    passwords.change_by_operator(user=alice, new_password="another lagoon tractor", origin=origin)
    login.finish(ticket=ticket(origin, "another lagoon tractor"), code=app.code(), origin=origin)


def test_a_right_password_that_nothing_follows_is_in_the_log(app: App, alice: User, origin: Origin) -> None:
    ticket(origin)
    assert Event.objects.filter(user=alice, kind="login.half_way").count() == 1


# --- Devices from before it was on --------------------------------------------------------------------------


@pytest.fixture
def older(alice: User, origin: Origin, phone: Session) -> Session:
    """Another device, signed in by the password alone; then Alice turns two-step verification on."""
    older = sessions.begin(user=alice, kind=Session.Kind.APP, origin=origin)
    two_step_on(alice, phone, origin)
    return older


def test_a_device_from_before_changes_nothing_by_the_password_alone(
    older: Session, alice: User, origin: Origin
) -> None:
    """Somebody may have the password and be signed in: that may be why Alice turned it on."""
    with pytest.raises(MfaRequired):
        login.reauthenticate(user=alice, session=older, password=PASSWORD, origin=origin)
    for change in (two_step.turn_off, two_step.make_recovery_codes):
        with pytest.raises(MfaRequired):
            change(user=alice, session=older, origin=origin)
    with pytest.raises(MfaRequired):
        passkeys.begin_adding(user=alice, session=older)
    with pytest.raises(MfaRequired):
        passwords.change(
            user=alice, current_password=PASSWORD, new_password="another lagoon tractor", keep=older.id, origin=origin
        )
    with pytest.raises(MfaRequired):
        email_addresses.request_change(
            user=alice, email="new@example.com", password=PASSWORD, session=older, origin=origin
        )
    with pytest.raises(MfaRequired):
        deletion.request(user=alice, session=older, password=PASSWORD, origin=origin)
    assert not login.is_recent(older)


def test_it_does_the_step_and_may_again(alice: User, phone: Session, origin: Origin) -> None:
    older = sessions.begin(user=alice, kind=Session.Kind.APP, origin=origin)
    app = two_step_on(alice, phone, origin)
    with pytest.raises(InvalidCode):
        login.reauthenticate(user=alice, session=older, password=PASSWORD, code="x", origin=origin)
    login.reauthenticate(user=alice, session=older, password=PASSWORD, code=app.code(), origin=origin)
    two_step.turn_off(user=alice, session=older, origin=origin)


def test_with_the_last_factor_goes_what_devices_have_shown_by_it(
    app: App, alice: User, phone: Session, origin: Origin
) -> None:
    assert login.may_administer(alice, Session.objects.get(id=phone.id))
    two_step.remove_all(user=alice, origin=origin)
    assert not login.may_administer(alice, Session.objects.get(id=phone.id))
    assert Session.objects.get(id=phone.id).methods == ["pwd", "otp"]


# --- Factors that somebody else set up ----------------------------------------------------------------------


def test_nothing_is_set_up_before_the_address_is_proved(carol: User, origin: Origin) -> None:
    """Whoever signs up with somebody else's address must not keep the owner out of it."""
    session = sessions.begin(user=carol, kind=Session.Kind.APP, origin=origin)
    with pytest.raises(EmailNotVerified):
        two_step.begin(user=carol, session=session)
    with pytest.raises(EmailNotVerified):
        passkeys.begin_adding(user=carol, session=session)


def test_a_claim_that_lapsed_meanwhile_sets_nothing_up(alice: User, phone: Session, origin: Origin) -> None:
    setup, begun = two_step.begin(user=alice, session=phone), passkeys.begin_adding(user=alice, session=phone)
    User.objects.update(email_verified=False)
    code, credential = App(setup.secret).code(), Device().create(begun.options)
    with pytest.raises(EmailNotVerified):
        two_step.turn_on(user=alice, session=phone, state=setup.state, code=code, origin=origin)
    with pytest.raises(EmailNotVerified):
        passkeys.add(user=alice, session=phone, state=begun.state, credential=credential, origin=origin)


def reset(origin: Origin, mailbox: Mailbox) -> None:
    passwords.request_reset(login="alice", origin=origin)
    passwords.answer_requests()
    passwords.reset_by_code(login="alice", code=mailbox.code(), new_password="another lagoon tractor", origin=origin)


def test_who_only_knew_the_password_neither_stays_nor_keeps_the_owner_out(
    alice: User, phone: Session, origin: Origin, mailbox: Mailbox
) -> None:
    """The thief sets both up, so as to get in again and so that the owner cannot; the owner does what the mail says."""
    device = passkey_on(alice, phone, origin)
    two_step_on(alice, phone, origin)
    reset(origin, mailbox)
    login.sign_in(login="alice", password="another lagoon tractor", origin=origin)
    begun = passkeys.begin_sign_in()
    with pytest.raises(InvalidPasskey):
        passkeys.sign_in(state=begun.state, credential=device.get(begun.options), origin=origin)
    assert Event.objects.filter(user=alice, kind="two_step.disabled").exists()


def test_what_is_older_than_a_week_stays_at_a_reset(
    app: App, alice: User, phone: Session, origin: Origin, mailbox: Mailbox
) -> None:
    passkey_on(alice, phone, origin)
    eight_days_ago = now() - timedelta(days=8)
    TwoStep.objects.update(created_at=eight_days_ago)
    Passkey.objects.update(created_at=eight_days_ago)
    reset(origin, mailbox)
    ticket(origin, "another lagoon tractor")
    assert len(two_step.of(alice).passkeys) == 1


def test_right_codes_do_not_use_the_tries_up(app: App, alice: User, origin: Origin) -> None:
    for _ in range(11):
        TwoStep.objects.update(last_step=0)
        login.finish(ticket=ticket(origin), code=app.code(), origin=origin)


def test_who_was_switched_off_meanwhile_is_told_so(app: App, alice: User, origin: Origin) -> None:
    held = ticket(origin)
    users.set_active(user=alice, active=False, origin=origin)
    with pytest.raises(AccountDisabled):
        login.finish(ticket=held, code=app.code(), origin=origin)


# --- Tickets ------------------------------------------------------------------------------------------------


def test_a_ticket_is_good_once(app: App, origin: Origin) -> None:
    held = ticket(origin)
    login.finish(ticket=held, code=app.code(), origin=origin)
    TwoStep.objects.update(last_step=0)
    with pytest.raises(InvalidTicket):
        login.finish(ticket=held, code=app.code(), origin=origin)


@pytest.mark.parametrize("forged", ["", "x", "gAAAAA==", "é", "\x00", "a" * 4000])
def test_what_is_no_ticket_is_refused(forged: str, app: App, origin: Origin) -> None:
    with pytest.raises(InvalidTicket):
        login.finish(ticket=forged, code=app.code(), origin=origin)


def test_a_ticket_ends_after_five_minutes(app: App, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    held = ticket(origin)
    later = now() + timedelta(minutes=5, seconds=1)
    monkeypatch.setattr(tickets, "now", lambda: later)
    with pytest.raises(InvalidTicket):
        login.finish(ticket=held, code=app.code(), origin=origin)


def test_a_ticket_for_something_else_is_refused(app: App, alice: User, origin: Origin) -> None:
    other = tickets.issue("two-step", user=alice.id.hex, password="", methods=["pwd"])
    with pytest.raises(InvalidTicket):
        login.finish(ticket=other, code=app.code(), origin=origin)


def test_a_new_password_voids_the_ticket(app: App, alice: User, origin: Origin) -> None:
    held = ticket(origin)
    passwords.change(
        user=alice, current_password=PASSWORD, new_password="another lagoon tractor", keep=None, origin=origin
    )
    with pytest.raises(InvalidTicket):
        login.finish(ticket=held, code=app.code(), origin=origin)


def test_spent_tickets_are_forgotten_when_their_time_is_over(app: App, origin: Origin) -> None:
    login.finish(ticket=ticket(origin), code=app.code(), origin=origin)
    assert tickets.prune() == 0
    SpentTicket.objects.update(until=now() - timedelta(seconds=1))
    assert tickets.prune() == SpentTicket.objects.count() + 2  # of the set-up, and of this sign-in


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_of_one_code_at_once_one_signs_in(app: App, origin: Origin) -> None:
    code, held = app.code(), [ticket(origin) for _ in range(4)]
    found = at_once(4, lambda: login.finish(ticket=held.pop(), code=code, origin=origin))
    assert sum(isinstance(item, sessions.SignedIn) for item in found) == 1, found


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_of_one_ticket_at_once_one_signs_in(app: App, origin: Origin) -> None:
    held, codes = ticket(origin), list(app.recovery_codes[:4])
    found = at_once(4, lambda: login.finish(ticket=held, code=codes.pop(), origin=origin))
    assert sum(isinstance(item, sessions.SignedIn) for item in found) == 1, found
    # Those who came too late have used nothing up.
    assert TwoStep.objects.get().recovery_used.bit_count() == 1


# --- Recovery codes -----------------------------------------------------------------------------------------


def test_each_recovery_code_signs_in_once_and_the_owner_is_told(
    app: App, alice: User, origin: Origin, mailbox: Mailbox
) -> None:
    assert len(set(app.recovery_codes)) == 10
    for number, code in enumerate(app.recovery_codes):
        login.finish(ticket=ticket(origin), code=code.upper() if number % 2 else code, origin=origin)
        assert two_step.of(alice).recovery_codes_left == 9 - number
        with pytest.raises(InvalidCode):
            login.finish(ticket=ticket(origin), code=code, origin=origin)
    assert Event.objects.filter(user=alice, kind="recovery_code.used").count() == 10
    assert "recovery code" in mailbox.last(alice.email).subject.lower()


def test_misread_letters_are_understood(app: App, origin: Origin) -> None:
    code = next((code for code in app.recovery_codes if set(code) & set("olb")), None)
    if code is None:
        pytest.skip("none of ten codes has such a letter")
    login.finish(ticket=ticket(origin), code=code.translate(str.maketrans("olb", "018")), origin=origin)


def test_new_recovery_codes_void_the_old_ones(app: App, alice: User, phone: Session, origin: Origin) -> None:
    login.finish(ticket=ticket(origin), code=app.recovery_codes[0], origin=origin)
    new = two_step.make_recovery_codes(user=alice, session=phone, origin=origin)
    assert two_step.of(alice).recovery_codes_left == 10
    with pytest.raises(InvalidCode):
        login.finish(ticket=ticket(origin), code=app.recovery_codes[1], origin=origin)
    login.finish(ticket=ticket(origin), code=new[1], origin=origin)


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_of_one_recovery_code_at_once_one_signs_in(app: App, origin: Origin) -> None:
    held = [ticket(origin) for _ in range(4)]
    found = at_once(4, lambda: login.finish(ticket=held.pop(), code=app.recovery_codes[3], origin=origin))
    assert sum(isinstance(item, sessions.SignedIn) for item in found) == 1, found


# --- Turning it on and off ----------------------------------------------------------------------------------


def test_nothing_is_asked_before_a_code_of_the_app_was_typed(alice: User, phone: Session, origin: Origin) -> None:
    two_step.begin(user=alice, session=phone)
    login.sign_in(login="alice", password=PASSWORD, origin=origin)
    assert not TwoStep.objects.exists()


def test_each_set_up_has_a_secret_of_its_own(alice: User, phone: Session) -> None:
    first, second = (two_step.begin(user=alice, session=phone) for _ in range(2))
    assert first.secret != second.secret
    asked = parse_qs(urlsplit(first.uri).query)
    assert asked["secret"] == [first.secret]
    assert first.uri.startswith("otpauth://totp/")
    assert "alice" in first.uri


def test_the_secret_is_in_no_readable_form_in_the_ticket_or_the_database(
    alice: User, phone: Session, origin: Origin
) -> None:
    setup = two_step.begin(user=alice, session=phone)
    assert setup.secret not in setup.state
    app = App(setup.secret)
    app.recovery_codes = two_step.turn_on(user=alice, session=phone, state=setup.state, code=app.code(), origin=origin)
    row = TwoStep.objects.get()
    assert app.seed not in bytes(row.sealed_seed)
    assert second_step.unseal(row.sealed_seed) == app.seed


def test_a_wrong_code_turns_nothing_on(alice: User, phone: Session, origin: Origin) -> None:
    setup = two_step.begin(user=alice, session=phone)
    with pytest.raises(InvalidCode):
        two_step.turn_on(user=alice, session=phone, state=setup.state, code="x", origin=origin)
    assert not TwoStep.objects.exists()
    assert two_step.begun(user=alice, session=phone, state=setup.state).secret == setup.secret


def test_bob_cannot_finish_what_alice_began(alice: User, phone: Session, bob: User, origin: Origin) -> None:
    setup = two_step.begin(user=alice, session=phone)
    code = App(setup.secret).code()
    bobs = sessions.begin(user=bob, kind=Session.Kind.APP, origin=origin)
    for user, session in ((bob, bobs), (bob, phone), (alice, bobs)):
        with pytest.raises(InvalidTicket):
            two_step.turn_on(user=user, session=session, state=setup.state, code=code, origin=origin)
        with pytest.raises(InvalidTicket):
            two_step.begun(user=user, session=session, state=setup.state)


def test_turning_it_on_is_in_the_log_and_in_a_mail_and_counts_for_this_device(
    app: App, alice: User, phone: Session, mailbox: Mailbox
) -> None:
    assert Event.objects.filter(user=alice, kind="two_step.enabled").count() == 1
    assert mailbox.last(alice.email).subject
    assert "mfa" in Session.objects.get(id=phone.id).methods


def test_it_is_turned_on_once(app: App, alice: User, phone: Session, origin: Origin) -> None:
    with pytest.raises(TwoStepIsOn):
        two_step.begin(user=alice, session=phone)


@pytest.mark.django_db(transaction=True)
def test_of_two_set_ups_at_once_one_is_turned_on(alice: User, phone: Session, origin: Origin) -> None:
    setups = [two_step.begin(user=alice, session=phone) for _ in range(2)]

    def turn_on() -> object:
        setup = setups.pop()
        code = App(setup.secret).code()
        return two_step.turn_on(user=alice, session=phone, state=setup.state, code=code, origin=origin)

    found = at_once(2, turn_on)
    assert sum(isinstance(item, TwoStepIsOn) for item in found) == 1, found


def test_turning_it_off_asks_for_nothing_any_more_and_tells_the_owner(
    app: App, alice: User, phone: Session, origin: Origin, mailbox: Mailbox
) -> None:
    two_step.turn_off(user=alice, session=phone, origin=origin)
    login.sign_in(login="alice", password=PASSWORD, origin=origin)
    assert Event.objects.filter(user=alice, kind="two_step.disabled").count() == 1
    assert any("turned off" in mail.message for mail in mailbox.all(alice.email))
    with pytest.raises(TwoStepIsOff):
        two_step.turn_off(user=alice, session=phone, origin=origin)
    with pytest.raises(TwoStepIsOff):
        two_step.make_recovery_codes(user=alice, session=phone, origin=origin)


def test_each_change_needs_a_recent_sign_in(app: App, alice: User, phone: Session, origin: Origin) -> None:
    Session.objects.filter(id=phone.id).update(authenticated_at=now() - timedelta(minutes=11))
    for change in (two_step.turn_off, two_step.make_recovery_codes):
        with pytest.raises(RecentSignInNeeded):
            change(user=alice, session=phone, origin=origin)
    with pytest.raises(RecentSignInNeeded):
        two_step.begin(user=alice, session=phone)
    login.reauthenticate(user=alice, session=phone, password=PASSWORD, origin=origin)
    two_step.turn_off(user=alice, session=phone, origin=origin)


def test_a_wrong_password_does_not_count_as_recent(alice: User, phone: Session, origin: Origin) -> None:
    before = now() - timedelta(minutes=11)
    Session.objects.filter(id=phone.id).update(authenticated_at=before)
    with pytest.raises(Exception, match="wrong_password"):
        login.reauthenticate(user=alice, session=phone, password="mistaken ferry", origin=origin)
    assert Session.objects.get(id=phone.id).authenticated_at == before


def test_staff_may_administer_by_two_factors_only(alice: User, bob: User, phone: Session, origin: Origin) -> None:
    assert not login.may_administer(alice, phone)
    two_step_on(alice, phone, origin)
    assert login.may_administer(alice, Session.objects.get(id=phone.id))
    bobs = sessions.begin(user=bob, kind=Session.Kind.APP, origin=origin, methods=("hwk", "mfa"))
    assert not login.may_administer(bob, bobs)


def test_a_device_that_is_signed_in_can_do_the_step_later(
    app: App, alice: User, origin: Origin, phone: Session
) -> None:
    assert second_step.step_up(user=alice, code=app.code(), origin=origin) == ("otp", "mfa")
    with pytest.raises(InvalidCode):
        second_step.step_up(user=alice, code="x", origin=origin)


def test_an_operator_lets_somebody_in_who_has_lost_all(
    app: App, alice: User, phone: Session, origin: Origin, mailbox: Mailbox
) -> None:
    passkey_on(alice, phone, origin, name="Lost phone")
    before = len(mailbox.all(alice.email))
    call_command("remove_second_factors", "alice", stdout=io.StringIO())
    assert two_step.of(alice) == two_step.Factors(None, 0, [])
    assert len(mailbox.all(alice.email)) == before + 2
    login.sign_in(login="alice", password=PASSWORD, origin=origin)
    with pytest.raises(CommandError):
        call_command("remove_second_factors", "nobody")


# --- A new SECRET_KEY ---------------------------------------------------------------------------------------


def test_a_new_secret_key_locks_nobody_out(app: App, alice: User, origin: Origin, settings: Settings) -> None:
    old = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "k" * 60, [old]
    assert two_step.seal_anew() == 1
    assert two_step.seal_anew() == 0
    settings.SECRET_KEY_FALLBACKS = []
    assert two_step.seal_anew() == 0
    login.finish(ticket=ticket(origin), code=app.code(), origin=origin)
    login.finish(ticket=ticket(origin), code=app.recovery_codes[0], origin=origin)


def test_a_ticket_outlives_a_change_of_the_key(app: App, alice: User, origin: Origin, settings: Settings) -> None:
    held, old = ticket(origin), settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "k" * 60, [old]
    login.finish(ticket=held, code=app.code(), origin=origin)


def test_a_lost_secret_key_is_said_and_lets_nobody_in(app: App, origin: Origin, settings: Settings) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "k" * 60, []
    with pytest.raises(RuntimeError, match="SECRET_KEY"):
        login.finish(ticket=ticket(origin), code=app.code(), origin=origin)


def test_the_codes_are_those_of_the_rfc() -> None:
    """RFC 6238, appendix B, the last six of its eight digits."""
    seed = b"12345678901234567890"
    assert second_step.code_at(seed, 59 // 30) == "287082"
    assert second_step.code_at(seed, 1111111109 // 30) == "081804"
    assert second_step.code_at(seed, 20000000000 // 30) == "353130"
    assert abs(time.time() - now().timestamp()) < 5
