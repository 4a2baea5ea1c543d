"""What can be wrong, each with a code that is stable for ever and a sentence. No HTTP here: the status of each
case stands in api/errors.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

Words = str | Promise


@dataclass(frozen=True)
class FieldError:
    """`field` is the name that both faces use; `code` is stable."""

    field: str
    code: str
    message: Words


class AccountError(Exception):
    """A refusal. `code` and `message` are for the caller; `reason` is for the log alone, because it may say
    what the caller must not learn (that nobody has this name, for instance)."""

    code: str
    message: Words
    field: str | None = None  # the form field beside which a page shows it

    def __init__(self, reason: str = "", **details: Any) -> None:
        super().__init__(self.code)
        self.reason = reason
        self.details = details


class InvalidInput(AccountError):
    """One or more fields are wrong; all of them are named at once."""

    code = "invalid_input"
    message = _("Some of what you entered is not right.")

    def __init__(self, errors: Sequence[FieldError], reason: str = "") -> None:
        super().__init__(reason or ",".join(f"{error.field}:{error.code}" for error in errors))
        self.errors = tuple(errors)


class UsernameTaken(AccountError):
    code = "username_taken"
    message = _("That username is taken, or looks too much like one that is. Choose another.")
    field = "username"


class SignUpClosed(AccountError):
    code = "signup_closed"
    message = _("New accounts can't be made at present.")


class InvalidCredentials(AccountError):
    code = "invalid_credentials"
    message = _(
        "That username or email and password don't match. After several wrong tries sign-in pauses for "
        "15 minutes; you can choose a new password at any time."
    )


class WrongPassword(AccountError):
    code = "wrong_password"
    message = _("That is not your current password. After several wrong tries this pauses for 15 minutes.")
    field = "password"


class EmailNotVerified(AccountError):
    code = "email_not_verified"
    message = _("Confirm your email address first: type the code from the mail we sent you.")


class AccountDisabled(AccountError):
    code = "account_disabled"
    message = _("This account is switched off. Write to the people who run this service.")


class InvalidCode(AccountError):
    code = "invalid_code"
    message = _("That code is wrong, too old or already used. Check the newest mail, or ask for a new one.")
    field = "code"


class InvalidKey(AccountError):
    code = "invalid_key"
    message = _("That link is too old or was already used. Ask for a new one.")


class InvalidToken(AccountError):
    code = "invalid_token"
    message = _("The access token is missing or not valid.")


class TokenExpired(AccountError):
    code = "token_expired"
    message = _("The access token has run out.")


class SessionRevoked(AccountError):
    code = "session_revoked"
    message = _("This device was signed out. Sign in again.")


class RefreshExpired(AccountError):
    code = "refresh_expired"
    message = _("This device was not used for too long. Sign in again.")


class RefreshReused(AccountError):
    code = "refresh_reused"
    message = _("An old token was used again, so this device was signed out for safety. Sign in again.")


class SessionNotFound(AccountError):
    code = "session_not_found"
    message = _("There is no such device.")


class ProfileChanged(AccountError):
    code = "profile_changed"
    message = _("The profile was changed in the meantime. Read it again, then save your change.")


class DirectoryClosed(AccountError):
    code = "forbidden"
    message = _("Only staff may list all users.")


class InvalidCursor(AccountError):
    code = "invalid_cursor"
    message = _("That cursor was not given out by this service.")


class InvalidPicture(AccountError):
    code = "invalid_picture"
    message = _("That file is not a picture that can be used: send JPEG, PNG or WebP.")
    field = "picture"


class PictureTooLarge(AccountError):
    code = "picture_too_large"
    message = _("That picture is too large.")
    field = "picture"


class StorageUnavailable(AccountError):
    code = "storage_unavailable"
    message = _("The picture can't be saved just now; your old one stays. Try again in a minute.")
    field = "picture"
    retry_after = 30


class RateLimited(AccountError):
    """`retry_after` in seconds."""

    code = "rate_limited"

    def __init__(self, retry_after: int, reason: str = "") -> None:
        super().__init__(reason)
        self.retry_after = max(1, retry_after)

    @property
    def message(self) -> str:  # type: ignore[override]
        if self.retry_after < 90:
            count = self.retry_after
            words = ngettext(
                "Too many tries. Try again in %(n)d second.", "Too many tries. Try again in %(n)d seconds.", count
            )
        else:
            count = -(-self.retry_after // 60)
            words = ngettext(
                "Too many tries. Try again in %(n)d minute.", "Too many tries. Try again in %(n)d minutes.", count
            )
        return words % {"n": count}


class Overloaded(AccountError):
    code = "overloaded"
    message = _("Too much is going on just now. Try again in a few seconds.")
    retry_after = 3
