"""Usernames that an account had. For a while nobody else can take one, so that nobody can impersonate its last owner.

Only an HMAC of the name's skeleton is kept."""

from django.conf import settings
from django.utils.timezone import now

from accounts.lib import sealing
from accounts.models import ReservedUsername, User


def reserve(skeleton: str, *, owner: User | None) -> None:
    """Keep this name from everybody but `owner`, who took another and may take it back."""
    mac = sealing.mac("resting username", skeleton.encode())
    defaults = {"until": now() + settings.USERNAME_REST, "user": owner}
    ReservedUsername.objects.update_or_create(mac=mac, defaults=defaults)


def is_reserved(skeleton: str, *, asker: User) -> bool:
    """Whether this name was another account's not long ago."""
    found = ReservedUsername.objects.filter(mac__in=_macs(skeleton), until__gt=now())
    return found.exclude(user=asker).exists()


def release(skeleton: str) -> None:
    """Its owner has it again, so nobody else can take it anyway."""
    ReservedUsername.objects.filter(mac__in=_macs(skeleton)).delete()


def _macs(skeleton: str) -> list[bytes]:
    return sealing.macs("resting username", skeleton.encode())


def prune() -> int:
    """Forget the reservations that have run out. Returns how many."""
    count, _ = ReservedUsername.objects.filter(until__lte=now()).delete()
    return count
