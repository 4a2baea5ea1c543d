import contextlib
from dataclasses import replace

import pytest
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import (
    AccountDisabled,
    EmailNotVerified,
    InvalidCredentials,
    Overloaded,
    RateLimited,
    WrongPassword,
)
from accounts.models import Budget, Event, Session, User
from accounts.services.account import password_resets, sign_in_codes
from accounts.services.authentication import passkeys, reauthentication, sign_in
from accounts.services.credentials import hashing, identifiers
from accounts.services.security import rate_limits
from tests.conftest import PASSWORD, Mailbox, make_user, random_ip
from tests.factors import passkey_on
from tests.threads import at_once


@pytest.mark.parametrize("name", ["alice", "ALICE", " alice ", "ａｌｉｃｅ", "alice@example.com", "Alice@Example.COM"])
def test_every_spelling_of_username_and_address_signs_in(name: str, alice: User, caller: Caller) -> None:
    found = sign_in.sign_in_app(login=name, password=PASSWORD, caller=caller)
    assert found.user == alice
    session = Session.objects.get(id=found.tokens.session_id)
    assert (session.user, session.kind, session.name) == (alice, "app", "Ada's iPhone")


@pytest.mark.parametrize("name", ["nobody", "nobody@example.com", "", "@", "alice\x00", "alice'--", "a" * 5000])
def test_an_unknown_name_is_a_wrong_pair(name: str, alice: User, caller: Caller) -> None:
    with pytest.raises(InvalidCredentials):
        sign_in.check(login=name, password=PASSWORD, caller=caller)


@pytest.mark.parametrize("password", ["", "wrong", PASSWORD.upper(), PASSWORD + " ", "x" * 100_000])
def test_a_wrong_password_is_refused_and_stands_in_the_log(password: str, alice: User, caller: Caller) -> None:
    with pytest.raises(InvalidCredentials):
        sign_in.check(login="alice", password=password, caller=caller)
    assert Event.objects.filter(user=alice, kind="login.failed", ip=caller.ip).count() == 1


EVES = "eve was here as well"


def test_the_same_letters_from_another_keyboard_are_the_same_password(alice: User, caller: Caller) -> None:
    User.objects.filter(id=alice.id).update(password=hashing.hashed("cafe\u0301 crème brûlée"))
    assert sign_in.check(login="alice", password="caf\u00e9 crème brûlée", caller=caller) == alice


def test_a_disabled_user_is_told_so_only_after_the_right_password(alice: User, caller: Caller) -> None:
    User.objects.filter(id=alice.id).update(is_active=False)
    with pytest.raises(InvalidCredentials):
        sign_in.check(login="alice", password="wrong", caller=caller)
    with pytest.raises(AccountDisabled):
        sign_in.check(login="alice", password=PASSWORD, caller=caller)


def test_an_unproved_address_is_refused_only_where_proof_is_mandatory(
    carol: User, caller: Caller, settings: Settings
) -> None:
    assert sign_in.check(login="carol", password=PASSWORD, caller=caller) == carol
    settings.EMAIL_VERIFICATION = "mandatory"
    with pytest.raises(InvalidCredentials):
        sign_in.check(login="carol", password="wrong", caller=caller)
    with pytest.raises(EmailNotVerified):
        sign_in.check(login="carol", password=PASSWORD, caller=caller)


def test_an_address_means_who_proved_it_else_the_oldest_claim(db: None, caller: Caller) -> None:
    first, second, third = (make_user(name, verified=False) for name in ("first", "second", "third"))
    User.objects.update(email="shared@example.com")
    assert identifiers.find("Shared@example.com") == first
    User.objects.filter(id=third.id).update(email_verified=True)
    assert identifiers.find("shared@example.com") == third
    assert identifiers.find("second") == second


def test_ten_wrong_passwords_use_up_every_spelling_and_door(alice: User, caller: Caller) -> None:
    for number in range(10):
        name = "alice" if number % 2 else "alice@example.com"
        with pytest.raises(InvalidCredentials):
            sign_in.check(login=name, password="wrong", caller=caller)
    # Even the right password is not looked at now, and the answer does not tell that the two names are one person.
    with pytest.raises(InvalidCredentials) as refused:
        sign_in.check(login="alice@example.com", password=PASSWORD, caller=caller)
    assert refused.value.reason.startswith("tries used up")
    with pytest.raises(RateLimited):
        reauthentication.confirm_password(user=alice, password=PASSWORD, caller=caller)


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_ten_wrong_tries_at_one_name_are_told_alike_for_known_and_unknown(
    name: str, alice: User, caller: Caller
) -> None:
    for _ in range(10):
        with pytest.raises(InvalidCredentials):
            sign_in.check(login=name, password="wrong", caller=caller)
    with pytest.raises(RateLimited) as refused:
        sign_in.check(login=name, password=PASSWORD, caller=caller)
    assert 0 < refused.value.retry_after <= 901


def pause(name: str, caller: Caller) -> str:
    """Use up the tries at this name; the words of the refusal."""
    caller = replace(caller, ip=random_ip())
    for _ in range(10):
        with pytest.raises(InvalidCredentials):
            sign_in.check(login=name, password="wrong", caller=caller)
    with pytest.raises(RateLimited) as refused:
        sign_in.check(login=name, password=PASSWORD, caller=caller)
    return refused.value.message


def test_a_pause_says_what_still_works_and_it_does(
    alice: User, phone: Session, caller: Caller, mailbox: Mailbox, settings: Settings
) -> None:
    device = passkey_on(alice, phone, caller)
    words = pause("alice", caller)
    assert words.endswith("Until then, sign in with an emailed code or a passkey, or choose a new password.")
    assert pause("nobody", caller) == words
    sign_in_codes.request(login="alice", caller=caller)
    sign_in_codes.sign_in_app(login="alice", code=mailbox.code(alice.email), caller=caller)
    begun = passkeys.begin_sign_in()
    passkeys.sign_in_app(state=begun.state, credential=device.get(begun.options), caller=caller)
    pause(alice.email, caller)
    password_resets.request_reset(login="alice", caller=caller)
    new = "another lagoon tractor"
    password_resets.reset_by_key(key=mailbox.key(alice.email), new_password=new, caller=caller)
    for name in ("alice", alice.email):
        sign_in.check(login=name, password=new, caller=caller)
    settings.SIGN_IN_BY_CODE = False
    assert pause("alice", caller).endswith("Until then, sign in with a passkey, or choose a new password.")


def test_who_has_used_up_the_tries_of_a_network_is_not_sent_elsewhere(
    alice: User, caller: Caller, settings: Settings
) -> None:
    """A passkey counts there too."""
    settings.RATE_LIMITS = ["login_per_ip=1/300"]
    rate_limits.limits.cache_clear()
    sign_in.check(login="alice", password=PASSWORD, caller=caller)
    with pytest.raises(RateLimited, check=lambda error: "Until then" not in error.message):
        sign_in.check(login="alice", password=PASSWORD, caller=caller)
    rate_limits.limits.cache_clear()


def test_right_passwords_use_up_nothing_and_give_nothing_back(alice: User, caller: Caller) -> None:
    for _ in range(9):
        with pytest.raises(InvalidCredentials):
            sign_in.check(login="alice", password="wrong", caller=caller)
    for _ in range(5):
        sign_in.check(login="alice", password=PASSWORD, caller=caller)
    with pytest.raises(InvalidCredentials):
        sign_in.check(login="alice", password="wrong", caller=caller)
    with pytest.raises(RateLimited):
        sign_in.check(login="alice", password="wrong", caller=caller)


@pytest.mark.django_db(transaction=True)
def test_of_sixty_guesses_at_once_ten_are_compared(alice: User, caller: Caller) -> None:
    found = at_once(60, lambda: sign_in.check(login="alice", password="wrong", caller=caller))
    kinds = [type(item).__name__ for item in found]
    assert kinds.count("InvalidCredentials") == 10, kinds
    assert kinds.count("RateLimited") == 50
    assert Event.objects.filter(kind="login.failed").count() == 10


def test_one_hash_for_a_username_and_two_for_an_address_on_every_path(
    alice: User, caller: Caller, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    hashes: list[str] = []

    class Counted(hashing.Argon2id):
        def encode(self, password: str, salt: str) -> str:
            hashes.append("encode")
            return super().encode(password, salt)

        def verify(self, password: str, encoded: str) -> bool:
            hashes.append("verify")
            return super().verify(password, encoded)

    monkeypatch.setattr(hashing, "Argon2id", Counted)
    settings.PASSWORD_HASHERS = ["accounts.services.credentials.hashing.Argon2id"]
    make_claim("eve", alice.email)
    for name, password, count in (
        ("alice", PASSWORD, 1),
        ("alice", "wrong", 1),
        ("nobody", "wrong", 1),
        (alice.email, PASSWORD, 1),
        (alice.email, "wrong", 2),
        ("nobody@example.com", "wrong", 2),
        ("no@example.com", "x" * 999, 2),
    ):
        hashes.clear()
        with contextlib.suppress(InvalidCredentials):
            sign_in.check(login=name, password=password, caller=caller)
        assert len(hashes) == count, (name, hashes)


def make_claim(username: str, email: str) -> User:
    user = make_user(username, verified=False)
    User.objects.filter(id=user.id).update(email=email, password=hashing.hashed(EVES))
    user.refresh_from_db()
    return user


def test_whoever_claims_an_address_signs_in_by_it_whether_or_not_somebody_has_proved_it(
    alice: User, caller: Caller
) -> None:
    """Else a sign-up and a sign-in would tell who has an account."""
    for number, email in enumerate((alice.email, "nobody@example.com")):
        eve = make_claim(f"eve{number}", email)
        assert sign_in.check(login=email, password=EVES, caller=caller) == eve
    assert sign_in.check(login=alice.email, password=PASSWORD, caller=caller) == alice


def test_guesses_by_an_address_are_counted_for_both_who_may_be_meant(alice: User, caller: Caller) -> None:
    eve = make_claim("eve", alice.email)
    for _ in range(9):
        with pytest.raises(InvalidCredentials):
            sign_in.check(login=alice.email, password="wrong", caller=caller)
    assert sign_in.check(login=alice.email, password=EVES, caller=caller) == eve  # gives only its own try back
    for name in (alice.email, "alice", "eve"):
        with pytest.raises(InvalidCredentials):
            sign_in.check(login=name, password="wrong" if name == alice.email else "wrong too", caller=caller)
    for name, password in (("alice", PASSWORD), ("eve", EVES)):
        with pytest.raises(InvalidCredentials):
            sign_in.check(login=name, password=password, caller=caller)


def test_of_several_claims_on_an_address_the_newest_signs_in_beside_its_owner(alice: User, caller: Caller) -> None:
    older, newer = make_claim("older", alice.email), make_claim("newer", alice.email)
    User.objects.filter(id=older.id).update(password=hashing.hashed("older was here as well"))
    assert sign_in.check(login=alice.email, password=EVES, caller=caller) == newer
    with pytest.raises(InvalidCredentials):
        sign_in.check(login=alice.email, password="older was here as well", caller=caller)


@pytest.mark.parametrize(("full_at", "spent"), [(1, (0, 0, 0)), (2, (1, 1, 0))])
def test_what_was_not_compared_is_not_spent(
    alice: User, caller: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch, full_at: int, spent: object
) -> None:
    """Two places, and no room for a hash at the first or at the second: of the typed name, its owner and a claim."""
    eve = make_claim("eve", alice.email)
    hashes: list[str] = []

    class Full(hashing.Argon2id):
        def verify(self, password: str, encoded: str) -> bool:
            hashes.append(encoded)
            if len(hashes) == full_at:
                raise Overloaded("no place for a hash")
            return super().verify(password, encoded)

    monkeypatch.setattr(hashing, "Argon2id", Full)
    settings.PASSWORD_HASHERS = ["accounts.services.credentials.hashing.Argon2id"]
    with pytest.raises(Overloaded):
        sign_in.check(login=alice.email, password="wrong", caller=caller)
    budgets = (
        ("wrong_password_per_login", alice.email),
        *(("wrong_password_per_account", who.id) for who in (alice, eve)),
    )
    keys = [rate_limits._key(name, str(subject)) for name, subject in budgets]
    found = dict(Budget.objects.filter(key__in=keys).values_list("key", "spent"))
    assert tuple(found.get(key, 0) for key in keys) == spent


def test_confirming_with_a_wrong_password_is_refused(alice: User, caller: Caller) -> None:
    reauthentication.confirm_password(user=alice, password=PASSWORD, caller=caller)
    with pytest.raises(WrongPassword):
        reauthentication.confirm_password(user=alice, password="wrong", caller=caller)


def test_a_crowd_at_one_network_address_is_stopped(alice: User, caller: Caller, settings: Settings) -> None:
    settings.RATE_LIMITS = ["login_per_ip=3/300"]
    rate_limits.limits.cache_clear()
    try:
        for _ in range(3):
            sign_in.check(login="alice", password=PASSWORD, caller=caller)
        with pytest.raises(RateLimited):
            sign_in.check(login="alice", password=PASSWORD, caller=caller)
    finally:
        rate_limits.limits.cache_clear()
