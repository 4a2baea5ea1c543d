"""What can be wrong, each with a code that is stable for ever and a sentence. No HTTP here: the status of each
case stands in api/errors.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

Words = str | Promise


# What can be wrong with a field: each code, stable for ever, with its sentence.
FIELD_ERRORS: dict[str, Words] = {
    "required": _("This field is required."),
    "username_length": _("A username has 3 to 30 characters."),
    "username_characters": _("A username is made of letters, digits, dots, hyphens and underscores."),
    "username_ends": _("A username begins and ends with a letter or a digit."),
    "username_script": _("A username uses one alphabet only."),
    "username_reserved": _("That username is kept for the service itself. Choose another."),
    "email_invalid": _("Enter an email address, such as name@example.com."),
    "email_unchanged": _("That is already your confirmed address."),
    "name_too_long": _("Use at most 80 characters."),
    "name_characters": _("A name has no angle brackets or control characters."),
    "passkey_name_too_long": _("Use at most %(n)d characters."),
    "gender_invalid": _("Choose female, male or unspecified."),
    "language_unknown": _("This service does not speak that language."),
    "time_zone_unknown": _("This service does not know that time zone."),
    "password_too_short": _("Use at least %(n)d characters."),
    "password_too_long": _("Use at most %(n)d characters."),
    "password_too_similar": _("That is too much like your username or address."),
    "password_too_common": _("That password is on the lists that attackers try first."),
    "password_breached": _("That password was found in data stolen from other sites."),
    # What only a program gets wrong.
    "unknown_field": _("There is no such field."),
    "not_a_string": _("This must be a string."),
    "too_short": _("This is too short."),
    "too_long": _("This is too long."),
    "invalid_characters": _("This has characters that can't be stored."),
    "not_a_uuid": _("This must be a UUID."),
    "not_a_number": _("This must be a whole number."),
    "out_of_range": _("This number is too small or too large."),
    "unknown_choice": _("This is not one of the choices."),
    "invalid": _("This is not valid."),
}


@dataclass(frozen=True)
class FieldError:
    """`field` is the name that both faces use; `code` is stable; `n` is the number in its sentence."""

    field: str
    code: str
    n: int | None = None

    @property
    def message(self) -> Words:
        words = FIELD_ERRORS[self.code]
        return words if self.n is None else str(words) % {"n": self.n}


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


class MfaRequired(AccountError):
    """Who signs in has proved the first factor: `ticket` stands for that until the second one follows."""

    code = "mfa_required"
    message = _("Type the code of your authenticator app to finish signing in. An old app has to be updated first.")

    def __init__(self, ticket: str) -> None:
        super().__init__("second step")
        self.ticket = ticket


class InvalidTicket(AccountError):
    code = "invalid_ticket"
    message = _("That took too long, or was done already. Start again.")


class InvalidPasskey(AccountError):
    code = "invalid_passkey"
    message = _("That passkey was not accepted. It may have been removed from the account: sign in another way.")


class PasskeyNotFound(AccountError):
    code = "passkey_not_found"
    message = _("There is no such passkey.")


class TooManyPasskeys(AccountError):
    code = "too_many_passkeys"
    message = _("This account has as many passkeys as it can have. Remove one first.")


class MfaIsOn(AccountError):
    code = "two_step_is_on"
    message = _("Two-step verification is on already. Turn it off first to set it up anew.")


class MfaIsOff(AccountError):
    code = "two_step_is_off"
    message = _("Two-step verification is off.")


class LastWayIn(AccountError):
    code = "last_way_in"
    message = _("This is the only way into your account. Set a password or confirm your email address first.")


class WrongPassword(AccountError):
    code = "wrong_password"
    message = _("That is not your current password. After several wrong tries this pauses for 15 minutes.")
    field = "password"


class RecentSignInNeeded(AccountError):
    code = "recent_sign_in_needed"
    message = _("Enter your password. Without one, sign in again and come back within 10 minutes.")
    field = "password"


class LastSuperuser(AccountError):
    code = "last_superuser"
    message = _("Nobody else has every right on this service. Give another account these rights first.")


class NotAllowed(AccountError):
    code = "not_allowed"
    message = _("You may not do that to this account.")


class OwnAccount(AccountError):
    code = "own_account"
    message = _("You can't do that to your own account: it would lock you out.")


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


class EmailInUse(AccountError):
    code = "email_in_use"
    message = _(
        "Another account has confirmed this address since. Sign in to that one, give it another address, and use the "
        "link again."
    )


class CodeSignInClosed(AccountError):
    code = "code_sign_in_closed"
    message = _("Signing in by a mailed code is switched off here. Use your password.")


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


class SearchTooBroad(AccountError):
    code = "search_too_broad"
    message = _("That finds too many to be looked through. Type more letters, or leave a filter out.")


class InvalidCursor(AccountError):
    code = "invalid_cursor"
    message = _("That cursor was not given out by this service.")


class InvalidPicture(AccountError):
    code = "invalid_picture"
    message = _("That file is not a picture that can be used: send JPEG, PNG, WebP, HEIC or AVIF.")
    field = "picture"


class PictureTooLarge(AccountError):
    code = "picture_too_large"
    message = _("That picture is too large.")
    field = "picture"


class UploadNotFound(AccountError):
    code = "upload_not_found"
    message = _("There is no such upload any more. Begin a new one.")


class UploadMissing(AccountError):
    """Told in the state of an upload."""

    code = "upload_missing"
    message = _("No file has arrived for this upload. Begin a new one.")


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


class UsernameChangeLimited(RateLimited):
    """`until` in words, of the day and the zone of whoever asks."""

    code = "username_change_limited"
    field = "username"

    def __init__(self, retry_after: int, reason: str = "", until: str = "…") -> None:
        super().__init__(retry_after, reason)
        self.until = until

    @property
    def message(self) -> str:  # type: ignore[override]
        return _("You have changed your username often of late. You can change it again on %(until)s.") % {
            "until": self.until
        }


class Overloaded(AccountError):
    code = "overloaded"
    message = _("Too much is going on just now. Try again in a few seconds.")
    retry_after = 3
