import io
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.caller import Caller
from accounts.errors import (
    InvalidCode,
    InvalidCredentials,
    InvalidInput,
    InvalidKey,
    RateLimited,
    SessionRevoked,
    WrongPassword,
)
from accounts.lib import sealing
from accounts.models import Challenge, DiscardedPicture, Event, Passkey, Session, TotpAuthenticator, User
from accounts.services.account import email_addresses, email_requests, password_resets, passwords, signup
from accounts.services.authentication import sign_in, totp
from accounts.services.authentication.totp import Factors
from accounts.services.credentials import identifiers, password_policy
from accounts.services.sessions import sessions
from tests.conftest import PASSWORD, Mailbox, make_user, picture, random_ip
from tests.threads import at_once

NEW = "another lagoon tractor"


def ask(name: str, caller: Caller) -> None:
    password_resets.request_reset(login=name, caller=caller)
    email_requests.answer()


def reset(name: str, code: str, caller: Caller, new: str = NEW) -> User:
    return password_resets.reset_by_code(login=name, code=code, new_password=new, caller=caller)


# --- Changing -----------------------------------------------------------------------------------------------


def test_change_ends_every_other_session_voids_open_codes_and_tells_the_owner(
    alice: User, phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    other = sessions.begin(user=alice, kind=Session.Kind.BROWSER, caller=caller)
    ask("alice", caller)
    code = mailbox.code()
    passwords.change(user=alice, current_password=PASSWORD, new_password=NEW, keep=phone.id, caller=caller)
    assert sessions.list_for(alice) == [phone]
    other.refresh_from_db()
    assert other.ended_at is not None
    assert "password" in mailbox.last("alice@example.com").subject.lower()
    assert Event.objects.filter(user=alice, kind="password.changed").count() == 1
    with pytest.raises(InvalidCode):
        reset("alice", code, caller)
    assert sign_in.check(login="alice", password=NEW, caller=caller) == alice
    with pytest.raises(InvalidCredentials):
        sign_in.check(login="alice", password=PASSWORD, caller=caller)


def test_change_refuses_a_wrong_current_password_and_names_the_field(alice: User, caller: Caller) -> None:
    with pytest.raises(WrongPassword) as refused:
        passwords.change(user=alice, current_password="wrong", new_password=NEW, keep=None, caller=caller)
    assert refused.value.field == "current_password"
    assert sign_in.check(login="alice", password=PASSWORD, caller=caller) == alice


def test_an_operators_change_ends_every_session_and_tells_the_owner(
    bob: User, caller: Caller, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in Session.Kind:
        sessions.begin(user=bob, kind=kind, caller=caller)
    mailbox.all()  # with the one of the second device
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", NEW)
    call_command("changepassword", "bob", stdout=io.StringIO())
    assert sessions.list_for(bob) == []
    assert "operator" in mailbox.last("bob@example.com").message
    assert sign_in.check(login="bob", password=NEW, caller=caller) == bob


@pytest.mark.parametrize(("name", "password"), [("nobody", NEW), ("bob", "short")])
def test_an_operator_is_refused_a_bad_password_and_an_unknown_name(
    name: str, password: str, bob: User, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", password)
    with pytest.raises(CommandError):
        call_command("changepassword", name)
    assert sign_in.check(login="bob", password=PASSWORD, caller=caller) == bob


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("short", "password_too_short"),
        ("elevenchars", "password_too_short"),
        ("x" * 129, "password_too_long"),
        ("q1w2e3r4t5y6", "password_too_common"),
        ("alice@example.com", "password_too_similar"),
    ],
)
def test_change_refuses_a_bad_new_one(password: str, code: str, alice: User, caller: Caller) -> None:
    with pytest.raises(InvalidInput) as refused:
        passwords.change(user=alice, current_password=PASSWORD, new_password=password, keep=None, caller=caller)
    assert [(error.field, error.code) for error in refused.value.errors] == [("new_password", code)]
    assert sign_in.check(login="alice", password=PASSWORD, caller=caller) == alice


@pytest.mark.parametrize("password", ["twelve chars", "x" * 127 + "y", "ключ от квартиры", "🐎🔋📎🎈" * 3])
def test_long_enough_is_good_enough(password: str) -> None:
    assert password_policy.problem(password) is None


# --- Forgetting ---------------------------------------------------------------------------------------------


def test_the_mail_has_a_code_and_a_link_and_the_code_resets(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    sessions.begin(user=alice, kind=Session.Kind.APP, caller=caller)
    ask("alice@example.com", caller)
    code = mailbox.code("alice@example.com")
    assert code not in mailbox.last().subject
    assert str(caller.ip) in mailbox.last().message
    assert reset("alice", f"{code[:4]}-{code[4:]}", caller) == alice
    assert sessions.list_for(alice) == []
    assert sign_in.check(login="alice", password=NEW, caller=caller) == alice
    assert Event.objects.filter(user=alice, kind="password.reset").count() == 1


def test_the_link_resets_and_shuts_the_door_of_the_code(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    key, code = mailbox.key(), mailbox.code()
    for _ in range(3):  # looking changes nothing
        assert password_resets.match_reset_key(key).user == alice
    password_resets.reset_by_key(key=key, new_password=NEW, caller=caller)
    with pytest.raises(InvalidKey):
        password_resets.reset_by_key(key=key, new_password=NEW + "!", caller=caller)
    with pytest.raises(InvalidCode):
        reset("alice", code, caller)


def test_the_code_shuts_the_door_of_the_link(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    key = mailbox.key()
    reset("alice", mailbox.code(), caller)
    with pytest.raises(InvalidKey):
        password_resets.match_reset_key(key)


def test_a_newer_request_voids_the_older(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    key, code = mailbox.key(), mailbox.code()
    ask("alice@example.com", caller)
    with pytest.raises(InvalidKey):
        password_resets.match_reset_key(key)
    with pytest.raises(InvalidCode):
        reset("alice", code, caller)
    reset("alice", mailbox.code(), caller)


def test_a_code_lives_ten_minutes_and_a_link_an_hour(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    challenge = Challenge.objects.get()
    assert challenge.answered_at is not None

    def age(**delta: float) -> None:
        Challenge.objects.update(answered_at=challenge.answered_at - timedelta(**delta))  # type: ignore[operator]

    age(minutes=11)
    with pytest.raises(InvalidCode):
        reset("alice", mailbox.code(), caller)
    age(minutes=59)
    password_resets.match_reset_key(mailbox.key())
    age(minutes=61)
    with pytest.raises(InvalidKey):
        password_resets.match_reset_key(mailbox.key())


def test_a_weak_new_password_keeps_code_and_link_alive(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    for _ in range(8):
        with pytest.raises(InvalidInput):
            reset("alice", mailbox.code(), caller, new="short")
        with pytest.raises(InvalidInput):
            password_resets.reset_by_key(key=mailbox.key(), new_password="short", caller=caller)
    reset("alice", mailbox.code(), caller)


def test_a_weak_password_with_a_wrong_code_tells_nothing(alice: User, caller: Caller) -> None:
    ask("alice", caller)
    for name in ("alice", "nobody"):
        with pytest.raises(InvalidCode):
            reset(name, "00000000", caller, new="short")


def test_five_wrong_codes_shut_the_code_but_not_the_link(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    wrong = f"{(int(mailbox.code()) + 1) % 10**8:08}"
    for _ in range(5):
        with pytest.raises(InvalidCode):
            reset("alice", wrong, caller)
    with pytest.raises(InvalidCode):
        reset("alice", mailbox.code(), caller)
    password_resets.reset_by_key(key=mailbox.key(), new_password=NEW, caller=caller)


@pytest.mark.django_db(transaction=True)
def test_of_sixty_guesses_at_a_code_at_once_five_are_compared(
    alice: User, caller: Caller, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("alice", caller)
    compared: list[str] = []
    original = sealing.is_mac

    def is_mac(purpose: str, message: bytes, given: bytes) -> bool:
        compared.append(purpose)
        return original(purpose, message, given)

    monkeypatch.setattr(sealing, "is_mac", is_mac)
    wrong = f"{(int(mailbox.code()) + 1) % 10**8:08}"
    found = at_once(60, lambda: reset("alice", wrong, caller))
    assert {type(item) for item in found} == {InvalidCode}
    assert len(compared) == 5


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_of_one_code_at_once_one_gets_through(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    code = mailbox.code()
    found = at_once(5, lambda: reset("alice", code, caller))
    assert sum(isinstance(item, User) for item in found) == 1
    assert {type(item) for item in found} == {User, InvalidCode}


def test_twenty_wrong_codes_a_day_shut_the_door_of_the_code_for_good(
    alice: User, caller: Caller, mailbox: Mailbox, settings: Settings
) -> None:
    for number in range(20):
        if number % 5 == 0:
            ask("alice" if number else "ALICE", caller)
        with pytest.raises(InvalidCode):
            reset("alice", "00000000", caller)
    password_resets.request_reset(login="alice@example.com", caller=caller)
    email_requests.answer()
    with pytest.raises(InvalidCode) as refused:
        reset("alice", mailbox.code(), caller)
    assert "locked" in refused.value.reason
    password_resets.reset_by_key(key=mailbox.key(), new_password=NEW, caller=caller)


@pytest.mark.parametrize("name", ["nobody", "nobody@example.com", "", "{{a|b}}@x", "a\r\nBcc: b@example.com"])
def test_an_unknown_name_is_answered_alike_and_gets_no_mail(
    name: str, alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    ask(name, caller)
    assert mailbox.all() == []
    assert not Challenge.objects.exists()
    with pytest.raises(InvalidCode):
        reset(name, "12345678", caller)


def test_nobody_who_is_disabled_or_has_no_address_gets_a_mail(
    alice: User, bob: User, caller: Caller, mailbox: Mailbox
) -> None:
    User.objects.filter(id=alice.id).update(is_active=False)
    User.objects.filter(id=bob.id).update(email="", email_verified=False)
    ask("alice", caller)
    ask("bob", caller)
    assert mailbox.all() == []


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_asking_too_often_is_refused_alike_for_known_and_unknown(name: str, alice: User, caller: Caller) -> None:
    for _ in range(5):
        password_resets.request_reset(login=name, caller=caller)
    with pytest.raises(RateLimited):
        password_resets.request_reset(login=name.upper(), caller=caller)


def test_asking_costs_the_same_queries_for_known_and_unknown(
    alice: User, caller: Caller, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for name in ("alice", "nobody", "alice@example.com", "nobody@example.com"):
        with django_assert_num_queries(2):  # the budget and the row
            password_resets.request_reset(login=name, caller=caller)


def test_bobs_code_does_not_open_alices_account(alice: User, bob: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    ask("bob", caller)
    with pytest.raises(InvalidCode):
        reset("alice", mailbox.code("bob@example.com"), caller)
    key = mailbox.key("bob@example.com")
    alices = mailbox.key("alice@example.com")
    with pytest.raises(InvalidKey):
        password_resets.match_reset_key(alices.partition("-")[0] + "-" + key.partition("-")[2])


@pytest.mark.parametrize("key", ["", "x", "-", "00000000000000000000000000000000-x", "é-é", "a" * 5000])
def test_a_forged_key_is_refused(key: str, alice: User, caller: Caller) -> None:
    with pytest.raises(InvalidKey):
        password_resets.reset_by_key(key=key, new_password=NEW, caller=caller)


def test_a_reset_proves_the_address_and_other_claims_lapse(carol: User, caller: Caller, mailbox: Mailbox) -> None:
    rival = make_user("rival", verified=False)
    User.objects.filter(id=rival.id).update(email=carol.email)
    ask("carol", caller)
    reset("carol", mailbox.code(), caller)
    carol.refresh_from_db()
    rival.refresh_from_db()
    assert carol.email_verified
    assert (rival.email, rival.email_verified) == ("", False)


@pytest.mark.parametrize("verified", [True, False])
def test_what_was_mailed_to_an_earlier_address_resets_nothing(
    carol: User, caller: Caller, mailbox: Mailbox, verified: bool
) -> None:
    """The worker may answer a request at the very moment in which the address is changed or taken back."""
    ask("carol", caller)
    User.objects.filter(id=carol.id).update(email="other@example.com", email_verified=verified)
    with pytest.raises(InvalidCode):
        reset("carol", mailbox.code(), caller)
    with pytest.raises(InvalidKey):
        password_resets.reset_by_key(key=mailbox.key(), new_password=NEW, caller=caller)
    assert identifiers.find("carol") == carol
    assert User.objects.get(id=carol.id).password == carol.password


# --- A squatter's account -----------------------------------------------------------------------------------


def test_the_owner_of_the_address_gets_the_squatters_account_whole(caller: Caller, mailbox: Mailbox, db: None) -> None:
    """The squatter drill: nothing that somebody left behind who never read this mail box survives."""
    squatter = signup.sign_up_app(
        username="owner1", email="owner@example.com", password=PASSWORD, caller=caller,
        first_name="Rude", last_name="Words", gender="male", picture=io.BytesIO(picture()),
    )  # fmt: skip
    assert squatter is not None
    user = squatter.user
    old_key = User.objects.get(id=user.id).picture
    assert old_key
    # From before they needed a proved address.
    Passkey.objects.create(user=user, credential_id=b"1", credential=b"", synced=True, name="x")
    TotpAuthenticator.objects.create(user=user, sealed_seed=b"", sealed_recovery_seed=b"")
    email_addresses.request_change(user=user, email="squatter@example.net", password=PASSWORD, caller=caller)
    waiting = mailbox.key("squatter@example.net")

    ask("owner@example.com", caller)
    reset("owner@example.com", mailbox.code("owner@example.com"), caller)

    user = User.objects.get(id=user.id)
    assert (user.email, user.email_verified) == ("owner@example.com", True)
    assert (user.first_name, user.last_name, user.gender, user.picture) == ("", "", "unspecified", "")
    assert DiscardedPicture.objects.filter(key=old_key).exists()
    assert not user.sessions.exists()
    assert totp.overview(user) == Factors(None, 0, [])
    with pytest.raises(SessionRevoked):
        sessions.refresh(refresh_token=squatter.tokens.refresh_token, caller=caller)
    with pytest.raises(InvalidCredentials):
        sign_in.check(login="owner1", password=PASSWORD, caller=caller)
    with pytest.raises(InvalidKey):
        email_addresses.confirm_by_key(key=waiting, caller=caller)
    assert Event.objects.filter(user=user, kind="user.handed_over").count() == 1
    assert sign_in.check(login="owner@example.com", password=NEW, caller=caller) == user


def test_an_owner_who_signs_up_afresh_never_touches_the_squatters_account(
    caller: Caller, mailbox: Mailbox, db: None
) -> None:
    squatter = signup.sign_up(username="squatter", email="owner@example.com", password=PASSWORD, caller=caller)
    elsewhere = Caller(ip=random_ip())
    owner = signup.sign_up(username="theowner", email="owner@example.com", password=NEW, caller=elsewhere)
    email_addresses.confirm_mine(user=owner, code=mailbox.code("owner@example.com"), caller=elsewhere)
    squatter.refresh_from_db()
    assert (squatter.email, squatter.username, squatter.email_verified) == ("", "squatter", False)
    assert sign_in.check(login="owner@example.com", password=NEW, caller=elsewhere) == owner
    assert sign_in.check(login="squatter", password=PASSWORD, caller=caller) == squatter


def test_a_reset_of_a_proved_account_keeps_names_and_picture(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    reset("alice", mailbox.code(), caller)
    alice.refresh_from_db()
    assert alice.first_name == "Alice"
    assert not Event.objects.filter(kind="user.handed_over").exists()
