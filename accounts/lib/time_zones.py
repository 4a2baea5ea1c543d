"""Times in the zone that a user chose, else in the service's (TIME_ZONE)."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.utils.formats import date_format
from django.utils.timezone import get_current_timezone, localtime
from django.utils.translation import gettext_lazy as _

# Files among the zones that are no zones.
_NO_ZONES = frozenset({"Factory", "localtime", "posixrules"})
REGIONS = {
    "Africa": _("Africa"),
    "America": _("America"),
    "Antarctica": _("Antarctica"),
    "Arctic": _("Arctic"),
    "Asia": _("Asia"),
    "Atlantic": _("Atlantic"),
    "Australia": _("Australia"),
    "Europe": _("Europe"),
    "Indian": _("Indian Ocean"),
    "Pacific": _("Pacific"),
}


@lru_cache(maxsize=1)
def names() -> frozenset[str]:
    """Every name that this machine knows, old spellings too: browsers still say Asia/Calcutta."""
    return frozenset(available_timezones() - _NO_ZONES)


@lru_cache(maxsize=1)
def cities() -> Mapping[str, tuple[str, ...]]:
    """{region: the names in it}, for people to choose from."""
    return {region: tuple(sorted(name for name in names() if name.startswith(f"{region}/"))) for region in REGIONS}


def known_or_none(name: str) -> str:
    """The name, or "" for an unknown one: a browser's odd answer must not fail a sign-up."""
    return name if name in names() else ""


def zone_of(name: str) -> ZoneInfo:
    # An update of the machine may remove a name.
    return ZoneInfo(known_or_none(name) or settings.TIME_ZONE)


def moment(at: datetime) -> str:
    """Day, time and zone, in the active language and zone."""
    zone = get_current_timezone()
    day = date_format(localtime(at, zone), "DATETIME_FORMAT")
    return f"{day} UTC" if str(zone) == "UTC" else f"{day} ({str(zone).replace('_', ' ')})"
