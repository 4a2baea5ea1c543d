"""How often something may be tried, counted once for both faces.

Two kinds. Per network address: coarse, in Valkey, and in this process while Valkey is away. Per account or per
typed name: exact, in Postgres, spent by one atomic statement before anything is compared, so that sixty guesses
at once are still only as many as the limit allows."""

import ipaddress
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from typing import Any

import redis
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import RateLimited
from accounts.lib import metrics, sealing
from accounts.models import Budget

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limit:
    name: str
    amount: int
    seconds: int


DEFAULTS = (
    Limit("login_per_ip", 100, 300),
    Limit("signup_per_ip", 50, 3600),
    Limit("signup_challenge_per_ip", 10, 3600),  # then a proof of work: proofs.py
    Limit("password_hint_per_ip", 600, 600),
    Limit("code_per_ip", 100, 600),
    Limit("mail_per_ip", 60, 3600),
    Limit("mail_challenge_per_ip", 20, 3600),
    Limit("refresh_per_ip", 1200, 60),
    Limit("people_per_ip", 3000, 3600),
    Limit("wrong_password_per_account", 10, 900),
    Limit("wrong_password_per_login", 10, 900),
    Limit("wrong_code_per_account", 20, 86400),
    Limit("wrong_second_step_per_account", 10, 3600),
    Limit("wrong_second_step_per_day", 30, 86400),
    Limit("wrong_recovery_code_per_account", 10, 3600),
    Limit("quiet_second_step_per_account", 2, 86400),
    Limit("second_step_notice_per_account", 1, 86400),
    Limit("reset_mail_per_login", 5, 3600),
    Limit("sign_in_mail_per_login", 5, 3600),
    Limit("claim_mail_per_address", 60, 3600),
    Limit("claim_mail_per_address_and_network", 10, 3600),
    Limit("change_mail_per_account", 10, 3600),
    Limit("picture_per_account", 30, 3600),
    Limit("open_upload_per_account", 10, 300),  # as long as a form works
    Limit("export_per_account", 3, 86400),
    Limit("username_change_per_account", 2, 30 * 86400),
)


@lru_cache(maxsize=1)
def limits() -> dict[str, Limit]:
    """The list, with the operator's own numbers (RATE_LIMITS) put in."""
    found = {limit.name: limit for limit in DEFAULTS}
    for item in settings.RATE_LIMITS:
        try:
            name, numbers = item.split("=")
            amount, seconds = numbers.split("/")
            found[name] = replace(found[name], amount=max(1, int(amount)), seconds=max(1, int(seconds)))
        except (ValueError, KeyError):
            raise ImproperlyConfigured(f"RATE_LIMITS: {item!r} is not name=tries/seconds with a known name.") from None
    return found


# --- Per network address, in Valkey -------------------------------------------------------------------------


class _Counters:
    """Fixed windows in Valkey. While it is away this process counts alone: coarser, but never an error."""

    PAUSE = 5.0  # seconds after a failure before Valkey is asked again, so that no request waits for it in vain

    def __init__(self) -> None:
        self._client = redis.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=0.2, socket_timeout=0.2, retry=None, protocol=2
        )
        self._away_until = 0.0
        self._lock = threading.Lock()
        self._own: dict[str, int] = {}

    def add(self, keys: Mapping[str, int], number: int = 1) -> list[int]:
        """The count of each key in its window of so many seconds, this one included."""
        if time.monotonic() >= self._away_until:
            try:
                with self._client.pipeline(transaction=False) as pipe:
                    for key, seconds in keys.items():
                        pipe.incrby(key, number)
                        pipe.expire(key, seconds)
                    return [int(count) for count in pipe.execute()[::2]]
            except redis.RedisError as error:
                self._away_until = time.monotonic() + self.PAUSE
                log.warning("limits are counted in this process: Valkey is away (%s)", type(error).__name__)
        metrics.add(metrics.FALLBACK_LIMITS)
        with self._lock:
            if len(self._own) > 100_000:  # a flood of addresses must not eat the memory
                self._own.clear()
            for key in keys:
                self._own[key] = self._own.get(key, 0) + number
            return [self._own[key] for key in keys]


_first = threading.Lock()


def _counters() -> _Counters:
    with _first:  # of several threads at the start, one makes them
        return _made()


@lru_cache(maxsize=1)
def _made() -> _Counters:
    return _Counters()


def network_of(ip: str) -> str:
    """An IPv6 customer has a whole /64, so that is what is counted."""
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return ip


@dataclass(frozen=True)
class Counted:
    """One try that was counted. `over` says by how many tries the lower limit (`name`) is exceeded, and `retry_after`
    when it opens again."""

    name: str = ""
    over: int = 0
    retry_after: int = 0
    keys: Mapping[str, int] = field(default_factory=dict)

    def take_back(self) -> None:
        """It was no try after all."""
        _counters().add(self.keys, -1)


def count_address(name: str, *, caller: Caller) -> None:
    """One more try from this network address; RateLimited where they are used up."""
    _count((name,), caller)


def count_both(name: str, lower: str, *, caller: Caller) -> Counted:
    """The same, counted for a lower limit in the same call, which refuses nothing. One that is refused is taken back:
    many at once that turn out to be no tries would else close the limit between them."""
    return _count((name, lower), caller, kept=False)


def _count(names: Sequence[str], caller: Caller, *, kept: bool = True) -> Counted:
    if not caller.ip:
        return Counted()
    who, at = sealing.mac("rate limit", network_of(caller.ip).encode()).hex()[:24], int(time.time())
    wanted = [limits()[name] for name in names]
    keys = {f"limit:{limit.name}:{who}:{at // limit.seconds}": limit.seconds for limit in wanted}
    counts, first, last = _counters().add(keys), wanted[0], wanted[-1]
    if counts[0] > first.amount:
        if not kept:
            _counters().add(keys, -1)
        raise RateLimited(first.seconds - at % first.seconds, first.name)
    return Counted(last.name, counts[-1] - last.amount, last.seconds - at % last.seconds, keys)


# --- Per account or typed name, in Postgres -----------------------------------------------------------------


@dataclass(frozen=True)
class Spent:
    """Whether a try was left, and if not, the seconds until there is."""

    allowed: bool
    retry_after: int = 0


def _key(name: str, subject: str) -> str:
    # A typed name may be somebody's address, so it is not kept readable.
    return f"{name}:{sealing.mac('budget', subject.encode()).hex()[:40]}"


Wanted = tuple[str, object]  # one try: the name of the limit, and the subject

_SPEND = """
    INSERT INTO accounts_budget AS b (key, spent, resets_at)
    SELECT %(key{n})s, 1, %(end{n})s{condition}
    ON CONFLICT (key) DO UPDATE SET
        spent = CASE WHEN b.resets_at <= %(now)s THEN 1 ELSE b.spent + 1 END,
        resets_at = CASE WHEN b.resets_at <= %(now)s THEN %(end{n})s ELSE b.resets_at END
    WHERE b.resets_at <= %(now)s OR b.spent < %(amount{n})s
    RETURNING {n}
"""


def spend_each(*wanted: Wanted) -> list[bool]:
    """Takes one try of each, in a transaction of its own where the caller has none; of those after the first only where
    the first had one left. Which had one left. One statement decides."""
    at, keys = now(), [_key(name, str(subject)) for name, subject in wanted]
    values: dict[str, Any] = {"now": at}
    for n, (name, _) in enumerate(wanted):
        limit = limits()[name]
        values |= {f"key{n}": keys[n], f"end{n}": at + timedelta(seconds=limit.seconds), f"amount{n}": limit.amount}
    # The order of `_LOCKED`, in which the first of those that are spent together is the first as well.
    order = sorted(range(len(keys)), key=keys.__getitem__, reverse=True)
    parts = [
        f"spent{n} AS ({_SPEND.format(n=n, condition=' WHERE EXISTS (SELECT FROM spent0)' if n else '')})"
        for n in order
    ]
    left = " UNION ALL ".join(f"SELECT * FROM spent{n}" for n in order)  # noqa: S608 - numbers of ours
    with connection.cursor() as cursor:
        cursor.execute(f"WITH {', '.join(parts)} {left}", values)
        found = {row[0] for row in cursor.fetchall()}
    return [n in found for n in range(len(wanted))]


def spend(name: str, subject: object) -> Spent:
    """The same for one."""
    [left] = spend_each((name, subject))
    return Spent(allowed=True) if left else Spent(allowed=False, retry_after=_wait(name, subject))


def _wait(name: str, subject: object) -> int:
    """The seconds until a try is left again."""
    budget = Budget.objects.filter(key=_key(name, str(subject))).first()
    left = (budget.resets_at - now()).total_seconds() if budget else 1
    return int(left) + 1


def may_mail_claim(email: str, *, caller: Caller) -> bool:
    """Whether one more mail may go to an address that is only claimed. Counted by network first, so that nobody who
    claims a stranger's address again and again keeps the stranger's own mail from being sent."""
    network = network_of(caller.ip) if caller.ip else ""
    by_network = ("claim_mail_per_address_and_network", f"{email} {network}")
    return all(spend_each(by_network, ("claim_mail_per_address", email)))


# From the last key to the first, so that no two transactions wait for each other.
_LOCKED = 'SELECT key FROM accounts_budget WHERE key = ANY(%s) ORDER BY key COLLATE "C" DESC FOR UPDATE'
_REFUND = f"""
    UPDATE accounts_budget AS b SET spent = GREATEST(b.spent - 1, 0) FROM ({_LOCKED}) AS mine WHERE b.key = mine.key
"""  # noqa: S608 - no input


def refund_each(*spent: Wanted) -> None:
    """Gives the one try of each back: it was the right password. The other tries stay spent."""
    if spent:
        with connection.cursor() as cursor:
            cursor.execute(_REFUND, [[_key(name, str(subject)) for name, subject in spent]])


def refund(name: str, subject: object) -> None:
    refund_each((name, subject))


def spend_or_refuse(name: str, subject: object, *others: Wanted) -> list[bool]:
    """Takes one try, and then one of each of the others. Which of them had one left. Raises RateLimited where the first
    had none."""
    first, *found = spend_each((name, subject), *others)
    if not first:
        raise RateLimited(_wait(name, subject), name)
    return found


def clear(*spent: Wanted) -> None:
    """All tries of these are left again: they were somebody else's."""
    Budget.objects.filter(key__in=[_key(name, str(subject)) for name, subject in spent]).delete()


def forget(*subjects: object) -> None:
    """Whatever was counted of these; for an account that is erased."""
    spellings = [f"{subject}{place}" for subject in subjects if subject for place in ("", " 0", " 1")]  # see sign_in.py
    keys = [_key(name, spelling) for name in limits() for spelling in spellings]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LOCKED, [keys])
        Budget.objects.filter(key__in=keys).delete()


def prune() -> int:
    """Delete those that are over, but for any that is being spent at this moment."""
    with transaction.atomic():
        over = Budget.objects.filter(resets_at__lt=now()).select_for_update(skip_locked=True)
        count, _ = Budget.objects.filter(key__in=over.values("key")).delete()
    return count
