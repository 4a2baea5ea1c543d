"""The takeover drill: whoever gets into an account changes its address first, and the owner takes it back."""

from datetime import timedelta

import pytest
from django.db import Error, transaction
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import (
    EmailInUse,
    InvalidCode,
    InvalidCredentials,
    InvalidKey,
    InvalidPasskey,
    MfaRequired,
    RateLimited,
    RefreshReused,
    SessionRevoked,
    WrongPassword,
)
from accounts.models import Budget, Challenge, Event, Passkey, Session, TotpAuthenticator, User
from accounts.services.account import email_addresses, email_recovery, email_requests, password_resets, passwords
from accounts.services.authentication import passkeys, sign_in, totp
from accounts.services.credentials import challenges, hashing
from accounts.services.sessions import access_tokens, sessions
from accounts.services.sessions.sessions import Tokens
from tests.conftest import PASSWORD, Mailbox, make_user, random_ip
from tests.factors import App, Device, passkey_on, two_step_on
from tests.threads import at_once, each_at_once

THEIRS = "mallory@example.com"
NEW = "another lagoon tractor"
MALLORYS = "mallory was here first"


def move(user: User, email: str, mailbox: Mailbox, password: str = PASSWORD) -> None:
    """Somebody who is signed in gives the account another address."""
    caller = Caller(ip=random_ip())
    email_addresses.request_change(user=user, email=email, password=password, caller=caller)
    email_addresses.confirm_mine(user=user, code=mailbox.code(email), caller=caller)


@pytest.fixture
def key(alice: User, tokens: Tokens, mailbox: Mailbox) -> str:
    """Of the link in Alice's mail, after Mallory has used her phone."""
    move(alice, THEIRS, mailbox)
    return mailbox.key("alice@example.com")


def test_the_owner_is_alone_in_the_account_after_one_press_and_a_new_password(
    key: str, alice: User, tokens: Tokens, caller: Caller, mailbox: Mailbox
) -> None:
    passwords.change(
        user=alice, current_password=PASSWORD, new_password=MALLORYS, keep=tokens.session_id, caller=caller
    )
    mallorys = sign_in.sign_in_app(login=THEIRS, password=MALLORYS, caller=caller)
    password_resets.request_reset(login=THEIRS, caller=caller)
    email_requests.answer()
    reset_key, reset_code = mailbox.key(THEIRS), mailbox.code(THEIRS)

    found = email_recovery.undo(key=key, caller=caller)

    alice.refresh_from_db()
    assert (alice.email, alice.email_verified) == ("alice@example.com", True)
    assert not alice.sessions.open().exists()
    for old in (tokens, mallorys.tokens):
        with pytest.raises((SessionRevoked, RefreshReused)):
            sessions.refresh(refresh_token=old.refresh_token, caller=caller)
        with pytest.raises(SessionRevoked):
            sessions.authenticate(access_tokens.verify(old.access_token))
    for name in ("alice", "alice@example.com", THEIRS):
        with pytest.raises(InvalidCredentials):
            sign_in.check(login=name, password=MALLORYS, caller=caller)
    with pytest.raises(InvalidKey):
        password_resets.reset_by_key(key=reset_key, new_password=NEW, caller=caller)
    with pytest.raises(InvalidCode):
        password_resets.reset_by_code(login="alice", code=reset_code, new_password=NEW, caller=caller)

    password_resets.reset_by_key(key=found.reset_key, new_password=NEW, caller=caller)
    assert sign_in.check(login="alice@example.com", password=NEW, caller=caller) == alice
    assert Event.objects.filter(user=alice, kind="email.change_undone").count() == 1


def test_ways_in_that_were_made_for_later_are_gone_and_the_owners_stay(
    alice: User, phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    """Before it changes the address, whoever is in makes itself a passkey and a second step."""
    own = passkey_on(alice, phone, caller, name="Alice's own")
    Passkey.objects.update(created_at=now() - timedelta(days=8))
    made_before = passkey_on(alice, phone, caller, name="Mallory's")
    two_step_on(alice, phone, caller)
    move(alice, THEIRS, mailbox)
    found = email_recovery.undo(key=mailbox.key("alice@example.com"), caller=caller)
    assert [one.name for one in totp.overview(alice).passkeys] == ["Alice's own"]
    password_resets.reset_by_key(key=found.reset_key, new_password=NEW, caller=caller)
    sign_in.sign_in_app(login="alice", password=NEW, caller=caller)  # no second step of Mallory's
    for device, gets_in in ((own, True), (made_before, False)):
        begun = passkeys.begin_sign_in()
        answer = {"state": begun.state, "credential": device.get(begun.options), "caller": caller}
        if gets_in:
            passkeys.sign_in_app(**answer)  # type: ignore[arg-type]
        else:
            with pytest.raises(InvalidPasskey):
                passkeys.sign_in_app(**answer)  # type: ignore[arg-type]


def test_the_owners_second_step_stays_for_whoever_only_reads_the_mail(
    alice: User, phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    """An abandoned address must not be a way around what its owner set up long ago."""
    app = two_step_on(alice, phone, caller)
    TotpAuthenticator.objects.update(created_at=now() - timedelta(days=8), recovery_made_at=now() - timedelta(days=8))
    move(alice, THEIRS, mailbox)
    found = email_recovery.undo(key=mailbox.key("alice@example.com"), caller=caller)
    password_resets.reset_by_key(key=found.reset_key, new_password=NEW, caller=caller)
    with pytest.raises(MfaRequired) as refused:
        sign_in.sign_in_app(login="alice", password=NEW, caller=caller)
    sign_in.finish(ticket=refused.value.ticket, code=app.code(), caller=caller)


def test_recovery_codes_that_somebody_has_seen_void_the_step(
    alice: User, phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    two_step_on(alice, phone, caller)
    TotpAuthenticator.objects.update(created_at=now() - timedelta(days=8), recovery_made_at=now() - timedelta(days=8))
    totp.make_recovery_codes(user=alice, session=phone, caller=caller)
    move(alice, THEIRS, mailbox)
    email_recovery.undo(key=mailbox.key("alice@example.com"), caller=caller)
    assert not TotpAuthenticator.objects.exists()


def test_a_passkey_that_was_being_added_comes_to_nothing(key: str, alice: User, phone: Session, caller: Caller) -> None:
    begun = passkeys.begin_adding(user=alice, session=phone)
    setup = totp.begin(user=alice, session=phone)
    email_recovery.undo(key=key, caller=caller)
    credential = Device().create(begun.options)
    with pytest.raises(SessionRevoked):
        passkeys.add(user=alice, session=phone, state=begun.state, credential=credential, caller=caller)
    code = App(setup.secret).code()
    with pytest.raises(SessionRevoked):
        totp.turn_on(user=alice, session=phone, state=setup.state, code=code, caller=caller)


def test_looking_at_the_link_changes_nothing_and_it_works_once(key: str, alice: User, caller: Caller) -> None:
    for _ in range(3):
        assert email_recovery.match_key(key).email == "alice@example.com"
    alice.refresh_from_db()
    assert alice.email == THEIRS
    email_recovery.undo(key=key, caller=caller)
    with pytest.raises(InvalidKey):
        email_recovery.undo(key=key, caller=caller)


def test_the_link_outlives_new_passwords_resets_and_pruning_but_not_seven_days(
    key: str, alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    passwords.change(user=alice, current_password=PASSWORD, new_password=MALLORYS, keep=None, caller=caller)
    password_resets.request_reset(login=THEIRS, caller=caller)
    email_requests.answer()
    password_resets.reset_by_key(key=mailbox.key(THEIRS), new_password=NEW, caller=caller)

    def made(**ago: float) -> None:
        then = now() - timedelta(**ago)
        Challenge.objects.filter(kind="undo_email").update(created_at=then, answered_at=then)
        challenges.prune()

    made(days=6, hours=23)
    assert email_recovery.match_key(key).user == alice
    made(days=7, seconds=1)
    with pytest.raises(InvalidKey):
        email_recovery.undo(key=key, caller=caller)
    made(days=8, seconds=1)
    assert not Challenge.objects.filter(kind="undo_email").exists()


def test_whoever_moves_it_on_cannot_take_it_back_after_the_owner(
    key: str, alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    move(alice, "mallory2@example.com", mailbox)
    mallorys = mailbox.key(THEIRS)
    email_recovery.undo(key=key, caller=caller)
    with pytest.raises(InvalidKey):
        email_recovery.undo(key=mallorys, caller=caller)
    alice.refresh_from_db()
    assert alice.email == "alice@example.com"
    undone = [mail for mail in mailbox.all("mallory2@example.com") if "undo" in mail.message]
    assert undone == []  # the address that was taken away gets no link of its own


def test_the_owner_can_take_it_back_after_whoever_moved_it_on_did(
    key: str, alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    move(alice, "mallory2@example.com", mailbox)
    email_recovery.undo(key=mailbox.key(THEIRS), caller=caller)
    found = email_recovery.undo(key=key, caller=caller)
    alice.refresh_from_db()
    assert alice.email == "alice@example.com"
    assert password_resets.match_reset_key(found.reset_key).user == alice


def test_a_confirmation_that_waited_opens_nothing_afterwards(
    key: str, alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    email_addresses.request_change(user=alice, email="mallory3@example.com", password=PASSWORD, caller=caller)
    waiting = mailbox.key("mallory3@example.com")
    email_recovery.undo(key=key, caller=caller)
    with pytest.raises(InvalidKey):
        email_addresses.confirm_by_key(key=waiting, caller=caller)


def test_an_address_that_somebody_proved_since_stays_theirs_and_the_link_stays_good(
    key: str, alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    dora = make_user("dora")
    User.objects.filter(id=dora.id).update(email="alice@example.com")
    with pytest.raises(EmailInUse):
        email_recovery.undo(key=key, caller=caller)
    alice.refresh_from_db()
    assert alice.email == THEIRS
    User.objects.filter(id=dora.id).update(email="dora@example.com")
    email_recovery.undo(key=key, caller=caller)
    alice.refresh_from_db()
    assert alice.email == "alice@example.com"


def test_a_mere_claim_on_the_address_lapses(key: str, alice: User, carol: User, caller: Caller) -> None:
    User.objects.filter(id=carol.id).update(email="alice@example.com")
    email_recovery.undo(key=key, caller=caller)
    carol.refresh_from_db()
    assert carol.email == ""


@pytest.mark.parametrize("forged", ["", "x", "-", "00000000000000000000000000000000-x", "é-é", "a" * 5000])
def test_a_forged_key_is_refused(forged: str, caller: Caller, db: None) -> None:
    with pytest.raises(InvalidKey):
        email_recovery.undo(key=forged, caller=caller)


def test_the_key_of_a_reset_or_of_a_confirmation_takes_nothing_back(
    alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    password_resets.request_reset(login="alice", caller=caller)
    email_requests.answer()
    for _ in range(2):
        with pytest.raises(InvalidKey):
            email_recovery.undo(key=mailbox.key(alice.email), caller=caller)
        email_addresses.request_change(user=alice, email="alice@example.net", password=PASSWORD, caller=caller)


def test_guessing_is_limited(caller: Caller, db: None) -> None:
    for _ in range(100):
        with pytest.raises(InvalidKey):
            email_recovery.undo(key="00000000000000000000000000000000-x", caller=caller)
    with pytest.raises(RateLimited):
        email_recovery.undo(key="00000000000000000000000000000000-x", caller=caller)


def test_a_claim_that_was_never_proved_gets_no_link(carol: User, caller: Caller, mailbox: Mailbox) -> None:
    """Else whoever types a stranger's address at sign-up gives the stranger a way in for seven days."""
    move(carol, "carol@example.net", mailbox)
    assert [mail for mail in mailbox.all("carol@example.com") if "undo" in mail.message] == []
    assert not Challenge.objects.filter(kind="undo_email").exists()


@pytest.mark.django_db(transaction=True)
def test_of_many_presses_at_once_one_counts(key: str, alice: User, caller: Caller) -> None:
    found = at_once(8, lambda: email_recovery.undo(key=key, caller=caller))
    assert sum(isinstance(item, email_recovery.Undone) for item in found) == 1, found
    assert sum(isinstance(item, InvalidKey) for item in found) == 7
    assert Event.objects.filter(kind="email.change_undone").count() == 1


# --- What was under way when the owner pressed --------------------------------------------------------------


def test_a_sign_in_that_was_under_way_comes_to_nothing(key: str, alice: User, caller: Caller) -> None:
    checked = sign_in.check(login="alice", password=PASSWORD, caller=caller)
    email_recovery.undo(key=key, caller=caller)
    for kind in Session.Kind:
        with pytest.raises(InvalidCredentials), transaction.atomic():
            sessions.begin(user=checked, kind=kind, caller=caller)
    assert not alice.sessions.open().exists()


def test_changes_that_were_under_way_come_to_nothing(
    key: str, alice: User, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner's press falls between the check of the password and the change."""
    matches = hashing.matches

    def slowly(user: User | None, password: str) -> bool:
        right = matches(user, password)
        if Challenge.objects.open().filter(kind="undo_email").exists():
            email_recovery.undo(key=key, caller=caller)
        return right

    monkeypatch.setattr(hashing, "matches", slowly)
    with pytest.raises(WrongPassword):
        passwords.change(user=alice, current_password=PASSWORD, new_password=MALLORYS, keep=None, caller=caller)
    alice.refresh_from_db()
    assert not alice.has_usable_password()


def test_a_change_of_address_that_was_under_way_comes_to_nothing(
    key: str, alice: User, caller: Caller, monkeypatch: pytest.MonkeyPatch, mailbox: Mailbox
) -> None:
    matches = hashing.matches

    def slowly(user: User | None, password: str) -> bool:
        right = matches(user, password)
        email_recovery.undo(key=key, caller=caller)
        return right

    monkeypatch.setattr(hashing, "matches", slowly)
    with pytest.raises(WrongPassword):
        email_addresses.request_change(user=alice, email="mallory3@example.com", password=PASSWORD, caller=caller)
    assert mailbox.all("mallory3@example.com") == []


@pytest.mark.django_db(transaction=True)
def test_whatever_happens_at_the_same_moment_the_owner_gets_the_account(
    alice: User, tokens: Tokens, mailbox: Mailbox, caller: Caller
) -> None:
    """Presses, confirmations, resets and requests of the worker at once: nobody waits for one who waits for them."""
    for number in range(4):
        move(User.objects.get(id=alice.id), f"mallory{number}@example.com", mailbox)
        key = mailbox.key("alice@example.com")
        user = User.objects.get(id=alice.id)
        move_on = f"mallory{number}.more@example.com"
        email_addresses.request_change(user=user, email=move_on, password=PASSWORD, caller=Caller(ip=random_ip()))
        confirm = mailbox.key(move_on)
        password_resets.request_reset(login="alice", caller=Caller(ip=random_ip()))
        email_requests.answer()
        reset = mailbox.key(user.email)
        password_resets.request_reset(login="alice", caller=Caller(ip=random_ip()))
        Budget.objects.all().delete()
        found = each_at_once(
            [
                lambda: email_recovery.undo(key=key, caller=caller),
                lambda: email_addresses.confirm_by_key(key=confirm, caller=caller),
                lambda: password_resets.reset_by_key(key=reset, new_password=MALLORYS, caller=caller),
                email_requests.answer.run,
                lambda: sessions.end_others(user=user, keep=None, caller=caller),
            ]
        )
        assert not [item for item in found if isinstance(item, Error)], found
        # Whatever won, the press of the owner counts, or the link still does.
        if isinstance(found[0], Exception):
            email_recovery.undo(key=key, caller=caller)
        alice.refresh_from_db()
        assert alice.email == "alice@example.com"
        assert not alice.has_usable_password()
        alice.set_password(PASSWORD)
        alice.save()
        Challenge.objects.all().delete()
