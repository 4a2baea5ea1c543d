"""Identities: who a user is at providers such as Google. What an app sends is checked here, and the owner connects and
disconnects them here. Whom an unknown one means: account/federation.py.

An app signs in in two steps. `begin` gives it a nonce for the provider's SDK and a state; the provider's ID token comes
back with the state, which works once. So a token that somebody found or kept opens nothing."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import (
    IdentityNotFound,
    IdentityTaken,
    InvalidIdToken,
    InvalidTicket,
    LastWayIn,
    ProviderUnknown,
    TooManyIdentities,
)
from accounts.models import Identity, Passkey, Session, User
from accounts.services import mail
from accounts.services.authentication import id_tokens, providers, reauthentication
from accounts.services.authentication.assertions import Assertion, of_claims
from accounts.services.authentication.sign_in import BY_PROVIDER
from accounts.services.security import audit, rate_limits, tickets
from accounts.services.sessions import locks, mfa

MAX = 10  # of one account
# How old a provider's own sign-in may be to count as a re-authentication, and how old a token that does not tell.
RECENT_THERE, RECENT_TOKEN = timedelta(minutes=10), timedelta(minutes=2)


# --- What an app sends --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Begun(tickets.Ticket):
    PURPOSE = "provider"
    LIFETIME = timedelta(minutes=10)
    provider: str
    nonce: str


@dataclass(frozen=True)
class Begun:
    """`nonce` is for the provider's SDK; `state` comes back with the ID token."""

    nonce: str
    state: str
    expires_in: int = int(_Begun.LIFETIME.total_seconds())


@dataclass(frozen=True)
class Proof:
    """What a provider has just proved of somebody, by which `methods` (RFC 8176), and when they signed in there."""

    said: Assertion
    methods: tuple[str, ...]
    is_recent: bool


def begin(*, provider: str) -> Begun:
    """For anybody. Nothing is stored. Raises ProviderUnknown."""
    if not providers.get(provider).native:
        raise ProviderUnknown("it makes no ID tokens")
    ticket = _Begun(provider=provider, nonce=secrets.token_urlsafe(24))
    return Begun(ticket.nonce, tickets.issue(ticket))


def check(*, provider: str, id_token: str, state: str, caller: Caller) -> Proof:
    """Who has signed in at the provider. The state is used up.

    Raises ProviderUnknown, InvalidTicket, InvalidIdToken, ProviderUnavailable, RateLimited."""
    rate_limits.count_address("login_per_ip", caller=caller)
    found, begun = providers.get(provider), tickets.read(_Begun, state)
    if begun.provider != found.id:
        raise InvalidTicket("of another provider")
    claims = id_tokens.verify(id_token, found, nonce=begun.nonce)
    tickets.spend(begun)
    methods = (*BY_PROVIDER, mfa.MFA) if found.mfa and mfa.MFA in claims.methods else BY_PROVIDER
    signed_in, limit = claims.issued_at, RECENT_TOKEN
    if claims.authenticated_at is not None:
        signed_in, limit = claims.authenticated_at, RECENT_THERE
    return Proof(of_claims(found, claims), methods, now().timestamp() - signed_in <= limit.total_seconds())


def of(said: Assertion) -> Identity | None:
    """The identity that (issuer, subject) names, with its user."""
    return Identity.objects.select_related("user").filter(issuer=said.issuer, subject=said.subject).first()


def reauthenticate(
    *, user: User, session: Session, provider: str, id_token: str, state: str, code: str = "", caller: Caller
) -> None:
    """A signed-in device proves again who is using it, by an identity of the same user.

    Raises InvalidIdToken, MfaRequired and what `check` raises."""
    proof = check(provider=provider, id_token=id_token, state=state, caller=caller)
    known = of(proof.said)
    if known is None or known.user_id != user.id:
        raise InvalidIdToken("of nobody, or of another user")
    if not proof.is_recent:
        raise InvalidIdToken("signed in at the provider too long ago")
    reauthentication.prove(user=user, session=session, methods=proof.methods, code=code, caller=caller)


# --- Newcomers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Newcomer(tickets.Ticket):
    """What a provider said of somebody who is unknown here: good for a new account, or to connect it to one."""

    PURPOSE = "provider newcomer"
    LIFETIME = timedelta(minutes=10)
    said: dict[str, Any]
    methods: Sequence[str]

    @property
    def assertion(self) -> Assertion:
        return Assertion(**self.said)


# --- Connecting ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ways:
    """What else than a code or a passkey opens the account."""

    identities: Sequence[Identity]
    has_password: bool


def ways(user: User) -> Ways:
    """Read from Postgres: an API request loads only a part of its user."""
    password = User.objects.only("password").get(id=user.id)
    return Ways(list(user.identities.order_by("id")), password.has_usable_password())


def name_of(identity: Identity) -> str:
    """What people call its provider, also if it is not configured any more."""
    return next((one.name for one in providers.listed() if one.id == identity.provider), identity.provider)


def link(*, user: User, session: Session, provider: str, id_token: str, state: str, caller: Caller) -> Identity:
    """A signed-in user connects an identity. Does nothing if it is connected already.

    Raises RecentSignInNeeded, MfaRequired, IdentityTaken, TooManyIdentities and what `check` raises."""
    reauthentication.require_recent(user, session)
    proof = check(provider=provider, id_token=id_token, state=state, caller=caller)
    return _link(user, session, proof.said, caller)


def link_by_ticket(*, user: User, session: Session, ticket: str, caller: Caller) -> Identity:
    """The same with the ticket of IdentityUnknown: somebody who was unknown by it has signed in to their account.

    Raises InvalidTicket too."""
    reauthentication.require_recent(user, session)
    found = tickets.read(Newcomer, ticket)
    with transaction.atomic():
        tickets.spend(found)
        return _link(user, session, found.assertion, caller)


def _link(user: User, session: Session, said: Assertion, caller: Caller) -> Identity:
    with transaction.atomic():
        held = locks.lock_signed_in(user, session)
        known = of(said)
        if known and known.user_id == user.id:
            return known
        if known:
            raise IdentityTaken("another account's")
        if held.identities.count() >= MAX:
            raise TooManyIdentities
        try:
            return connect(held, said, caller, session)
        except IntegrityError:
            raise IdentityTaken("another account's at this moment") from None


def connect(user: User, said: Assertion, caller: Caller, session: Session | None = None) -> Identity:
    """In the caller's transaction, which has locked the user. Raises IntegrityError if somebody else was first."""
    with transaction.atomic():
        identity = create(user, said)
    audit.record(audit.Kind.IDENTITY_LINKED, user=user, caller=caller, session=session, provider=identity.provider)
    context = {"other": name_of(identity)}
    mail.send(mail.Message.IDENTITY_LINKED, user=user, caller=caller, context=context)
    return identity


def create(user: User, said: Assertion) -> Identity:
    return Identity.objects.create(
        user=user, provider=said.provider, issuer=said.issuer, subject=said.subject, email=said.email
    )


def note_email(identity: Identity, said: Assertion) -> None:
    """What the provider says now, for the owner to recognise it. The user's own address stays as it is."""
    if identity.email != said.email:
        identity.email = said.email
        identity.save(update_fields=["email"])


# --- Disconnecting ------------------------------------------------------------------------------------------


def unlink(*, user: User, session: Session, identity_id: UUID, caller: Caller) -> None:
    """Disconnect one. Devices that signed in by it are signed out, but for the one that asks.

    Raises RecentSignInNeeded, MfaRequired, IdentityNotFound, LastWayIn."""
    reauthentication.require_recent(user, session)
    with transaction.atomic():
        held = locks.lock_signed_in(user, session)
        identity = held.identities.filter(id=identity_id).first()
        if identity is None:
            raise IdentityNotFound
        if is_last_way_in(held, but=identity):
            raise LastWayIn
        _disconnect(identity, caller, session)


def is_last_way_in(user: User, *, but: Identity | Passkey) -> bool:
    """Whether nothing else opens the account. An identity does while its provider is configured."""
    if user.has_usable_password() or user.email_verified or user.passkeys.exclude(id=but.id).exists():
        return False
    usable = user.identities.filter(provider__in=[one.id for one in providers.listed()])
    return not usable.exclude(id=but.id).exists()


def _disconnect(identity: Identity, caller: Caller, session: Session | None = None) -> None:
    """In the caller's transaction, which has locked the user."""
    user, name = identity.user, name_of(identity)
    others = identity.sessions.open().exclude(id=session.id) if session else identity.sessions.open()
    others.update(ended_at=now())
    identity.delete()
    audit.record(audit.Kind.IDENTITY_UNLINKED, user=user, caller=caller, session=session, provider=identity.provider)
    mail.send(mail.Message.IDENTITY_UNLINKED, user=user, caller=caller, context={"other": name})


def unlink_all(*, user: User, caller: Caller) -> int:
    """By staff. The caller's transaction has locked the user. Returns how many there were."""
    found = list(user.identities.all())
    for identity in found:
        _disconnect(identity, caller)
    return len(found)


# --- When an account changes hands --------------------------------------------------------------------------


def forget(user: User, *, since: datetime | None = None) -> None:
    """Remove all of them, or those that are newer than `since`. The caller's transaction has locked the user, and ends
    the sessions."""
    found = user.identities.all()
    (found.filter(created_at__gte=since) if since else found).delete()


def revoke(user: User, *, since: datetime | None, taken_over: bool, caller: Caller) -> None:
    """Remove those that were connected after `since` (lifecycle.Revocation), in the caller's transaction."""
    if since and taken_over:
        forget(user, since=since)
    elif since:
        for identity in user.identities.filter(created_at__gte=since):
            _disconnect(identity, caller)


EXPORTED: Sequence[str] = ("id", "provider", "issuer", "subject", "email", "created_at", "last_used_at")


def export(user: User) -> Iterator[dict[str, Any]]:
    """For the copy of the data."""
    yield from user.identities.order_by("id").values(*EXPORTED)
