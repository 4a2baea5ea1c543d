"""The message files: complete, fresh, and with everything in them that the English has."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po
from django.conf import settings

LOCALE = Path(settings.BASE_DIR) / "locale"
LANGUAGES = sorted(path.name for path in LOCALE.iterdir())
# Arabic says "two days" in one word.
SAYS_THE_NUMBER_ITSELF = {("ar", 0), ("ar", 1), ("ar", 2)}
# "Hi Ada," ends as the language ends a greeting.
ENDINGS = {".": ".", ":": ":", "?": "?؟", ",": ",:،"}


def catalog(language: str) -> Catalog:
    with (LOCALE / language / "LC_MESSAGES" / "django.po").open("rb") as file:
        return read_po(file, locale=language)


def entries(language: str) -> list[Message]:
    return [message for message in catalog(language) if message.id]


def texts(value: str | list[str] | tuple[str, ...] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def placeholders(text: str) -> Counter[str]:
    return Counter(re.findall(r"%\(\w+\)[sd]|\{\w+\}", text))


def tags(text: str) -> Counter[str]:
    return Counter(tag for tag in re.findall(r"<[^>]*>", text) if tag not in {"<bdi>", "</bdi>"})


def test_each_language_has_its_file() -> None:
    assert {code for code, _name in settings.LANGUAGES} == {"en", *LANGUAGES}


def test_the_files_have_what_the_code_says_and_nothing_else(tmp_path: Path) -> None:
    """Strings in .po, and .mo compiled from it."""
    made = shutil.copytree(LOCALE, tmp_path / "locale")
    subprocess.run(["make", "messages", f"LOCALE={made}"], cwd=settings.BASE_DIR, check=False, capture_output=True)
    for path in sorted(made.rglob("django.*")):
        assert path.read_bytes() == (LOCALE / path.relative_to(made)).read_bytes(), f"{path.name}: run `make messages`"


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_untranslated_or_only_guessed(language: str) -> None:
    plurals = catalog(language).num_plurals
    assert [
        message.id
        for message in entries(language)
        if message.fuzzy
        or not all(texts(message.string))
        or len(texts(message.string)) != (plurals if message.pluralizable else 1)
    ] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_has_the_values_the_tags_and_the_ending_of_the_english(language: str) -> None:
    for message in entries(language):
        english = texts(message.id)[-1]
        for number, text in enumerate(texts(message.string)):
            if message.pluralizable and (language, number) in SAYS_THE_NUMBER_ITSELF:
                assert placeholders(text) <= placeholders(english), text
            elif message.pluralizable and number == 0:  # "a minute" may stand without its number
                assert placeholders(text) in [placeholders(english) for english in texts(message.id)], text
            else:
                assert placeholders(text) == placeholders(english), text
            assert tags(text) == tags(english), text
            assert text.count("<bdi>") == text.count("</bdi>")
            assert text == text.strip()
            if english[-1] in ENDINGS:
                assert text[-1] in ENDINGS[english[-1]], text
            else:
                assert text[-1] not in ".:", text


def test_strings_of_modules_and_templates_are_found() -> None:
    found = {(texts(message.id)[0], message.context): message for message in entries("de")}
    assert ("This field is required.", None) in found
    assert ("Sign in", None) in found
    assert ('<span class="brand-name">%(site_name)s</span> account', "in the header of every page") in found
    assert found["%(n)s device signed in", None].pluralizable
