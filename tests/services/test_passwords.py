import io
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.caller import Origin
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
from accounts.models import Challenge, DiscardedPicture, Event, Passkey, Session, TwoStep, User
from accounts.services.account import email_addresses, passwords, users
from accounts.services.authentication import sign_in, totp
from accounts.services.authentication.totp import Factors
from accounts.services.sessions import sessions
from tests.conftest import PASSWORD, Mailbox, make_user, picture, random_ip
from tests.threads import at_once

NEW = "another lagoon tractor"


def ask(name: str, origin: Origin) -> None:
    passwords.request_reset(login=name, origin=origin)
    passwords.answer_requests()


def reset(name: str, code: str, origin: Origin, new: str = NEW) -> User:
    return passwords.reset_by_code(login=name, code=code, new_password=new, origin=origin)


# --- Changing -----------------------------------------------------------------------------------------------


def test_change_ends_every_other_session_voids_open_codes_and_tells_the_owner(
    alice: User, phone: Session, origin: Origin, mailbox: Mailbox
) -> None:
    other = sessions.begin(user=alice, kind=Session.Kind.BROWSER, origin=origin)
    ask("alice", origin)
    code = mailbox.code()
    passwords.change(user=alice, current_password=PASSWORD, new_password=NEW, keep=phone.id, origin=origin)
    assert sessions.of(alice) == [phone]
    other.refresh_from_db()
    assert other.ended_at is not None
    assert "password" in mailbox.last("alice@example.com").subject.lower()
    assert Event.objects.filter(user=alice, kind="password.changed").count() == 1
    with pytest.raises(InvalidCode):
        reset("alice", code, origin)
    assert sign_in.check(login="alice", password=NEW, origin=origin) == alice
    with pytest.raises(InvalidCredentials):
        sign_in.check(login="alice", password=PASSWORD, origin=origin)


def test_change_refuses_a_wrong_current_password_and_names_the_field(alice: User, origin: Origin) -> None:
    with pytest.raises(WrongPassword) as refused:
        passwords.change(user=alice, current_password="wrong", new_password=NEW, keep=None, origin=origin)
    assert refused.value.field == "current_password"
    assert sign_in.check(login="alice", password=PASSWORD, origin=origin) == alice


def test_an_operators_change_ends_every_session_and_tells_the_owner(
    bob: User, origin: Origin, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in Session.Kind:
        sessions.begin(user=bob, kind=kind, origin=origin)
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", NEW)
    call_command("changepassword", "bob", stdout=io.StringIO())
    assert sessions.of(bob) == []
    assert "operator" in mailbox.last("bob@example.com").message
    assert sign_in.check(login="bob", password=NEW, origin=origin) == bob


@pytest.mark.parametrize(("name", "password"), [("nobody", NEW), ("bob", "short")])
def test_an_operator_is_refused_a_bad_password_and_an_unknown_name(
    name: str, password: str, bob: User, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", password)
    with pytest.raises(CommandError):
        call_command("changepassword", name)
    assert sign_in.check(login="bob", password=PASSWORD, origin=origin) == bob


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
def test_change_refuses_a_bad_new_one(password: str, code: str, alice: User, origin: Origin) -> None:
    with pytest.raises(InvalidInput) as refused:
        passwords.change(user=alice, current_password=PASSWORD, new_password=password, keep=None, origin=origin)
    assert [(error.field, error.code) for error in refused.value.errors] == [("new_password", code)]
    assert sign_in.check(login="alice", password=PASSWORD, origin=origin) == alice


@pytest.mark.parametrize("password", ["twelve chars", "x" * 127 + "y", "ключ от квартиры", "🐎🔋📎🎈" * 3])
def test_long_enough_is_good_enough(password: str) -> None:
    assert passwords.problem(password) is None


# --- Forgetting ---------------------------------------------------------------------------------------------


def test_the_mail_has_a_code_and_a_link_and_the_code_resets(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    sessions.begin(user=alice, kind=Session.Kind.APP, origin=origin)
    ask("alice@example.com", origin)
    code = mailbox.code("alice@example.com")
    assert code not in mailbox.last().subject
    assert str(origin.ip) in mailbox.last().message
    assert reset("alice", f"{code[:4]}-{code[4:]}", origin) == alice
    assert sessions.of(alice) == []
    assert sign_in.check(login="alice", password=NEW, origin=origin) == alice
    assert Event.objects.filter(user=alice, kind="password.reset").count() == 1


def test_the_link_resets_and_shuts_the_door_of_the_code(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    key, code = mailbox.key(), mailbox.code()
    for _ in range(3):  # looking changes nothing
        assert passwords.match_reset_key(key).user == alice
    passwords.reset_by_key(key=key, new_password=NEW, origin=origin)
    with pytest.raises(InvalidKey):
        passwords.reset_by_key(key=key, new_password=NEW + "!", origin=origin)
    with pytest.raises(InvalidCode):
        reset("alice", code, origin)


def test_the_code_shuts_the_door_of_the_link(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    key = mailbox.key()
    reset("alice", mailbox.code(), origin)
    with pytest.raises(InvalidKey):
        passwords.match_reset_key(key)


def test_a_newer_request_voids_the_older(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    key, code = mailbox.key(), mailbox.code()
    ask("alice@example.com", origin)
    with pytest.raises(InvalidKey):
        passwords.match_reset_key(key)
    with pytest.raises(InvalidCode):
        reset("alice", code, origin)
    reset("alice", mailbox.code(), origin)


def test_a_code_lives_ten_minutes_and_a_link_an_hour(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    challenge = Challenge.objects.get()
    assert challenge.answered_at is not None

    def age(**delta: float) -> None:
        Challenge.objects.update(answered_at=challenge.answered_at - timedelta(**delta))  # type: ignore[operator]

    age(minutes=11)
    with pytest.raises(InvalidCode):
        reset("alice", mailbox.code(), origin)
    age(minutes=59)
    passwords.match_reset_key(mailbox.key())
    age(minutes=61)
    with pytest.raises(InvalidKey):
        passwords.match_reset_key(mailbox.key())


def test_a_weak_new_password_keeps_code_and_link_alive(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    for _ in range(8):
        with pytest.raises(InvalidInput):
            reset("alice", mailbox.code(), origin, new="short")
        with pytest.raises(InvalidInput):
            passwords.reset_by_key(key=mailbox.key(), new_password="short", origin=origin)
    reset("alice", mailbox.code(), origin)


def test_a_weak_password_with_a_wrong_code_tells_nothing(alice: User, origin: Origin) -> None:
    ask("alice", origin)
    for name in ("alice", "nobody"):
        with pytest.raises(InvalidCode):
            reset(name, "00000000", origin, new="short")


def test_five_wrong_codes_shut_the_code_but_not_the_link(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    wrong = f"{(int(mailbox.code()) + 1) % 10**8:08}"
    for _ in range(5):
        with pytest.raises(InvalidCode):
            reset("alice", wrong, origin)
    with pytest.raises(InvalidCode):
        reset("alice", mailbox.code(), origin)
    passwords.reset_by_key(key=mailbox.key(), new_password=NEW, origin=origin)


@pytest.mark.django_db(transaction=True)
def test_of_sixty_guesses_at_a_code_at_once_five_are_compared(
    alice: User, origin: Origin, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("alice", origin)
    compared: list[str] = []
    original = sealing.is_mac

    def is_mac(purpose: str, message: bytes, given: bytes) -> bool:
        compared.append(purpose)
        return original(purpose, message, given)

    monkeypatch.setattr(sealing, "is_mac", is_mac)
    wrong = f"{(int(mailbox.code()) + 1) % 10**8:08}"
    found = at_once(60, lambda: reset("alice", wrong, origin))
    assert {type(item) for item in found} == {InvalidCode}
    assert len(compared) == 5


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_of_one_code_at_once_one_gets_through(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    code = mailbox.code()
    found = at_once(5, lambda: reset("alice", code, origin))
    assert sum(isinstance(item, User) for item in found) == 1
    assert {type(item) for item in found} == {User, InvalidCode}


def test_twenty_wrong_codes_a_day_shut_the_door_of_the_code_for_good(
    alice: User, origin: Origin, mailbox: Mailbox, settings: Settings
) -> None:
    for number in range(20):
        if number % 5 == 0:
            ask("alice" if number else "ALICE", origin)
        with pytest.raises(InvalidCode):
            reset("alice", "not it", origin)
    passwords.request_reset(login="alice@example.com", origin=origin)
    passwords.answer_requests()
    with pytest.raises(InvalidCode) as refused:
        reset("alice", mailbox.code(), origin)
    assert "locked" in refused.value.reason
    passwords.reset_by_key(key=mailbox.key(), new_password=NEW, origin=origin)


@pytest.mark.parametrize("name", ["nobody", "nobody@example.com", "", "{{a|b}}@x", "a\r\nBcc: b@example.com"])
def test_an_unknown_name_is_answered_alike_and_gets_no_mail(
    name: str, alice: User, origin: Origin, mailbox: Mailbox
) -> None:
    ask(name, origin)
    assert mailbox.all() == []
    assert not Challenge.objects.exists()
    with pytest.raises(InvalidCode):
        reset(name, "12345678", origin)


def test_nobody_who_is_disabled_or_has_no_address_gets_a_mail(
    alice: User, bob: User, origin: Origin, mailbox: Mailbox
) -> None:
    User.objects.filter(id=alice.id).update(is_active=False)
    User.objects.filter(id=bob.id).update(email="", email_verified=False)
    ask("alice", origin)
    ask("bob", origin)
    assert mailbox.all() == []


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_asking_too_often_is_refused_alike_for_known_and_unknown(name: str, alice: User, origin: Origin) -> None:
    for _ in range(5):
        passwords.request_reset(login=name, origin=origin)
    with pytest.raises(RateLimited):
        passwords.request_reset(login=name.upper(), origin=origin)


def test_asking_costs_the_same_queries_for_known_and_unknown(
    alice: User, origin: Origin, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for name in ("alice", "nobody", "alice@example.com", "nobody@example.com"):
        with django_assert_num_queries(4):  # the budget, the row, and their savepoint
            passwords.request_reset(login=name, origin=origin)


def test_bobs_code_does_not_open_alices_account(alice: User, bob: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    ask("bob", origin)
    with pytest.raises(InvalidCode):
        reset("alice", mailbox.code("bob@example.com"), origin)
    key = mailbox.key("bob@example.com")
    alices = mailbox.key("alice@example.com")
    with pytest.raises(InvalidKey):
        passwords.match_reset_key(alices.partition("-")[0] + "-" + key.partition("-")[2])


@pytest.mark.parametrize("key", ["", "x", "-", "00000000000000000000000000000000-x", "é-é", "a" * 5000])
def test_a_forged_key_is_refused(key: str, alice: User, origin: Origin) -> None:
    with pytest.raises(InvalidKey):
        passwords.reset_by_key(key=key, new_password=NEW, origin=origin)


def test_a_reset_proves_the_address_and_other_claims_lapse(carol: User, origin: Origin, mailbox: Mailbox) -> None:
    rival = make_user("rival", verified=False)
    User.objects.filter(id=rival.id).update(email=carol.email)
    ask("carol", origin)
    reset("carol", mailbox.code(), origin)
    carol.refresh_from_db()
    rival.refresh_from_db()
    assert carol.email_verified
    assert (rival.email, rival.email_verified) == ("", False)


@pytest.mark.parametrize("verified", [True, False])
def test_what_was_mailed_to_an_earlier_address_resets_nothing(
    carol: User, origin: Origin, mailbox: Mailbox, verified: bool
) -> None:
    """The worker may answer a request at the very moment in which the address is changed or taken back."""
    ask("carol", origin)
    User.objects.filter(id=carol.id).update(email="other@example.com", email_verified=verified)
    with pytest.raises(InvalidCode):
        reset("carol", mailbox.code(), origin)
    with pytest.raises(InvalidKey):
        passwords.reset_by_key(key=mailbox.key(), new_password=NEW, origin=origin)
    assert sign_in.find("carol") == carol
    assert User.objects.get(id=carol.id).password == carol.password


# --- A squatter's account -----------------------------------------------------------------------------------


def test_the_owner_of_the_address_gets_the_squatters_account_whole(origin: Origin, mailbox: Mailbox, db: None) -> None:
    """The squatter drill: nothing that somebody left behind who never read this mail box survives."""
    squatter = users.sign_up_app(
        username="owner1", email="owner@example.com", password=PASSWORD, origin=origin,
        first_name="Rude", last_name="Words", gender="male", picture=io.BytesIO(picture()),
    )  # fmt: skip
    assert squatter is not None
    user = squatter.user
    old_key = User.objects.get(id=user.id).picture
    assert old_key
    # From before they needed a proved address.
    Passkey.objects.create(user=user, credential_id=b"1", credential=b"", synced=True, name="x")
    TwoStep.objects.create(user=user, sealed_seed=b"", sealed_recovery_seed=b"")
    email_addresses.request_change(user=user, email="squatter@example.net", password=PASSWORD, origin=origin)
    waiting = mailbox.key("squatter@example.net")

    ask("owner@example.com", origin)
    reset("owner@example.com", mailbox.code("owner@example.com"), origin)

    user = User.objects.get(id=user.id)
    assert (user.email, user.email_verified) == ("owner@example.com", True)
    assert (user.first_name, user.last_name, user.gender, user.picture) == ("", "", "unspecified", "")
    assert DiscardedPicture.objects.filter(key=old_key).exists()
    assert not user.sessions.exists()
    assert totp.of(user) == Factors(None, 0, [])
    with pytest.raises(SessionRevoked):
        sessions.refresh(refresh_token=squatter.tokens.refresh_token, origin=origin)
    with pytest.raises(InvalidCredentials):
        sign_in.check(login="owner1", password=PASSWORD, origin=origin)
    with pytest.raises(InvalidKey):
        email_addresses.confirm_by_key(key=waiting, origin=origin)
    assert Event.objects.filter(user=user, kind="user.handed_over").count() == 1
    assert sign_in.check(login="owner@example.com", password=NEW, origin=origin) == user


def test_an_owner_who_signs_up_afresh_never_touches_the_squatters_account(
    origin: Origin, mailbox: Mailbox, db: None
) -> None:
    squatter = users.sign_up(username="squatter", email="owner@example.com", password=PASSWORD, origin=origin)
    elsewhere = Origin(ip=random_ip())
    owner = users.sign_up(username="theowner", email="owner@example.com", password=NEW, origin=elsewhere)
    email_addresses.confirm_mine(user=owner, code=mailbox.code("owner@example.com"), origin=elsewhere)
    squatter.refresh_from_db()
    assert (squatter.email, squatter.username, squatter.email_verified) == ("", "squatter", False)
    assert sign_in.check(login="owner@example.com", password=NEW, origin=elsewhere) == owner
    assert sign_in.check(login="squatter", password=PASSWORD, origin=origin) == squatter


def test_a_reset_of_a_proved_account_keeps_names_and_picture(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    reset("alice", mailbox.code(), origin)
    alice.refresh_from_db()
    assert alice.first_name == "Alice"
    assert not Event.objects.filter(kind="user.handed_over").exists()
