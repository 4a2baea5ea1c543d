"""A new account. Its address is a claim until it is verified."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings

from accounts.caller import Caller
from accounts.errors import AccountError, FieldError, InvalidCode, InvalidInput, SignUpClosed, UsernameTaken
from accounts.lib import time_zones, typed
from accounts.models import Challenge, Gender, Session, User
from accounts.services import mail
from accounts.services.account import email_addresses
from accounts.services.credentials import challenges, hashing, identifiers, password_policy
from accounts.services.profile import pictures, profiles
from accounts.services.security import audit, proofs, rate_limits, tickets
from accounts.services.security.rate_limits import Counted
from accounts.services.sessions import sessions
from accounts.services.sessions.sessions import SignedIn

_SIGN_UP = proofs.Operation.SIGN_UP


def problems(fields: Mapping[str, str], *, caller: Caller) -> list[FieldError]:
    """What is wrong with those that are given. Raises SignUpClosed, RateLimited."""
    _count(caller)
    return _problems(fields)


def _count(caller: Caller) -> Counted:
    if not settings.SIGNUP_OPEN:
        raise SignUpClosed
    return proofs.count(_SIGN_UP, caller=caller)


def _problems(fields: Mapping[str, str]) -> list[FieldError]:
    username = identifiers.fold_username(fields.get("username", ""))
    email = identifiers.fold_email(fields.get("email", ""))
    password = fields.get("password")
    names = {name: typed.line(fields.get(name, "")) for name in ("first_name", "last_name")}
    found = [
        identifiers.username_problem(username) if "username" in fields else None,
        identifiers.new_email_problem(email) if "email" in fields else None,
        None if password is None else password_policy.problem(password, username, email, *names.values()),
        *profiles.field_problems({"gender": fields.get("gender", Gender.UNSPECIFIED), **names}),
    ]
    return [problem for problem in found if problem]


def _checked(
    *,
    username: str,
    email: str,
    password: str | None = None,
    caller: Caller,
    first_name: str = "",
    last_name: str = "",
    gender: str = Gender.UNSPECIFIED,
    time_zone: str = "",
    by_code: bool = False,
) -> User:
    """A new account that is not written yet and has no password yet. It needs no proof of work if it comes by a code of
    an email."""
    counted, fields = _count(caller), {"username": username, "email": email}
    fields |= {"first_name": first_name, "last_name": last_name, "gender": gender}
    if found := _problems(fields if password is None else {**fields, "password": password}):
        raise InvalidInput(found)
    spelling = identifiers.as_typed(username)
    username, email = identifiers.fold_username(username), identifiers.fold_email(email)
    skeleton = identifiers.skeleton(username)
    if User.objects.filter(username_skeleton=skeleton).exists():
        raise UsernameTaken  # the constraint decides between several at once
    if not by_code:  # after the mistakes, so that nobody computes for a form that is refused
        proofs.require(_SIGN_UP, caller=caller, counted=counted)
    return User(
        username=username,
        username_typed=spelling,
        username_skeleton=skeleton,
        email=email,
        language=caller.language if caller.language in dict(settings.LANGUAGES) else "",
        time_zone=time_zones.known_or_none(time_zone),
        first_name=typed.line(first_name),
        last_name=typed.line(last_name),
        gender=gender,
    )


def _write(user: User, password: str, picture: BinaryIO | None, caller: Caller, *, begin: bool) -> Session | None:
    """The account, its event and the request for its email, and the session of an app, in one transaction."""
    user.password = hashing.hashed(password)
    encoded = pictures.encode(picture) if picture else None
    with profiles.one_of_each_username():
        _save(user, caller)
        challenges.ask(Challenge.Kind.CONFIRM_EMAIL, login=user.email, user=user, caller=caller)
        session = sessions.begin(user=user, kind=Session.Kind.APP, caller=caller) if begin else None
    if encoded:
        pictures.publish_first(user, encoded, caller)
    return session


def _save(user: User, caller: Caller) -> None:
    user.save(force_insert=True)
    profiles.refuse_reserved(user)
    audit.record(audit.Kind.USER_SIGNED_UP, user=user, caller=caller)


def sign_up(*, caller: Caller, picture: BinaryIO | None = None, **fields: Any) -> User:
    """A new account, whose address is a claim; whether somebody else owns that address, nobody can tell. `time_zone`
    is what the device says of itself; one that is not known is none.

    Raises SignUpClosed, RateLimited, ChallengeRequired, InvalidInput (naming every field that is wrong), UsernameTaken,
    InvalidPicture, PictureIncomplete, PictureTooLarge, Overloaded. A storage that is down costs only the picture."""
    user = _checked(caller=caller, **fields)
    _write(user, fields["password"], picture, caller, begin=False)
    return user


def sign_up_app(*, caller: Caller, picture: BinaryIO | None = None, **fields: Any) -> SignedIn | None:
    """The same for an app, which is signed in with it, or None where the address must be proved first."""
    user = _checked(caller=caller, **fields)
    session = _write(user, fields["password"], picture, caller, begin=settings.EMAIL_VERIFICATION != "mandatory")
    return SignedIn(user, sessions.tokens(session)) if session else None


# --- Without a proof of work: the code first, then the account ----------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SignUpTicket(tickets.Ticket):
    """What was typed, with the password, while a page solves a challenge."""

    PURPOSE = "sign up"
    LIFETIME = timedelta(minutes=30)
    fields: dict[str, str]


def keep(**fields: str) -> str:
    """A ticket that a page can bring back: the password is sealed in it."""
    return tickets.issue(SignUpTicket(fields=fields))


def typed_before(ticket: str) -> dict[str, str]:
    """What `keep` was given. Raises InvalidTicket."""
    return tickets.read(SignUpTicket, ticket).fields


@dataclass(frozen=True, kw_only=True)
class CodeTicket(SignUpTicket):
    """The same while the code of an email is awaited, with the hash in the place of the password: a browser's session
    may keep it for weeks."""

    PURPOSE = "sign up by code"
    encoded: str


def request_by_code(*, caller: Caller, **fields: Any) -> str:
    """Email a code for a new account. The ticket is for `sign_up_by_code`, which creates the account. For browsers that
    can't compute a proof of work: it takes a mailbox instead. The same small write whether or not somebody owns the
    address.

    Raises SignUpClosed, RateLimited, InvalidInput, UsernameTaken, Overloaded."""
    _checked(caller=caller, by_code=True, **fields)
    ticket = CodeTicket(encoded=hashing.hashed(fields.pop("password")), fields=fields)
    _ask(ticket, caller)
    return tickets.issue(ticket)


def _ask(ticket: CodeTicket, caller: Caller) -> None:
    """A code for this ticket alone: who guesses with another one, for the same address, spends none of its tries."""
    login, email = identifiers.fold_username(ticket.fields["username"]), identifiers.fold_email(ticket.fields["email"])
    challenges.ask(Challenge.Kind.SIGN_UP, login=login, email=email, ticket=UUID(hex=ticket.id), caller=caller)


def email_of(ticket: str) -> str:
    """Where the code was sent to. Raises InvalidTicket."""
    return identifiers.fold_email(tickets.read(CodeTicket, ticket).fields["email"])


def resend_code(*, ticket: str, caller: Caller) -> None:
    """Email another code; the earlier one stays good. Raises InvalidTicket, RateLimited."""
    rate_limits.count_address("mail_per_ip", caller=caller)
    _ask(tickets.read(CodeTicket, ticket), caller)


def answer(request: Challenge) -> None:
    """In the worker: email the code. If somebody has verified the address, email them a notice instead."""
    caller, newcomer = challenges.caller_of(request), User(username=request.login, email=request.email)
    if not rate_limits.may_mail_claim(request.email, caller=caller):
        return
    if owner := User.objects.filter(email=request.email, email_verified=True).first():
        audit.record(audit.Kind.EMAIL_CLAIMED_ELSEWHERE, user=owner, caller=caller)
        mail.send(mail.Message.ADDRESS_TAKEN, user=owner, caller=caller, context={"other": request.login})
        return
    secrets = challenges.issue(
        Challenge.Kind.SIGN_UP, user=None, email=request.email, ticket=request.ticket, caller=caller
    )
    until = secrets.challenge.created_at + settings.CODE_LIFETIME
    mail.send(mail.Message.SIGN_UP, user=newcomer, caller=caller, context={"code": secrets.code}, expires_at=until)


def sign_up_by_code(*, ticket: str, code: str, caller: Caller) -> User:
    """A new account, whose address is verified.

    Raises InvalidTicket, InvalidCode; SignUpClosed, RateLimited, InvalidInput and UsernameTaken, after which the code
    stays good."""
    rate_limits.count_address("code_per_ip", caller=caller)
    kept, given = tickets.read(CodeTicket, ticket), challenges.read_code(code)
    challenge = challenges.match_code(
        Challenge.Kind.SIGN_UP, given, caller=caller, email=email_of(ticket), ticket=UUID(hex=kept.id)
    )
    try:
        user = _checked(caller=caller, by_code=True, **kept.fields)
        user.password = kept.encoded
        with profiles.one_of_each_username():
            _save(user, caller)
            challenge.user = user
            return email_addresses.use(challenge, caller)
    except InvalidCode:
        raise
    except AccountError:
        challenges.refund(challenge.id)
        raise
