"""What a new password must be, with the look-up of leaked ones off."""

import unicodedata
from collections.abc import Callable

import pytest
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import InvalidInput
from accounts.lib import guessing
from accounts.models import User
from accounts.services.account import email_requests, password_resets, passwords, signup, users
from accounts.services.authentication import sign_in
from accounts.services.credentials import hashing, password_policy
from tests.conftest import PASSWORD, Mailbox
from tests.passwords import TRIED_FIRST, common, random_words

ADA = ("adalovelace", "countess@example.com", "Ada", "Byron Lovelace")


def code(password: str, *known: str) -> str | None:
    problem = password_policy.problem(password, *known)
    return problem.code if problem else None


def test_what_attackers_try_first_is_refused() -> None:
    assert {password: code(password) for password in TRIED_FIRST} == dict.fromkeys(TRIED_FIRST, "password_too_common")


def test_what_is_known_of_the_owner_or_the_site_is_no_secret(settings: Settings) -> None:
    settings.SITE_NAME = "User Service"
    similar = ["countess@example.com", "ecalevolada12", "countess.lovelace"]
    assert {one: code(one, *ADA) for one in similar} == dict.fromkeys(similar, "password_too_similar")
    assert {one: code(one) for one in similar} == dict.fromkeys(similar)
    guessable = ["adalovelaceadalovelace", "Lovelace1815", "countess2026!"]
    assert {one for one in guessable if code(one, *ADA) is None} == set()
    written = [
        "Ada Lovelace 1815",
        "ada-byron-1815",
        "Byron Lovelace 15",
        "ecalevol.yrev.gnol.eman@kaufhaus-nord.example",
    ]
    anna = (*ADA, written[-1])
    assert {one for one in written if code(one, *anna) is None} == set()
    sites = ["userservice1", "UserService2026", "User Service!"]
    assert {one: code(one) for one in sites} == dict.fromkeys(sites, "password_too_common")


def test_blanks_and_dashes_between_letters_help_nobody() -> None:
    spaced = ["1 2 3 4 5 6 7 8", "p a s s w o r d", "q-w-e-r-t-y-u-i-o-p", "qaz wsx edc rfv", "1234 5678 9012"]
    assert {one: code(one) for one in spaced} == dict.fromkeys(spaced, "password_too_common")


def test_common_passwords_are_refused_and_random_words_are_taken() -> None:
    taken = [password for password in common() if code(password, *ADA) is None]
    refused = [password for password in random_words() if code(password, *ADA) is not None]
    assert (len(common()), len(random_words())) == (300, 300)
    assert len(taken) <= 10, taken
    assert len(refused) <= 1, refused


@pytest.mark.parametrize("password", ["twelve chars", "plum tractor", "ключ от квартиры", "🐎🔋📎🎈🌍🍋🚲🎻🧊🌵🦔🪁"])
def test_long_enough_is_good_enough(password: str) -> None:
    assert code(password) is None


def test_a_letter_typed_in_two_ways_is_one_letter() -> None:
    assert code(unicodedata.normalize("NFD", "Bücher" * 2)) == code("Bücher" * 2) == "password_too_common"
    assert code("ｐａｓｓｗｏｒｄ１２３４") == "password_too_common"


def test_the_longest_costs_no_more_than_its_first_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    import zxcvbn_rs_py

    looked_at: list[str] = []
    estimate = zxcvbn_rs_py.zxcvbn

    def watched(text: str, known: list[str]) -> zxcvbn_rs_py.Entropy:
        looked_at.append(text)
        return estimate(text, known)

    monkeypatch.setattr(zxcvbn_rs_py, "zxcvbn", watched)
    assert code("|4[0&07/%733&|%|321&$+76" * 5) is None  # all of it took a second
    assert [len(text) for text in looked_at] == [guessing.LENGTH] * 2  # as typed, and without signs
    assert not set("([{<|") & set("".join(looked_at))


def test_every_door_refuses_what_is_too_common(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    def asked() -> Mailbox:
        password_resets.request_reset(login="alice", caller=caller)
        email_requests.answer()
        return mailbox

    name, email, secrets = "dora", "dora@example.com", asked()
    doors: list[Callable[[str], object]] = [
        lambda password: signup.sign_up(caller=caller, username=name, email=email, password=password),
        lambda password: signup.sign_up_app(caller=caller, username=name, email=email, password=password),
        lambda password: users.make_staff(username=name, email=email, password=password),
        lambda password: passwords.change(
            user=alice, current_password=PASSWORD, new_password=password, keep=None, caller=caller
        ),
        lambda password: passwords.change_by_operator(user=alice, new_password=password, caller=caller),
        lambda password: password_resets.reset_by_code(
            login="alice", code=secrets.code(), new_password=password, caller=caller
        ),
        lambda password: password_resets.reset_by_key(key=secrets.key(), new_password=password, caller=caller),
    ]
    for door in doors:
        with pytest.raises(InvalidInput) as refused:
            door("Password123!")
        assert [error.code for error in refused.value.errors] == ["password_too_common"]
    assert not User.objects.filter(username="dora").exists()


def test_a_weak_password_of_before_still_signs_in(alice: User, caller: Caller) -> None:
    alice.password = hashing.hashed("aaaaaaaaaaaa")
    alice.save()
    assert sign_in.check(login="alice", password="aaaaaaaaaaaa", caller=caller) == alice
