"""What a new password must be."""

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from accounts.errors import FieldError, InvalidInput
from accounts.lib import breached_passwords
from accounts.models import User
from accounts.services.credentials import hashing


def problem(password: str, *, field: str = "password", username: str = "", email: str = "") -> FieldError | None:
    """What is wrong with a new password, if anything. Length and being known or guessable; no composition rules.
    Not in a transaction: the last look may wait for another server."""
    password = hashing.normalise(password)
    if len(password) < settings.PASSWORD_MIN_LENGTH:
        return FieldError(field, "password_too_short", settings.PASSWORD_MIN_LENGTH)
    if len(password) > settings.PASSWORD_MAX_LENGTH:
        return FieldError(field, "password_too_long", settings.PASSWORD_MAX_LENGTH)
    try:
        validate_password(password, User(username=username, email=email))
    except ValidationError as error:
        similar = error.error_list[0].code == "password_too_similar"
        return FieldError(field, "password_too_similar" if similar else "password_too_common")
    if breached_passwords.is_breached(password):
        return FieldError(field, "password_breached")
    return None


def hashed(password: str, user: User) -> str:
    """The hash of this user's new password. Raises InvalidInput, Overloaded. Call it outside a transaction."""
    found = problem(password, field="new_password", username=user.username, email=user.email)
    if found:
        raise InvalidInput([found])
    return hashing.hashed(password)
