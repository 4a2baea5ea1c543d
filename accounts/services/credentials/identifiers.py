"""Usernames and email addresses: what they may be, the one spelling that is stored, and when two look alike."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email
from django.db import connection

from accounts.errors import FieldError
from accounts.lib import addresses, lookalikes, rows, typed
from accounts.models import User

MIN_LENGTH = 3
MAX_LENGTH = 30
_SYLLABLES = {"HAN", "HANGUL", "HIRAGANA", "KATAKANA"}  # two of these are a name
_PUNCTUATION = frozenset("._-")
# Names of the service itself. Somebody who is called "support" could ask people for their codes.
RESERVED = frozenset(
    """
    abuse account accounts admin administrator anonymous api help hostmaster info login logout me moderator null
    official postmaster root security signin signup staff support system undefined webmaster
    """.split()  # noqa: SIM905 - a list of words reads best as words
)

skeleton = lookalikes.skeleton


def fold_username(username: str) -> str:
    """The one spelling that is looked up: NFKC, lower case, no blanks around."""
    return typed.trimmed(unicodedata.normalize("NFKC", _composed(username).casefold()))


def _composed(username: str) -> str:
    return typed.trimmed(unicodedata.normalize("NFKC", _storable(username)))


def _storable(text: str) -> str:
    """Drop what Postgres can't store (NUL, lone surrogates). No account has such a name."""
    return _UNSTORABLE.sub("\ufffd", typed.trimmed(text))


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def as_typed(username: str) -> str:
    """The spelling to show, "Ιωάννης" and not "ιωάννησ". Empty where it is the folded one: also where capitals would
    make it look like another name, as in "PaypaI" with a capital I, or "HAPPY" in Greek letters."""
    spelling, folded = _composed(username), fold_username(username)
    if spelling == folded or len(spelling) > MAX_LENGTH:
        return ""
    looks = skeleton(skeleton(spelling.replace("I", "l")).casefold())
    plain = "".join(one for one in looks if not unicodedata.category(one).startswith("M"))
    return "" if plain.isascii() and looks != skeleton(folded) else spelling


def username_problem(username: str, *, by_operator: bool = False) -> FieldError | None:
    """What is wrong with a folded username. Whether it is taken, only Postgres knows."""
    scripts = lookalikes.scripts(username)
    is_short = len(username) == 2 and username.isalpha() and scripts and scripts <= _SYLLABLES
    if not (is_short or MIN_LENGTH <= len(username) <= MAX_LENGTH):
        return FieldError("username", "username_length")
    if not all(_is_letter_or_digit(character) or character in _PUNCTUATION for character in username):
        return FieldError("username", "username_characters")
    if username[0] in _PUNCTUATION or username[-1] in _PUNCTUATION:
        return FieldError("username", "username_ends")
    if not lookalikes.may_mix(scripts):
        return FieldError("username", "username_script")
    if not by_operator and _reserved_skeleton(username) in _reserved_skeletons():
        return FieldError("username", "username_reserved")
    return None


def _is_letter_or_digit(character: str) -> bool:
    return unicodedata.category(character) in {"Ll", "Lo", "Lm", "Nd", "Mn", "Mc"} and not _INVISIBLE.match(character)


# Letters and marks that show nothing (Unicode's Default_Ignorable_Code_Point).
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


@lru_cache(maxsize=1)
def _reserved_skeletons() -> frozenset[str]:
    return frozenset(_reserved_skeleton(name) for name in RESERVED)


def _reserved_skeleton(username: str) -> str:
    """Stricter than between people, where Kai and Kal are two, and so are Jose and José: "adm1n", "admln" and "admiń"
    are all "admin"."""
    decomposed = unicodedata.normalize("NFD", username)
    plain = "".join(_base(letter) for letter in decomposed if not unicodedata.category(letter).startswith("M"))
    return skeleton(plain).replace("l", "i")


def _base(letter: str) -> str:
    """A letter without its stroke or hook, which no decomposition knows, and not as a small capital."""
    found = _WITH.match(unicodedata.name(letter, ""))
    return (found[1] or found[2]).lower() if found else letter


_WITH = re.compile("LATIN (?:SMALL LETTER ([A-Z]) WITH |LETTER SMALL CAPITAL ([A-Z])$)")


# --- Addresses ----------------------------------------------------------------------------------------------

EMAIL_MAX_LENGTH = 254
# A plain local part: what can be quoted, split or read as a header is refused before it reaches an email.
_LOCAL_PART = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}\Z")
_DOMAIN = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+\Z")


def fold_email(email: str) -> str:
    return addresses.fold(_storable(email))


def email_problem(email: str) -> FieldError | None:
    """What is wrong with a (folded) address, if anything."""
    try:
        validate_email(email)
    except ValidationError:
        pass
    else:
        local, _at, domain = email.rpartition("@")
        if len(email) <= EMAIL_MAX_LENGTH and _LOCAL_PART.match(local) and _DOMAIN.match(domain):
            return None
    return FieldError("email", "email_invalid")


def new_email_problem(email: str) -> FieldError | None:
    """The same for an address that an account shall get: of no domain that the operator refuses. Those that accounts
    have keep working, and operators may enter and import any."""
    domain = email.rpartition("@")[2].split(".")
    if any(".".join(domain[start:]) in refused_domains() for start in range(len(domain))):
        return FieldError("email", "email_refused")
    return email_problem(email)


@lru_cache(maxsize=1)
def refused_domains() -> frozenset[str]:
    """REFUSED_EMAIL_DOMAINS_FILE, which is read once. Raises ImproperlyConfigured."""
    return frozenset(domain for _, domain in _refused_lines() if _REFUSED.match(domain))


def lines_without_domain() -> Sequence[int]:
    """Those of the file that refuse nothing, for the check. Raises ImproperlyConfigured."""
    return [number for number, domain in _refused_lines() if not _REFUSED.match(domain)]


_REFUSED = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\Z")  # a top-level domain too


def _refused_lines() -> Iterator[tuple[int, str]]:
    """A domain on each line, with or without `@` or `*.` before it; `#` before a comment."""
    path: str = settings.REFUSED_EMAIL_DOMAINS_FILE
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines() if path else []
    except (OSError, UnicodeError) as error:
        raise ImproperlyConfigured(f"REFUSED_EMAIL_DOMAINS_FILE can't be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if name := line.partition("#")[0].strip():
            yield number, addresses.fold_domain(name.removeprefix("@").removeprefix("*.").strip("."))


def fold_login(login: str) -> str:
    """A username or an address: only an address has an @."""
    return fold_email(login) if "@" in login else fold_username(login)


_FIELDS = rows.names(User)
_USER = rows.columns(User)
_BY_USERNAME = f"SELECT {_USER} FROM accounts_user WHERE username = %s"  # noqa: S608 - columns, no input
# In the order of models.UserQuerySet.claiming.
_BY_EMAIL = f"""
    SELECT * FROM (
        (SELECT {_USER}, 0 AS place FROM accounts_user WHERE email = %(email)s
            ORDER BY email_verified DESC, created_at, id LIMIT 1)
        UNION ALL
        (SELECT {_USER}, 1 FROM accounts_user WHERE email = %(email)s
            ORDER BY email_verified, created_at DESC, id DESC LIMIT 1)
    ) AS claims ORDER BY place
"""  # noqa: S608


def candidates(login: str) -> Sequence[User | None]:
    """Whose password may be meant: one place for a username, two for an address. A place may be empty. One statement.

    The second place is the newest other claim on the address. Without it, somebody who signs up with a stranger's
    address and then signs in by it would learn whether the stranger has an account: only then would they be refused."""
    folded = fold_login(login)
    with connection.cursor() as cursor:
        # Raw SQL, because every sign-in runs it and the ORM takes twice as long.
        if "@" not in folded:
            cursor.execute(_BY_USERNAME, [folded])
        else:
            cursor.execute(_BY_EMAIL, {"email": folded})
        found = [User.from_db("default", _FIELDS, row[: len(_FIELDS)]) for row in cursor.fetchall()]
    if "@" not in folded:
        return (next(iter(found), None),)
    first, last = found or (None, None)
    return (first, None if first == last else last)


def find(login: str) -> User | None:
    """The user that a username or an address means: the account that verified the address, else its oldest claim."""
    return candidates(login)[0]
