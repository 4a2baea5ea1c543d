"""Password hashes: Argon2id, few at a time, one on every path."""

import threading
import time
from collections.abc import Iterator

import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher, PBKDF2PasswordHasher, identify_hasher
from pytest_django import Settings

from accounts.errors import Overloaded
from accounts.models import User
from accounts.services.credentials import hashing
from project import env
from tests.conftest import PASSWORD
from tests.threads import at_once


class Watch:
    """Counts the hashes that are made and how many were under way at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = self.most = self._now = 0
        self.slow = 0.0
        self._lock = threading.Lock()
        encode, verify = Argon2PasswordHasher.encode, Argon2PasswordHasher.verify

        def watched_encode(hasher: Argon2PasswordHasher, password: str, salt: str) -> str:
            with self:
                return encode(hasher, password, salt)

        def watched_verify(hasher: Argon2PasswordHasher, password: str, encoded: str) -> bool:
            with self:
                return verify(hasher, password, encoded)

        monkeypatch.setattr(Argon2PasswordHasher, "encode", watched_encode)
        monkeypatch.setattr(Argon2PasswordHasher, "verify", watched_verify)

    def __enter__(self) -> None:
        with self._lock:
            self.count += 1
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self.slow)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


@pytest.fixture
def full(settings: Settings) -> Iterator[None]:
    """Every place for a hash is taken."""
    settings.PASSWORD_HASH_WAIT = 0.05
    for _ in range(settings.PASSWORD_HASH_CONCURRENCY):
        assert hashing._places.acquire(timeout=1)
    yield
    for _ in range(settings.PASSWORD_HASH_CONCURRENCY):
        hashing._places.release()


# --- What is kept -------------------------------------------------------------------------------------------


def test_a_hash_is_argon2id_with_the_numbers_of_the_settings(settings: Settings) -> None:
    made = hashing.hashed(PASSWORD)
    kind, numbers = made.split("$")[1], made.split("$")[3]
    assert kind == "argon2id"
    assert numbers == f"m={settings.ARGON2_MEMORY_KIB},t={settings.ARGON2_TIME_COST},p={settings.ARGON2_PARALLELISM}"
    assert identify_hasher(made).__class__ is hashing.Argon2id
    assert PASSWORD not in made
    assert hashing.hashed(PASSWORD) != made


def test_the_defaults_are_the_minimum_of_owasp() -> None:
    defaults = {
        name: env.asked[name].default for name in ("ARGON2_MEMORY_KIB", "ARGON2_TIME_COST", "ARGON2_PARALLELISM")
    }
    assert defaults == {"ARGON2_MEMORY_KIB": "19456", "ARGON2_TIME_COST": "2", "ARGON2_PARALLELISM": "1"}


# --- Comparing ----------------------------------------------------------------------------------------------


def test_the_right_password_matches(alice: User) -> None:
    assert hashing.matches(alice, PASSWORD)


@pytest.mark.parametrize(
    "wrong",
    ["", PASSWORD.upper(), PASSWORD + " ", " " + PASSWORD, PASSWORD[:-1], "\x00", PASSWORD + "\x00", "x" * 100_000],
)
def test_any_other_does_not(alice: User, wrong: str) -> None:
    assert not hashing.matches(alice, wrong)


def test_nobody_has_a_password() -> None:
    assert not hashing.matches(None, PASSWORD)


def test_a_user_without_a_password_has_none(alice: User) -> None:
    alice.set_unusable_password()
    for password in ("", PASSWORD, alice.password):
        assert not hashing.matches(alice, password)


def test_refuses_bobs_password_for_alice(alice: User, bob: User) -> None:
    bob.password = hashing.hashed("another password of his")
    assert hashing.matches(bob, "another password of his")
    assert not hashing.matches(alice, "another password of his")
    assert not hashing.matches(bob, PASSWORD)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("caf\u00e9 plum lagoon", "cafe\u0301 plum lagoon"),
        ("ﬁve plum lagoons", "five plum lagoons"),
        ("ｐｌｕｍ lagoons", "plum lagoons"),
    ],
)
def test_what_keyboards_send_for_the_same_letters_is_one_password(alice: User, one: str, other: str) -> None:
    alice.password = hashing.hashed(one)
    assert hashing.matches(alice, other)
    alice.password = hashing.hashed(other)
    assert hashing.matches(alice, one)


def test_the_longest_password_counts_to_its_last_character(alice: User, settings: Settings) -> None:
    longest = "y" * settings.PASSWORD_MAX_LENGTH
    alice.password = hashing.hashed(longest)
    assert hashing.matches(alice, longest)
    assert not hashing.matches(alice, longest[:-1] + "z")
    assert not hashing.matches(alice, longest[:-1])
    assert not hashing.matches(alice, longest + "y")


def test_a_long_spelling_of_the_longest_password_is_still_it(alice: User, settings: Settings) -> None:
    kept = "\u01d6" * settings.PASSWORD_MAX_LENGTH  # three characters each where they are sent apart
    alice.password = hashing.hashed(kept)
    assert hashing.matches(alice, "u\u0308\u0304" * settings.PASSWORD_MAX_LENGTH)


def test_a_hash_with_older_numbers_is_made_anew_at_a_right_password_only(alice: User) -> None:
    older = PBKDF2PasswordHasher().encode(PASSWORD, "saltsaltsaltsaltsalt", iterations=1000)
    alice.password = older
    alice.save()
    assert not hashing.matches(alice, "wrong password")
    alice.refresh_from_db()
    assert alice.password == older
    assert hashing.matches(alice, PASSWORD)
    alice.refresh_from_db()
    assert alice.password.startswith("argon2$argon2id$")
    assert hashing.matches(alice, PASSWORD)
    newer = alice.password
    alice.refresh_from_db()
    assert alice.password == newer


def test_a_password_that_was_changed_while_its_hash_was_made_anew_stays_changed(alice: User) -> None:
    alice.password = PBKDF2PasswordHasher().encode(PASSWORD, "saltsaltsaltsaltsalt", iterations=1000)
    alice.save()
    changed = hashing.hashed("another password of hers")
    User.objects.filter(id=alice.id).update(password=changed)
    assert not hashing.matches(alice, PASSWORD)
    assert User.objects.get(id=alice.id).password == changed


def test_two_first_sign_ins_at_once_are_both_right_and_hold_the_same_hash(alice: User) -> None:
    alice.password = PBKDF2PasswordHasher().encode(PASSWORD, "saltsaltsaltsaltsalt", iterations=1000)
    alice.save()
    again = User.objects.get(id=alice.id)
    assert hashing.matches(alice, PASSWORD)
    assert hashing.matches(again, PASSWORD)
    assert again.password == alice.password


# --- One hash on every path ---------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["alice", "nobody", "without a password"])
@pytest.mark.parametrize("password", [PASSWORD, "wrong", "", "x" * 10_000])
def test_every_path_costs_one_hash(alice: User, watch: Watch, who: str, password: str) -> None:
    if who == "without a password":
        alice.set_unusable_password()
    hashing.matches(None if who == "nobody" else alice, password)
    assert watch.count == 1


def test_of_a_very_long_password_only_a_part_is_looked_at(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at, normalise = [], hashing.normalise

    def watched(password: str) -> str:
        looked_at.append(len(password))
        return normalise(password)

    monkeypatch.setattr(hashing, "normalise", watched)
    hashing.matches(None, "ﷺ" * 2_000_000)
    assert looked_at == [settings.PASSWORD_MAX_LENGTH * 4]


# --- A bounded number at a time -----------------------------------------------------------------------------


def test_no_more_hashes_at_once_than_there_are_places(watch: Watch, settings: Settings) -> None:
    watch.slow = 0.02
    found = at_once(8, lambda: hashing.matches(None, PASSWORD))
    assert list(found) == [False] * 8
    assert watch.count == 8
    assert watch.most == settings.PASSWORD_HASH_CONCURRENCY


def test_who_finds_no_place_in_time_is_told_to_come_back(alice: User, full: None) -> None:
    for work in (
        lambda: hashing.hashed(PASSWORD),
        lambda: hashing.matches(alice, PASSWORD),
        lambda: hashing.matches(None, "x"),
    ):
        with pytest.raises(Overloaded) as refusal:
            work()
        assert refusal.value.retry_after > 0


def test_who_waits_gets_the_place_that_becomes_free(settings: Settings) -> None:
    settings.PASSWORD_HASH_WAIT = 2
    for _ in range(settings.PASSWORD_HASH_CONCURRENCY):
        assert hashing._places.acquire(timeout=1)
    timers = [threading.Timer(0.05, hashing._places.release) for _ in range(settings.PASSWORD_HASH_CONCURRENCY)]
    for timer in timers:
        timer.start()
    assert hashing.hashed(PASSWORD).startswith("argon2$")
    for timer in timers:
        timer.join()


def test_a_hash_that_fails_gives_its_place_back(
    settings: Settings, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PASSWORD_HASH_WAIT = 0.05
    for _ in range(settings.PASSWORD_HASH_CONCURRENCY + 1):
        with pytest.raises(UnicodeEncodeError):
            hashing.hashed("\ud800" * 12)  # what cannot be encoded breaks inside
    assert hashing.hashed(PASSWORD)
