"""Accounts: making one, reading and changing the profile, removing those that were never proved."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, BinaryIO

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import (
    FieldError,
    InvalidInput,
    ProfileChanged,
    SignUpClosed,
    UsernameChangeLimited,
    UsernameTaken,
)
from accounts.models import Gender, Session, User
from accounts.services.account import deletion, email_addresses, passwords
from accounts.services.authentication import sign_in
from accounts.services.credentials import hashing, identifiers, time_zones
from accounts.services.profile import picture_uploads, pictures
from accounts.services.security import audit, rate_limits
from accounts.services.sessions import locks, sessions
from accounts.services.sessions.sessions import SignedIn

NAME_MAX_LENGTH = 80

# --- Signing up ---------------------------------------------------------------------------------------------


def sign_up(
    *,
    username: str,
    email: str,
    password: str,
    caller: Caller,
    first_name: str = "",
    last_name: str = "",
    gender: str = Gender.UNSPECIFIED,
    time_zone: str = "",
    picture: BinaryIO | None = None,
) -> User:
    """A new account, whose address is a claim; whether somebody else owns that address, nobody can tell. `time_zone`
    is what the device says of itself; one that is not known is none.

    Raises SignUpClosed, RateLimited, InvalidInput (naming every field that is wrong), UsernameTaken,
    InvalidPicture, PictureTooLarge, Overloaded. A storage that is down costs only the picture."""
    if not settings.SIGNUP_OPEN:
        raise SignUpClosed
    rate_limits.count_address("signup_per_ip", caller=caller)
    username, email = identifiers.fold_username(username), identifiers.fold_email(email)
    names = {"first_name": clean_name(first_name), "last_name": clean_name(last_name), "gender": gender}
    problems = [
        identifiers.username_problem(username),
        identifiers.email_problem(email),
        passwords.problem(password, username=username, email=email),
        *profile_problems(names),
    ]
    if found := [problem for problem in problems if problem]:
        raise InvalidInput(found)
    skeleton = identifiers.skeleton(username)
    if User.objects.filter(username_skeleton=skeleton).exists():
        raise UsernameTaken  # before the costly hash; the constraint decides between several at once
    encoded = pictures.encode(picture) if picture else None
    password_hash = hashing.hashed(password)
    with _one_of_each_username():
        user = User.objects.create(
            username=username,
            username_skeleton=skeleton,
            email=email,
            password=password_hash,
            language=caller.language if caller.language in dict(settings.LANGUAGES) else "",
            time_zone=time_zones.known_or_none(time_zone),
            **names,
        )
        _refuse_reserved(user)
        audit.record(audit.Kind.USER_SIGNED_UP, user=user, caller=caller)
        email_addresses.send_confirmation(user, email, caller=caller)
    if encoded:
        pictures.publish_first(user, encoded, caller)
    return user


def sign_up_app(*, caller: Caller, **fields: Any) -> SignedIn | None:
    """The same for an app, which is signed in with it, or None where the address must be proved first."""
    user = sign_up(caller=caller, **fields)
    if settings.EMAIL_VERIFICATION == "mandatory":
        return None
    return sign_in.begin_app(user, caller)


def _refuse_reserved(user: User) -> None:
    """Looked at with the name in hand: whoever lets it go at this moment, the constraint has waited for."""
    if deletion.is_reserved(user.username_skeleton, asker=user):
        raise UsernameTaken("it was another account's")


@contextmanager
def _one_of_each_username() -> Iterator[None]:
    """A transaction in which the constraint decides who of several gets a name; the others meet UsernameTaken."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if "username" in str(error):
            raise UsernameTaken("the constraint") from None
        raise


def clean_name(name: str) -> str:
    return " ".join(name.split())


def profile_problems(values: dict[str, str]) -> list[FieldError]:
    found = []
    for field in ("first_name", "last_name"):
        name = values.get(field, "")
        if len(name) > NAME_MAX_LENGTH:
            found.append(FieldError(field, "name_too_long"))
        elif any(character in "<>" or not character.isprintable() for character in name):
            found.append(FieldError(field, "name_characters"))
    if "gender" in values and values["gender"] not in Gender.values:
        found.append(FieldError("gender", "gender_invalid"))
    if values.get("language", "") not in {"", *dict(settings.LANGUAGES)}:
        found.append(FieldError("language", "language_unknown"))
    if values.get("time_zone", "") not in {"", *time_zones.names()}:
        found.append(FieldError("time_zone", "time_zone_unknown"))
    return found


def make_staff(*, username: str, email: str, password: str) -> User:
    """An account with every right, made by an operator at a terminal, who vouches for the address."""
    username, email = identifiers.fold_username(username), identifiers.fold_email(email)
    problems = [
        identifiers.username_problem(username, by_operator=True),
        identifiers.email_problem(email),
        passwords.problem(password, username=username, email=email),
    ]
    if found := [problem for problem in problems if problem]:
        raise InvalidInput(found)
    try:
        with transaction.atomic():
            return User.objects.create(
                username=username,
                username_skeleton=identifiers.skeleton(username),
                email=email,
                email_verified=True,
                password=hashing.hashed(password),
                is_staff=True,
                is_superuser=True,
            )
    except IntegrityError:
        raise UsernameTaken("the username or the address is taken") from None


def set_active(*, user: User, active: bool, caller: Caller) -> None:
    """Switch an account off, which ends every session at once, or on again."""
    with transaction.atomic():
        User.objects.filter(id=user.id).update(is_active=active)
        user.is_active = active
        if not active:
            sessions.end_others(user=user, keep=None, caller=caller)
            picture_uploads.forget(user)
        audit.record(audit.Kind.USER_ENABLED if active else audit.Kind.USER_DISABLED, user=user, caller=caller)


# --- The profile --------------------------------------------------------------------------------------------


def update_profile(
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
    `versions` are those of the profile that the caller will change; where it has another by now, ProfileChanged.
    Raises InvalidInput, UsernameTaken, UsernameChangeLimited, SessionRevoked, and for a picture what `pictures.prepare`
    raises."""
    changes = dict(changes)
    for field in ("first_name", "last_name"):
        if field in changes:
            changes[field] = clean_name(changes[field])
    problems: list[FieldError | None] = [*profile_problems(changes)]
    if "username" in changes:
        changes["username"] = identifiers.fold_username(changes["username"])
        if changes["username"] != user.username:
            rate_limits.count_address("signup_per_ip", caller=caller)  # who asks for names learns which are taken
            problems.append(identifiers.username_problem(changes["username"]))
    if found := [problem for problem in problems if problem]:
        raise InvalidInput(found)
    prepared = pictures.prepare(user, picture) if picture else None
    with _one_of_each_username():
        changed = _apply(locks.lock_active(user, session), changes, versions, caller)
        if prepared:
            return pictures.publish(changed, prepared, caller)
        return pictures.withdraw(changed, caller) if remove_picture else changed


def _apply(user: User, changes: dict[str, str], versions: Collection[str] | None, caller: Caller) -> User:
    if versions is not None and user.version not in versions:
        raise ProfileChanged
    changed = [field for field, value in changes.items() if getattr(user, field) != value]
    if not changed:
        return user
    if "username" in changed:
        _rename(user, changes["username"])
        audit.record(audit.Kind.USERNAME_CHANGED, user=user, caller=caller)
    if others := sorted(set(changed) - {"username"}):
        for field in others:
            setattr(user, field, changes[field])
        user.save_profile(*others)
        audit.record(audit.Kind.PROFILE_CHANGED, user=user, caller=caller, fields=others)
    return user


def _rename(user: User, username: str) -> None:
    """The name before rests: whoever knows it must not meet somebody else under it at once."""
    _spend_change(user)
    old = user.username_skeleton
    user.username, user.username_skeleton = username, identifiers.skeleton(username)
    user.save_profile("username", "username_skeleton")
    if user.username_skeleton != old:
        _refuse_reserved(user)
        deletion.release_name(user.username_skeleton)
        if user.email_verified:  # else throw-away accounts could keep names from everybody
            deletion.reserve_name(old, owner=user)


def _spend_change(user: User) -> None:
    name = "username_change_per_account"
    spent = rate_limits.spend(name, user.id)
    if not spent.allowed:
        with timezone.override(time_zones.zone_of(user)):
            until = time_zones.moment(now() + timedelta(seconds=spent.retry_after))
        raise UsernameChangeLimited(spent.retry_after, name, until=until)


# --- Removing -----------------------------------------------------------------------------------------------


def remove_unverified() -> int:
    """Accounts that never proved an address, older than UNPROVED_ACCOUNT_LIFETIME and not used or changed for as
    long."""
    before = now() - settings.UNPROVED_ACCOUNT_LIFETIME
    stale = (
        # updated_at: an account that was imported may be old and has still just arrived.
        User.objects.filter(email_verified=False, is_staff=False, created_at__lt=before, updated_at__lt=before)
        .exclude(sessions__last_used_at__gte=before)
        .order_by("created_at")[:1000]
    )
    count = 0
    for user_id in list(stale.values_list("id", flat=True)):
        with transaction.atomic():
            # Looked at again: the address may have been proved, or a device used, since the list was made.
            user = User.objects.lock().filter(id=user_id, email_verified=False, is_staff=False).first()
            if user is None or user.sessions.filter(last_used_at__gte=before).exists():
                continue
            deletion.remove(user)
        count += 1
    return count
