"""Passwords: the rule for new ones, changing, and resetting by code or link."""

from uuid import UUID

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import FieldError, InvalidCode, InvalidInput, InvalidKey, Overloaded, WrongPassword
from accounts.lib import breached_passwords
from accounts.models import Challenge, Gender, Session, User
from accounts.services import mail
from accounts.services.account import email_addresses
from accounts.services.authentication import email_codes, reauthentication, sign_in, totp
from accounts.services.credentials import challenges, hashing, identifiers
from accounts.services.profile import export, picture_uploads, pictures
from accounts.services.security import audit, rate_limits
from accounts.services.sessions import locks, mfa, sessions

# --- The rule for new ones ----------------------------------------------------------------------------------


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


def require_good(password: str, user: User, *, field: str) -> None:
    found = problem(password, field=field, username=user.username, email=user.email)
    if found:
        raise InvalidInput([found])


# --- Changing -----------------------------------------------------------------------------------------------


def change(*, user: User, current_password: str, new_password: str, keep: UUID | None, caller: Caller) -> None:
    """A signed-in user chooses another; every session but `keep`, that of the device that asks, ends.

    Raises MfaRequired, WrongPassword, InvalidInput, RateLimited."""
    if keep:
        reauthentication.require_mfa(user, Session(id=keep, user=user))
    try:
        confirmed = reauthentication.confirm_password(user=user, password=current_password, caller=caller)
        require_good(new_password, user, field="new_password")
        encoded = hashing.hashed(new_password)
        with transaction.atomic():
            locks.lock(user, confirmed)
            _set(user, encoded, keep=keep, caller=caller, kind=audit.Kind.PASSWORD_CHANGED)
    except WrongPassword as error:
        error.field = "current_password"
        raise


def change_by_operator(*, user: User, new_password: str, caller: Caller) -> None:
    """At a terminal, for somebody whom no mail reaches; every session ends. Raises InvalidInput."""
    require_good(new_password, user, field="new_password")
    _set(user, hashing.hashed(new_password), keep=None, caller=caller, kind=audit.Kind.PASSWORD_CHANGED)


def _set(user: User, encoded: str, *, keep: UUID | None, caller: Caller, kind: audit.Kind) -> None:
    """What follows every new password: the other sessions end, every open code and link is void, the event is
    written and the owner told."""
    with transaction.atomic():
        User.objects.filter(id=user.id).update(password=encoded, updated_at=now())
        user.password = encoded
        sessions.end_others(user=user, keep=keep, caller=caller)
        challenges.close_all(user)
        mfa.clear_tries(user)  # somebody else's, who knew the earlier password: their tickets are void
        audit.record(kind, user=user, caller=caller)
        mail.send(mail.Message.PASSWORD_CHANGED, user=user, caller=caller)


# --- Resetting ----------------------------------------------------------------------------------------------


def request_reset(*, login: str, caller: Caller) -> None:
    """Somebody forgot their password. The same small writes for any name; the worker looks whom it means.
    Raises RateLimited, for known and unknown names alike."""
    rate_limits.count_address("mail_per_ip", caller=caller)
    folded = identifiers.fold_login(login)
    rate_limits.spend_or_refuse("reset_mail_per_login", folded)
    with transaction.atomic():
        challenges.ask(Challenge.Kind.RESET_PASSWORD, login=folded, caller=caller)


def answer(request: Challenge) -> None:
    """In the worker: mail a code and a link to whom this request means, if anybody."""
    user, caller = sign_in.find(request.login), challenges.caller_of(request)
    if user is None or not _may_mail(user, caller):
        return
    secrets = challenges.issue(Challenge.Kind.RESET_PASSWORD, user=user, email=user.email, caller=caller)
    if user.email_verified:
        # Whoever only claims an address must not learn from their own log that nobody else was meant by it.
        audit.record(audit.Kind.PASSWORD_RESET_REQUESTED, user=user, caller=caller)
    mail.send(
        mail.Message.RESET_PASSWORD,
        user=user,
        caller=caller,
        context={
            "code": secrets.code,
            "link": f"{settings.PUBLIC_URL}/account/password/reset/key/{secrets.key}/",
            "at": request.created_at,
        },
        expires_at=secrets.challenge.link_expires_at,
    )


def revoke(user: User, *, caller: Caller) -> None:
    """The password opens nothing any more, every device is signed out, and a mail leads to a new one, where there is
    an address. In the caller's transaction, which holds the user."""
    user.set_unusable_password()
    user.save(update_fields=["password"])
    sessions.end_others(user=user, keep=None, caller=caller)
    challenges.close_all(user)
    mfa.clear_tries(user)
    audit.record(audit.Kind.PASSWORD_REVOKED, user=user, caller=caller)
    if not _may_mail(user, caller):
        return
    secrets = challenges.issue(Challenge.Kind.RESET_PASSWORD, user=user, email=user.email, caller=caller)
    mail.send(
        mail.Message.PASSWORD_REVOKED,
        user=user,
        caller=caller,
        context={"code": secrets.code, "link": f"{settings.PUBLIC_URL}/account/password/reset/key/{secrets.key}/"},
        expires_at=secrets.challenge.link_expires_at,
    )


def _may_mail(user: User, caller: Caller) -> bool:
    if not user.is_active or not user.email:
        return False
    # An owner's mails are limited by the name that is typed; those to a claimed address with all others to it.
    return user.email_verified or rate_limits.may_mail_claim(user.email, caller=caller)


def reset_by_code(*, login: str, code: str, new_password: str, caller: Caller) -> User:
    """Set a new password with the code of the mail.

    Raises InvalidCode, InvalidInput (the code stays good), RateLimited."""
    challenge = email_codes.match_code(Challenge.Kind.RESET_PASSWORD, login=login, code=code, caller=caller)
    try:
        return _reset(challenge, new_password, caller)
    except (InvalidInput, Overloaded):
        challenges.refund(challenge.id)
        raise


def match_reset_key(key: str) -> Challenge:
    """The open request that a link belongs to. Changes nothing. Raises InvalidKey."""
    return challenges.match_key(Challenge.Kind.RESET_PASSWORD, key)


def reset_by_key(*, key: str, new_password: str, caller: Caller) -> User:
    """Set a new password with the key of the link.

    Raises InvalidKey, InvalidInput (the link stays good), RateLimited."""
    rate_limits.count_address("code_per_ip", caller=caller)
    try:
        return _reset(match_reset_key(key), new_password, caller)
    except InvalidCode as error:
        raise InvalidKey(error.reason) from None


def _reset(challenge: Challenge, new_password: str, caller: Caller) -> User:
    assert challenge.user is not None
    require_good(new_password, challenge.user, field="new_password")
    encoded = hashing.hashed(new_password)
    with transaction.atomic():
        user = challenges.use(challenge)
        if not user.email_verified:  # reading the mail proves the address as well
            email_addresses.verify(user, challenge.email, caller=caller)
            _hand_over(user, caller)
        else:
            # Somebody who only knew the password may have set these up to stay, and to keep the owner out.
            totp.remove_newer(user=user, than=now() - settings.UNDO_LIFETIME, caller=caller)
        _set(user, encoded, keep=None, caller=caller, kind=audit.Kind.PASSWORD_RESET)
    return user


def _hand_over(user: User, caller: Caller) -> None:
    """The account was made by somebody who never proved the address, and now belongs to whoever reads its mail:
    nothing that a squatter may have left behind survives."""
    if user.picture:
        pictures.discard(user.picture)
    user.first_name, user.last_name, user.gender, user.picture = "", "", Gender.UNSPECIFIED, ""
    user.picture_placeholder, user.language, user.time_zone, user.deletes_at = "", caller.language, "", None
    user.save_profile(
        "first_name", "last_name", "gender", "picture", "picture_placeholder", "language", "time_zone", "deletes_at"
    )
    export.forget(user)
    picture_uploads.forget(user)
    totp.forget(user)
    rate_limits.clear("username_change_per_account", user.id)  # the name is not of their choice
    user.sessions.all().delete()
    audit.record(audit.Kind.USER_HANDED_OVER, user=user, caller=caller)
