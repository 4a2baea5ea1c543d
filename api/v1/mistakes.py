"""What the rules would say to a body of which one field has the wrong shape or is unknown: an answer tells all mistakes
at once. Nothing is changed, and nothing is told that an answer of the rule would not tell."""

from collections.abc import Callable, Iterable
from typing import Any

from django.http import HttpRequest

from accounts.errors import AccountError, FieldError, InvalidInput
from accounts.http import caller
from accounts.models import User
from accounts.services.account import signup
from accounts.services.authentication import passkeys
from accounts.services.credentials import identifiers, password_policy
from accounts.services.profile import picture_uploads, profiles
from accounts.services.security import rate_limits

Given = dict[str, Any]


def _sign_up(given: Given, request: HttpRequest) -> Iterable[FieldError]:
    return signup.problems(given, caller=caller(request))


def _profile(given: Given, request: HttpRequest) -> Iterable[FieldError]:
    return profiles.problems(_user(request), given)


def _new_password(given: Given, request: HttpRequest) -> Iterable[FieldError]:
    user = getattr(request, "user", None)
    rate_limits.count_address("password_hint_per_ip" if user else "code_per_ip", caller=caller(request))
    known = password_policy.about(user) if user else ()
    found = password_policy.problem(given["new_password"], *known, field="new_password")
    return [found] if found else []


def _new_email(given: Given, request: HttpRequest) -> Iterable[FieldError]:
    found = identifiers.new_email_problem(identifiers.fold_email(given["email"]))
    return [found] if found else []


def _passkey_name(given: Given, request: HttpRequest) -> Iterable[FieldError]:
    passkeys.clean_name(given["name"])
    return ()


def _upload(given: Given, request: HttpRequest) -> Iterable[FieldError]:
    return picture_uploads.problems(given)


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


# By the name of the body's shape: the fields, of which one must be there, and what asks the rule.
_RULES: dict[str, tuple[set[str], Callable[[Given, HttpRequest], Iterable[FieldError]]]] = {
    "SignUpIn": ({"username", "email", "password", "first_name", "last_name"}, _sign_up),
    "ProviderSignUpIn": ({"username", "email", "first_name", "last_name"}, _sign_up),
    "ProfileIn": ({"username", "first_name", "last_name", "language", "time_zone"}, _profile),
    "ChangePasswordIn": ({"new_password"}, _new_password),
    "ResetPasswordIn": ({"new_password"}, _new_password),
    "ChangeEmailIn": ({"email"}, _new_email),
    "AddPasskeyIn": ({"name"}, _passkey_name),
    "RenamePasskeyIn": ({"name"}, _passkey_name),
    "PictureUploadIn": ({"content_type", "size"}, _upload),
}


def also_wrong(shape: str, given: Given, request: HttpRequest) -> list[FieldError]:
    """What else is wrong with the fields whose shape is right; nothing, where the rule would refuse to say."""
    fields, ask = _RULES.get(shape, (set(), None))
    given = {name: value for name, value in given.items() if name in fields}
    if ask is None or not given:
        return []
    try:
        return list(ask(given, request))
    except InvalidInput as refused:
        return list(refused.errors)
    except AccountError:
        return []
