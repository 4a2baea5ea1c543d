"""A new password by the code or the link of an email."""

from django.conf import settings
from django.db import transaction
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import InvalidCode, InvalidInput, InvalidKey, Overloaded
from accounts.models import Challenge, User
from accounts.services import mail
from accounts.services.account import email_addresses, lifecycle, passwords
from accounts.services.account.lifecycle import Revocation
from accounts.services.authentication import email_codes
from accounts.services.credentials import challenges, identifiers, password_policy
from accounts.services.security import audit, proofs, rate_limits


def request_reset(*, login: str, caller: Caller) -> None:
    """Request a reset. The same small writes for any name; the worker finds out whom it means.

    Raises ChallengeRequired and RateLimited, for known and unknown names alike."""
    proofs.require(proofs.Operation.RESET_PASSWORD, caller=caller)
    folded = identifiers.fold_login(login)
    rate_limits.spend_or_refuse("reset_mail_per_login", folded)
    challenges.ask(Challenge.Kind.RESET_PASSWORD, login=folded, caller=caller)


def answer(request: Challenge) -> None:
    """In the worker: mail a code and a link to whom this request means, if anybody."""
    user, caller = identifiers.find(request.login), challenges.caller_of(request)
    if user is None or not _may_mail(user, caller):
        return
    secrets = challenges.issue(Challenge.Kind.RESET_PASSWORD, user=user, email=user.email, caller=caller)
    if user.email_verified:
        # A user who only claims an address must not learn from their log that nobody else was meant by it.
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
    """Make the password unusable, end every session, and email a link to choose a new one if there is an address. The
    caller's transaction has locked the user."""
    user.set_unusable_password()
    user.save(update_fields=["password"])
    lifecycle.revoke(user, Revocation(caller))
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
    # Emails to a verified address are limited by the name that is typed, those to a claim by the address.
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
    encoded = password_policy.hashed(new_password, challenge.user)
    with transaction.atomic():
        user = challenges.use(challenge)
        since = now() - settings.UNDO_LIFETIME
        if not user.email_verified:  # reading the email verifies the address as well
            email_addresses.verify(user, challenge.email, caller=caller)
            lifecycle.hand_over(user, caller=caller)
        # Somebody who only knew the password may have set up second factors to stay, and to keep the owner out.
        passwords.set_new(user, encoded, Revocation(caller, since=since), audit.Kind.PASSWORD_RESET)
    return user
