"""What a new password must be."""

import re
from collections.abc import Sequence

from django.conf import settings

from accounts.errors import FieldError, InvalidInput
from accounts.lib import breached_passwords, guessing
from accounts.models import User
from accounts.services.credentials import hashing

# Powers of ten of guesses. A word with a year and signs withstands fewer than ENOUGH; two random words with a blank
# withstand more. What is all letters has nothing of that kind: there ENOUGH_OF_LETTERS already takes three words.
ENOUGH, ENOUGH_OF_LETTERS, STRONG = 8.5, 8.0, 11.0


def problem(password: str, *known: str, field: str = "password") -> FieldError | None:
    """What is wrong with a new password, if anything. Length and being known or guessable; no composition rules.
    `known` is what others know of its owner. Not in a transaction: the last look may wait for another server."""
    password = hashing.normalise(password)
    if len(password) < settings.PASSWORD_MIN_LENGTH:
        return FieldError(field, "password_too_short", settings.PASSWORD_MIN_LENGTH)
    if len(password) > settings.PASSWORD_MAX_LENGTH:
        return FieldError(field, "password_too_long", settings.PASSWORD_MAX_LENGTH)
    if _is_guessed(password, *known):
        return FieldError(field, "password_too_common" if _is_guessed(password) else "password_too_similar")
    if breached_passwords.is_breached(password):
        return FieldError(field, "password_breached")
    return None


def is_strong(password: str, *known: str) -> bool:
    """Whether it is better than it must be."""
    password = hashing.normalise(password)
    return all(_withstands(form, *known) >= STRONG for form in _forms(password, known))


def about(user: User) -> tuple[str, ...]:
    """What others know of them."""
    return user.username, user.email, user.first_name, user.last_name


def hashed(password: str, user: User) -> str:
    """The hash of this user's new password. Raises InvalidInput, Overloaded. Call it outside a transaction."""
    if found := problem(password, *about(user), field="new_password"):
        raise InvalidInput([found])
    return hashing.hashed(password)


def _is_guessed(password: str, *known: str) -> bool:
    return any(
        _withstands(form, *known) < (ENOUGH_OF_LETTERS if form.isalpha() else ENOUGH)
        for form in _forms(password, known)
    )


_SEPARATES = re.compile(r"[\W_]+")
_SPELLED = 4  # letters: longer pieces are words of their own


def _forms(password: str, known: Sequence[str]) -> set[str]:
    """As typed; and without what separates, where that stands between single letters or beside what is known:
    "p a s s w o r d" and "anna-schmidt-1990" are no better for it."""
    pieces, names = _SEPARATES.split(password.lower()), _SEPARATES.split(" ".join(known).lower())
    if all(len(piece) <= _SPELLED for piece in pieces) or not set(pieces).isdisjoint(set(names) - {""}):
        return {password, _SEPARATES.sub("", password) or password}
    return {password}


def _withstands(password: str, *known: str) -> float:
    return guessing.withstands(password, (settings.SITE_NAME, *known))
