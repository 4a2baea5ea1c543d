"""How many guesses a password withstands, by an attacker who knows the usual words, patterns and leaks (zxcvbn)."""

import re
from bisect import bisect_left
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

LENGTH = 32  # what the estimator looks at; docs/decisions/passwords.md has the figures
# Each sign that may be a letter in disguise multiplies its work, and these rarely are.
_RARE_DISGUISES = str.maketrans("([{<|", "~~~~~")


def withstands(password: str, known: Iterable[str]) -> float:
    """The power of ten of the guesses that it takes. `known` is what an attacker knows of the account and the site."""
    from zxcvbn_rs_py import zxcvbn  # noqa: PLC0415 - 9 MB, for processes that set passwords

    if is_common(password):
        return 0
    texts = [text.lower().encode(errors="ignore").decode() for text in known]
    words = [word[:LENGTH] for text in texts for word in (text, *re.split(r"[\W_]+", text)) if word]
    return zxcvbn(password[:LENGTH].translate(_RARE_DISGUISES), words).guesses_log10


# --- Common ones that follow no pattern ---------------------------------------------------------------------

_TABLE = Path(__file__).with_name("common_passwords.bin")
_BYTES = 4  # of each hash: one of 100,000 other passwords is taken for one of the table


def is_common(password: str) -> bool:
    wanted, table = _hash(password), _table()
    place = bisect_left(range(0, len(table), _BYTES), wanted, key=lambda at: table[at : at + _BYTES]) * _BYTES
    return table[place : place + _BYTES] == wanted


def _hash(password: str) -> bytes:
    return sha256(password.lower().encode()).digest()[:_BYTES]


@lru_cache(maxsize=1)
def _table() -> bytes:
    return _TABLE.read_bytes()
