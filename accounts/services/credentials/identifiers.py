"""Usernames and email addresses: what they may be, the one spelling that is stored, and when two look alike."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from confusable_homoglyphs import categories, confusables
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection

from accounts.errors import FieldError
from accounts.lib import rows
from accounts.models import User

MIN_LENGTH = 3
MAX_LENGTH = 30
_PUNCTUATION = frozenset("._-")
# Names of the service itself. Somebody who is called "support" could ask people for their codes.
RESERVED = frozenset(
    """
    abuse account accounts admin administrator anonymous api help hostmaster info login logout me moderator null
    official postmaster root security signin signup staff support system undefined webmaster
    """.split()  # noqa: SIM905 - a list of words reads best as words
)


def fold_username(username: str) -> str:
    """The one spelling that is kept and looked up: NFKC, lower case, no spaces around."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", _storable(username)).casefold()).strip()


def _storable(text: str) -> str:
    """Drop what Postgres can't store (NUL, lone surrogates). No account has such a name."""
    return _UNSTORABLE.sub("\ufffd", text.strip())


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def username_problem(username: str, *, by_operator: bool = False) -> FieldError | None:
    """What is wrong with a folded username. Whether it is taken, only Postgres knows."""
    if not MIN_LENGTH <= len(username) <= MAX_LENGTH:
        return FieldError("username", "username_length")
    if not all(_is_letter_or_digit(character) or character in _PUNCTUATION for character in username):
        return FieldError("username", "username_characters")
    if username[0] in _PUNCTUATION or username[-1] in _PUNCTUATION:
        return FieldError("username", "username_ends")
    if len(_scripts(username)) > 1:
        return FieldError("username", "username_script")
    if not by_operator and _reserved_skeleton(username) in _reserved_skeletons():
        return FieldError("username", "username_reserved")
    return None


def _is_letter_or_digit(character: str) -> bool:
    return unicodedata.category(character) in {"Ll", "Lo", "Lm", "Nd", "Mn", "Mc"} and not _INVISIBLE.match(character)


# Letters and marks that show nothing (Unicode's Default_Ignorable_Code_Point).
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


# Writing systems that mix by nature (UTS 39, highly restrictive).
_TOGETHER = ({"HAN", "HIRAGANA", "KATAKANA"}, {"HAN", "HANGUL"}, {"HAN", "BOPOMOFO"})


def _scripts(username: str) -> set[str]:
    found = {categories.alias(character) for character in username} - {"COMMON", "INHERITED"}
    if any(found <= together for together in _TOGETHER):
        return {"TOGETHER"}
    return found


def skeleton(username: str) -> str:
    """Equal for names that a person can't tell apart (after UTS 39): every character is replaced by the first of
    its look-alikes. "paypa1" and "paypal" have one skeleton, and so has the latter with a Cyrillic a."""
    decomposed = unicodedata.normalize("NFD", username)
    prototypes = unicodedata.normalize("NFD", "".join(_prototype(character) for character in decomposed))
    # A dot above a letter that has one is not seen.
    return re.sub("(?<=[ij])\u0307+", "", prototypes).replace("rn", "m").replace("vv", "w")[:120]


@lru_cache(maxsize=4096)
def _prototype(character: str) -> str:
    """The plain character for this one: the Latin letter that it looks like, if there is one."""
    if character in _BY_HAND:
        return _BY_HAND[character]
    if character.isascii():
        return character
    found = confusables.is_confusable(character, greedy=True, preferred_aliases=[])
    alike = {str(entry["c"]).casefold() for entry in (found[0]["homoglyphs"] if found else ())}
    plain = sorted(other for other in alike if other.isascii() and other.isalnum())
    if plain:
        return "".join(_BY_HAND.get(letter, letter) for letter in plain[0])
    # Neither looks like a Latin letter, as with Greek phi and Cyrillic ef: the first represents both.
    return min({character, *(other for other in alike if len(other) == 1 and other.isalpha())})


# In lower case these are one in many typefaces; dots and strokes between letters are easily overlooked.
_BY_HAND = {"0": "o", "1": "l", "\N{LATIN SMALL LETTER DOTLESS I}": "i", ".": "_", "-": "_"}


@lru_cache(maxsize=1)
def _reserved_skeletons() -> frozenset[str]:
    return frozenset(_reserved_skeleton(name) for name in RESERVED)


def _reserved_skeleton(username: str) -> str:
    """Stricter than between people, where Kai and Kal are two: "adm1n" and "admln" are both "admin"."""
    return skeleton(username).replace("l", "i")


# --- Addresses ----------------------------------------------------------------------------------------------

EMAIL_MAX_LENGTH = 254
# A plain local part: what can be quoted, split or read as a header is refused before it reaches an email.
_LOCAL_PART = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}\Z")
_DOMAIN = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+\Z")


def fold_email(email: str) -> str:
    return _storable(email).lower()


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
