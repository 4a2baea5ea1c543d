"""Accounts: making one, reading and changing the profile, listing ids, removing those that were never proved."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import Count
from django.utils.timezone import now

from accounts.errors import (
    DirectoryClosed,
    FieldError,
    InvalidInput,
    ProfileChanged,
    SignUpClosed,
    UsernameTaken,
)
from accounts.models import Gender, User
from accounts.origin import Origin
from accounts.services import (
    audit,
    cursors,
    deletion,
    email_addresses,
    hashing,
    identifiers,
    login,
    passwords,
    pictures,
    rate_limits,
    sessions,
)
from accounts.services.sessions import SignedIn

NAME_MAX_LENGTH = 80

# --- Signing up ---------------------------------------------------------------------------------------------


def sign_up(
    *,
    username: str,
    email: str,
    password: str,
    origin: Origin,
    first_name: str = "",
    last_name: str = "",
    gender: str = Gender.UNSPECIFIED,
    picture: BinaryIO | None = None,
) -> User:
    """A new account, whose address is a claim; whether somebody else owns that address, nobody can tell.

    Raises SignUpClosed, RateLimited, InvalidInput (naming every field that is wrong), UsernameTaken,
    InvalidPicture, PictureTooLarge, Overloaded. A storage that is down costs only the picture."""
    if not settings.SIGNUP_OPEN:
        raise SignUpClosed
    rate_limits.count_address("signup_per_ip", origin=origin)
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
            language=origin.language if origin.language in dict(settings.LANGUAGES) else "",
            **names,
        )
        _refuse_resting(skeleton)
        audit.record(audit.Kind.USER_SIGNED_UP, user=user, origin=origin)
        email_addresses.send_confirmation(user, email, origin=origin)
    if encoded:
        pictures.show_first(user, encoded, origin)
    return user


def sign_up_app(*, origin: Origin, **fields: Any) -> SignedIn | None:
    """The same for an app, which is signed in with it, or None where the address must be proved first."""
    user = sign_up(origin=origin, **fields)
    if settings.EMAIL_VERIFICATION == "mandatory":
        return None
    return login.begin_app(user, origin)


def _refuse_resting(skeleton: str) -> None:
    """Looked at with the name in hand: whoever is erased at this moment, the constraint has waited for."""
    if deletion.rests(skeleton):
        raise UsernameTaken("it was an erased account's")


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


def set_active(*, user: User, active: bool, origin: Origin) -> None:
    """Switch an account off, which ends every session at once, or on again."""
    with transaction.atomic():
        User.objects.filter(id=user.id).update(is_active=active)
        user.is_active = active
        if not active:
            sessions.end_others(user=user, keep=None, origin=origin)
        audit.record(audit.Kind.USER_ENABLED if active else audit.Kind.USER_DISABLED, user=user, origin=origin)


# --- The profile --------------------------------------------------------------------------------------------


def update_profile(
    *,
    user: User,
    changes: dict[str, str],
    origin: Origin,
    versions: Collection[str] | None = None,
    picture: BinaryIO | None = None,
    remove_picture: bool = False,
) -> User:
    """Change username, names, gender or language, and with them the picture: all of it or nothing. `versions` are
    those of the profile that the caller will change; where it has another by now, ProfileChanged. Raises
    InvalidInput, UsernameTaken, and for a picture what `pictures.prepare` raises."""
    changes = dict(changes)
    for field in ("first_name", "last_name"):
        if field in changes:
            changes[field] = clean_name(changes[field])
    problems: list[FieldError | None] = [*profile_problems(changes)]
    if "username" in changes:
        changes["username"] = identifiers.fold_username(changes["username"])
        if changes["username"] != user.username:
            problems.append(identifiers.username_problem(changes["username"]))
    if found := [problem for problem in problems if problem]:
        raise InvalidInput(found)
    prepared = pictures.prepare(user, picture) if picture else None
    with _one_of_each_username():
        changed = _apply(user.id, changes, versions, origin)
        if prepared:
            return pictures.show(changed, prepared, origin)
        return pictures.hide(changed, origin) if remove_picture else changed


def _apply(user_id: UUID, changes: dict[str, str], versions: Collection[str] | None, origin: Origin) -> User:
    user = User.objects.hold().get(id=user_id)
    if versions is not None and user.version not in versions:
        raise ProfileChanged
    changed = [field for field, value in changes.items() if getattr(user, field) != value]
    if not changed:
        return user
    for field in changed:
        setattr(user, field, changes[field])
    if "username" in changed:
        user.username_skeleton = identifiers.skeleton(user.username)
    user.save_profile(*changed, *(["username_skeleton"] if "username" in changed else []))
    if "username" in changed:
        _refuse_resting(user.username_skeleton)
        audit.record(audit.Kind.USERNAME_CHANGED, user=user, origin=origin)
    if others := sorted(set(changed) - {"username"}):
        audit.record(audit.Kind.PROFILE_CHANGED, user=user, origin=origin, fields=others)
    return user


# --- The directory ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    user_ids: Sequence[UUID]
    counts: dict[str, int]  # of all active users, by gender
    next: str | None


def list_ids(*, viewer: User, limit: int, cursor: str | None) -> Page:
    """Ids of the active users in the order of their sign-up, a page at a time by key, and exact counts. Raises
    DirectoryClosed, InvalidCursor."""
    if settings.DIRECTORY_ACCESS == "staff" and not viewer.is_staff:
        raise DirectoryClosed
    after = cursors.read("users", cursor) if cursor else UUID(int=0)
    with connection.cursor() as sql:
        sql.execute("SELECT id FROM accounts_user WHERE is_active AND id > %s ORDER BY id LIMIT %s", [after, limit + 1])
        ids = [row[0] for row in sql.fetchall()]
    more = len(ids) > limit
    ids = ids[:limit]
    return Page(ids, _counts(), cursors.write("users", ids[-1]) if more else None)


def _counts() -> dict[str, int]:
    found = dict(User.objects.active().values_list("gender").annotate(Count("id")))
    return {gender: found.get(gender, 0) for gender in Gender.values}


# --- Removing -----------------------------------------------------------------------------------------------


def remove_unproved() -> int:
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
            user = User.objects.hold().filter(id=user_id, email_verified=False, is_staff=False).first()
            if user is None or user.sessions.filter(last_used_at__gte=before).exists():
                continue
            deletion.remove(user)
        count += 1
    return count
