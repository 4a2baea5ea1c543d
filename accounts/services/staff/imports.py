"""Users of another service, from JSON lines (docs/importing.md). Every line is checked like a sign-up, except that the
operator vouches for addresses and brings password hashes. Nobody is lost for a part that can't be taken: it is left
out, and counted.

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

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from accounts.caller import Caller
from accounts.errors import FieldError, InvalidInput, UsernameTaken, Words
from accounts.lib import sealing, strict_json, typed
from accounts.models import User
from accounts.services.account import email_addresses
from accounts.services.credentials import challenges, identifiers, imported_hashes
from accounts.services.credentials.imported_hashes import UnusableHash
from accounts.services.profile import profiles
from accounts.services.security import audit

BATCH = 1000
LINE_MAX_BYTES = 64 * 1024

TEXTS = {
    "id", "external_id", "username", "email", "password_hash", "first_name", "last_name", "gender", "created_at",
}  # fmt: skip
BOOLEANS = {"email_verified", "active"}
SECOND_FACTORS = "second_factors"  # their names; none is taken
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
    "hash_redacted": _("The export hides this hash. Export again with permission to read hashes."),
    "second_factor": _("Second factors can't be imported. The user has to set them up again."),
    "no_way_in": _("Nobody could sign in. That needs an email address, or a username and a password."),
}


@dataclass(frozen=True)
class Problem:
    """Names the line and the field. The content of a line is in no report."""

    line: int
    error: FieldError


@dataclass
class Report:
    """Of one batch. In a run that only checks, `made` counts the users who could be imported."""

    read: int = 0
    made: int = 0
    there: int = 0
    refusals: list[Problem] = field(default_factory=list)
    left_out: list[Problem] = field(default_factory=list)  # of users who are counted in `made` all the same


def run(lines: Iterable[bytes], *, apply: bool, caller: Caller) -> Iterator[Report]:
    """Import users, or only check whether they could be imported. A batch is committed before its report comes."""
    seen = _Seen()
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    while batch := list(islice(numbered, BATCH)):
        yield _bring(batch, seen, apply=apply, caller=caller)


# --- One line -----------------------------------------------------------------------------------------------


@dataclass
class Person:
    """The user of a line, not stored yet, and what of the line could not be taken."""

    user: User
    left_out: list[FieldError]
    own_name: bool = True  # else a made one, which nobody knows

    @property
    def has_way_in(self) -> bool:
        by_name = self.own_name and self.user.has_usable_password() and settings.EMAIL_VERIFICATION == "optional"
        return by_name or bool(self.user.email)

    def make_username(self) -> None:
        self.own_name = False
        self.user.username, self.user.username_typed = _neutral_username(self.user.id), ""
        self.user.username_skeleton = identifiers.skeleton(self.user.username)

    def leave_out(self, name: str, code: str) -> bool:
        """The username or the address, which is somebody else's. Whether there is a way in without."""
        self.left_out.append(LineError(name, code))
        if name == "username":
            self.make_username()
        else:
            self.user.email, self.user.email_verified = "", False
        return self.has_way_in


def read(line: bytes) -> Person:
    """Raises InvalidInput where the line can't be read, or nobody could sign in."""
    given = _object(line)
    cleaned = {name: value for name, clean in _CLEANERS.items() if (value := clean(given.get(name, "")))}
    problems = [
        identifiers.username_problem(cleaned["username"]) if "username" in cleaned else None,
        identifiers.email_problem(cleaned["email"]) if "email" in cleaned else None,
        *profiles.field_problems(cleaned),
    ]
    left_out = [problem for problem in problems if problem]
    wrong = {problem.field for problem in left_out}
    fields = {name: value for name, value in cleaned.items() if name not in wrong}
    user = User(**fields, is_active=given.get("active", True))
    user.email_verified = bool(user.email) and given.get("email_verified", False)
    user.password = _noting(left_out, _password, given.get("password_hash")) or make_password(None)
    created_at = _noting(left_out, _created_at, given.get("created_at"))
    user.created_at = created_at or now()
    # Of what is given and not of what is taken, so that another version finds the same user.
    key = given.get("external_id") or cleaned.get("username") or cleaned.get("email", "")
    user.id = _noting(left_out, _id, given.get("id")) or _id_of(key, created_at)
    user.username_typed = identifiers.as_typed(given.get("username", ""))
    user.username_skeleton = identifiers.skeleton(user.username)
    left_out += [
        LineError(f"{SECOND_FACTORS}.{name}", "second_factor") for name in dict.fromkeys(given.get(SECOND_FACTORS, ()))
    ]
    person = Person(user, left_out, own_name=bool(user.username))
    if not person.has_way_in:
        raise InvalidInput([*left_out, LineError("", "no_way_in")])
    if not person.own_name:
        person.make_username()
    return person


_CLEANERS: Mapping[str, Callable[[str], str]] = {
    "username": identifiers.fold_username,
    "email": identifiers.fold_email,
    "first_name": typed.line,
    "last_name": typed.line,
    "gender": str,
}


def _object(line: bytes) -> dict[str, Any]:
    """The line's fields that are neither null nor empty, each of its type."""
    if len(line) > LINE_MAX_BYTES:
        raise InvalidInput([LineError("", "line_too_long")])
    try:
        found = strict_json.loads(line.decode("utf-8-sig"))  # Windows puts a mark before the first line
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput([LineError("", "not_an_object")])
    given = {name: value for name, value in found.items() if value not in (None, "")}
    if problems := [problem for name, value in given.items() if (problem := _type_problem(name, value))]:
        raise InvalidInput(problems)
    return given


def _type_problem(name: str, value: object) -> FieldError | None:
    if name in TEXTS:
        return None if isinstance(value, str) else LineError(name, "not_a_string")
    if name in BOOLEANS:
        return None if isinstance(value, bool) else LineError(name, "not_a_boolean")
    if name == SECOND_FACTORS:
        is_list = isinstance(value, list) and all(_WORD.fullmatch(str(factor)) for factor in value)
        return None if is_list else LineError(name, "invalid")
    # A name that is no word may be somebody's data.
    return LineError(name if _WORD.fullmatch(name) else "?", "unknown_field")


_WORD = re.compile("[A-Za-z][A-Za-z0-9_-]{0,40}")
T = TypeVar("T")


def _noting(left_out: list[FieldError], read: Callable[[str], T], value: str | None) -> T | None:
    if value is None:
        return None
    try:
        return read(value)
    except InvalidInput as refused:
        left_out.extend(refused.errors)
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
    people = {}
    for number, line in batch:
        try:
            people[number] = read(line)
        except InvalidInput as refused:
            report.refusals += [Problem(number, error) for error in refused.errors]
    with transaction.atomic():
        new = _sift(people, seen, report)
        if apply and new:
            new = _make(new, report, caller)
    report.made = len(new)
    report.left_out = [Problem(line, error) for line, person in new.items() for error in person.left_out]
    report.refusals.sort(key=lambda problem: problem.line)
    return report


def _sift(people: Mapping[int, Person], seen: _Seen, report: Report) -> Mapping[int, Person]:
    """Those, by line, who are new. They take nothing from anybody: what another one has is left out."""
    users = [person.user for person in people.values()]
    ids = _stored("id", users)
    skeletons = _stored("username_skeleton", users)
    owned = _stored("email", users, email_verified=True)
    new = {}
    for line, person in people.items():
        user = person.user
        if not seen.take("id", user.id):
            report.refusals.append(Problem(line, LineError("id", "duplicate")))
            continue
        if user.id in ids:
            report.there += 1
            continue
        fits = True
        if user.email and (user.email in owned or seen.is_taken("email", user.email)):
            fits = person.leave_out("email", "email_taken")
        if fits and (user.username_skeleton in skeletons or not seen.take("name", user.username_skeleton)):
            fits = person.leave_out("username", "username_taken")
        if not fits:
            report.refusals.append(Problem(line, person.left_out[-1]))
            continue
        new[line] = person
        if user.email_verified:
            seen.take("email", user.email)
    return new


def _stored(name: str, users: Sequence[User], **more: bool) -> set[object]:
    """Those of the users' values that are in the table already."""
    values = [getattr(user, name) for user in users]
    return set(User.objects.filter(**{f"{name}__in": values}, **more).values_list(name, flat=True))


def _make(new: Mapping[int, Person], report: Report, caller: Caller) -> Mapping[int, Person]:
    """Those who were written."""
    users = [person.user for person in new.values()]
    verified = {user.email: user for user in users if user.email_verified}
    for email in sorted(set(User.objects.filter(email__in=verified).values_list("email", flat=True))):
        challenges.lock(email)
    User.objects.bulk_create(users, ignore_conflicts=True)
    stored = _stored("id", users)
    # Of the others, somebody has just signed up with the name or the address.
    late = [line for line, person in new.items() if person.user.id not in stored]
    report.refusals += [Problem(line, LineError("", "taken_meanwhile")) for line in late]
    made = [user for user in users if user.id in stored]
    audit.record_each(((audit.Kind.USER_IMPORTED, user) for user in made), caller=caller)
    # Claims of this batch as well: an address that two lines have belongs to the one that verified it.
    lost = set(User.objects.filter(email__in=verified, email_verified=False).values_list("email", flat=True))
    for email in sorted(lost):
        if verified[email].id in stored:
            email_addresses.lapse_other_claims(email, owner_id=verified[email].id, caller=caller)
    return {line: person for line, person in new.items() if line not in late}
