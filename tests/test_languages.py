"""The message files: complete, fresh, and with everything in them that the English has."""

import re
from collections import Counter

import pytest
from babel.messages.catalog import Message
from django.conf import settings

from project import messages

LANGUAGES = sorted(messages.PLURALS)
# Arabic says "two days" in one word.
SAYS_THE_NUMBER_ITSELF = {("ar", 0), ("ar", 1), ("ar", 2)}
# "Hi Ada," ends as the language ends a greeting.
ENDINGS = {".": ".", ":": ":", "?": "?؟", ",": ",:،"}


def entries(language: str) -> list[Message]:
    return [message for message in messages.stored(language) if message.id]


def texts(value: str | list[str] | tuple[str, ...] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def placeholders(text: str) -> Counter[str]:
    return Counter(re.findall(r"%\(\w+\)[sd]|\{\w+\}", text))


def tags(text: str) -> Counter[str]:
    return Counter(tag for tag in re.findall(r"<[^>]*>", text) if tag not in {"<bdi>", "</bdi>"})


def test_each_language_has_its_file() -> None:
    assert {code for code, _name in settings.LANGUAGES} == {"en", *LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_message_file_has_what_the_code_says_and_nothing_else(language: str) -> None:
    due = messages.as_po(messages.due(language))
    assert messages.file_of(language).read_bytes() == due, "run `make messages`"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_compiled_file_is_what_the_message_file_says(language: str) -> None:
    due = messages.as_mo(messages.stored(language))
    assert messages.file_of(language, "mo").read_bytes() == due, "run `make messages`"


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_untranslated_or_only_guessed(language: str) -> None:
    assert messages.missing(messages.stored(language)) == []


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
    found = {(texts(message.id)[0], message.context): message for message in messages.said() if message.id}
    assert found["This field is required.", None].locations == [("accounts/errors.py", 0)]
    assert ("templates/account/login.html", 0) in found["Sign in", None].locations
    assert ('<span class="brand-name">%(site_name)s</span> account', "in the header of every page") in found
    assert found["%(n)s device signed in", None].pluralizable
