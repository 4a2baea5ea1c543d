"""How often something may be tried: coarse per network address, exact per account or typed name."""

import logging
import random
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils.timezone import now
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import RateLimited
from accounts.models import Budget, User
from accounts.services.security import rate_limits
from accounts.services.security.rate_limits import DEFAULTS, Limit, Spent
from project.devstack.servers import Valkey
from tests.conftest import random_ip
from tests.services.conftest import Mute
from tests.threads import at_once

NAME = "wrong_password_per_account"  # 10 in 15 minutes


@pytest.fixture(autouse=True)
def _own_counters() -> Iterator[None]:
    """Neither another test's numbers nor its dead Valkey."""
    rate_limits.limits.cache_clear()
    rate_limits._made.cache_clear()
    yield
    rate_limits.limits.cache_clear()
    rate_limits._made.cache_clear()


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = now()
        monkeypatch.setattr(rate_limits, "now", lambda: self.at)

    def forward(self, **delta: float) -> datetime:
        self.at += timedelta(**delta)
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def small(settings: Settings) -> None:
    """Three tries an hour for each network address."""
    settings.RATE_LIMITS = ["login_per_ip=3/3600", "signup_per_ip=3/3600"]


def tries(ip: str, *, most: int = 6, name: str = "login_per_ip") -> int:
    """How many are let through."""
    for done in range(most):
        try:
            rate_limits.count_address(name, caller=Caller(ip=ip))
        except RateLimited:
            return done
    return most


# --- The list -----------------------------------------------------------------------------------------------


def test_without_other_numbers_the_list_is_as_shipped(settings: Settings) -> None:
    settings.RATE_LIMITS = []
    assert tuple(rate_limits.limits().values()) == DEFAULTS
    assert rate_limits.limits()[NAME] == Limit(NAME, 10, 900)


def test_an_operators_numbers_take_the_place_of_ours(settings: Settings) -> None:
    settings.RATE_LIMITS = ["login_per_ip=7/8", "picture_per_account=1/2"]
    assert rate_limits.limits()["login_per_ip"] == Limit("login_per_ip", 7, 8)
    assert rate_limits.limits()["picture_per_account"] == Limit("picture_per_account", 1, 2)
    assert rate_limits.limits()["signup_per_ip"] == Limit("signup_per_ip", 50, 3600)


@pytest.mark.parametrize("item", ["x", "x=1/2", "login_per_ip=1", "login_per_ip=a/b", "login_per_ip=1/2=3"])
def test_numbers_that_cannot_be_read_are_named(settings: Settings, item: str) -> None:
    settings.RATE_LIMITS = [item]
    with pytest.raises(ImproperlyConfigured, match=item):
        rate_limits.limits()


@pytest.mark.parametrize("numbers", ["0/0", "-5/-5", "0/1", "1/0"])
def test_numbers_below_one_count_as_one(db: None, settings: Settings, numbers: str) -> None:
    settings.RATE_LIMITS = [f"login_per_ip={numbers}", f"{NAME}={numbers}"]
    assert rate_limits.limits()["login_per_ip"] == Limit("login_per_ip", 1, 1)
    rate_limits.count_address("login_per_ip", caller=Caller(ip=random_ip()))
    assert rate_limits.spend(NAME, "somebody").allowed


# --- Per network address ------------------------------------------------------------------------------------


def test_a_network_address_is_stopped_at_its_limit_and_told_for_how_long(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ip, at = random_ip(), time.time() // 3600 * 3600 + 3000  # ten minutes before the window ends
    monkeypatch.setattr(time, "time", lambda: at)
    assert tries(ip) == 3
    with pytest.raises(RateLimited) as refusal:
        rate_limits.count_address("login_per_ip", caller=Caller(ip=ip))
    assert 600 <= refusal.value.retry_after <= 601
    assert refusal.value.reason == "login_per_ip"


def test_others_and_other_limits_are_not_touched(small: None) -> None:
    ip = random_ip()
    assert tries(ip) == 3
    assert tries(random_ip()) == 3
    assert tries(ip, name="signup_per_ip") == 3


def test_the_next_window_begins_at_nought(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ip, later = random_ip(), time.time() + 3600
    assert tries(ip) == 3
    monkeypatch.setattr(time, "time", lambda: later)
    assert tries(ip) == 3


def test_who_has_no_address_is_not_counted(small: None) -> None:
    for _ in range(10):
        rate_limits.count_address("login_per_ip", caller=Caller(ip=None))
        rate_limits.count_address("login_per_ip", caller=Caller(ip=""))


def test_no_address_stands_readable_in_valkey_and_every_count_ends(small: None, settings: Settings) -> None:
    ip = random_ip()
    with redis.Redis.from_url(settings.REDIS_URL, decode_responses=True) as client:
        client.flushdb()
        tries(ip, most=1)
        keys = list(client.scan_iter("limit:login_per_ip:*"))
        assert keys
        assert not any(ip in key for key in keys)
        assert all(0 < int(client.ttl(key)) <= 3600 for key in keys)


def test_sixty_at_once_from_one_address_are_counted_exactly(settings: Settings) -> None:
    settings.RATE_LIMITS = ["login_per_ip=10/3600"]
    here = Caller(ip=random_ip())
    found = at_once(60, lambda: rate_limits.count_address("login_per_ip", caller=here))
    assert [one for one in found if not isinstance(one, RateLimited)] == [None] * 10


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:ffff::1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::2"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        # The short way to write zeros: what Python's ipaddress makes of every address (accounts/http.py).
        ("2001:db8::1", "2001:db8::2"),
        ("2001:db8::1", "2001:db8::ffff:1:2:3"),
        ("2001:db8:0:1::1", "2001:db8:0:1:8000::"),
    ],
)
def test_a_slash_64_is_one_customer(one: str, other: str) -> None:
    assert rate_limits.network_of(one) == rate_limits.network_of(other)


def test_a_customer_with_a_slash_64_is_stopped_as_a_whole(small: None) -> None:
    network = f"2001:db8:{random.randrange(1 << 16):x}:{random.randrange(1, 1 << 16):x}"
    assert tries(f"{network}::1") + tries(f"{network}::2") + tries(f"{network}:3:4:5:6") == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
        ("2001:db8::1", "2001:db8:0:1::1"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2"),  # IPv4 in the clothes of IPv6
        ("10.0.0.1", "10.0.0.2"),
        ("::1", "10.0.0.1"),
    ],
)
def test_these_are_two_customers(one: str, other: str) -> None:
    assert rate_limits.network_of(one) != rate_limits.network_of(other)


# --- Valkey away --------------------------------------------------------------------------------------------


def test_while_valkey_is_stopped_this_process_counts_and_afterwards_valkey_again(
    small: None, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Valkey(tmp_path / "valkey") as valkey:
        settings.REDIS_URL = valkey.url
        ip = random_ip()
        assert tries(ip, most=2) == 2
        valkey.stop()
        with caplog.at_level(logging.WARNING):
            assert tries(ip) == 3  # it begins anew: coarser, never an error
        assert [record.name for record in caplog.records] == [
            "accounts.services.security.rate_limits"
        ]  # said once, not six times
        assert ip not in caplog.text
        valkey.start()
        rate_limits._counters()._away_until = 0.0  # the pause is over
        assert tries(ip) == 3


def test_a_mute_valkey_is_waited_for_once(small: None, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with Mute() as mute:
        settings.REDIS_URL = f"redis://127.0.0.1:{mute.port}/0"
        assert tries(random_ip()) == 3
        assert [record.name for record in caplog.records] == ["accounts.services.security.rate_limits"]


def test_sixty_at_once_are_counted_exactly_by_the_process_too(settings: Settings) -> None:
    settings.RATE_LIMITS, settings.REDIS_URL = ["login_per_ip=10/3600"], "redis://127.0.0.1:9/0"
    here = Caller(ip=random_ip())
    found = at_once(60, lambda: rate_limits.count_address("login_per_ip", caller=here))
    assert [one for one in found if not isinstance(one, RateLimited)] == [None] * 10


def test_a_flood_of_addresses_does_not_fill_the_memory(settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    counters = rate_limits._counters()
    for number in range(100_010):
        counters.add({f"k{number}": 60})
    assert len(counters._own) < 1000
    assert counters.add({"again": 60}) == [1]


# --- Per account or typed name ------------------------------------------------------------------------------


def test_a_budget_is_spent_to_its_last_try_and_not_further(alice: User, clock: Clock) -> None:
    for _ in range(10):
        assert rate_limits.spend(NAME, alice.id) == Spent(allowed=True)
    for _ in range(3):
        assert rate_limits.spend(NAME, alice.id) == Spent(allowed=False, retry_after=901)
    assert Budget.objects.get().spent == 10


def test_refuses_more_and_says_when_to_come_back(alice: User, clock: Clock) -> None:
    for _ in range(10):
        rate_limits.spend_or_refuse(NAME, alice.id)
    clock.forward(minutes=14)
    with pytest.raises(RateLimited) as refusal:
        rate_limits.spend_or_refuse(NAME, alice.id)
    assert 60 <= refusal.value.retry_after <= 61
    assert refusal.value.reason == NAME


def test_a_spent_budget_of_alice_leaves_bob_and_her_other_budgets_alone(alice: User, bob: User) -> None:
    for _ in range(10):
        rate_limits.spend_or_refuse(NAME, alice.id)
    assert rate_limits.spend(NAME, bob.id).allowed
    assert rate_limits.spend("wrong_code_per_account", alice.id).allowed


def test_a_budget_is_whole_again_when_its_time_is_over(alice: User, clock: Clock) -> None:
    for _ in range(11):
        rate_limits.spend(NAME, alice.id)
    clock.forward(seconds=899)
    assert not rate_limits.spend(NAME, alice.id).allowed
    clock.forward(seconds=1)
    assert [rate_limits.spend(NAME, alice.id).allowed for _ in range(11)] == [True] * 10 + [False]


def test_its_time_runs_from_the_first_try_and_later_ones_do_not_move_it(alice: User, clock: Clock) -> None:
    rate_limits.spend(NAME, alice.id)
    end = Budget.objects.get().resets_at
    clock.forward(minutes=10)
    rate_limits.spend(NAME, alice.id)
    assert Budget.objects.get().resets_at == end


def test_a_refund_gives_one_try_back_and_never_more_than_were_spent(alice: User) -> None:
    for _ in range(10):
        rate_limits.spend(NAME, alice.id)
    rate_limits.refund(NAME, alice.id)
    assert [rate_limits.spend(NAME, alice.id).allowed for _ in range(2)] == [True, False]
    for _ in range(15):
        rate_limits.refund(NAME, alice.id)
    assert [rate_limits.spend(NAME, alice.id).allowed for _ in range(11)] == [True] * 10 + [False]


def test_refunding_bob_gives_alice_nothing(alice: User, bob: User) -> None:
    for _ in range(10):
        rate_limits.spend(NAME, alice.id)
    rate_limits.refund(NAME, bob.id)
    assert not rate_limits.spend(NAME, alice.id).allowed
    assert Budget.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_sixty_at_once_of_a_budget_of_ten_are_exactly_ten() -> None:
    found = at_once(60, lambda: rate_limits.spend(NAME, "somebody"))
    assert all(isinstance(one, Spent) for one in found), found
    assert sum(isinstance(one, Spent) and one.allowed for one in found) == 10
    assert Budget.objects.get().spent == 10


@pytest.mark.django_db(transaction=True)
def test_sixty_at_once_on_a_budget_that_is_over_are_exactly_ten(clock: Clock) -> None:
    for _ in range(10):
        rate_limits.spend(NAME, "somebody")
    clock.forward(seconds=901)
    found = at_once(60, lambda: rate_limits.spend(NAME, "somebody").allowed)
    assert list(found).count(True) == 10
    assert list(found).count(False) == 50


@pytest.mark.django_db(transaction=True)
def test_spending_and_refunding_at_once_loses_no_try() -> None:
    def right() -> bool:
        allowed = rate_limits.spend(NAME, "somebody").allowed
        if allowed:
            rate_limits.refund(NAME, "somebody")
        return allowed

    at_once(30, right)
    assert Budget.objects.get().spent == 0


@pytest.mark.django_db(transaction=True)
def test_a_try_spent_in_a_transaction_that_is_rolled_back_comes_back() -> None:
    with transaction.atomic():
        rate_limits.spend(NAME, "somebody")
        transaction.set_rollback(True)
    assert Budget.objects.count() == 0


def test_no_typed_name_stands_readable_in_the_database(db: None) -> None:
    rate_limits.spend("wrong_password_per_login", "zoë.quill@example.com")
    key = Budget.objects.get().key
    assert "quill" not in key
    assert "example" not in key
    assert key.startswith("wrong_password_per_login:")


@pytest.mark.parametrize("subject", ["", "x" * 100_000, "\x00", "'; DROP TABLE accounts_budget; --", "%s", "é💩"])
def test_any_typed_name_has_a_budget(db: None, subject: str) -> None:
    assert [rate_limits.spend(NAME, subject).allowed for _ in range(11)] == [True] * 10 + [False]
    assert rate_limits.spend(NAME, subject + "x").allowed


def test_other_numbers_hold_for_budgets_too(db: None, settings: Settings) -> None:
    settings.RATE_LIMITS = [f"{NAME}=2/60"]
    assert [rate_limits.spend(NAME, "somebody").allowed for _ in range(3)] == [True, True, False]
    assert rate_limits.spend(NAME, "somebody").retry_after <= 61


def test_prune_forgets_only_budgets_that_are_over(db: None, clock: Clock) -> None:
    rate_limits.spend(NAME, "early")
    clock.forward(minutes=10)
    rate_limits.spend(NAME, "late")
    assert rate_limits.prune() == 0
    clock.forward(minutes=6)
    assert rate_limits.prune() == 1
    assert rate_limits.prune() == 0
    assert Budget.objects.count() == 1
