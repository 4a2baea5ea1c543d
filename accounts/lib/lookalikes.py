"""Writing systems, and names that look alike (UTS 39)."""

import re
import unicodedata
from functools import lru_cache

from confusable_homoglyphs import categories

# Writing systems that mix by nature (UTS 39, highly restrictive).
_TOGETHER = (
    {"LATIN", "HAN", "HIRAGANA", "KATAKANA"},
    {"LATIN", "HAN", "HANGUL"},
    {"LATIN", "HAN", "BOPOMOFO"},
)


def scripts(text: str) -> set[str]:
    return {categories.alias(character) for character in text} - {"COMMON", "INHERITED"}


def may_mix(found: set[str]) -> bool:
    return len(found) <= 1 or any(found <= together for together in _TOGETHER)


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
    # Imported by the first name that needs it: its table takes 6 MB of each process.
    from confusable_homoglyphs import confusables  # noqa: PLC0415

    found = confusables.is_confusable(character, greedy=True, preferred_aliases=[])
    alike = {str(entry["c"]).casefold() for entry in (found[0]["homoglyphs"] if found else ())}
    plain = sorted(other for other in alike if other.isascii() and other.isalnum())
    if plain:
        return "".join(_BY_HAND.get(letter, letter) for letter in plain[0])
    # Neither looks like a Latin letter, as with Greek phi and Cyrillic ef: the first represents both.
    return min({character, *(other for other in alike if len(other) == 1 and other.isalpha())})


# In lower case these are one in many typefaces; dots and strokes between letters are easily overlooked.
_BY_HAND = {"0": "o", "1": "l", "\N{LATIN SMALL LETTER DOTLESS I}": "i", ".": "_", "-": "_"}
