"""Users of another service, from JSON lines (docs/importing.md): the rules of signing up for every line, except that
the operator vouches for addresses and brings password hashes along.

They come in batches, each in a transaction of its own. Whom a line means is told by an id, which is made of the line
itself where none is given. So doing it once more, after an abort for instance, finds everybody who is there already."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from accounts.lib import sealing
from accounts.models import Gender, User
from accounts.services.account import email_addresses
from accounts.services.credentials import challenges, identifiers, imported_hashes
from accounts.services.credentials.imported_hashes import UnusableHash
from accounts.services.profile import profiles
from accounts.services.security import audit

BATCH = 1000
LINE_MAX_BYTES = 64 * 1024
KEY_MAX_LENGTH = 300

FIELDS: dict[str, type] = {
    "id": str,
    "external_id": str,
    "username": str,
    "email": str,
    "email_verified": bool,
    "password_hash": str,
    "first_name": str,
    "last_name": str,
    "gender": str,
    "created_at": str,
    "active": bool,
}
# What can be wrong with a line beside what can be wrong with a sign-up.
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
    """Names the line and the field; what stands there is in no report."""

    line: int
    error: FieldError


@dataclass
class Report:
    """Of one batch. `made` is who would be made, where nothing is written."""

    read: int = 0
    made: int = 0
    there: int = 0
    refusals: list[Refusal] = field(default_factory=list)


def run(lines: Iterable[bytes], *, apply: bool, caller: Caller) -> Iterator[Report]:
    """Bring users over, or only look whether they could be. What a report tells of is committed."""
    seen = _Seen()
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    while batch := list(islice(numbered, BATCH)):
        yield _bring(batch, seen, apply=apply, caller=caller)


# --- One line -----------------------------------------------------------------------------------------------


def read(line: bytes) -> User:
    """The user that a line tells of, not stored yet. Raises InvalidInput, naming every field that is wrong."""
    given = _object(line)
    username = identifiers.fold_username(given.get("username", ""))
    email = identifiers.fold_email(given.get("email", ""))
    names = {name: profiles.clean_name(given.get(name, "")) for name in ("first_name", "last_name")}
    names["gender"] = given.get("gender", Gender.UNSPECIFIED)
    problems = [
        identifiers.username_problem(username) if username else None,
        identifiers.email_problem(email) if email else LineError("email", "required"),
        *profiles.field_problems(names),
    ]
    password = _noting(problems, _password, given.get("password_hash"))
    created_at = _noting(problems, _created_at, given.get("created_at"))
    user_id = _noting(problems, _id, given.get("id"))
    key = given.get("external_id") or username or email
    if len(key) > KEY_MAX_LENGTH:
        problems.append(LineError("external_id", "too_long"))
    if found := [problem for problem in problems if problem]:
        raise InvalidInput(found)
    user_id = user_id or _id_of(key, created_at)
    username = username or _neutral_username(user_id)
    return User(
        id=user_id,
        username=username,
        username_skeleton=identifiers.skeleton(username),
        email=email,
        email_verified=given.get("email_verified", False),
        password=password or make_password(None),
        is_active=given.get("active", True),
        created_at=created_at or now(),
        **names,
    )


def _object(line: bytes) -> dict[str, Any]:
    """The line's fields that are not null, each of its type."""
    if len(line) > LINE_MAX_BYTES:
        raise InvalidInput([LineError("", "line_too_long")])
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput([LineError("", "not_an_object")])
    given = {name: value for name, value in found.items() if value is not None}
    if problems := [problem for name, value in given.items() if (problem := _type_problem(name, value))]:
        raise InvalidInput(problems)
    return given


def _type_problem(name: str, value: object) -> FieldError | None:
    kind = FIELDS.get(name)
    if kind is None:
        # What is no word may be anybody's data.
        return LineError(name if re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,40}", name) else "?", "unknown_field")
    if not isinstance(value, kind):
        return LineError(name, "not_a_string" if kind is str else "not_a_boolean")
    return None


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
    """Always the same for the same line: version 7, with a code of the key in the place of chance. Only this service
    can make it: ids are public, and whoever could make one of an address could tell whether it has an account."""
    milliseconds = int(created_at.timestamp() * 1000) if created_at else 0
    code = int.from_bytes(sealing.mac("imported user", key.encode(errors="surrogatepass"))[:10], "big")
    return UUID(int=milliseconds << 80 | 0x7 << 76 | (code >> 62 & 0xFFF) << 64 | 0x2 << 62 | code & (1 << 62) - 1)


# Without what looks like something else.
_LETTERS = "bcdfghjkmpqstxz23456"


def _neutral_username(user_id: UUID) -> str:
    """For those who had none. Not made of the address: others may see a username, and an address only its owner."""
    code = int.from_bytes(sha256(user_id.bytes).digest(), "big")
    return "user-" + "".join(_LETTERS[code // len(_LETTERS) ** place % len(_LETTERS)] for place in range(12))


class LineError(FieldError):
    """What only a line of an import gets wrong."""

    @property
    def message(self) -> Words:
        return WORDS[self.code] if self.code in WORDS else super().message


# --- A batch ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Arrival:
    line: int
    user: User


class _Seen:
    """What earlier lines of the file took. Only hashes of it: a million lines are no burden then."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self, kind: str, value: object) -> bool:
        """Whether nobody had it."""
        code = hash((kind, value))
        if code in self._taken:
            return False
        self._taken.add(code)
        return True

    def is_taken(self, kind: str, value: object) -> bool:
        return hash((kind, value)) in self._taken


def _bring(batch: Sequence[tuple[int, bytes]], seen: _Seen, *, apply: bool, caller: Caller) -> Report:
    report = Report(read=len(batch))
    arrivals = []
    for number, line in batch:
        try:
            arrivals.append(_Arrival(number, read(line)))
        except InvalidInput as refused:
            report.refusals += [Refusal(number, error) for error in refused.errors]
    with transaction.atomic():
        new = _sift(arrivals, seen, report)
        report.made = len(new)
        if apply and new:
            _make(new, report, caller)
    report.refusals.sort(key=lambda refusal: refusal.line)
    return report


def _sift(arrivals: Sequence[_Arrival], seen: _Seen, report: Report) -> Sequence[_Arrival]:
    """Those who are new and take nothing from anybody."""
    coming = [arrival.user for arrival in arrivals]
    ids = set(User.objects.filter(id__in=[user.id for user in coming]).values_list("id", flat=True))
    skeletons = _stored("username_skeleton", [user.username_skeleton for user in coming])
    owned = _stored("email", [user.email for user in coming], email_verified=True)
    new = []
    for arrival in arrivals:
        user = arrival.user
        if not seen.take("id", user.id):
            report.refusals.append(Refusal(arrival.line, LineError("id", "duplicate")))
        elif user.id in ids:
            report.there += 1
        elif user.username_skeleton in skeletons or not seen.take("name", user.username_skeleton):
            report.refusals.append(Refusal(arrival.line, LineError("username", "username_taken")))
        elif user.email in owned or seen.is_taken("email", user.email):
            report.refusals.append(Refusal(arrival.line, LineError("email", "email_taken")))
        else:
            new.append(arrival)
            if user.email_verified:
                seen.take("email", user.email)
    return new


def _stored(name: str, values: Sequence[str], **more: bool) -> set[str]:
    return set(User.objects.filter(**{f"{name}__in": values}, **more).values_list(name, flat=True))


def _make(new: Sequence[_Arrival], report: Report, caller: Caller) -> None:
    proved = {arrival.user.email: arrival.user for arrival in new if arrival.user.email_verified}
    claimed = sorted(set(User.objects.filter(email__in=proved).values_list("email", flat=True)))
    for email in claimed:
        challenges.lock(email)
    User.objects.bulk_create([arrival.user for arrival in new], ignore_conflicts=True)
    # Somebody may have signed up with one of these names since they were looked at.
    stored = set(User.objects.filter(id__in=[arrival.user.id for arrival in new]).values_list("id", flat=True))
    for arrival in new:
        if arrival.user.id not in stored:
            report.made -= 1
            report.refusals.append(Refusal(arrival.line, LineError("", "taken_meanwhile")))
    made = [arrival.user for arrival in new if arrival.user.id in stored]
    audit.record_each(((audit.Kind.USER_IMPORTED, user) for user in made), caller=caller)
    # Claims of this batch as well: an address that two lines have belongs to the one that proved it.
    lost = set(User.objects.filter(email__in=proved, email_verified=False).values_list("email", flat=True))
    for email in sorted(lost):
        if proved[email].id in stored:
            email_addresses.lapse_other_claims(email, owner_id=proved[email].id, caller=caller)
