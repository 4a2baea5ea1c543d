"""Numbers for staff. Triggers keep them (counts.py), so the page reads some hundred rows for ten users as for ten
million. Only MFA is counted, in its index alone (40 ms a million), and the newest sign-ups by their network."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Generic, TypeVar

from django.db import connections
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from accounts.errors import DirectoryClosed, Words
from accounts.lib import replica
from accounts.models import Gender, TotpAuthenticator, User
from accounts.services.security import audit
from accounts.services.security.audit import Kind
from accounts.services.staff import counts

PERIODS = (30, 90, 365)  # days


T = TypeVar("T", date, Words)


@dataclass(frozen=True)
class Figure(Generic[T]):
    name: Words
    numbers: Sequence[tuple[T, int]]

    @property
    def total(self) -> int:
        return sum(number for _of, number in self.numbers)


@dataclass(frozen=True)
class Figures:
    everybody: int
    active: int
    days: Sequence[Figure[date]]  # how often something happened on each day, the oldest first, none left out
    networks: Sequence["Network"]  # with the most sign-ups, the most first
    shares: Sequence[Figure[Words]]  # how many active users are of each kind, unless the name says other users


_BY_DAY: Mapping[Words, Sequence[audit.Kind]] = {
    _("Sign-ups"): (Kind.USER_SIGNED_UP,),
    _("Sign-ins"): (Kind.SESSION_STARTED, Kind.SESSION_NEW_DEVICE),
    _("Failed sign-ins"): (Kind.LOGIN_FAILED, Kind.LOGIN_PAUSED, Kind.TWO_STEP_FAILED),
    _("Second factors set up"): (Kind.TWO_STEP_ENABLED, Kind.PASSKEY_ADDED),
}


def read(*, viewer: User, days: int) -> Figures:
    """The numbers of now, and of so many days up to today. Raises DirectoryClosed."""
    if not viewer.has_perm("accounts.view_usercount"):
        raise DirectoryClosed("may not see statistics")
    return replica.read(lambda using: _read(days, using))


def _read(days: int, using: str) -> Figures:
    kinds = counts.users(using=using)
    active = [kind for kind in kinds if kind.is_active]
    since = now().date() - timedelta(days=days - 1)
    by_day = counts.events_by_day([kind for kinds in _BY_DAY.values() for kind in kinds], since=since, using=using)
    calendar = [since + timedelta(days=number) for number in range(days)]
    everybody, with_mfa = sum(kind.count for kind in kinds), TotpAuthenticator.objects.using(using).count()
    mfa = Figure(_("Two-step verification, all accounts"), [(_("On"), with_mfa), (_("Off"), everybody - with_mfa)])
    return Figures(
        everybody=everybody,
        active=sum(kind.count for kind in active),
        days=[
            Figure(name, [(day, sum(by_day.get((kind, day), 0) for kind in kinds)) for day in calendar])
            for name, kinds in _BY_DAY.items()
        ],
        networks=_networks(using),
        shares=[*_shares(active), mfa],
    )


@dataclass(frozen=True)
class Network:
    """Sign-ups from one /24 or /48, and how many of them have verified their address."""

    name: str
    day: int
    day_verified: int
    week: int
    week_verified: int


# Somebody who signs up for millions of accounts in a week is seen in the newest of them. Erased ones have no address.
_NETWORKS = """
    WITH newest AS MATERIALIZED (
        SELECT ip, user_id, created_at > %(day)s AS today FROM accounts_event
        WHERE kind = 'user.signed_up' AND created_at > %(week)s ORDER BY created_at DESC LIMIT 20000
    )
    SELECT network(set_masklen(ip, CASE family(ip) WHEN 4 THEN 24 ELSE 48 END))::text AS name,
        count(*) FILTER (WHERE today), count(*) FILTER (WHERE today AND email_verified),
        count(*) AS week, count(*) FILTER (WHERE email_verified)
    FROM newest LEFT JOIN accounts_user u ON u.id = user_id WHERE ip IS NOT NULL
    GROUP BY name ORDER BY week DESC, name LIMIT 10
"""


def _networks(using: str) -> Sequence[Network]:
    at = now()
    with connections[using].cursor() as cursor:
        cursor.execute(_NETWORKS, {"day": at - timedelta(days=1), "week": at - timedelta(days=7)})
        return [Network(*row) for row in cursor.fetchall()]


def _shares(active: Sequence[counts.Users]) -> Sequence[Figure[Words]]:
    by_gender, by_proof = Counter[str](), Counter[bool]()
    for kind in active:
        by_gender[kind.gender] += kind.count
        by_proof[kind.email_verified] += kind.count
    return [
        Figure(_("Gender"), [(gender.label, by_gender[gender]) for gender in Gender]),
        Figure(_("Email address"), [(_("Confirmed"), by_proof[True]), (_("Not confirmed"), by_proof[False])]),
    ]
