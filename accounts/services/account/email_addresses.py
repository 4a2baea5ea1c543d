"""Email addresses. An address is a claim until the code or link of an email to it is used. A verified address belongs
to one account, and every other claim on it lapses. An unverified one blocks nobody."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts.caller import Caller
from accounts.errors import FieldError, InvalidCode, InvalidInput, InvalidKey
from accounts.lib import addresses
from accounts.models import Challenge, Session, User
from accounts.services import mail
from accounts.services.authentication import reauthentication, sign_in
from accounts.services.credentials import challenges, identifiers
from accounts.services.security import audit, rate_limits
from accounts.services.sessions import locks
from accounts.services.sessions.sessions import SignedIn

# --- Asking for a proof -------------------------------------------------------------------------------------


def send_confirmation(user: User, email: str, *, caller: Caller) -> None:
    """Email a code and a link to a claimed address. If somebody else has verified it, email them a notice instead: the
    caller can't tell which. Runs in the caller's transaction."""
    if not rate_limits.may_mail_claim(email, caller=caller):
        return  # that mailbox has had enough of our emails; the claim stays, and an email can be requested later
    # Issued for an owned address too, with a code that nobody reads: it closes earlier ones and can be sent again.
    secrets = challenges.issue(Challenge.Kind.CONFIRM_EMAIL, user=user, email=email, caller=caller)
    expires_at = secrets.challenge.link_expires_at
    owner = User.objects.filter(email=email, email_verified=True).exclude(id=user.id).first()
    # Recorded for nobody too, so that it takes as long.
    audit.record(audit.Kind.EMAIL_CLAIMED_ELSEWHERE, user=owner, caller=caller)
    if owner is not None:
        reader, message, words = owner, mail.Message.ADDRESS_TAKEN, {"other": user.username_display}
    else:
        link = f"{settings.PUBLIC_URL}/account/confirm-email/{secrets.key}/"
        reader, message, words = user, mail.Message.CONFIRM_EMAIL, {"code": secrets.code, "link": link}
    sent = mail.send(message, user=reader, to=email, caller=caller, context=words, expires_at=expires_at)
    Challenge.objects.filter(id=secrets.challenge.id).update(mail=sent)


@dataclass(frozen=True)
class Progress:
    """How the last verification email of a user is doing."""

    email: str
    delivery: mail.Delivery | None
    since: datetime

    @property
    def email_display(self) -> str:
        return addresses.shown(self.email)


def progress(user: User) -> Progress | None:
    """What became of the email for the address that a user claims or wants. It is the same whether or not somebody else
    has verified the address."""
    wanted = ("email", "created_at", "mail__status", "mail__recipient_delivery_status", "mail__expires_at")
    asked = Challenge.objects.filter(user=user, kind=Challenge.Kind.CONFIRM_EMAIL, closed_at=None).order_by("-id")
    found = asked.select_related("mail").only("login", "answered_at", *wanted).first()
    if found is None:
        return None
    if found.answered_at is None:  # the worker writes it at this moment
        return Progress(found.login, mail.Delivery.QUEUED, found.created_at)
    return Progress(found.email, mail.delivery_of(found.mail) if found.mail else None, found.created_at)


def send_again(*, user: User, email: str, caller: Caller) -> None:
    """Send the email again to the address that a signed-in user claims or wants. Does nothing if none is pending."""
    email = identifiers.fold_email(email)
    rate_limits.count_address("mail_per_ip", caller=caller)
    with transaction.atomic():
        user = User.objects.lock().get(id=user.id)  # what waited is seen as it is now
        claimed = bool(email) and email == user.email and not user.email_verified
        wanted = Challenge.objects.open().filter(user=user, email=email, kind=Challenge.Kind.CONFIRM_EMAIL)
        if claimed or wanted.exists():
            send_confirmation(user, email, caller=caller)


def resend(*, email: str, caller: Caller) -> None:
    """Send the email again to those who have claimed this address. The same small write for any address."""
    rate_limits.count_address("mail_per_ip", caller=caller)
    challenges.ask(Challenge.Kind.CONFIRM_EMAIL, login=identifiers.fold_email(email), caller=caller)


def answer(request: Challenge) -> None:
    """In the worker: email those who claim the address that was asked for, or the user who has just signed up."""
    for user in _waiting(request):
        send_confirmation(user, request.login, caller=challenges.caller_of(request))


def _waiting(request: Challenge) -> Sequence[User]:
    """Up to three users who claim the address: first those who were emailed for the caller's network address, then the
    newest. A stranger's claims must not keep the caller from getting the email."""
    if not request.login:
        return ()
    claims = User.objects.active().filter(email=request.login, email_verified=False).order_by("-id")
    if request.user_id:
        found = list(claims.lock().filter(id=request.user_id))
        # Who has corrected the address since, or asked again, has a newer code.
        newer = Challenge.objects.open().filter(user=request.user_id, kind=request.kind, id__gt=request.id)
        return () if newer.exists() else found
    here = set(Challenge.objects.filter(email=request.login, ip=request.ip).values_list("user_id", flat=True))
    return sorted(claims[:100], key=lambda user: user.id not in here)[:3]


# --- Proving ------------------------------------------------------------------------------------------------


def confirm_mine(*, user: User, code: str, caller: Caller) -> User:
    """A signed-in user verifies the claimed or the new address. Raises InvalidCode, RateLimited."""
    challenge = _match(code, caller, user_id=user.id)
    return use(challenge, caller)


def confirm(*, email: str, code: str, caller: Caller) -> User:
    """A user who is not signed in verifies the address of their sign-up.

    Raises InvalidCode, RateLimited, AccountDisabled."""
    challenge = _match(code, caller, email=identifiers.fold_email(email))
    user = use(challenge, caller)
    sign_in.admit(user)
    return user


def confirm_and_sign_in(*, email: str, code: str, caller: Caller) -> SignedIn:
    """The same for an app, which is signed in with it."""
    return sign_in.begin_app_by_mail(confirm(email=email, code=code, caller=caller), caller)


def confirm_by_key_and_sign_in(*, key: str, caller: Caller) -> SignedIn:
    """The same for an app that the link of the mail opened. Raises InvalidKey, RateLimited, AccountDisabled."""
    return sign_in.begin_app_by_mail(confirm_by_key(key=key, caller=caller), caller)


def _match(code: str, caller: Caller, *, user_id: UUID | None = None, email: str | None = None) -> Challenge:
    rate_limits.count_address("code_per_ip", caller=caller)
    given = challenges.read_code(code)
    return challenges.match_code(Challenge.Kind.CONFIRM_EMAIL, given, caller=caller, user_id=user_id, email=email)


def match_key(key: str) -> Challenge:
    """The open confirmation that a link belongs to. Changes nothing. Raises InvalidKey."""
    return challenges.match_key(Challenge.Kind.CONFIRM_EMAIL, key)


def confirm_by_key(*, key: str, caller: Caller) -> User:
    """Verify an address with the link, after the button was pressed. Raises InvalidKey, RateLimited."""
    rate_limits.count_address("code_per_ip", caller=caller)
    try:
        return use(match_key(key), caller)
    except InvalidCode as error:
        raise InvalidKey(error.reason) from None


def use(challenge: Challenge, caller: Caller) -> User:
    """Use it up: its user reads the email of its address. Raises InvalidCode."""
    user = challenge.user
    assert user is not None
    with transaction.atomic():
        challenges.lock_with_users(challenge.email, user.id)
        challenges.close(challenge)
        if verify(user, challenge.email, caller=caller):
            mail.send(mail.Message.WELCOME, user=user, caller=caller)
    return user


def verify(user: User, email: str, *, caller: Caller) -> bool:
    """The user reads the email of this address: it becomes theirs, and other claims on it lapse. The caller's
    transaction has locked both (challenges.lock_with_users). Returns whether it is the first that they verify.

    Raises InvalidCode if somebody else has verified it first."""
    if is_verified_by_another(user, email):
        raise InvalidCode("somebody else verified the address first")
    user.refresh_from_db()
    before, was_verified = user.email, user.email_verified
    give(user, email, caller)
    # Codes sent to an address that the account no longer has stop working.
    Challenge.objects.open().proofs().filter(user=user).exclude(email=email).close()
    changed = before != email
    audit.record(audit.Kind.EMAIL_CHANGED if changed else audit.Kind.EMAIL_CONFIRMED, user=user, caller=caller)
    if changed and was_verified:
        _offer_undo(user, before, caller)
    return not was_verified


def is_verified_by_another(user: User, email: str) -> bool:
    return User.objects.filter(email=email, email_verified=True).exclude(id=user.id).exists()


def give(user: User, email: str, caller: Caller) -> None:
    """Make the address this user's; other claims on it lapse."""
    lapse_other_claims(email, owner_id=user.id, caller=caller)
    user.email, user.email_verified = email, True
    user.save_profile("email", "email_verified")


def lapse_other_claims(email: str, *, owner_id: UUID, caller: Caller) -> None:
    """Take the address from everybody else who claims it, in the transaction that verifies it."""
    for other in User.objects.filter(email=email).exclude(id=owner_id):
        other.email = ""
        other.save_profile("email")
        Challenge.objects.open().proofs().filter(user=other, email=email).close()
        audit.record(audit.Kind.EMAIL_CLAIM_LAPSED, user=other, caller=caller)


# --- Changing -----------------------------------------------------------------------------------------------


def request_change(*, user: User, email: str, password: str, session: Session | None = None, caller: Caller) -> None:
    """A signed-in user wants another address. The change takes effect when the address is verified.

    Raises MfaRequired, WrongPassword, RecentSignInNeeded (of a user without a password), InvalidInput, RateLimited. It
    never reveals that an address is taken."""
    if session:
        reauthentication.require_mfa(user, session)
    rate_limits.count_address("mail_per_ip", caller=caller)
    email = identifiers.fold_email(email)
    if found := identifiers.new_email_problem(email):
        raise InvalidInput([found])
    confirmed = reauthentication.confirm(user=user, session=session, password=password, caller=caller)
    if email == user.email and user.email_verified:
        raise InvalidInput([FieldError("email", "email_unchanged")])
    rate_limits.spend_or_refuse("change_mail_per_account", user.id)
    with transaction.atomic():
        locks.lock(user, confirmed)
        if session and not password:
            locks.lock_signed_in(user, session)
        if not user.email:  # the earlier claim lapsed, so the new one replaces it at once
            user.email = email
            user.save_profile("email")
        audit.record(audit.Kind.EMAIL_CHANGE_REQUESTED, user=user, caller=caller)
        send_confirmation(user, email, caller=caller)


def cancel_change(*, user: User, session: Session, caller: Caller) -> None:
    """A signed-in user keeps the present address: the code and the link for the other one stop working. Does nothing if
    no change is pending. Raises SessionRevoked."""
    with transaction.atomic():
        user = locks.lock_active(user, session)
        asked = Challenge.objects.open().filter(user=user, kind=Challenge.Kind.CONFIRM_EMAIL)
        if asked.exclude(email=user.email).close():
            audit.record(audit.Kind.EMAIL_CHANGE_CANCELLED, user=user, caller=caller, session=session)


# --- Taking a change back -----------------------------------------------------------------------------------


def _offer_undo(user: User, before: str, caller: Caller) -> None:
    """Email the earlier address a link that undoes the change: a thief changes the address first."""
    secrets = challenges.issue(Challenge.Kind.UNDO_EMAIL, user=user, email=before, caller=caller)
    link, days = f"{settings.PUBLIC_URL}/account/email/undo/{secrets.key}/", settings.UNDO_LIFETIME.days
    words, until = {"email": user.email_display, "link": link, "days": days}, secrets.challenge.link_expires_at
    mail.send(mail.Message.EMAIL_CHANGED, user=user, to=before, caller=caller, context=words, expires_at=until)
