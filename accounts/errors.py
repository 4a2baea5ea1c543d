"""What can be wrong, each with a code that never changes and a sentence. No HTTP here: the statuses are in
accounts/http.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from django.conf import settings
from django.utils.functional import Promise
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

Words = str | Promise


# What can be wrong with a field: each code, which never changes, with its sentence.
FIELD_ERRORS: dict[str, Words] = {
    "required": _("This field is required."),
    "username_length": _("Use 3 to 30 characters for your username."),
    "username_characters": _("Use only letters, digits, dots, hyphens and underscores in your username."),
    "username_ends": _("Start and end your username with a letter or a digit."),
    "username_script": _("Use letters from only one alphabet in your username."),
    "username_reserved": _("That username is reserved. Choose another one."),
    "email_invalid": _("Enter an email address, such as name@example.com."),
    "email_refused": _("We can't take an address from this email provider. Use another one."),
    "email_unchanged": _("That's already your confirmed address."),
    "name_too_long": _("Use 80 characters or fewer."),
    "name_characters": _("Names can't contain angle brackets or control characters."),
    "passkey_name_too_long": _("Use %(n)d characters or fewer."),
    "gender_invalid": _("Choose female, male or unspecified."),
    "language_unknown": _("That language isn't available here."),
    "time_zone_unknown": _("That time zone isn't available here."),
    "password_too_short": _("Use at least %(n)d characters."),
    "password_too_long": _("Use %(n)d characters or fewer."),
    "password_too_similar": _("Too similar to your name, username or email address."),
    "password_too_common": _("Easy to guess. Add another word."),
    "password_breached": _("That password has appeared in data stolen from other sites."),
    # Which code is wrong, where it isn't one that was emailed: InvalidCode.
    "totp_code_wrong": _(
        "That code is wrong or was already used. Enter the next one that your authenticator app shows."
    ),
    "recovery_code_wrong": _("That recovery code is wrong or was already used. Enter another one."),
    # What only a program gets wrong.
    "unknown_field": _("This field doesn't exist."),
    "duplicate_field": _("This field was sent twice."),
    "not_a_string": _("This must be a string."),
    "too_short": _("This is too short: at least %(n)d."),
    "too_long": _("This is too long: at most %(n)d."),
    "invalid_characters": _("This contains characters that can't be saved."),
    "not_a_uuid": _("This must be a UUID."),
    "not_a_number": _("This must be a whole number."),
    "out_of_range": _("Use a number from %(n)d to %(most)d."),
    "unknown_choice": _("Choose one of the available options."),
    "invalid": _("This isn't valid."),
}


@dataclass(frozen=True)
class FieldError:
    """`field` is the name that both faces use; `code` is stable; `n` is the number in its sentence, or the first of
    two."""

    field: str
    code: str
    n: int | None = None
    most: int | None = None

    @property
    def reason(self) -> str:
        """For the log. The name of a field that does not exist was typed by somebody."""
        return f"{'?' if self.code in {'unknown_field', 'duplicate_field'} else self.field}:{self.code}"

    @property
    def message(self) -> Words:
        words = FIELD_ERRORS[self.code]
        return words if self.n is None else str(words) % {"n": self.n, "most": self.most}


class AccountError(Exception):
    """A refusal. `code` and `message` are for the caller; `reason` is for the log alone, because it may say what the
    caller must not learn (that nobody has this name, for instance)."""

    code: str
    message: Words
    field: str | None = None  # the one that is wrong, in the words of both faces

    def __init__(self, reason: str = "", *, field: str | None = None) -> None:
        super().__init__(self.code)
        self.reason = reason
        self.field = field or self.field
        self.field_code = self.code


class InvalidInput(AccountError):
    """One or more fields are wrong; all of them are named at once, unless a program made thousands up."""

    code = "invalid_input"
    message = _("Please check the highlighted fields.")
    MOST = 50
    MOST_IN_LOG = 20

    def __init__(self, errors: Sequence[FieldError], reason: str = "") -> None:
        super().__init__(reason or ",".join(error.reason for error in errors[: self.MOST_IN_LOG]))
        self.errors = tuple(errors[: self.MOST])


class UsernameTaken(AccountError):
    code = "username_taken"
    message = _("That username is taken, or too similar to one that is. Choose another one.")
    field = "username"


class SignUpClosed(AccountError):
    code = "signup_closed"
    message = _("Sign-up is closed.")


class InvalidCredentials(AccountError):
    code = "invalid_credentials"
    message = _(
        "The username or email and password don't match. After several wrong tries, sign-in pauses for "
        "15 minutes. You can choose a new password at any time."
    )


class MfaRequired(AccountError):
    """The first factor was right. `ticket` proves that until the second one follows."""

    code = "mfa_required"
    message = _("Enter the code from your authenticator app to finish signing in. If you can't, update this app first.")

    def __init__(self, ticket: str) -> None:
        super().__init__("second step")
        self.ticket = ticket


class InvalidTicket(AccountError):
    code = "invalid_ticket"
    message = _("That took too long, or was already done. Start again.")


class SetupExpired(AccountError):
    """The ticket of somebody who is signed in and stays so."""

    code = "setup_expired"
    message = _("That took too long, or was already done. Start the set-up again.")


class InvalidPasskey(AccountError):
    code = "invalid_passkey"
    message = _("That passkey wasn't accepted. It may have been removed from the account, so sign in another way.")


class InvalidIdToken(AccountError):
    code = "invalid_id_token"
    message = _("That sign-in wasn't accepted. Try it again from the start.")


class ProviderUnknown(AccountError):
    code = "provider_unknown"
    message = _("You can't sign in that way here. Choose another one.")


class ProviderUnavailable(AccountError):
    code = "provider_unavailable"
    message = _("We can't reach that service right now. Sign in another way, or try again in a minute.")
    retry_after = 30


class PasskeyNotFound(AccountError):
    code = "passkey_not_found"
    message = _("We couldn't find that passkey.")


class TooManyPasskeys(AccountError):
    code = "too_many_passkeys"
    message = _("You've reached the limit for passkeys. Remove one first.")


class MfaIsOn(AccountError):
    code = "two_step_is_on"
    message = _("Two-step verification is already on. To set it up again, turn it off first.")


class MfaIsOff(AccountError):
    code = "two_step_is_off"
    message = _("Two-step verification is off.")


class IdentityUnknown(AccountError):
    """Nobody has come by this identity yet. `ticket` proves it until an account is made for it or connected to it;
    `suggestion` is what the provider says of the person, for the form."""

    code = "identity_unknown"
    message = _("You're new here. Create an account, or sign in to yours and connect it.")

    def __init__(self, ticket: str, suggestion: dict[str, str]) -> None:
        super().__init__("no account")
        self.ticket, self.suggestion = ticket, suggestion


class IdentityTaken(AccountError):
    code = "identity_taken"
    message = _("That sign-in belongs to another account. Sign in to that account another way, and manage it there.")


class IdentityNotFound(AccountError):
    code = "identity_not_found"
    message = _("We couldn't find that sign-in provider.")


class TooManyIdentities(AccountError):
    code = "too_many_identities"
    message = _("You've reached the limit for connected sign-ins. Disconnect one first.")


class LastWayIn(AccountError):
    code = "last_way_in"
    message = _("This is the only way into your account. Set a password or confirm your email address first.")


class WrongPassword(AccountError):
    code = "wrong_password"
    message = _("That's not your current password. After several wrong tries, you'll have to wait 15 minutes.")
    field = "password"


class RecentSignInNeeded(AccountError):
    code = "recent_sign_in_needed"
    message = _("Enter your password. If you don't have one, sign in again and come back within 10 minutes.")
    field = "password"


class LastSuperuser(AccountError):
    code = "last_superuser"
    message = _("This is the only account with full rights. Give another account full rights first.")


class NotAllowed(AccountError):
    code = "not_allowed"
    message = _("You don't have permission to do that to this account.")


class OwnAccount(AccountError):
    code = "own_account"
    message = _("You can't do that to your own account, because it would lock you out.")


class EmailNotVerified(AccountError):
    code = "email_not_verified"
    message = _("Confirm your email address first. Enter the code we emailed you.")


class AccountDisabled(AccountError):
    code = "account_disabled"
    message = _("This account is switched off. Contact support.")


class InvalidCode(AccountError):
    code = "invalid_code"
    message: Words = _(
        "That code is wrong, has expired or was already used. Check the latest email, or request a new one."
    )
    field = "code"

    def __init__(self, reason: str = "", *, kind: str = "") -> None:
        """`kind`, a code of FIELD_ERRORS, has its own words: no email has the codes of an app."""
        super().__init__(reason)
        if kind:
            self.field_code, self.message = kind, FIELD_ERRORS[kind]


class InvalidKey(AccountError):
    code = "invalid_key"
    # No more, because links that undo something can't be requested again.
    message = _("That link has expired or was already used.")
    field = "key"


class EmailInUse(AccountError):
    code = "email_in_use"
    message = _(
        "Another account has confirmed this address since then. Sign in to that account, change its address, and "
        "then use this link again."
    )


class CodeSignInClosed(AccountError):
    code = "code_sign_in_closed"
    message = _("Sign-in codes by email are switched off here. Use your password.")


class InvalidToken(AccountError):
    code = "invalid_token"
    message = _("The access token is missing or isn't valid.")


class TokenExpired(AccountError):
    code = "token_expired"
    message = _("The access token has expired.")


class SessionRevoked(AccountError):
    code = "session_revoked"
    message = _("This device was signed out. Sign in again.")


class RefreshExpired(AccountError):
    code = "refresh_expired"
    message = _("This device wasn't used for too long. Sign in again.")


class RefreshReused(AccountError):
    code = "refresh_reused"
    message = _("An old token was used again, so we signed this device out to keep your account safe. Sign in again.")


class SessionNotFound(AccountError):
    code = "session_not_found"
    message = _("We couldn't find that device.")


class ProfileChanged(AccountError):
    code = "profile_changed"
    message = _("The profile was changed in the meantime. Reload it, then save your change again.")


class DirectoryClosed(AccountError):
    code = "forbidden"
    message = _("Only staff may see other people.")


class UserNotFound(AccountError):
    code = "user_not_found"
    message = _("We couldn't find that person.")


class IdempotencyKeyReused(AccountError):
    code = "idempotency_key_reused"
    message = _("That Idempotency-Key was already used for another request. Use a new one.")


class RequestInProgress(AccountError):
    code = "request_in_progress"
    message = _("The same request is still being answered. Try again in a moment.")
    retry_after = 2


class SearchTooBroad(AccountError):
    code = "search_too_broad"
    message = _("That matches too many users. Enter more letters, or remove a filter.")


class InvalidCursor(AccountError):
    code = "invalid_cursor"
    message = _("That cursor isn't valid. Start from the first page.")
    field = "cursor"


class InvalidPicture(AccountError):
    code = "invalid_picture"
    message = _("We can't use that file. Choose a JPEG, PNG, WebP, HEIC or AVIF picture.")
    field = "picture"


class PictureIncomplete(AccountError):
    code = "picture_incomplete"
    message = _("That picture didn't arrive whole. Send it again.")
    field = "picture"


class PictureTooLarge(AccountError):
    """`pixels` are those that fit, of pictures like this one."""

    code = "picture_too_large"
    message = _("That picture is too large.")
    field = "picture"

    def __init__(self, reason: str = "", *, field: str | None = None, pixels: int | None = None) -> None:
        super().__init__(reason, field=field)
        self.message = format_lazy(
            _("That picture is too large. Choose one of up to {mb} MB and {n} million pixels."),
            mb=settings.PICTURE_MAX_BYTES // 2**20,
            n=(pixels or settings.PICTURE_MAX_PIXELS) // 10**6,
        )


class UploadNotFound(AccountError):
    code = "upload_not_found"
    message = _("That upload no longer exists. Start a new one.")


class UploadMissing(AccountError):
    """In the state of an upload."""

    code = "upload_missing"
    message = _("No file has arrived for this upload. Start a new one.")


class StorageUnavailable(AccountError):
    code = "storage_unavailable"
    message = _("We can't save the picture right now, so your old one stays. Try again in a minute.")
    field = "picture"
    retry_after = 30


class RateLimited(AccountError):
    """`retry_after` in seconds. `limit` is the name of the limit (services/security/rate_limits.py), `instead` what
    still works until then."""

    code = "rate_limited"
    instead: Words = ""

    def __init__(self, retry_after: int, limit: str = "") -> None:
        super().__init__(limit)
        self.limit = limit
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
        return f"{words % {'n': count}} {self.instead}".strip()


class Puzzle(TypedDict):
    """Find the number from 0 to `max` so that the hash of `prefix` and the number, in hexadecimal digits, is `target`.
    The prefix with the number is the proof of work."""

    algorithm: str
    prefix: str
    target: str
    max: int
    expires_in: int


class ChallengeRequired(RateLimited):
    """Try again with a proof of work (services/security/proofs.py), or without one when the limit opens again."""

    code = "challenge_required"

    def __init__(self, retry_after: int, limit: str = "", *, challenge: Puzzle, reason: str = "") -> None:
        super().__init__(retry_after, limit)
        self.reason = reason or limit
        self.challenge = challenge


class UsernameChangeLimited(RateLimited):
    """`until` in words, in the user's time zone."""

    code = "username_change_limited"
    field = "username"

    def __init__(self, retry_after: int, limit: str = "", until: str = "…") -> None:
        super().__init__(retry_after, limit)
        self.until = until

    @property
    def message(self) -> str:  # type: ignore[override]
        return _("You've changed your username too often recently. You can change it again on %(until)s.") % {
            "until": self.until
        }


class Overloaded(AccountError):
    code = "overloaded"
    message = _("We're very busy right now. Try again in a few seconds.")
    retry_after = 3
