"""Users of another service, from JSON lines (docs/importing.md). Every line is checked like a sign-up, except that the
operator vouches for addresses and brings password hashes.

Each batch is a transaction of its own. A line without an id gets one that is made of the line itself, so that a second
run, for example after an abort, finds the users who are already there."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from accounts.caller import Caller
from accounts.errors import FieldError, InvalidInput, UsernameTaken, Words
from accounts.lib import sealing, strict_json, typed
from accounts.models import Gender, User
from accounts.services.account import email_addresses
from accounts.services.credentials import challenges, identifiers, imported_hashes
from accounts.services.credentials.imported_hashes import UnusableHash
from accounts.services.profile import profiles
from accounts.services.security import audit

BATCH = 1000
LINE_MAX_BYTES = 64 * 1024
KEY_MAX_LENGTH = 300

TEXTS = {
    "id", "external_id", "username", "email", "password_hash", "first_name", "last_name", "gender", "created_at",
}  # fmt: skip
BOOLEANS = {"email_verified", "active"}
# What can be wrong with a line, in addition to a sign-up.
WORDS: dict[str, Words] = {
    "line_too_long": _("A line can be at most 64 KB."),
    "not_an_object": _("Each line must be one JSON object in UTF-8."),
    "not_a_boolean": _("This must be true or false."),
    "created_at_invalid": _("Use a time in the past, with its zone: 2021-03-01T12:00:00Z."),
    "username_taken": UsernameTaken.message,
    "duplicate": _("An earlier line is about the same user."),
    "email_taken": _("Someone else has confirmed that address."),
    "taken_meanwhile": _("Someone else just took that username or address."),
    "hash_unknown": _("That kind of hash isn't supported."),
    "hash_malformed": _("That hash is incomplete or damaged."),
    "hash_too_costly": _("Checking that hash would take too much memory or time."),
    "hash_too_long": _("That hash is too long to store."),
    "hash_needs_signer_key": _("Set FIREBASE_SIGNER_KEY first."),
}


@dataclass(frozen=True)
class Refusal:
    """Names the line and the field. The content of a line is in no report."""

    line: int
    error: FieldError


@dataclass
class Report:
    """Of one batch. In a run that only checks, `made` counts the users who could be imported."""

    read: int = 0
    made: int = 0
    there: int = 0
    refusals: list[Refusal] = field(default_factory=list)


def run(lines: Iterable[bytes], *, apply: bool, caller: Caller) -> Iterator[Report]:
    """Import users, or only check whether they could be imported. A batch is committed before its report comes."""
    seen = _Seen()
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    while batch := list(islice(numbered, BATCH)):
        yield _bring(batch, seen, apply=apply, caller=caller)


# --- One line -----------------------------------------------------------------------------------------------


def read(line: bytes) -> User:
    """The user of a line, not stored yet. Raises InvalidInput, which names every field that is wrong."""
    given = _object(line)
    user = User(email_verified=given.get("email_verified", False), is_active=given.get("active", True))
    problems = _set_profile(user, given)
    password = _noting(problems, _password, given.get("password_hash"))
    created_at = _noting(problems, _created_at, given.get("created_at"))
    user_id = _noting(problems, _id, given.get("id"))
    key = given.get("external_id") or user.username or user.email
    if len(key) > KEY_MAX_LENGTH:
        problems.append(LineError("external_id", "too_long"))
    if found := [problem for problem in problems if problem]:
        raise InvalidInput(found)
    user.password = password or make_password(None)
    user.created_at = created_at or now()
    user.id = user_id or _id_of(key, created_at)
    user.username = user.username or _neutral_username(user.id)
    user.username_skeleton = identifiers.skeleton(user.username)
    return user


def _set_profile(user: User, given: dict[str, Any]) -> list[FieldError | None]:
    user.username = identifiers.fold_username(given.get("username", ""))
    user.username_typed = identifiers.as_typed(given.get("username", ""))
    user.email = identifiers.fold_email(given.get("email", ""))
    names = {name: typed.line(given.get(name, "")) for name in ("first_name", "last_name")}
    names["gender"] = given.get("gender", Gender.UNSPECIFIED)
    for name, value in names.items():
        setattr(user, name, value)
    return [
        identifiers.username_problem(user.username) if user.username else None,
        identifiers.email_problem(user.email) if user.email else LineError("email", "required"),
        *profiles.field_problems(names),
    ]


def _object(line: bytes) -> dict[str, Any]:
    """The line's fields that are not null, each of its type."""
    if len(line) > LINE_MAX_BYTES:
        raise InvalidInput([LineError("", "line_too_long")])
    try:
        found = strict_json.loads(line.decode())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput([LineError("", "not_an_object")])
    given = {name: value for name, value in found.items() if value is not None}
    if problems := [problem for name, value in given.items() if (problem := _type_problem(name, value))]:
        raise InvalidInput(problems)
    return given


def _type_problem(name: str, value: object) -> FieldError | None:
    if name in TEXTS:
        return None if isinstance(value, str) else LineError(name, "not_a_string")
    if name in BOOLEANS:
        return None if isinstance(value, bool) else LineError(name, "not_a_boolean")
    # A name that is no word may be somebody's data.
    return LineError(name if re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,40}", name) else "?", "unknown_field")


T = TypeVar("T")


def _noting(problems: list[FieldError | None], read: Callable[[str], T], value: str | None) -> T | None:
    if value is None:
        return None
    try:
        return read(value)
    except InvalidInput as refused:
        problems.extend(refused.errors)
        return None


def _password(exported: str) -> str:
    try:
        return imported_hashes.parse(exported)
    except UnusableHash as unusable:
        raise InvalidInput([LineError("password_hash", unusable.code)]) from None


def _created_at(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None or not datetime(1970, 1, 1, tzinfo=UTC) <= found <= now():
        raise InvalidInput([LineError("created_at", "created_at_invalid")])
    return found.astimezone(UTC)


def _id(text: str) -> UUID:
    try:
        found = UUID(text)
    except ValueError:
        found = UUID(int=0)
    if not found.int:
        raise InvalidInput([LineError("id", "not_a_uuid")])
    return found


def _id_of(key: str, created_at: datetime | None) -> UUID:
    """Always the same for the same line: version 7, with a code of the key in place of the random bits. Only this
    service can make it: ids are public, and a stranger who could make one of an address could tell whether it has an
    account."""
    milliseconds = int(created_at.timestamp() * 1000) if created_at else 0
    code = int.from_bytes(sealing.mac("imported user", key.encode(errors="surrogatepass"))[:10], "big")
    return UUID(int=milliseconds << 80 | 0x7 << 76 | (code >> 62 & 0xFFF) << 64 | 0x2 << 62 | code & (1 << 62) - 1)


# Without letters and digits that look like others.
_LETTERS = "bcdfghjkmpqstxz23456"


def _neutral_username(user_id: UUID) -> str:
    """For a user without one. Not made of the address: others may see a username, but only its owner an address."""
    code = int.from_bytes(sha256(user_id.bytes).digest(), "big")
    return "user-" + "".join(_LETTERS[code // len(_LETTERS) ** place % len(_LETTERS)] for place in range(12))


class LineError(FieldError):
    @property
    def message(self) -> Words:
        return WORDS[self.code] if self.code in WORDS else super().message


# --- A batch ------------------------------------------------------------------------------------------------


class _Seen:
    """What earlier lines of the file took. Only hashes, so that a million lines need little memory."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self, kind: str, value: object) -> bool:
        """Whether no earlier line had it."""
        is_new = not self.is_taken(kind, value)
        self._taken.add(hash((kind, value)))
        return is_new

    def is_taken(self, kind: str, value: object) -> bool:
        return hash((kind, value)) in self._taken


def _bring(batch: Sequence[tuple[int, bytes]], seen: _Seen, *, apply: bool, caller: Caller) -> Report:
    report = Report(read=len(batch))
    users = {}
    for number, line in batch:
        try:
            users[number] = read(line)
        except InvalidInput as refused:
            report.refusals += [Refusal(number, error) for error in refused.errors]
    with transaction.atomic():
        new = _sift(users, seen, report)
        report.made = len(new)
        if apply and new:
            _make(new, report, caller)
    report.refusals.sort(key=lambda refusal: refusal.line)
    return report


def _sift(users: Mapping[int, User], seen: _Seen, report: Report) -> Mapping[int, User]:
    """The users, by line, who are new and take nothing from anybody."""
    ids = _stored("id", users)
    skeletons = _stored("username_skeleton", users)
    owned = _stored("email", users, email_verified=True)
    new = {}
    for line, user in users.items():
        if not seen.take("id", user.id):
            report.refusals.append(Refusal(line, LineError("id", "duplicate")))
        elif user.id in ids:
            report.there += 1
        elif user.username_skeleton in skeletons or not seen.take("name", user.username_skeleton):
            report.refusals.append(Refusal(line, LineError("username", "username_taken")))
        elif user.email in owned or seen.is_taken("email", user.email):
            report.refusals.append(Refusal(line, LineError("email", "email_taken")))
        else:
            new[line] = user
            if user.email_verified:
                seen.take("email", user.email)
    return new


def _stored(name: str, users: Mapping[int, User], **more: bool) -> set[object]:
    """Those of the users' values that are in the table already."""
    values = [getattr(user, name) for user in users.values()]
    return set(User.objects.filter(**{f"{name}__in": values}, **more).values_list(name, flat=True))


def _make(new: Mapping[int, User], report: Report, caller: Caller) -> None:
    verified = {user.email: user for user in new.values() if user.email_verified}
    for email in sorted(set(User.objects.filter(email__in=verified).values_list("email", flat=True))):
        challenges.lock(email)
    User.objects.bulk_create(new.values(), ignore_conflicts=True)
    stored = _stored("id", new)
    for line, user in new.items():
        if user.id not in stored:  # somebody has just signed up with this name or address
            report.made -= 1
            report.refusals.append(Refusal(line, LineError("", "taken_meanwhile")))
    made = [user for user in new.values() if user.id in stored]
    audit.record_each(((audit.Kind.USER_IMPORTED, user) for user in made), caller=caller)
    # Claims of this batch as well: an address that two lines have belongs to the one that verified it.
    lost = set(User.objects.filter(email__in=verified, email_verified=False).values_list("email", flat=True))
    for email in sorted(lost):
        if verified[email].id in stored:
            email_addresses.lapse_other_claims(email, owner_id=verified[email].id, caller=caller)
