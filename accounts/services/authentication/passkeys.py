"""Passkeys (WebAuthn): adding them, and signing in with one. The device checks who holds it (user verification is asked
for), so a passkey is both factors in one. The library of fido2 checks what a device signed; the rules are ours.

The challenge travels in a ticket, so that nothing is stored for a page that is only looked at: the sign-in page asks
for one each time, to let the browser offer a passkey where the username is typed."""

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.timezone import now
from fido2.server import Fido2Server
from fido2.utils import websafe_encode
from fido2.webauthn import (
    AttestedCredentialData,
    AuthenticationResponse,
    AuthenticatorData,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialUserEntity,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from accounts.caller import Caller
from accounts.errors import (
    AccountError,
    FieldError,
    InvalidInput,
    InvalidPasskey,
    LastWayIn,
    PasskeyNotFound,
    TooManyPasskeys,
)
from accounts.lib import typed
from accounts.models import Passkey, Session, User
from accounts.services import mail
from accounts.services.authentication import identities, reauthentication, sign_in, totp
from accounts.services.security import audit, rate_limits, tickets
from accounts.services.sessions import locks, mfa, sessions
from accounts.services.sessions.mfa import Passed
from accounts.services.sessions.sessions import SignedIn

MAX = 20  # of one account
NAME_MAX_LENGTH = 60
ID_MAX_LENGTH = 1023  # bytes; WebAuthn's own limit
Checked = TypeVar("Checked")
Credential = Mapping[str, Any]  # what `PublicKeyCredential.toJSON()` gives, and what phones call the response JSON


@dataclass(frozen=True)
class Ceremony:
    """What a device needs: `options` in the JSON of WebAuthn, and the `state` that comes back with its answer."""

    options: dict[str, Any]
    state: str

    @property
    def json(self) -> str:
        return json.dumps(self.options)


@dataclass(frozen=True, kw_only=True)
class _SignIn(tickets.Ticket):
    PURPOSE = "passkey sign-in"
    LIFETIME = timedelta(minutes=30)  # of the sign-in page, where it waits for somebody to choose a passkey
    challenge: str


@dataclass(frozen=True, kw_only=True)
class _Adding(tickets.SetupTicket):
    PURPOSE = "passkey"
    challenge: str


def _server() -> Fido2Server:
    return _server_of(settings.PUBLIC_URL, settings.SITE_NAME)


@lru_cache(maxsize=1)
def _server_of(address: str, name: str) -> Fido2Server:
    """One for the process: to build it takes a quarter of the sign-in page's time."""
    entity = PublicKeyCredentialRpEntity(id=urlsplit(address).hostname, name=name)
    return Fido2Server(entity, attestation="none", verify_origin=lambda caller: caller in _origins())  # type: ignore[arg-type]


def _origins() -> list[str]:
    """Where a passkey of this service may be used: its pages, and its Android apps. (iOS apps name the pages.)"""
    site = urlsplit(settings.PUBLIC_URL)
    apps = [_android_origin(app.partition("=")[2]) for app in settings.ANDROID_APPS]
    return [f"{site.scheme}://{site.netloc}", *apps]


def _android_origin(fingerprint: str) -> str:
    return f"android:apk-key-hash:{websafe_encode(bytes.fromhex(fingerprint.replace(':', '')))}"


# --- Adding -------------------------------------------------------------------------------------------------


def begin_adding(*, user: User, session: Session) -> Ceremony:
    """Raises RecentSignInNeeded, TooManyPasskeys."""
    reauthentication.require_recent(user, session)
    totp.require_verified(user)
    known = [AttestedCredentialData(bytes(one.credential)) for one in user.passkeys.all()]
    if len(known) >= MAX:
        raise TooManyPasskeys
    challenge = secrets.token_bytes(32)
    options, _state = _server().register_begin(
        PublicKeyCredentialUserEntity(id=user.id.bytes, name=user.username_display, display_name=user.get_full_name()),
        known,
        resident_key_requirement=ResidentKeyRequirement.REQUIRED,
        user_verification=UserVerificationRequirement.REQUIRED,
        challenge=challenge,
    )
    ticket = _Adding(user=user.id.hex, session=session.id.hex, challenge=websafe_encode(challenge))
    return Ceremony(dict(options.public_key), tickets.issue(ticket))


def add(*, user: User, session: Session, state: str, credential: Credential, name: str = "", caller: Caller) -> Passkey:
    """Raises SetupExpired, InvalidPasskey, TooManyPasskeys, InvalidInput."""
    name = clean_name(name)
    found = tickets.read_own(_Adding, state, user, session)
    answer = _checked(lambda: _server().register_complete(_fido_state(found), credential))
    with transaction.atomic():
        totp.require_verified(locks.lock_signed_in(user, session))
        tickets.spend(found)
        if user.passkeys.count() >= MAX:
            raise TooManyPasskeys
        passkey = _create(user, name, answer, caller)
        sessions.strengthen(session, _methods(passkey))
        audit.record(audit.Kind.PASSKEY_ADDED, user=user, caller=caller, session=session, name=passkey.name)
        context = {"factor": "passkey", "other": passkey.name}
        mail.send(mail.Message.FACTOR_ADDED, user=user, caller=caller, context=context)
    return passkey


def _create(user: User, name: str, answer: AuthenticatorData, caller: Caller) -> Passkey:
    made = answer.credential_data
    if made is None or len(made.credential_id) > ID_MAX_LENGTH:
        raise InvalidPasskey("without an id, or its id is too long")
    name = name or _new_name(user, MAKERS.get(str(UUID(bytes=bytes(made.aaguid))), caller.label))
    try:
        with transaction.atomic():
            return Passkey.objects.create(
                user=user,
                credential_id=made.credential_id,
                credential=bytes(made),
                sign_count=answer.counter,
                synced=answer.is_backup_eligible(),
                name=name,
            )
    except IntegrityError:
        raise InvalidPasskey("already known") from None


def clean_name(name: str) -> str:
    name = typed.line(name)
    if len(name) > NAME_MAX_LENGTH:
        raise InvalidInput([FieldError("name", "passkey_name_too_long", NAME_MAX_LENGTH)])
    if any(map(typed.is_control, name)):
        raise InvalidInput([FieldError("name", "invalid_characters")])
    return name


# What keeps a passkey, by its AAGUID: the ones that most people have.
MAKERS = {
    "ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4": "Google Password Manager",
    "fbfc3007-154e-4ecc-8c0b-6e020557d7bd": "Apple Passwords",
    "dd4ec289-e01d-41c9-bb89-70fa845d4bf2": "Apple Passwords",  # managed by a company
    "08987058-cadc-4b81-b6e1-30de50dcbe96": "Windows Hello",
    "9ddd1817-af5a-4672-a2b9-3e3dd95000a9": "Windows Hello",
    "6028b017-b1d4-4c02-b4b3-afcdafc96bb2": "Windows Hello",
    "53414d53-554e-4700-0000-000000000000": "Samsung Pass",
    "bada5566-a7aa-401f-bd96-45619a55120d": "1Password",
    "d548826e-79b4-db40-a3d8-11116f7e8349": "Bitwarden",
    "531126d6-e717-415c-9320-3d9aa6981239": "Dashlane",
    "50726f74-6f6e-5061-7373-50726f746f6e": "Proton Pass",
    "adce0002-35bc-c60a-648b-0b25f1f05503": "Chrome on Mac",
}


def _new_name(user: User, name: str) -> str:
    """The name, with a number if the user has a passkey of that name."""
    taken, name = set(user.passkeys.values_list("name", flat=True)), name[: NAME_MAX_LENGTH - 3]
    return next(found for n in range(1, MAX + 2) if (found := f"{name} {n}" if n > 1 else name) not in taken)


def _fido_state(found: _Adding | _SignIn) -> dict[str, Any]:
    return {"challenge": found.challenge, "user_verification": UserVerificationRequirement.REQUIRED}


def _checked(check: Callable[[], Checked]) -> Checked:
    """What a device sent is anything: whatever the library makes of it, it is not accepted."""
    try:
        return check()
    except AccountError:
        raise
    except Exception as error:  # noqa: BLE001 - CBOR, JSON and curves fail in a dozen ways
        raise InvalidPasskey(f"{type(error).__name__}: {error}"[:100]) from None


# --- Signing in ---------------------------------------------------------------------------------------------


def begin_sign_in() -> Ceremony:
    """For anybody: which passkey, the device asks its holder."""
    challenge = secrets.token_bytes(32)
    options, _state = _server().authenticate_begin(
        user_verification=UserVerificationRequirement.REQUIRED, challenge=challenge
    )
    return Ceremony(dict(options.public_key), tickets.issue(_SignIn(challenge=websafe_encode(challenge))))


def check(*, state: str, credential: Credential, caller: Caller) -> Passed:
    """Who may sign in with this. Raises InvalidTicket, InvalidPasskey, RateLimited, AccountDisabled,
    EmailNotVerified."""
    rate_limits.count_address("login_per_ip", caller=caller)
    found = tickets.read(_SignIn, state)
    passkey = _known(credential)
    answer = _checked(lambda: AuthenticationResponse.from_dict(credential))
    kept = AttestedCredentialData(bytes(passkey.credential))
    _checked(lambda: _server().authenticate_complete(_fido_state(found), [kept], answer))
    if answer.response.user_handle not in (None, passkey.user_id.bytes):
        raise InvalidPasskey("of another user")
    with transaction.atomic():
        tickets.spend(found)
        counted = _count(passkey, answer.response.authenticator_data.counter)
    if not counted:
        audit.record(audit.Kind.PASSKEY_REFUSED, user=passkey.user, caller=caller, name=passkey.name)
        raise InvalidPasskey("its counter went back")
    try:
        sign_in.admit(passkey.user)
    except AccountError:
        audit.record(audit.Kind.LOGIN_REFUSED, user=passkey.user, caller=caller)
        raise
    return Passed(passkey.user, _methods(passkey))


def _methods(passkey: Passkey) -> tuple[str, ...]:
    return ("swk" if passkey.synced else "hwk", mfa.MFA)


def reauthenticate(*, user: User, session: Session, state: str, credential: Credential, caller: Caller) -> None:
    """A signed-in device proves once more who uses it. Raises what `check` raises."""
    passed = check(state=state, credential=credential, caller=caller)
    if passed.user.id != user.id:
        raise InvalidPasskey("of another user")
    sessions.strengthen(session, passed.methods)


def _known(credential: Credential) -> Passkey:
    raw = _checked(lambda: base64.urlsafe_b64decode(f"{credential['id']}=="))
    passkey = Passkey.objects.select_related("user").filter(credential_id=raw).first()
    if passkey is None:
        raise InvalidPasskey("unknown")
    return passkey


def _count(passkey: Passkey, counter: int) -> bool:
    """Note the use. A counter that does not go up is a copy's; those of synced passkeys stay at 0."""
    earlier = Q(sign_count__lt=counter) if counter else Q(sign_count=0)
    return bool(Passkey.objects.filter(earlier, id=passkey.id).update(sign_count=counter, last_used_at=now()))


def sign_in_app(*, state: str, credential: Credential, caller: Caller) -> SignedIn:
    """Sign an app in. Raises what `check` raises."""
    passed = check(state=state, credential=credential, caller=caller)
    return sign_in.begin_app(passed.user, caller, methods=passed.methods)


# --- Keeping them -------------------------------------------------------------------------------------------


def rename(*, user: User, passkey_id: UUID, name: str, caller: Caller) -> Passkey:
    """Raises PasskeyNotFound, InvalidInput."""
    name = clean_name(name)
    if not name:
        raise InvalidInput([FieldError("name", "required")])
    with transaction.atomic():
        passkey = user.passkeys.select_for_update().filter(id=passkey_id).first()
        if passkey is None:
            raise PasskeyNotFound
        passkey.name = name
        passkey.save(update_fields=["name"])
        audit.record(audit.Kind.PASSKEY_RENAMED, user=user, caller=caller, name=name)
    return passkey


def remove(*, user: User, session: Session, passkey_id: UUID, caller: Caller) -> None:
    """Raises RecentSignInNeeded, PasskeyNotFound, LastWayIn."""
    reauthentication.require_recent(user, session)
    with transaction.atomic():
        held = locks.lock_signed_in(user, session)
        passkey = held.passkeys.filter(id=passkey_id).first()
        if passkey is None:
            raise PasskeyNotFound
        if identities.is_last_way_in(held, but=passkey):
            raise LastWayIn
        totp.remove_passkey(passkey, caller, session)


def forget(user: User, *, since: datetime | None = None) -> None:
    """Remove all of them, or those that are newer than `since`. The caller's transaction has locked the user."""
    found = user.passkeys.all()
    (found.filter(created_at__gte=since) if since else found).delete()


def revoke(user: User, *, since: datetime | None, taken_over: bool, caller: Caller) -> None:
    """Remove those that were added after `since` (lifecycle.Revocation), in the caller's transaction."""
    if since and taken_over:
        forget(user, since=since)
    elif since:
        for passkey in Passkey.objects.filter(user=user, created_at__gte=since).select_related("user"):
            totp.remove_passkey(passkey, caller)
