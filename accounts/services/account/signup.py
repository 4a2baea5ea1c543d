"""A new account. Its address is a claim until it is verified."""

from collections.abc import Mapping
from typing import Any, BinaryIO

from django.conf import settings

from accounts.caller import Caller
from accounts.errors import FieldError, InvalidInput, SignUpClosed, UsernameTaken
from accounts.lib import time_zones, typed
from accounts.models import Challenge, Gender, Session, User
from accounts.services.credentials import challenges, hashing, identifiers, password_policy
from accounts.services.profile import pictures, profiles
from accounts.services.security import audit, rate_limits
from accounts.services.sessions import sessions
from accounts.services.sessions.sessions import SignedIn


def problems(fields: Mapping[str, str], *, caller: Caller) -> list[FieldError]:
    """What is wrong with those that are given. Raises SignUpClosed, RateLimited."""
    if not settings.SIGNUP_OPEN:
        raise SignUpClosed
    rate_limits.count_address("signup_per_ip", caller=caller)
    username = identifiers.fold_username(fields.get("username", ""))
    email = identifiers.fold_email(fields.get("email", ""))
    password = fields.get("password")
    names = {name: typed.line(fields.get(name, "")) for name in ("first_name", "last_name")}
    found = [
        identifiers.username_problem(username) if "username" in fields else None,
        identifiers.email_problem(email) if "email" in fields else None,
        None if password is None else password_policy.problem(password, username=username, email=email),
        *profiles.field_problems({"gender": fields.get("gender", Gender.UNSPECIFIED), **names}),
    ]
    return [problem for problem in found if problem]


def _checked(
    *,
    username: str,
    email: str,
    password: str,
    caller: Caller,
    first_name: str = "",
    last_name: str = "",
    gender: str = Gender.UNSPECIFIED,
    time_zone: str = "",
) -> User:
    """A new account that is not written yet."""
    names = {"first_name": first_name, "last_name": last_name, "gender": gender}
    if found := problems({"username": username, "email": email, "password": password, **names}, caller=caller):
        raise InvalidInput(found)
    spelling = identifiers.as_typed(username)
    username, email = identifiers.fold_username(username), identifiers.fold_email(email)
    skeleton = identifiers.skeleton(username)
    if User.objects.filter(username_skeleton=skeleton).exists():
        raise UsernameTaken  # before the costly hash; the constraint decides between several at once
    return User(
        username=username,
        username_typed=spelling,
        username_skeleton=skeleton,
        email=email,
        password=hashing.hashed(password),
        language=caller.language if caller.language in dict(settings.LANGUAGES) else "",
        time_zone=time_zones.known_or_none(time_zone),
        first_name=typed.line(first_name),
        last_name=typed.line(last_name),
        gender=gender,
    )


def _write(user: User, picture: BinaryIO | None, caller: Caller, *, begin: bool) -> Session | None:
    """The account, its event and the request for its email, and the session of an app, in one transaction."""
    encoded = pictures.encode(picture) if picture else None
    with profiles.one_of_each_username():
        user.save(force_insert=True)
        profiles.refuse_reserved(user)
        audit.record(audit.Kind.USER_SIGNED_UP, user=user, caller=caller)
        challenges.ask(Challenge.Kind.CONFIRM_EMAIL, login=user.email, user=user, caller=caller)
        session = sessions.begin(user=user, kind=Session.Kind.APP, caller=caller) if begin else None
    if encoded:
        pictures.publish_first(user, encoded, caller)
    return session


def sign_up(*, caller: Caller, picture: BinaryIO | None = None, **fields: Any) -> User:
    """A new account, whose address is a claim; whether somebody else owns that address, nobody can tell. `time_zone`
    is what the device says of itself; one that is not known is none.

    Raises SignUpClosed, RateLimited, InvalidInput (naming every field that is wrong), UsernameTaken,
    InvalidPicture, PictureTooLarge, Overloaded. A storage that is down costs only the picture."""
    user = _checked(caller=caller, **fields)
    _write(user, picture, caller, begin=False)
    return user


def sign_up_app(*, caller: Caller, picture: BinaryIO | None = None, **fields: Any) -> SignedIn | None:
    """The same for an app, which is signed in with it, or None where the address must be proved first."""
    user = _checked(caller=caller, **fields)
    session = _write(user, picture, caller, begin=settings.EMAIL_VERIFICATION != "mandatory")
    return SignedIn(user, sessions.tokens(session)) if session else None
