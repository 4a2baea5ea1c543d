"""Two-step verification: the second step after a password or a mailed code, turning it on and off, recovery codes."""

import io
from datetime import timedelta
from urllib.parse import parse_qs, quote, urlsplit

import jwt
import pytest
from django.core.management import CommandError, call_command
from django.utils.timezone import now
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import (
    AccountDisabled,
    EmailNotVerified,
    InvalidCode,
    InvalidPasskey,
    InvalidTicket,
    MfaIsOff,
    MfaIsOn,
    MfaRequired,
    RateLimited,
    RecentSignInNeeded,
    SetupExpired,
)
from accounts.models import Budget, Event, Passkey, Session, SpentTicket, TotpAuthenticator, User
from accounts.services.account import (
    deletion,
    email_addresses,
    email_requests,
    password_resets,
    passwords,
    sign_in_codes,
    users,
)
from accounts.services.authentication import passkeys, reauthentication, sign_in, totp
from accounts.services.profile import profiles
from accounts.services.security import tickets
from accounts.services.sessions import mfa, sessions
from tests.conftest import PASSWORD, Mailbox
from tests.factors import App, Device, passkey_on, two_step_on
from tests.threads import at_once


@pytest.fixture
def app(alice: User, phone: Session, caller: Caller) -> App:
    """Alice's authenticator app: two-step verification is on."""
    return two_step_on(alice, phone, caller)


def ticket(caller: Caller, password: str = PASSWORD) -> str:
    with pytest.raises(MfaRequired) as refused:
        sign_in.sign_in_app(login="alice", password=password, caller=caller)
    return refused.value.ticket


# --- Signing in ---------------------------------------------------------------------------------------------


def test_a_right_password_begins_no_session(app: App, alice: User, caller: Caller) -> None:
    before = Session.objects.count()
    ticket(caller)
    assert Session.objects.count() == before


def test_a_wrong_password_is_not_told_of_the_second_step(app: App, caller: Caller) -> None:
    with pytest.raises(Exception, match="invalid_credentials"):
        sign_in.sign_in_app(login="alice", password="mistaken ferry", caller=caller)


def test_the_code_of_the_app_signs_in_and_the_token_says_how(app: App, alice: User, caller: Caller) -> None:
    found = sign_in.finish(ticket=ticket(caller), code=app.code(), caller=caller)
    assert found.user == alice
    claims = jwt.decode(found.tokens.access_token, options={"verify_signature": False})
    assert claims["amr"] == ["pwd", "otp", "mfa"]
    refreshed = sessions.refresh(refresh_token=found.tokens.refresh_token, caller=caller)
    assert jwt.decode(refreshed.access_token, options={"verify_signature": False})["amr"] == claims["amr"]


@pytest.mark.parametrize("typed", ["{} {}", "{}-{}", " {}{} "])
def test_a_code_is_taken_however_it_is_typed(typed: str, app: App, caller: Caller) -> None:
    code = app.code()
    sign_in.finish(ticket=ticket(caller), code=typed.format(code[:3], code[3:]), caller=caller)


def test_a_code_by_mail_is_one_factor_only(app: App, alice: User, caller: Caller, mailbox: Mailbox) -> None:
    sign_in_codes.request(login="alice", caller=caller)
    email_requests.answer()
    with pytest.raises(MfaRequired) as refused:
        sign_in_codes.sign_in_app(login="alice", code=mailbox.code(), caller=caller)
    found = sign_in.finish(ticket=refused.value.ticket, code=app.code(), caller=caller)
    assert jwt.decode(found.tokens.access_token, options={"verify_signature": False})["amr"] == ["otp", "mfa"]


def test_no_door_leads_around_it(app: App, alice: User, caller: Caller) -> None:
    """Whatever begins a session asks, so a door that is built later cannot forget to."""
    for kind in Session.Kind:
        with pytest.raises(MfaRequired):
            sessions.begin(user=User.objects.get(id=alice.id), kind=kind, caller=caller, methods=("otp",))


def test_a_new_password_does_not_take_an_older_second_step_away(
    app: App, alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    TotpAuthenticator.objects.update(created_at=now() - timedelta(days=8))
    password_resets.request_reset(login="alice", caller=caller)
    email_requests.answer()
    password_resets.reset_by_code(
        login="alice", code=mailbox.code(), new_password="another lagoon tractor", caller=caller
    )
    found = sign_in.finish(ticket=ticket(caller, "another lagoon tractor"), code=app.code(), caller=caller)
    assert found.user == alice


def test_a_code_works_once(app: App, caller: Caller) -> None:
    code = app.code()
    sign_in.finish(ticket=ticket(caller), code=code, caller=caller)
    with pytest.raises(InvalidCode):
        sign_in.finish(ticket=ticket(caller), code=code, caller=caller)


@pytest.mark.parametrize(("steps", "taken"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_half_a_minute_off(
    steps: int, taken: bool, app: App, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    TotpAuthenticator.objects.update(last_step=0)
    at = now()
    monkeypatch.setattr(mfa, "now", lambda: at)
    code = mfa.code_at(app.seed, int(at.timestamp()) // mfa.STEP + steps)
    if taken:
        sign_in.finish(ticket=ticket(caller), code=code, caller=caller)
    else:
        with pytest.raises(InvalidCode):
            sign_in.finish(ticket=ticket(caller), code=code, caller=caller)


def test_an_older_code_than_the_last_one_is_refused(app: App, caller: Caller) -> None:
    TotpAuthenticator.objects.update(last_step=0)
    sign_in.finish(ticket=ticket(caller), code=app.code(), caller=caller)
    with pytest.raises(InvalidCode):
        sign_in.finish(ticket=ticket(caller), code=app.code(-1), caller=caller)


@pytest.mark.parametrize("code", ["", "12345", "0000000", "abcdef", "١٢٣٤٥٦", "x" * 12, "\x00" * 6, "🦆" * 6])
def test_nonsense_is_a_wrong_code(code: str, app: App, caller: Caller) -> None:
    with pytest.raises(InvalidCode):
        sign_in.finish(ticket=ticket(caller), code=code, caller=caller)


def test_a_wrong_code_keeps_the_ticket_and_is_in_the_log(app: App, alice: User, caller: Caller) -> None:
    held = ticket(caller)
    with pytest.raises(InvalidCode):
        sign_in.finish(ticket=held, code=app.wrong(), caller=caller)
    sign_in.finish(ticket=held, code=app.code(), caller=caller)
    assert Event.objects.filter(user=alice, kind="two_step.failed").count() == 1


def tried(mailbox: Mailbox) -> int:
    return sum("is trying to sign in" in mail.subject for mail in mailbox.all("alice@example.com"))


def test_ten_wrong_codes_pause_it_and_the_owner_is_told_at_the_third(
    app: App, alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    held = ticket(caller)
    for number in range(10):
        assert tried(mailbox) == (number > 2)
        with pytest.raises(InvalidCode):
            sign_in.finish(ticket=held, code=app.wrong(), caller=caller)
    for _ in range(2):
        with pytest.raises(RateLimited, check=lambda error: "A recovery code still works." in error.message):
            sign_in.finish(ticket=held, code=app.code(), caller=caller)
    assert tried(mailbox) == 1
    for _ in range(10):
        with pytest.raises(InvalidCode):
            sign_in.finish(ticket=held, code="aaaa-bbbb-cccc", caller=caller)
    with pytest.raises(RateLimited, check=lambda error: "A code from your authenticator app" in error.message):
        sign_in.finish(ticket=held, code="aaaa-bbbb-cccc", caller=caller)


def test_thirty_wrong_codes_a_day_are_all(app: App, caller: Caller) -> None:
    """Ten an hour, day after day, would be a guess in four within a year."""
    held = ticket(caller)
    for number in range(30):
        if number % 10 == 0:
            Budget.objects.filter(key__startswith="wrong_second_step_per_account").delete()  # an hour passes
        with pytest.raises(InvalidCode):
            sign_in.finish(ticket=held, code=app.wrong(), caller=caller)
    Budget.objects.filter(key__startswith="wrong_second_step_per_account").delete()
    with pytest.raises(RateLimited):
        sign_in.finish(ticket=held, code=app.code(), caller=caller)


def test_who_guesses_at_the_app_keeps_the_owner_from_no_recovery_code(app: App, caller: Caller) -> None:
    held = ticket(caller)
    for _ in range(10):
        with pytest.raises(InvalidCode):
            sign_in.finish(ticket=held, code=app.wrong(), caller=caller)
    sign_in.finish(ticket=held, code=app.recovery_codes[0], caller=caller)


def test_a_new_password_gives_the_owner_all_tries_back(app: App, alice: User, caller: Caller) -> None:
    held = ticket(caller)
    for _ in range(10):
        with pytest.raises(InvalidCode):
            sign_in.finish(ticket=held, code=app.wrong(), caller=caller)
    passwords.change_by_operator(user=alice, new_password="another lagoon tractor", caller=caller)
    sign_in.finish(ticket=ticket(caller, "another lagoon tractor"), code=app.code(), caller=caller)


def test_a_right_password_that_nothing_follows_is_in_the_log(app: App, alice: User, caller: Caller) -> None:
    ticket(caller)
    assert Event.objects.filter(user=alice, kind="login.half_way").count() == 1


# --- Devices from before it was on --------------------------------------------------------------------------


@pytest.fixture
def older(alice: User, caller: Caller, phone: Session) -> Session:
    """Another device, signed in by the password alone; then Alice turns two-step verification on."""
    older = sessions.begin(user=alice, kind=Session.Kind.APP, caller=caller)
    two_step_on(alice, phone, caller)
    return older


def test_a_device_from_before_changes_nothing_by_the_password_alone(
    older: Session, alice: User, caller: Caller
) -> None:
    """Somebody may have the password and be signed in: that may be why Alice turned it on."""
    with pytest.raises(MfaRequired):
        reauthentication.reauthenticate(user=alice, session=older, password=PASSWORD, caller=caller)
    for change in (totp.turn_off, totp.make_recovery_codes):
        with pytest.raises(MfaRequired):
            change(user=alice, session=older, caller=caller)
    with pytest.raises(MfaRequired):
        passkeys.begin_adding(user=alice, session=older)
    with pytest.raises(MfaRequired):
        passwords.change(
            user=alice, current_password=PASSWORD, new_password="another lagoon tractor", keep=older.id, caller=caller
        )
    with pytest.raises(MfaRequired):
        email_addresses.request_change(
            user=alice, email="new@example.com", password=PASSWORD, session=older, caller=caller
        )
    with pytest.raises(MfaRequired):
        deletion.request(user=alice, session=older, password=PASSWORD, caller=caller)
    for changes in ({"username": "ada"}, {"username": " ADA", "first_name": "Ada"}):
        with pytest.raises(MfaRequired):
            profiles.update(user=alice, changes=changes, session=older, caller=caller)
    # What nobody signs in with, and the same name again.
    changes = {"username": "Alice", "first_name": "Ada"}
    assert profiles.update(user=alice, changes=changes, session=older, caller=caller).first_name == "Ada"
    assert not reauthentication.is_recent(older)


def test_it_does_the_step_and_may_again(alice: User, phone: Session, caller: Caller) -> None:
    older = sessions.begin(user=alice, kind=Session.Kind.APP, caller=caller)
    app = two_step_on(alice, phone, caller)
    with pytest.raises(InvalidCode):
        reauthentication.reauthenticate(user=alice, session=older, password=PASSWORD, code="x", caller=caller)
    reauthentication.reauthenticate(user=alice, session=older, password=PASSWORD, code=app.code(), caller=caller)
    totp.turn_off(user=alice, session=older, caller=caller)


def test_with_the_last_factor_goes_what_devices_have_shown_by_it(
    app: App, alice: User, phone: Session, caller: Caller
) -> None:
    assert reauthentication.may_administer(alice, Session.objects.get(id=phone.id))
    totp.remove_all(user=alice, caller=caller)
    assert not reauthentication.may_administer(alice, Session.objects.get(id=phone.id))
    assert Session.objects.get(id=phone.id).methods == ["pwd", "otp"]


# --- Factors that somebody else set up ----------------------------------------------------------------------


def test_nothing_is_set_up_before_the_address_is_proved(carol: User, caller: Caller) -> None:
    """Whoever signs up with somebody else's address must not keep the owner out of it."""
    session = sessions.begin(user=carol, kind=Session.Kind.APP, caller=caller)
    with pytest.raises(EmailNotVerified):
        totp.begin(user=carol, session=session)
    with pytest.raises(EmailNotVerified):
        passkeys.begin_adding(user=carol, session=session)


def test_a_claim_that_lapsed_meanwhile_sets_nothing_up(alice: User, phone: Session, caller: Caller) -> None:
    setup, begun = totp.begin(user=alice, session=phone), passkeys.begin_adding(user=alice, session=phone)
    User.objects.update(email_verified=False)
    code, credential = App(setup.secret).code(), Device().create(begun.options)
    with pytest.raises(EmailNotVerified):
        totp.turn_on(user=alice, session=phone, state=setup.state, code=code, caller=caller)
    with pytest.raises(EmailNotVerified):
        passkeys.add(user=alice, session=phone, state=begun.state, credential=credential, caller=caller)


def reset(caller: Caller, mailbox: Mailbox) -> None:
    password_resets.request_reset(login="alice", caller=caller)
    email_requests.answer()
    password_resets.reset_by_code(
        login="alice", code=mailbox.code(), new_password="another lagoon tractor", caller=caller
    )


def test_who_only_knew_the_password_neither_stays_nor_keeps_the_owner_out(
    alice: User, phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    """The thief sets both up, so as to get in again and so that the owner cannot; the owner does what the mail says."""
    device = passkey_on(alice, phone, caller)
    two_step_on(alice, phone, caller)
    reset(caller, mailbox)
    sign_in.sign_in_app(login="alice", password="another lagoon tractor", caller=caller)
    begun = passkeys.begin_sign_in()
    with pytest.raises(InvalidPasskey):
        passkeys.sign_in_app(state=begun.state, credential=device.get(begun.options), caller=caller)
    assert Event.objects.filter(user=alice, kind="two_step.disabled").exists()


def test_what_is_older_than_a_week_stays_at_a_reset(
    app: App, alice: User, phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    passkey_on(alice, phone, caller)
    eight_days_ago = now() - timedelta(days=8)
    TotpAuthenticator.objects.update(created_at=eight_days_ago)
    Passkey.objects.update(created_at=eight_days_ago)
    reset(caller, mailbox)
    ticket(caller, "another lagoon tractor")
    assert len(totp.overview(alice).passkeys) == 1


def test_right_codes_do_not_use_the_tries_up(app: App, alice: User, caller: Caller) -> None:
    for _ in range(11):
        TotpAuthenticator.objects.update(last_step=0)
        sign_in.finish(ticket=ticket(caller), code=app.code(), caller=caller)


def test_who_was_switched_off_meanwhile_is_told_so(app: App, alice: User, caller: Caller) -> None:
    held = ticket(caller)
    users.set_active(user=alice, active=False, caller=caller)
    with pytest.raises(AccountDisabled):
        sign_in.finish(ticket=held, code=app.code(), caller=caller)


# --- Tickets ------------------------------------------------------------------------------------------------


def test_a_ticket_is_good_once(app: App, caller: Caller) -> None:
    held = ticket(caller)
    sign_in.finish(ticket=held, code=app.code(), caller=caller)
    TotpAuthenticator.objects.update(last_step=0)
    with pytest.raises(InvalidTicket):
        sign_in.finish(ticket=held, code=app.code(), caller=caller)


@pytest.mark.parametrize("forged", ["", "x", "gAAAAA==", "é", "\x00", "a" * 4000])
def test_what_is_no_ticket_is_refused(forged: str, app: App, caller: Caller) -> None:
    with pytest.raises(InvalidTicket):
        sign_in.finish(ticket=forged, code=app.code(), caller=caller)


def test_a_ticket_ends_after_five_minutes(app: App, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    held = ticket(caller)
    later = now() + timedelta(minutes=5, seconds=1)
    monkeypatch.setattr(tickets, "now", lambda: later)
    with pytest.raises(InvalidTicket):
        sign_in.finish(ticket=held, code=app.code(), caller=caller)


def test_a_ticket_for_something_else_is_refused(app: App, alice: User, caller: Caller) -> None:
    class Other(mfa.HalfWay):
        PURPOSE = "two-step"

    other = tickets.issue(Other(user=alice.id.hex, password=mfa._print(alice), methods=["pwd"]))
    with pytest.raises(InvalidTicket):
        sign_in.finish(ticket=other, code=app.code(), caller=caller)


def test_a_new_password_voids_the_ticket(app: App, alice: User, caller: Caller) -> None:
    held = ticket(caller)
    passwords.change(
        user=alice, current_password=PASSWORD, new_password="another lagoon tractor", keep=None, caller=caller
    )
    with pytest.raises(InvalidTicket):
        sign_in.finish(ticket=held, code=app.code(), caller=caller)


def test_spent_tickets_are_forgotten_when_their_time_is_over(app: App, caller: Caller) -> None:
    sign_in.finish(ticket=ticket(caller), code=app.code(), caller=caller)
    assert tickets.prune() == 0
    SpentTicket.objects.update(until=now() - timedelta(seconds=1))
    assert tickets.prune() == SpentTicket.objects.count() + 2  # of the set-up, and of this sign-in


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_of_one_code_at_once_one_signs_in(app: App, caller: Caller) -> None:
    code, held = app.code(), [ticket(caller) for _ in range(4)]
    found = at_once(4, lambda: sign_in.finish(ticket=held.pop(), code=code, caller=caller))
    assert sum(isinstance(item, sessions.SignedIn) for item in found) == 1, found


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_of_one_ticket_at_once_one_signs_in(app: App, caller: Caller) -> None:
    held, codes = ticket(caller), list(app.recovery_codes[:4])
    found = at_once(4, lambda: sign_in.finish(ticket=held, code=codes.pop(), caller=caller))
    assert sum(isinstance(item, sessions.SignedIn) for item in found) == 1, found
    # Those who came too late have used nothing up.
    assert TotpAuthenticator.objects.get().recovery_used.bit_count() == 1


# --- Recovery codes -----------------------------------------------------------------------------------------


def test_each_recovery_code_signs_in_once_and_the_owner_is_told(
    app: App, alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    assert len(set(app.recovery_codes)) == 10
    for number, code in enumerate(app.recovery_codes):
        sign_in.finish(ticket=ticket(caller), code=code.upper() if number % 2 else code, caller=caller)
        assert totp.overview(alice).recovery_codes_left == 9 - number
        with pytest.raises(InvalidCode):
            sign_in.finish(ticket=ticket(caller), code=code, caller=caller)
    assert Event.objects.filter(user=alice, kind="recovery_code.used").count() == 10
    assert "recovery code" in mailbox.last(alice.email).subject.lower()


def test_misread_letters_are_understood(app: App, alice: User, caller: Caller) -> None:
    seed = bytes(32)  # whose codes have each of the letters
    TotpAuthenticator.objects.filter(user=alice).update(sealed_recovery_seed=mfa.seal(seed))
    codes = mfa.shown(seed)
    assert set("olb") <= set("".join(codes))
    for code in codes:
        sign_in.finish(ticket=ticket(caller), code=code.translate(str.maketrans("olb", "018")), caller=caller)


def test_new_recovery_codes_void_the_old_ones(app: App, alice: User, phone: Session, caller: Caller) -> None:
    sign_in.finish(ticket=ticket(caller), code=app.recovery_codes[0], caller=caller)
    new = totp.make_recovery_codes(user=alice, session=phone, caller=caller)
    assert totp.overview(alice).recovery_codes_left == 10
    with pytest.raises(InvalidCode):
        sign_in.finish(ticket=ticket(caller), code=app.recovery_codes[1], caller=caller)
    sign_in.finish(ticket=ticket(caller), code=new[1], caller=caller)


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_of_one_recovery_code_at_once_one_signs_in(app: App, caller: Caller) -> None:
    held = [ticket(caller) for _ in range(4)]
    found = at_once(4, lambda: sign_in.finish(ticket=held.pop(), code=app.recovery_codes[3], caller=caller))
    assert sum(isinstance(item, sessions.SignedIn) for item in found) == 1, found


# --- Turning it on and off ----------------------------------------------------------------------------------


def test_nothing_is_asked_before_a_code_of_the_app_was_typed(alice: User, phone: Session, caller: Caller) -> None:
    totp.begin(user=alice, session=phone)
    sign_in.sign_in_app(login="alice", password=PASSWORD, caller=caller)
    assert not TotpAuthenticator.objects.exists()


def test_each_set_up_has_a_secret_of_its_own(alice: User, phone: Session) -> None:
    first, second = (totp.begin(user=alice, session=phone) for _ in range(2))
    assert first.secret != second.secret
    asked = parse_qs(urlsplit(first.uri).query)
    assert asked["secret"] == [first.secret]
    assert first.uri.startswith("otpauth://totp/")
    assert "alice" in first.uri


def test_an_authenticator_reads_the_name_of_the_site(alice: User, phone: Session, settings: Settings) -> None:
    """The label is "issuer:account", the issuer is given again, and a plus sign is one."""
    issuers = {
        "Acme Accounts": "Acme Accounts",
        "Acme: Accounts": "Acme Accounts",
        "Acme:Accounts": "Acme Accounts",
        "A/B & C?#%+": "A/B & C?#%+",
        "Bücher ☕": "Bücher ☕",
        " Crew ": "Crew",
    }
    for name, issuer in issuers.items():
        settings.SITE_NAME = name
        uri = urlsplit(totp.begin(user=alice, session=phone).uri)
        assert "+" not in uri.path + uri.query
        assert uri.path == f"/{quote(issuer, safe='')}:alice"
        assert uri.fragment == ""
        assert dict(item.split("=") for item in uri.query.split("&"))["issuer"] == quote(issuer, safe="")


def test_the_secret_is_in_no_readable_form_in_the_ticket_or_the_database(
    alice: User, phone: Session, caller: Caller
) -> None:
    setup = totp.begin(user=alice, session=phone)
    assert setup.secret not in setup.state
    app = App(setup.secret)
    app.recovery_codes = totp.turn_on(user=alice, session=phone, state=setup.state, code=app.code(), caller=caller)
    row = TotpAuthenticator.objects.get()
    assert app.seed not in bytes(row.sealed_seed)
    assert mfa.unseal(row.sealed_seed) == app.seed


def test_a_wrong_code_turns_nothing_on(alice: User, phone: Session, caller: Caller) -> None:
    setup = totp.begin(user=alice, session=phone)
    with pytest.raises(InvalidCode):
        totp.turn_on(user=alice, session=phone, state=setup.state, code="x", caller=caller)
    assert not TotpAuthenticator.objects.exists()
    assert totp.begun(user=alice, session=phone, state=setup.state).secret == setup.secret


def test_bob_cannot_finish_what_alice_began(alice: User, phone: Session, bob: User, caller: Caller) -> None:
    setup = totp.begin(user=alice, session=phone)
    code = App(setup.secret).code()
    bobs = sessions.begin(user=bob, kind=Session.Kind.APP, caller=caller)
    for user, session in ((bob, bobs), (bob, phone), (alice, bobs)):
        with pytest.raises(SetupExpired):
            totp.turn_on(user=user, session=session, state=setup.state, code=code, caller=caller)
        with pytest.raises(SetupExpired):
            totp.begun(user=user, session=session, state=setup.state)


def test_turning_it_on_is_in_the_log_and_in_a_mail_and_counts_for_this_device(
    app: App, alice: User, phone: Session, mailbox: Mailbox
) -> None:
    assert Event.objects.filter(user=alice, kind="two_step.enabled").count() == 1
    assert mailbox.last(alice.email).subject
    assert "mfa" in Session.objects.get(id=phone.id).methods


def test_it_is_turned_on_once(app: App, alice: User, phone: Session, caller: Caller) -> None:
    with pytest.raises(MfaIsOn):
        totp.begin(user=alice, session=phone)


@pytest.mark.django_db(transaction=True)
def test_of_two_set_ups_at_once_one_is_turned_on(alice: User, phone: Session, caller: Caller) -> None:
    setups = [totp.begin(user=alice, session=phone) for _ in range(2)]

    def turn_on() -> object:
        setup = setups.pop()
        code = App(setup.secret).code()
        return totp.turn_on(user=alice, session=phone, state=setup.state, code=code, caller=caller)

    found = at_once(2, turn_on)
    assert sum(isinstance(item, MfaIsOn) for item in found) == 1, found


def test_turning_it_off_asks_for_nothing_any_more_and_tells_the_owner(
    app: App, alice: User, phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    totp.turn_off(user=alice, session=phone, caller=caller)
    sign_in.sign_in_app(login="alice", password=PASSWORD, caller=caller)
    assert Event.objects.filter(user=alice, kind="two_step.disabled").count() == 1
    assert any("turned off" in mail.message for mail in mailbox.all(alice.email))
    with pytest.raises(MfaIsOff):
        totp.turn_off(user=alice, session=phone, caller=caller)
    with pytest.raises(MfaIsOff):
        totp.make_recovery_codes(user=alice, session=phone, caller=caller)


def test_each_change_needs_a_recent_sign_in(app: App, alice: User, phone: Session, caller: Caller) -> None:
    Session.objects.filter(id=phone.id).update(authenticated_at=now() - timedelta(minutes=11))
    for change in (totp.turn_off, totp.make_recovery_codes):
        with pytest.raises(RecentSignInNeeded):
            change(user=alice, session=phone, caller=caller)
    with pytest.raises(RecentSignInNeeded):
        totp.begin(user=alice, session=phone)
    reauthentication.reauthenticate(user=alice, session=phone, password=PASSWORD, caller=caller)
    totp.turn_off(user=alice, session=phone, caller=caller)


@pytest.mark.parametrize(("days", "kept"), [(6, False), (8, True)])
def test_a_reset_removes_what_was_set_up_in_the_week_before_it(
    alice: User, phone: Session, caller: Caller, mailbox: Mailbox, days: int, kept: bool
) -> None:
    passkey_on(alice, phone, caller)
    passkey_on(alice, phone, caller)
    two_step_on(alice, phone, caller)
    for model in (Passkey, TotpAuthenticator):
        model.objects.update(created_at=now() - timedelta(days=days))
    reset(caller, mailbox)
    assert [Passkey.objects.count(), TotpAuthenticator.objects.count()] == ([2, 1] if kept else [0, 0])


def test_a_device_stays_strong_while_one_of_two_factors_is_left(alice: User, phone: Session, caller: Caller) -> None:
    passkey_on(alice, phone, caller)
    two_step_on(alice, phone, caller)
    totp.turn_off(user=alice, session=phone, caller=caller)
    assert "mfa" in Session.objects.get(id=phone.id).methods
    passkeys.remove(user=alice, session=phone, passkey_id=Passkey.objects.get().id, caller=caller)
    assert "mfa" not in Session.objects.get(id=phone.id).methods


def test_a_wrong_password_does_not_count_as_recent(alice: User, phone: Session, caller: Caller) -> None:
    before = now() - timedelta(minutes=11)
    Session.objects.filter(id=phone.id).update(authenticated_at=before)
    with pytest.raises(Exception, match="wrong_password"):
        reauthentication.reauthenticate(user=alice, session=phone, password="mistaken ferry", caller=caller)
    assert Session.objects.get(id=phone.id).authenticated_at == before


def test_staff_may_administer_by_two_factors_only(alice: User, bob: User, phone: Session, caller: Caller) -> None:
    assert not reauthentication.may_administer(alice, phone)
    two_step_on(alice, phone, caller)
    assert reauthentication.may_administer(alice, Session.objects.get(id=phone.id))
    bobs = sessions.begin(user=bob, kind=Session.Kind.APP, caller=caller, methods=("hwk", "mfa"))
    assert not reauthentication.may_administer(bob, bobs)


def test_a_device_that_is_signed_in_can_do_the_step_later(
    app: App, alice: User, caller: Caller, phone: Session
) -> None:
    assert mfa.step_up(user=alice, code=app.code(), caller=caller) == ("otp", "mfa")
    with pytest.raises(InvalidCode):
        mfa.step_up(user=alice, code="x", caller=caller)


def test_an_operator_lets_somebody_in_who_has_lost_all(
    app: App, alice: User, phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    passkey_on(alice, phone, caller, name="Lost phone")
    before = len(mailbox.all(alice.email))
    call_command("remove_second_factors", "alice", stdout=io.StringIO())
    assert totp.overview(alice) == totp.Factors(None, 0, [])
    assert len(mailbox.all(alice.email)) == before + 2
    sign_in.sign_in_app(login="alice", password=PASSWORD, caller=caller)
    with pytest.raises(CommandError):
        call_command("remove_second_factors", "nobody")


# --- A new SECRET_KEY ---------------------------------------------------------------------------------------


def test_a_new_secret_key_locks_nobody_out(app: App, alice: User, caller: Caller, settings: Settings) -> None:
    old = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "k" * 60, [old]
    assert totp.seal_anew() == 1
    assert totp.seal_anew() == 0
    settings.SECRET_KEY_FALLBACKS = []
    assert totp.seal_anew() == 0
    sign_in.finish(ticket=ticket(caller), code=app.code(), caller=caller)
    sign_in.finish(ticket=ticket(caller), code=app.recovery_codes[0], caller=caller)


def test_a_ticket_outlives_a_change_of_the_key(app: App, alice: User, caller: Caller, settings: Settings) -> None:
    held, old = ticket(caller), settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "k" * 60, [old]
    sign_in.finish(ticket=held, code=app.code(), caller=caller)


def test_a_lost_secret_key_is_said_and_lets_nobody_in(app: App, caller: Caller, settings: Settings) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "k" * 60, []
    with pytest.raises(RuntimeError, match="SECRET_KEY"):
        sign_in.finish(ticket=ticket(caller), code=app.code(), caller=caller)


def test_the_codes_are_those_of_the_rfc() -> None:
    """RFC 6238, appendix B, the last six of its eight digits."""
    seed = b"12345678901234567890"
    assert mfa.code_at(seed, 59 // 30) == "287082"
    assert mfa.code_at(seed, 1111111109 // 30) == "081804"
    assert mfa.code_at(seed, 20000000000 // 30) == "353130"
