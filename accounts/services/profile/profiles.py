"""What users say about themselves: username, names, gender, language and time zone."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import BinaryIO

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import FieldError, InvalidInput, ProfileChanged, UsernameChangeLimited, UsernameTaken
from accounts.lib import time_zones, typed
from accounts.models import Gender, Session, User
from accounts.services.authentication import reauthentication
from accounts.services.credentials import identifiers, reserved_usernames
from accounts.services.profile import pictures
from accounts.services.security import audit, rate_limits
from accounts.services.sessions import locks

NAME_MAX_LENGTH = 80


def refuse_reserved(user: User) -> None:
    """Check after the name was written: only then has the constraint waited for an account that was giving it up."""
    if reserved_usernames.is_reserved(user.username_skeleton, asker=user):
        raise UsernameTaken("it was another account's")


@contextmanager
def one_of_each_username() -> Iterator[None]:
    """A transaction in which the constraint decides who gets a name. Raises UsernameTaken for everybody else."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if "username" in str(error):
            raise UsernameTaken("the constraint") from None
        raise


def field_problems(values: dict[str, str]) -> list[FieldError]:
    found = []
    for field in ("first_name", "last_name"):
        name = values.get(field, "")
        if len(name) > NAME_MAX_LENGTH:
            found.append(FieldError(field, "name_too_long"))
        elif any(character in "<>" or typed.is_control(character) for character in name):
            found.append(FieldError(field, "name_characters"))
    if "gender" in values and values["gender"] not in Gender.values:
        found.append(FieldError("gender", "gender_invalid"))
    if values.get("language", "") not in {"", *dict(settings.LANGUAGES)}:
        found.append(FieldError("language", "language_unknown"))
    if values.get("time_zone", "") not in {"", *time_zones.names()}:
        found.append(FieldError("time_zone", "time_zone_unknown"))
    return found


def update(
    *,
    user: User,
    changes: dict[str, str],
    caller: Caller,
    session: Session | None = None,
    versions: Collection[str] | None = None,
    picture: BinaryIO | None = None,
    remove_picture: bool = False,
) -> User:
    """Change username, names, gender, language or time zone, and with them the picture: all of it or nothing.
    `versions` are the profile's versions that the caller may change.

    Raises ProfileChanged if it has another by now, InvalidInput, UsernameTaken, UsernameChangeLimited, SessionRevoked,
    MfaRequired for a username, and for a picture what `pictures.prepare` raises."""
    changes = _cleaned(user, changes, caller)
    if session and changes.get("username", user.username) != user.username:  # people sign in with it
        reauthentication.require_mfa(user, session)
    prepared = pictures.NO_PICTURE if remove_picture else None
    if picture:
        prepared = pictures.prepare(user, picture)
    with one_of_each_username():
        changed = _apply(locks.lock_active(user, session), changes, versions, caller)
        return pictures.publish(changed, prepared, caller) if prepared is not None else changed


def _cleaned(user: User, changes: dict[str, str], caller: Caller) -> dict[str, str]:
    if "username" in changes:
        changes = {**changes, "username_typed": identifiers.as_typed(changes["username"])}
    changes = _folded(changes)
    if changes.get("username", user.username) != user.username:
        rate_limits.count_address("signup_per_ip", caller=caller)  # the answer reveals which names are taken
    if found := problems(user, changes):
        raise InvalidInput(found)
    return changes


def _folded(changes: dict[str, str]) -> dict[str, str]:
    cleaners = {"first_name": typed.line, "last_name": typed.line, "username": identifiers.fold_username}
    return {field: cleaners.get(field, str)(value) for field, value in changes.items()}


def problems(user: User, changes: dict[str, str]) -> list[FieldError]:
    """What is wrong with these changes of this user's."""
    changes = _folded(changes)
    username = changes.get("username", user.username)
    wrong = identifiers.username_problem(username) if username != user.username else None
    return [*field_problems(changes), *([wrong] if wrong else [])]


def _apply(user: User, changes: dict[str, str], versions: Collection[str] | None, caller: Caller) -> User:
    if versions is not None and user.version not in versions:
        raise ProfileChanged
    changed = {field for field, value in changes.items() if getattr(user, field) != value}
    if not changed:
        return user
    if "username" in changed:
        _rename(user, changes["username"], changes["username_typed"])
        audit.record(audit.Kind.USERNAME_CHANGED, user=user, caller=caller)
        changed -= {"username", "username_typed"}
    if others := sorted(changed):  # among them another spelling of the same username, which is no change of it
        for field in others:
            setattr(user, field, changes[field])
        user.save_profile(*others)
        audit.record(audit.Kind.PROFILE_CHANGED, user=user, caller=caller, fields=others)
    return user


def _rename(user: User, username: str, spelling: str) -> None:
    """Reserve the earlier name, so that nobody else can use it at once."""
    _spend_change(user)
    old = user.username_skeleton
    user.username, user.username_skeleton = username, identifiers.skeleton(username)
    user.username_typed = spelling
    user.save_profile("username", "username_skeleton", "username_typed")
    if user.username_skeleton != old:
        refuse_reserved(user)
        reserved_usernames.release(user.username_skeleton)
        if user.email_verified:  # else throw-away accounts could reserve any number of names
            reserved_usernames.reserve(old, owner=user)


def _spend_change(user: User) -> None:
    spent = rate_limits.spend("username_change_per_account", user.id)
    if not spent.allowed:
        with timezone.override(time_zones.zone_of(user.time_zone)):
            until = time_zones.moment(now() + timedelta(seconds=spent.retry_after))
        raise UsernameChangeLimited(spent.retry_after, "username_change_per_account", until=until)
