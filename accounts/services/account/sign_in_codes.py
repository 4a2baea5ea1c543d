"""Signing in by an emailed code, without the password (SIGN_IN_BY_CODE switches it off)."""

from django.conf import settings
from django.db import transaction

from accounts.caller import Caller
from accounts.errors import AccountError, CodeSignInClosed
from accounts.models import Challenge, User
from accounts.services import mail
from accounts.services.account import password_resets
from accounts.services.authentication import email_codes, sign_in
from accounts.services.credentials import challenges, identifiers
from accounts.services.security import audit, proofs, rate_limits
from accounts.services.sessions.sessions import SignedIn


def request(*, login: str, caller: Caller) -> None:
    """Somebody wants a code. The same small writes for any name; the worker looks whom it means.
    Raises CodeSignInClosed, and ChallengeRequired and RateLimited for known and unknown names alike."""
    _open()
    proofs.require(proofs.Operation.SIGN_IN_CODE, caller=caller)
    folded = identifiers.fold_login(login)
    rate_limits.spend_or_refuse("sign_in_mail_per_login", folded)
    challenges.ask(Challenge.Kind.SIGN_IN, login=folded, caller=caller)


def _open() -> None:
    if not settings.SIGN_IN_BY_CODE:
        raise CodeSignInClosed


def answer(asked: Challenge) -> None:
    """In the worker: email a code to the person whom this request means, if anybody."""
    user, caller = identifiers.find(asked.login), challenges.caller_of(asked)
    if user is None or not user.is_active or not user.email:
        return
    if not user.email_verified:
        # Who reads this mail box takes the account over whole, and for that chooses a new password.
        password_resets.answer(asked)
        return
    secrets = challenges.issue(Challenge.Kind.SIGN_IN, user=user, email=user.email, caller=caller)
    audit.record(audit.Kind.LOGIN_CODE_REQUESTED, user=user, caller=caller)
    mail.send(
        mail.Message.SIGN_IN,
        user=user,
        caller=caller,
        context={"code": secrets.code, "at": asked.created_at},
        expires_at=secrets.challenge.created_at + settings.CODE_LIFETIME,
    )


def check(*, login: str, code: str, caller: Caller) -> User:
    """The user who may sign in with this code, which is used up. Raises CodeSignInClosed, InvalidCode, RateLimited,
    AccountDisabled."""
    _open()
    challenge = email_codes.match_code(Challenge.Kind.SIGN_IN, login=login, code=code, caller=caller)
    with transaction.atomic():
        user = challenges.use(challenge)
    try:
        sign_in.admit(user)
    except AccountError:
        audit.record(audit.Kind.LOGIN_REFUSED, user=user, caller=caller)
        raise
    return user


def sign_in_app(*, login: str, code: str, caller: Caller) -> SignedIn:
    """Sign an app in. Raises what `check` raises."""
    return sign_in.begin_app_by_mail(check(login=login, code=code, caller=caller), caller)
