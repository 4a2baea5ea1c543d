"""The message files: what our code and templates say, in every language of LANGUAGES but English.

    python -m project.messages        bring locale/*/LC_MESSAGES/django.{po,mo} up to date, and tell what is missing

The .mo files are kept in git, so that nobody needs gettext, neither here nor in the image. tests/test_languages.py
holds that they are what the .po files say, and those what the code says."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

BASE = Path(__file__).resolve().parent.parent
LOCALE = BASE / "locale"
CODE = ("accounts", "api")
PLURALS = {
    "de": (2, "(n != 1)"),
    "fr": (2, "(n > 1)"),
    "es": (2, "(n != 1)"),
    "ar": (
        6,
        "n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : n%100>=11 && n%100<=99 ? 4 : 5",
    ),
}
KEYWORDS: dict[str, tuple[int | tuple[int, str], ...] | None] = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}


class Messages(Catalog):
    """One language. Its header has no dates, names or versions, so that writing it again changes nothing."""

    @property
    def num_plurals(self) -> int:
        return PLURALS[str(self.locale)][0]

    @property
    def mime_headers(self) -> list[tuple[str, str]]:
        count, rule = PLURALS[str(self.locale)]
        return [
            ("Language", str(self.locale)),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=UTF-8"),
            ("Content-Transfer-Encoding", "8bit"),
            ("Plural-Forms", f"nplurals={count}; plural={rule};"),
        ]


# --- What our code and templates say ------------------------------------------------------------------------


def said() -> Catalog:
    """Every string that is marked for translation, with the files that have it."""
    found = Catalog()
    for path, source in _sources():
        file = io.BytesIO(source.encode())
        for _line, message, _comments, context in extract("python", file, KEYWORDS, options={"encoding": "utf-8"}):
            found.add(message, locations=[(path, 0)], context=context)
    return found


def _sources() -> Iterator[tuple[str, str]]:
    for folder in CODE:
        for path in sorted((BASE / folder).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path.relative_to(BASE).as_posix(), path.read_text()
    for path in sorted((BASE / "templates").rglob("*.*")):
        # Django makes Python of a template for xgettext; its indentation means nothing.
        lines = templatize(path.read_text(), origin=str(path)).splitlines()
        yield path.relative_to(BASE).as_posix(), "\n".join(line.lstrip() for line in lines)


# --- The files ----------------------------------------------------------------------------------------------


def file_of(language: str, ending: str = "po") -> Path:
    return LOCALE / language / "LC_MESSAGES" / f"django.{ending}"


def stored(language: str) -> Messages:
    """What the .po file says."""
    found = Messages(locale=language, fuzzy=False)
    path = file_of(language)
    if path.exists():
        with path.open("rb") as file:
            read = read_po(file, locale=language)
        found.header_comment = read.header_comment
        for message in _entries(read):
            found.add(message.id, message.string, context=message.context, flags=message.flags)
    return found


def due(language: str) -> Messages:
    """What the .po file should say: exactly what the code says, with the translations that the file has."""
    known = stored(language)
    found = Messages(locale=language, fuzzy=False)
    found.header_comment = known.header_comment
    for message in _entries(said()):
        old = known.get(message.id, message.context)
        found.add(
            message.id, old.string if old else None, locations=message.locations, context=message.context,
            flags=old.flags if old else (),
        )  # fmt: skip
    return found


def _entries(catalog: Catalog) -> Iterator[Message]:
    return (message for message in catalog if message.id)


def as_po(messages: Messages) -> bytes:
    file = io.BytesIO()
    write_po(file, messages, width=116, sort_by_file=True, include_lineno=False, ignore_obsolete=True)
    return file.getvalue()


def as_mo(messages: Messages) -> bytes:
    file: BinaryIO = io.BytesIO()
    write_mo(file, messages)
    file.seek(0)
    return file.read()


def missing(messages: Messages) -> list[str]:
    """What has no translation, or not one in each plural form."""
    out = []
    for message in _entries(messages):
        strings = message.string if isinstance(message.string, tuple | list) else (message.string,)
        wanted = messages.num_plurals if message.pluralizable else 1
        if message.fuzzy or len([text for text in strings if text]) != wanted:
            out.append(message.id[0] if isinstance(message.id, tuple | list) else message.id)
    return out


def write() -> int:
    """The number of strings that somebody has to translate."""
    gaps = 0
    for language in PLURALS:
        messages = due(language)
        file_of(language).parent.mkdir(parents=True, exist_ok=True)
        file_of(language).write_bytes(as_po(messages))
        file_of(language, "mo").write_bytes(as_mo(stored(language)))
        for text in missing(messages):
            print(f"{file_of(language).relative_to(BASE)}: {text}")
            gaps += 1
    return gaps


if __name__ == "__main__":
    sys.exit(1 if write() else 0)
