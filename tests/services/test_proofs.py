"""Proof of work: over a limit a try costs some computing."""

import base64
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import ChallengeRequired, Puzzle, RateLimited, UsernameTaken
from accounts.models import Challenge, SpentTicket, User
from accounts.services.account import password_resets, sign_in_codes, signup
from accounts.services.security import proofs, rate_limits, tickets
from accounts.services.security.proofs import Operation
from project.devstack.servers import Valkey
from tests.conftest import PASSWORD, random_ip
from tests.proofs import solve
from tests.threads import at_once

RESET, SIGN_UP = Operation.RESET_PASSWORD, Operation.SIGN_UP


@pytest.fixture(autouse=True)
def _over_at_the_first_try(settings: Settings) -> Iterator[None]:
    """Each network has one try of each before it needs a proof."""
    settings.RATE_LIMITS = ["signup_challenge_per_ip=1/864000", "mail_challenge_per_ip=1/864000"]
    rate_limits.limits.cache_clear()
    yield
    rate_limits.limits.cache_clear()


@pytest.fixture
def over(caller: Caller, db: None) -> Caller:
    """Somebody in a network that has had its tries."""
    for operation in (RESET, SIGN_UP):
        proofs.require(operation, caller=caller)
    return caller


def challenge(caller: Caller, operation: Operation = RESET) -> Puzzle:
    with pytest.raises(ChallengeRequired) as refusal:
        proofs.require(operation, caller=caller)
    assert 0 < refusal.value.retry_after <= 864_000
    return refusal.value.challenge


def proved(caller: Caller, operation: Operation = RESET) -> Caller:
    return replace(caller, proof=solve(challenge(caller, operation)))


def passes(caller: Caller, operation: Operation = RESET) -> bool:
    try:
        proofs.require(operation, caller=caller)
    except ChallengeRequired:
        return False
    return True


def test_a_solution_lets_one_try_pass_and_no_second(over: Caller) -> None:
    solved = proved(over)
    assert passes(solved)
    assert not passes(solved)
    assert SpentTicket.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_ten_at_once_with_one_solution_one_passes(over: Caller) -> None:
    solved = proved(over)
    assert [one for one in at_once(10, lambda: passes(solved)) if one is not False] == [True]


def test_a_solution_is_for_its_network_and_operation_alone(over: Caller) -> None:
    solved = proved(over)
    elsewhere = Caller(ip=random_ip())
    assert passes(elsewhere)
    assert not passes(replace(elsewhere, proof=solved.proof))
    assert not passes(solved, SIGN_UP)
    assert passes(solved)


def test_a_network_of_version_6_is_a_whole_customer(db: None) -> None:
    network = f"2001:db8:{random.randrange(1 << 16):x}:1"
    one, other = Caller(ip=f"{network}::1"), Caller(ip=f"{network}:ffff::2")
    assert passes(one, SIGN_UP)
    assert passes(replace(other, proof=proved(one, SIGN_UP).proof), SIGN_UP)


def test_a_solution_that_took_too_long_is_refused(over: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    solved, later = proved(over), now() + timedelta(seconds=proofs.LIFETIME + 1)
    monkeypatch.setattr(proofs, "now", lambda: later)
    assert not passes(solved)


def _forged(solved: str) -> Iterator[str]:
    head, _dot, number = solved.partition(".")
    yield f"{head}.{int(number) + 1}"
    yield f"{head}.0{number}"
    yield f"{head}.{number} "
    yield f"{head}."
    yield from ("", ".", "x", "....", number, "\udcff.1", "é.1", "=" * 100)
    whole = bytearray(base64.urlsafe_b64decode(f"{head}="))
    for at in range(len(whole)):  # each byte of it is signed
        changed = whole.copy()
        changed[at] ^= 1
        yield f"{base64.urlsafe_b64encode(changed).decode().rstrip('=')}.{number}"
    easy = struct.pack(">8sII", b"12345678", int(now().timestamp()) + 600, 0) + bytes(16)  # only 0 to try
    yield f"{base64.urlsafe_b64encode(easy).decode().rstrip('=')}.0"


def test_nothing_that_is_made_up_passes(over: Caller) -> None:
    solved = proved(over)
    assert [forged for forged in _forged(solved.proof) if passes(replace(over, proof=forged))] == []
    assert passes(solved)


def test_a_challenge_of_an_earlier_secret_is_still_understood(over: Caller, settings: Settings) -> None:
    solved = proved(over)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "n" * 50
    assert passes(over)  # networks are counted anew
    assert not passes(over)
    assert passes(solved)


def test_difficulty_rises_with_the_tries_and_never_over_the_ceiling(over: Caller) -> None:
    found = []
    for _ in range(12):
        found.append(challenge(over)["max"])
        assert passes(proved(over))
    assert found[0] == proofs.STEP
    assert found == sorted(found)
    assert found[-1] == max(found) == proofs.MOST


def test_asking_for_a_challenge_is_no_try(over: Caller, settings: Settings) -> None:
    settings.RATE_LIMITS = [*settings.RATE_LIMITS, "mail_per_ip=2/864000"]
    rate_limits.limits.cache_clear()
    for _ in range(10):
        challenge(over)
    assert passes(proved(over))
    assert passes(proved(over))
    with pytest.raises(RateLimited) as refusal:
        proofs.require(RESET, caller=over)
    assert refusal.value.code == "rate_limited"


@pytest.mark.django_db(transaction=True)
def test_many_who_ask_at_once_near_the_hard_limit_use_up_nothing(over: Caller, settings: Settings) -> None:
    settings.RATE_LIMITS = [*settings.RATE_LIMITS, "mail_per_ip=3/864000"]
    rate_limits.limits.cache_clear()
    assert passes(proved(over))
    solved = proved(over)
    refused = [one for _ in range(4) for one in at_once(16, lambda: proofs.require(RESET, caller=over))]
    assert {type(one) for one in refused} <= {ChallengeRequired, RateLimited}
    assert passes(solved)
    for _ in range(5):
        with pytest.raises(RateLimited):
            proofs.require(RESET, caller=replace(over, proof="x.1"))


def test_a_wrong_proof_is_a_try(over: Caller, settings: Settings) -> None:
    settings.RATE_LIMITS = [*settings.RATE_LIMITS, "mail_per_ip=2/864000"]
    rate_limits.limits.cache_clear()
    assert not passes(replace(over, proof="x.1"))
    assert not passes(replace(over, proof="x.1"))
    with pytest.raises(RateLimited, match="rate_limited"):
        proofs.require(RESET, caller=replace(over, proof="x.1"))


def test_an_operator_may_switch_it_off(over: Caller, settings: Settings) -> None:
    settings.PROOF_OF_WORK = False
    assert passes(over)


def test_who_has_no_address_needs_none(db: None) -> None:
    assert all(passes(Caller(ip=None)) for _ in range(3))


def test_it_is_the_same_while_valkey_is_away(settings: Settings, tmp_path: Path, caller: Caller, db: None) -> None:
    with Valkey(tmp_path / "valkey") as valkey:
        settings.REDIS_URL = valkey.url
        rate_limits._made.cache_clear()
        try:
            assert passes(caller)
            solved = proved(caller)
            valkey.stop()
            assert passes(caller)  # counted anew, in this process
            assert passes(solved)
            assert not passes(solved)
            assert not passes(caller)
            assert passes(proved(caller))
        finally:
            rate_limits._made.cache_clear()


def test_solutions_that_were_used_are_forgotten_after_their_time(over: Caller) -> None:
    assert passes(proved(over))
    SpentTicket.objects.update(until=now() - timedelta(seconds=1))
    assert tickets.prune() == 1


# --- The three rules ----------------------------------------------------------------------------------------


def test_reset_and_code_ask_for_a_proof_before_they_look_for_anybody(
    over: Caller, alice: User, django_assert_num_queries: Callable[[int], object]
) -> None:
    asks: tuple[Callable[[], object], ...] = (
        *(lambda login=login: password_resets.request_reset(login=login, caller=over) for login in ("alice", "nobody")),
        *(lambda login=login: sign_in_codes.request(login=login, caller=over) for login in ("alice", "nobody")),
    )
    for ask in asks:
        with django_assert_num_queries(0), pytest.raises(ChallengeRequired):  # type: ignore[attr-defined]
            ask()
    assert not Challenge.objects.exists()


def test_sign_up_looks_at_the_username_alone_before_it_asks_for_a_proof(
    over: Caller, alice: User, django_assert_num_queries: Callable[[int], object]
) -> None:
    fields: dict[str, Any] = {"username": "ada", "email": alice.email, "password": PASSWORD}
    with django_assert_num_queries(1), pytest.raises(ChallengeRequired):  # type: ignore[attr-defined]
        signup.sign_up(caller=over, **fields)
    solved = proved(over, SIGN_UP)
    for caller in (over, solved):  # a name that is taken costs no work, and no proof
        with pytest.raises(UsernameTaken):
            signup.sign_up(caller=caller, **fields | {"username": "alice"})
    assert signup.sign_up(caller=solved, **fields).username == "ada"


def test_with_a_proof_an_account_is_made(over: Caller) -> None:
    fields: dict[str, Any] = {"username": "ada", "email": "ada@example.com", "password": PASSWORD}
    assert signup.sign_up(caller=proved(over, SIGN_UP), **fields).username == "ada"
