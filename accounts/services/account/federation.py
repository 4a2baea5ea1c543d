"""Signing in and up by a provider: whom an identity means. The reasons: docs/decisions/federation.md.

- A known (issuer, subject) means its user, whatever else the provider says.
- An unknown one is connected to the account that has verified an address if the provider proves that address too, and
  never to one of staff.
- Any other is a new account. An address that the provider does not prove is a claim, as at any sign-up. Nothing is ever
  connected to an account that only claims an address: a stranger may have made it and still have its password."""

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts.caller import Caller
from accounts.errors import (
    AccountDisabled,
    AccountError,
    FieldError,
    IdentityTaken,
    IdentityUnknown,
    InvalidCredentials,
    InvalidInput,
    InvalidTicket,
    SignUpClosed,
    UsernameTaken,
)
from accounts.lib import typed
from accounts.models import Challenge, Identity, User
from accounts.services import mail
from accounts.services.account import email_addresses, signup
from accounts.services.authentication import identities, providers, sign_in
from accounts.services.authentication.assertions import Assertion
from accounts.services.authentication.identities import Newcomer, Proof
from accounts.services.credentials import challenges, identifiers, reserved_usernames
from accounts.services.profile import profiles
from accounts.services.security import audit, tickets
from accounts.services.sessions.sessions import SignedIn

LONGEST = 100  # characters of a username that a ticket keeps
TRIES = 4  # of several first sign-ins at once, one makes the account and the others find it


@dataclass(frozen=True)
class Entered:
    """Whom an identity means. `is_new`: the account was made for it just now."""

    identity: Identity
    is_new: bool = False

    @property
    def user(self) -> User:
        return self.identity.user


# --- Apps ---------------------------------------------------------------------------------------------------


def sign_in_app(
    *, provider: str, id_token: str, state: str, create: bool, names: Mapping[str, str], caller: Caller
) -> SignedIn | None:
    """Sign an app in, and make an account for somebody who is unknown. `names` are what the app says of a newcomer.
    None where the address must be verified first.

    Raises what `enter` and `identities.check` raise, and MfaRequired."""
    proof = identities.check(provider=provider, id_token=id_token, state=state, caller=caller)
    return _begin_app(enter(proof, create=create, names=names, caller=caller), proof.methods, caller)


def create_app(*, ticket: str, fields: Mapping[str, str], caller: Caller) -> SignedIn | None:
    """The same after IdentityUnknown, with what the newcomer chose: username, address, names.

    Raises InvalidInput and UsernameTaken (the ticket stays valid), InvalidTicket, ProviderUnknown, SignUpClosed,
    RateLimited."""
    if problems := signup.problems(fields, caller=caller):
        raise InvalidInput(problems)
    found = tickets.read(Newcomer, ticket)
    try:
        entered = _create(found.assertion, fields, caller, found)
    except IntegrityError:
        raise InvalidTicket("known by now, or its address is") from None
    return _begin_app(entered, tuple(found.methods), caller)


def _begin_app(entered: Entered, methods: tuple[str, ...], caller: Caller) -> SignedIn | None:
    user = entered.user
    if entered.is_new and settings.EMAIL_VERIFICATION == "mandatory" and not user.email_verified:
        return None
    try:
        return sign_in.begin_app(user, caller, methods=methods, identity=entered.identity.id)
    except InvalidCredentials:
        raise InvalidTicket("changed in the meantime") from None


# --- Whom it means ------------------------------------------------------------------------------------------


def enter(proof: Proof, *, create: bool, names: Mapping[str, str], caller: Caller) -> Entered:
    """Whom this identity means: its user, the owner of the address that it proves, or a new account.

    Raises IdentityUnknown without `create`, or where an address is needed and the provider says none; IdentityTaken,
    AccountDisabled, EmailNotVerified, SignUpClosed, RateLimited."""
    said = proof.said
    for _ in range(TRIES):
        if known := identities.of(said):
            return _admitted(known, said, caller)
        try:
            if owned := _connect_owner(said, caller):
                return Entered(owned)
            if not create or (settings.EMAIL_VERIFICATION == "mandatory" and not _new_email(said)):
                raise IdentityUnknown(*_invitation(proof))
            signup.problems({}, caller=caller)
            return _create(said, _harmless(names), caller)
        except (IntegrityError, UsernameTaken):
            continue
    raise InvalidTicket("another was first, each time")


def _admitted(known: Identity, said: Assertion, caller: Caller) -> Entered:
    try:
        sign_in.admit(known.user)
    except AccountError:
        audit.record(audit.Kind.LOGIN_REFUSED, user=known.user, caller=caller)
        raise
    identities.note_email(known, said)
    return Entered(known)


def _connect_owner(said: Assertion, caller: Caller) -> Identity | None:
    """Connect it to the account that has verified the address that the provider proves: who reads that mailbox can
    reset the password as well. Raises IdentityTaken for staff, AccountDisabled."""
    if not said.proves_email:
        return None
    with transaction.atomic():
        owner = User.objects.lock().filter(email=said.email, email_verified=True).first()
        if owner is None:
            return None
        if owner.is_active and not (owner.is_staff or owner.is_superuser):
            return identities.connect(owner, said, caller)
        # What a mailbox opens must not be more for staff than it is without providers: they connect one themselves.
        audit.record(audit.Kind.IDENTITY_REFUSED, user=owner, caller=caller, provider=said.provider)
    raise IdentityTaken("of staff") if owner.is_active else AccountDisabled


def _invitation(proof: Proof) -> tuple[str, dict[str, str]]:
    """The ticket of a newcomer, and what stands in the form at first."""
    first, last = _names(proof.said).values()
    said = replace(proof.said, username=proof.said.username[:LONGEST], first_name=first, last_name=last)
    ticket = Newcomer(said=asdict(said), methods=proof.methods)
    return tickets.issue(ticket), {"username": _free_username(said), **_names(said), "email": _new_email(said)}


# --- New accounts -------------------------------------------------------------------------------------------


def _create(said: Assertion, chosen: Mapping[str, str], caller: Caller, ticket: Newcomer | None = None) -> Entered:
    """A new account without a password. What was `chosen` goes before what the provider says.

    Raises IntegrityError where the identity or its address has become somebody's meanwhile."""
    if not providers.get(said.provider).signup:
        raise SignUpClosed
    user = _new_user(said, chosen, caller)
    if settings.EMAIL_VERIFICATION == "mandatory" and not user.email:
        raise InvalidInput([FieldError("email", "required")])
    with profiles.one_of_each_username():
        if ticket:
            tickets.spend(ticket)
        if user.email_verified:
            _take_address(user, caller)
        user.save(force_insert=True)
        profiles.refuse_reserved(user)
        identity = identities.create(user, said)
        audit.record(audit.Kind.USER_SIGNED_UP, user=user, caller=caller, provider=said.provider)
        if user.email_verified:
            mail.send(mail.Message.WELCOME, user=user, caller=caller)
        elif user.email:
            challenges.ask(Challenge.Kind.CONFIRM_EMAIL, login=user.email, user=user, caller=caller)
    return Entered(identity, is_new=True)


def _new_user(said: Assertion, chosen: Mapping[str, str], caller: Caller) -> User:
    username = chosen.get("username") or _free_username(said)
    folded = identifiers.fold_username(username)
    names = {name: typed.line(chosen.get(name, "")) or known for name, known in _names(said).items()}
    email = _new_email(said)
    if not (email and said.proves_email):
        email = identifiers.fold_email(chosen.get("email", "")) or email
    user = User(
        username=folded,
        username_typed=identifiers.as_typed(username),
        username_skeleton=identifiers.skeleton(folded),
        email=email,
        email_verified=said.proves_email and email == said.email,
        language=caller.language if caller.language in dict(settings.LANGUAGES) else "",
        **names,
    )
    user.set_unusable_password()
    return user


def _new_email(said: Assertion) -> str:
    """Left out if no new account may have it."""
    return "" if said.email and identifiers.new_email_problem(said.email) else said.email


def _take_address(user: User, caller: Caller) -> None:
    """The provider proves it, so it becomes the new user's as by our code (email_addresses.give)."""
    challenges.lock_with_users(user.email, user.id)
    if email_addresses.is_verified_by_another(user, user.email):
        raise IntegrityError("verified at this moment")
    email_addresses.lapse_other_claims(user.email, owner_id=user.id, caller=caller)


_NAMES = ("first_name", "last_name")


def _names(said: Assertion) -> dict[str, str]:
    return _harmless({name: getattr(said, name) for name in _NAMES})


def _harmless(names: Mapping[str, str]) -> dict[str, str]:
    """Odd names are left out: nobody typed them here."""
    cleaned = {name: typed.line(names.get(name, "")) for name in _NAMES}
    odd = {problem.field for problem in profiles.field_problems(cleaned)}
    return {name: "" if name in odd else value for name, value in cleaned.items()}


def _free_username(said: Assertion) -> str:
    """A name that fits the person and is nobody's yet. Whether it still is, the constraint decides."""
    wanted = [*_usernames(said), f"user-{secrets.token_hex(4)}"]
    skeletons = {name: identifiers.skeleton(name) for name in wanted}
    taken = set(
        User.objects.filter(username_skeleton__in=skeletons.values()).values_list("username_skeleton", flat=True)
    )
    free = (name for name in wanted if skeletons[name] not in taken)
    return next(name for name in free if not reserved_usernames.is_reserved(skeletons[name], asker=User()))


def _usernames(said: Assertion) -> Iterator[str]:
    local = "" if said.email.endswith("@privaterelay.appleid.com") else said.email.rpartition("@")[0].partition("+")[0]
    spoken = " ".join(name for name in _names(said).values() if name)
    for source in (said.username.partition("@")[0], local, spoken):
        name = _ODD.sub("", ".".join(identifiers.fold_username(source).split())).strip("._-")
        for one in (name[: identifiers.MAX_LENGTH], f"{name[:24]}-{secrets.randbelow(9000) + 1000}"):
            if name and identifiers.username_problem(one) is None:
                yield one


_ODD = re.compile(r"[^\w.-]+")
