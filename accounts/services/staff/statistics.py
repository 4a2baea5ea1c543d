"""Numbers for staff. None of them reads the table of users or of events: they are kept by triggers (counts.py), so the
page costs two look-ups in some hundred rows, whether there are ten people or ten million. One is counted: the rows of
those who turned two-step verification on, in their index alone (40 ms a million)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from accounts.errors import DirectoryClosed, Words
from accounts.lib import replica
from accounts.models import Gender, TotpAuthenticator, User
from accounts.services.security import audit
from accounts.services.security.audit import Kind
from accounts.services.staff import counts

PERIODS = (30, 90, 365)  # days


@dataclass(frozen=True)
class Days:
    """How often something happened on each day, the oldest first; no day is left out."""

    name: Words
    numbers: Sequence[tuple[date, int]]

    @property
    def total(self) -> int:
        return sum(number for _day, number in self.numbers)


@dataclass(frozen=True)
class Shares:
    """How many users are of each kind: of the active ones, if the name says nothing else."""

    name: Words
    numbers: Sequence[tuple[Words, int]]

    @property
    def total(self) -> int:
        return sum(number for _name, number in self.numbers)


@dataclass(frozen=True)
class Figures:
    everybody: int
    active: int
    days: Sequence[Days]
    shares: Sequence[Shares]


_BY_DAY: Mapping[Words, Sequence[audit.Kind]] = {
    _("Sign-ups"): (Kind.USER_SIGNED_UP,),
    _("Sign-ins"): (Kind.SESSION_STARTED, Kind.SESSION_NEW_DEVICE),
    _("Failed sign-ins"): (Kind.LOGIN_FAILED, Kind.LOGIN_PAUSED, Kind.TWO_STEP_FAILED),
    _("Second factors set up"): (Kind.TWO_STEP_ENABLED, Kind.PASSKEY_ADDED),
}


def read(*, viewer: User, days: int) -> Figures:
    """Of now, and of so many days, today the last of them. Raises DirectoryClosed."""
    if not viewer.has_perm("accounts.view_usercount"):
        raise DirectoryClosed("may not see statistics")
    return replica.read(lambda using: _read(days, using))


def _read(days: int, using: str) -> Figures:
    kinds = counts.users(using=using)
    active = [kind for kind in kinds if kind.is_active]
    since = now().date() - timedelta(days=days - 1)
    by_day = counts.events_by_day([kind for kinds in _BY_DAY.values() for kind in kinds], since=since, using=using)
    calendar = [since + timedelta(days=number) for number in range(days)]
    return Figures(
        everybody=sum(kind.count for kind in kinds),
        active=sum(kind.count for kind in active),
        days=[
            Days(name, [(day, sum(by_day.get((kind, day), 0) for kind in kinds)) for day in calendar])
            for name, kinds in _BY_DAY.items()
        ],
        shares=[*_shares(active), _two_step(sum(kind.count for kind in kinds), using)],
    )


def _shares(active: Sequence[counts.Users]) -> Sequence[Shares]:
    def number(**fitting: object) -> int:
        return sum(
            kind.count for kind in active if all(getattr(kind, name) == value for name, value in fitting.items())
        )

    return [
        Shares(_("Gender"), [(gender.label, number(gender=gender)) for gender in Gender]),
        Shares(
            _("Email address"),
            [(_("Confirmed"), number(email_verified=True)), (_("Not confirmed"), number(email_verified=False))],
        ),
    ]


def _two_step(everybody: int, using: str) -> Shares:
    on = TotpAuthenticator.objects.using(using).count()
    return Shares(_("Two-step verification, all accounts"), [(_("On"), on), (_("Off"), everybody - on)])
