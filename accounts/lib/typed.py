"""What people type and paste: the blanks, dashes and invisible characters that come with it."""

import unicodedata

# Zero width (non-)joiner: Persian, Sinhala and other scripts write with them, and emoji are put together with them.
_JOINERS = "\u200c\u200d"
# The flags of England, Scotland and Wales are a black flag and invisible letters.
_FLAG, _FLAG_LETTERS = "\U0001f3f4", frozenset(map(chr, range(0xE0020, 0xE0080)))


def trimmed(text: str) -> str:
    """Without blanks at the ends, visible or not: a copied address often brings one."""
    if text.isascii():
        return text.strip()
    start, end = 0, len(text)
    while start < end and _is_blank(text[start]):
        start += 1
    while end > start and _is_blank(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_blank(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) == "Cf"


def code(text: str) -> str:
    """The letters and digits of a code, with ASCII digits: "٤٨٢٩ ١٣٧٥", "4829-1375" and "48291375." are one code. A
    page does the same while it is typed, see account.js."""
    return "".join(
        str(unicodedata.digit(character)) if unicodedata.category(character) == "Nd" else character
        for character in unicodedata.normalize("NFKC", text)
        if unicodedata.category(character) in {"Nd", "Lu", "Ll", "Lo"}
    )


def line(text: str) -> str:
    """A name as it is seen: on one line, without characters that hide or reverse others. Joiners stay between letters,
    marks and emoji, where they are part of a word or of a picture."""
    if text.isascii():
        return " ".join(text.split())
    kept = [" "]
    for character in text:
        in_flag = character in _FLAG_LETTERS and (kept[-1] == _FLAG or kept[-1] in _FLAG_LETTERS)
        if unicodedata.category(character) != "Cf" or character in _JOINERS or in_flag:
            kept.append(character)
    around = zip(kept, kept[1:], [*kept[2:], " "], strict=False)
    joined = (here for before, here, after in around if here not in _JOINERS or (_joins(before) and _joins(after)))
    return " ".join("".join(joined).split())


def _joins(character: str) -> bool:
    """Cn: an emoji that is newer than Python's tables."""
    kind = unicodedata.category(character)
    return kind[0] in "LM" or kind in {"So", "Sm", "Sk", "Cn"}


def is_control(character: str) -> bool:
    """Whether this has no place in a name: a control, private or half character."""
    return unicodedata.category(character) in {"Cc", "Co", "Cs"}
