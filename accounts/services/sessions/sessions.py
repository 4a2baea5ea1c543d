"""Signed-in devices and their refresh tokens.

A refresh token is `session id | generation | HMAC` and nothing of it is stored: the row knows only which
generation is the newest. Presenting generation g asks for g + 1:

- g is the newest: g + 1 is issued. One conditional UPDATE decides which request advances the row.
- g is older: its one successor is issued again until that successor has been used (as a refresh token, or by its
  access token here), and for GRACE after. So a lost answer can be repeated at any time, and any number of refreshes at
  once get the same successor.
- g is older than that: somebody has a copy. The session ends and the user is notified.
- g is newer: Postgres went back to an earlier state (a restored backup, a failover that lost the last commits). The
  HMAC proves that g was issued, so the row catches up. To refuse would sign out every phone in use."""

import base64
import logging
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.sessions.models import Session as BrowserSession
from django.db import connection, transaction
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import (
    InvalidCredentials,
    InvalidCursor,
    InvalidTicket,
    InvalidToken,
    RefreshExpired,
    RefreshReused,
    SessionNotFound,
    SessionRevoked,
)
from accounts.lib import postgres, rows, sealing
from accounts.models import Challenge, Event, Identity, Session, User
from accounts.services import mail
from accounts.services.credentials import challenges
from accounts.services.security import audit, cursors, rate_limits
from accounts.services.sessions import access_tokens, mfa
from accounts.services.sessions.access_tokens import Claims

log = logging.getLogger(__name__)

GRACE = timedelta(seconds=60)
LAST_USE_PRECISION = timedelta(minutes=1)
MAX_OPEN = 100  # devices of one account, and so the most that a list of them holds


@dataclass(frozen=True)
class Tokens:
    access_token: str
    expires_in: int  # seconds
    refresh_token: str
    session_id: UUID
    token_type: str = "Bearer"  # noqa: S105 - the word of RFC 6750


@dataclass(frozen=True)
class SignedIn:
    user: User
    tokens: Tokens


# Raw SQL, because every sign-in runs it and the ORM takes twice as long.
_LOCK = "SELECT 1 FROM accounts_user WHERE id = %s AND password = %s AND is_active FOR NO KEY UPDATE"
# In place of four statements. It sees what others committed before the user's row was locked.
_BEGIN = f"""
    WITH known AS (
        SELECT NOT %(mfa)s AND EXISTS (SELECT FROM accounts_twostep WHERE user_id = %(session_user_id)s) AS needs_mfa,
            count(*) FILTER (WHERE ended_at IS NULL AND expires_at > %(session_created_at)s) AS open,
            count(*) > 0 AND count(*) FILTER (WHERE kind = %(session_kind)s AND name = %(session_name)s) = 0 AS is_new
        FROM accounts_session WHERE user_id = %(session_user_id)s
    ), begun AS (
        INSERT INTO accounts_session ({rows.columns(Session)}) SELECT {rows.places(Session, "session")}
        FROM known WHERE NOT needs_mfa
    ), told AS (
        INSERT INTO accounts_event ({rows.columns(Event)}) SELECT {rows.places(Event, "event")}
        FROM known WHERE NOT needs_mfa
    )
    SELECT needs_mfa, open, is_new FROM known
""".replace("%(event_kind)s", "CASE WHEN is_new THEN %(new_device)s ELSE %(event_kind)s END")  # noqa: S608


def begin(
    *,
    user: User,
    kind: Session.Kind,
    caller: Caller,
    methods: Sequence[str] = ("pwd",),
    identity: UUID | None = None,
) -> Session:
    """Start a session on a device that has just proved who is using it, by `methods` of RFC 8176, and by an `identity`
    at a provider, with which the session ends.

    Raises InvalidCredentials if the password was changed or the account switched off since; InvalidTicket if the
    identity was disconnected since; MfaRequired if the methods are not enough, which the log records."""
    with transaction.atomic():
        _lock_as_checked(user)
        if identity and not Identity.objects.filter(id=identity, user=user).update(last_used_at=now()):
            raise InvalidTicket("disconnected in the meantime")
        session = _new(user, kind, caller, methods, identity)
        needs_mfa, others, is_new = _insert(session, caller)
        if needs_mfa:
            audit.record(audit.Kind.LOGIN_HALF_WAY, user=user, caller=caller)
        elif others >= MAX_OPEN:
            _end_oldest(user, caller)
        if is_new and not needs_mfa and user.email_verified:
            challenges.ask(Challenge.Kind.NEW_DEVICE, user=user, caller=caller)
    if needs_mfa:
        mfa.refuse(user, methods, identity)
    return session


def _lock_as_checked(user: User) -> None:
    """Lock the user until the transaction ends: a new password waits, then ends this session too."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [user.id, user.password])
        if not cursor.fetchone():
            raise InvalidCredentials("changed in the meantime")


def _new(user: User, kind: Session.Kind, caller: Caller, methods: Sequence[str], identity: UUID | None) -> Session:
    at, device = now(), caller.device
    return Session(
        user=user,
        kind=kind,
        name=caller.label[:100],
        platform=device.platform if device else "",
        app_version=device.app_version if device else "",
        ip=caller.ip,
        created_at=at,
        last_used_at=at,
        authenticated_at=at,
        authenticated_by=" ".join(methods),
        expires_at=_expiry(at, at),
        identity_id=identity,
    )


def _insert(session: Session, caller: Caller) -> tuple[bool, int, bool]:
    """Write it and its event, unless MFA is needed. Whether that is so, how many other sessions are open, and whether
    the device is a new one."""
    event = audit.draft(audit.Kind.SESSION_STARTED, user=session.user, caller=caller, session=session)
    values: dict[str, Any] = {"mfa": mfa.MFA in session.methods, "new_device": audit.Kind.SESSION_NEW_DEVICE}
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN, values | rows.values(session, "session") | rows.values(event, "event"))
        found: tuple[bool, int, bool] = cursor.fetchone()
    session._state.adding = False  # noqa: SLF001 - a documented API of Django's
    return found


def strengthen(session: Session, methods: Sequence[str]) -> None:
    """Record that a signed-in device has just used further methods."""
    with transaction.atomic():
        row = Session.objects.open().select_for_update(no_key=True).filter(id=session.id).first()
        if row:
            row.authenticated_by = " ".join(dict.fromkeys([*row.methods, *methods]))
            row.authenticated_at = now()
            row.save(update_fields=["authenticated_by", "authenticated_at"])


def answer(request: Challenge) -> None:
    """In the worker: tell an owner of a sign-in on a new device."""
    assert request.user is not None
    context = {"at": request.created_at}
    mail.send(mail.Message.NEW_DEVICE, user=request.user, caller=challenges.caller_of(request), context=context)


def _end_oldest(user: User, caller: Caller) -> None:
    """End the sessions beyond MAX_OPEN that have been unused for the longest time."""
    surplus = user.sessions.open().order_by("-last_used_at").values_list("id", flat=True)[MAX_OPEN:]
    for session_id in list(surplus):
        Session.objects.filter(id=session_id).update(ended_at=now())
        audit.record(audit.Kind.SESSION_REPLACED, user=user, caller=caller, session=session_id)


def _expiry(created_at: datetime, used_at: datetime) -> datetime:
    return min(created_at + settings.REFRESH_ABSOLUTE_LIFETIME, used_at + settings.REFRESH_IDLE_LIFETIME)


def tokens(session: Session, *, generation: int = 0) -> Tokens:
    access = access_tokens.issue(session, generation=generation)
    return Tokens(access.access_token, access.expires_in, _refresh_token(session.id, generation), session.id)


# --- Refreshing ---------------------------------------------------------------------------------------------

_HEAD = struct.Struct(">16sI")
_MAC_LENGTH = 24


def _refresh_token(session_id: UUID, generation: int) -> str:
    head = _HEAD.pack(session_id.bytes, generation)
    return base64.urlsafe_b64encode(head + sealing.mac("refresh token", head)[:_MAC_LENGTH]).rstrip(b"=").decode()


def _read_refresh_token(token: str) -> tuple[UUID, int]:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise SessionRevoked("malformed refresh token") from None
    head = raw[: _HEAD.size]
    if len(raw) != _HEAD.size + _MAC_LENGTH or not sealing.is_mac("refresh token", head, raw[_HEAD.size :]):
        raise SessionRevoked("forged refresh token")
    session_id, generation = _HEAD.unpack(head)
    return UUID(bytes=session_id), generation


def refresh(*, refresh_token: str, caller: Caller) -> Tokens:
    """The one successor of this token. Raises RefreshExpired, RefreshReused, SessionRevoked."""
    rate_limits.count_address("refresh_per_ip", caller=caller)
    session_id, generation = _read_refresh_token(refresh_token)
    while True:
        session = _living(session_id)
        at = now()
        if session is None:
            raise SessionRevoked("no such session, ended or disabled")
        if session.expires_at <= at:
            raise RefreshExpired
        if generation > session.generation:
            _catch_up(session, generation)
            continue
        if generation == session.generation:
            if not _advance(session, at, caller):
                continue  # another refresh with this token came first; the row is read again and answers the same
        elif not _may_ask_again(session, generation, at):
            _end_for_reuse(session, generation, caller)
        return tokens(session, generation=generation + 1)


# Raw SQL, because apps call this and `authenticate` all day and the ORM takes twice as long.
_REFRESH_FIELDS: Sequence[str] = (
    "id", "user_id", "name", "created_at", "authenticated_at", "authenticated_by", "expires_at", "generation",
    "generation_used_at", "earlier_used_at",
)  # fmt: skip
_LIVING = (
    f"SELECT {', '.join(f's.{name}' for name in _REFRESH_FIELDS)}"  # noqa: S608 - names from above, no input
    " FROM accounts_session s JOIN accounts_user u ON u.id = s.user_id"
    " WHERE s.id = %s AND s.ended_at IS NULL AND u.is_active"
)
_ADVANCE = """
    UPDATE accounts_session SET generation = generation + 1, generation_used_at = NULL,
        earlier_used_at = %s::timestamptz[], last_used_at = %s, expires_at = %s, ip = %s
    WHERE id = %s AND generation = %s AND ended_at IS NULL
"""


def _living(session_id: UUID) -> Session | None:
    """The session of an active user, if it was not ended. It may have expired."""
    with connection.cursor() as cursor:
        cursor.execute(_LIVING, [session_id])
        row = cursor.fetchone()
    return Session.from_db("default", _REFRESH_FIELDS, row) if row else None


def _advance(session: Session, at: datetime, caller: Caller) -> bool:
    """Whether this request advanced the row."""
    first_used = session.generation_used_at or at
    earlier = [first_used, *(used for used in session.earlier_used_at if used > at - GRACE)]
    expires_at = _expiry(session.created_at, at)
    with connection.cursor() as cursor:
        values = (_array(earlier[:50]), at, expires_at, caller.ip, session.id, session.generation)
        cursor.execute(_ADVANCE, values)
        moved: int = cursor.rowcount
    return moved == 1


def _catch_up(session: Session, generation: int) -> None:
    """Postgres went back behind this generation. One that is newer still stays."""
    behind = Session.objects.open().filter(id=session.id, generation__lt=generation)
    if behind.update(generation=generation, generation_used_at=None, earlier_used_at=[]):
        log.warning("session %s caught up from generation %d to %d", session.id, session.generation, generation)


def _array(moments: Sequence[datetime]) -> str:
    """As one parameter. Written as a literal for each, one statement would be fifty for Postgres."""
    return f"{{{','.join(moment.isoformat() for moment in moments)}}}"


def _may_ask_again(session: Session, generation: int, at: datetime) -> bool:
    """Whether the successor of this older token is unused, or was first used less than GRACE ago."""
    back = session.generation - (generation + 1)
    if back == 0:
        used_at = session.generation_used_at
        return used_at is None or at - used_at <= GRACE
    if back > len(session.earlier_used_at):
        return False
    used: datetime = session.earlier_used_at[back - 1]
    return at - used <= GRACE


def _end_for_reuse(session: Session, generation: int, caller: Caller) -> None:
    with transaction.atomic():
        ended = Session.objects.filter(id=session.id, ended_at=None).update(ended_at=now())
        if ended:  # of several at once, one tells
            audit.record(audit.Kind.SESSION_REUSED, user=session.user, caller=caller, session=session)
            mail.send(mail.Message.REFRESH_REUSED, user=session.user, caller=caller, context={"device": session.name})
    raise RefreshReused(f"generation {generation} of {session.generation}")


# --- Each request -------------------------------------------------------------------------------------------

_USER_FIELDS: Sequence[str] = (
    "id", "username", "username_typed", "email", "email_verified", "first_name", "last_name", "gender", "language",
    "time_zone", "picture", "picture_placeholder", "is_active", "is_staff", "created_at", "updated_at", "deletes_at",
)  # fmt: skip
_SESSION_FIELDS: Sequence[str] = ("id", "user_id", "kind", "last_used_at", "generation", "generation_used_at")
_BY_TOKEN = (
    f"SELECT {', '.join(f'u.{name}' for name in _USER_FIELDS)}, {', '.join(f's.{name}' for name in _SESSION_FIELDS)}"  # noqa: S608 - names from above, no input
    " FROM accounts_session s JOIN accounts_user u ON u.id = s.user_id"
    " WHERE s.id = %s AND s.user_id = %s AND s.ended_at IS NULL AND s.expires_at > %s AND u.is_active"
)


def authenticate(claims: Claims) -> tuple[User, Session]:
    """The user and the session of an access token: one narrow query, and an update at most once a minute. Both are
    loaded without their other columns. Raises SessionRevoked for an ended session or a disabled or erased user."""
    at = now()
    with connection.cursor() as cursor:
        # Raw SQL, because every request runs it and the ORM takes four times as long.
        cursor.execute(_BY_TOKEN, [claims.session_id, claims.user_id, at])
        row = cursor.fetchone()
    if row is None:
        raise SessionRevoked("ended, disabled or gone")
    user = User.from_db("default", _USER_FIELDS, row[: len(_USER_FIELDS)])
    session = Session.from_db("default", _SESSION_FIELDS, row[len(_USER_FIELDS) :])
    if claims.generation > session.generation:
        raise InvalidToken("from the future")
    _note_use(session, claims.generation, at)
    return user, session


def _note_use(session: Session, generation: int, at: datetime) -> None:
    changes: dict[str, Any] = {}
    if generation == session.generation and session.generation_used_at is None:
        # The predecessor of its refresh token can be used for GRACE from now on.
        changes["generation_used_at"] = at
    if changes or at - session.last_used_at >= LAST_USE_PRECISION:
        with postgres.dispensable():
            Session.objects.filter(id=session.id, generation=session.generation).update(last_used_at=at, **changes)


def browser(session_id: UUID, user_id: UUID) -> Session | None:
    """The open session of a browser that is signed in as this active user, who comes with it. Its last use is
    recorded."""
    at = now()
    mine = Session.objects.select_related("user").filter(id=session_id, user_id=user_id, user__is_active=True)
    session = mine.filter(ended_at=None, expires_at__gt=at).first()
    if session is None:
        return None
    if at - session.last_used_at >= LAST_USE_PRECISION:
        with postgres.dispensable():
            Session.objects.filter(id=session.id).update(last_used_at=at, expires_at=_expiry(session.created_at, at))
    return session


# --- Ending -------------------------------------------------------------------------------------------------


def list_for(user: User) -> Sequence[Session]:
    """The open sessions of a user, most recently used first."""
    return list(user.sessions.open().order_by("-last_used_at"))


@dataclass(frozen=True)
class Page:
    sessions: Sequence[Session]
    next: str | None


def list_page(user: User, *, size: int | None, cursor: str = "") -> Page:
    """The same in pages. An account has few (MAX_OPEN), so all are read, and with them that of the cursor, which may
    have ended since. Raises InvalidCursor."""
    if not cursor:
        return _first(list_for(user), size)
    last = cursors.read("sessions", cursor)
    found = list((user.sessions.open() | user.sessions.filter(id=last)).order_by("-last_used_at"))
    place = next((place for place, session in enumerate(found) if session.id == last), None)
    if place is None:
        raise InvalidCursor("of somebody else, or long gone")
    return _first(found[place + 1 :], size)


def _first(found: Sequence[Session], size: int | None) -> Page:
    page = found[:size]
    return Page(page, cursors.write("sessions", page[-1].id) if len(page) < len(found) else None)


def end(*, user: User, session_id: UUID, caller: Caller) -> None:
    """Sign one device out. Refreshing fails at once; its access token is refused here from now on.

    Raises SessionNotFound."""
    with transaction.atomic():
        session = user.sessions.open().select_for_update().filter(id=session_id).first()
        if session is None:
            raise SessionNotFound
        session.end(at=now())
        audit.record(audit.Kind.SESSION_ENDED, user=user, caller=caller, session=session)


def end_others(*, user: User, keep: UUID | None, caller: Caller) -> int:
    """Sign out every device but `keep`. Returns how many sessions were open."""
    with transaction.atomic():
        others = user.sessions.open().exclude(id=keep) if keep else user.sessions.open()
        ended = others.update(ended_at=now())
        if ended:
            audit.record(audit.Kind.SESSION_OTHERS_ENDED, user=user, caller=caller, count=ended)
    return ended


def sign_out(*, refresh_token: str, caller: Caller) -> None:
    """End the session of this token, whatever its generation. Does nothing if it has already ended (RFC 7009)."""
    try:
        session_id, _ = _read_refresh_token(refresh_token)
    except SessionRevoked:
        return
    session = Session.objects.select_related("user").filter(id=session_id, ended_at=None).first()
    if session:
        with transaction.atomic():
            session.end(at=now())
            audit.record(audit.Kind.SESSION_ENDED, user=session.user, caller=caller, session=session)


def prune() -> int:
    """Delete sessions that ended longer ago than an absolute lifetime, and Django's expired ones."""
    BrowserSession.objects.filter(expire_date__lt=now()).delete()
    count, _ = Session.objects.filter(expires_at__lt=now() - settings.REFRESH_ABSOLUTE_LIFETIME).delete()
    return count


EXPORTED: Sequence[str] = (
    "id", "kind", "name", "platform", "app_version", "ip", "created_at", "last_used_at", "authenticated_at",
    "authenticated_by", "expires_at", "ended_at",
)  # fmt: skip


def export(user: User) -> Iterator[dict[str, Any]]:
    """Every device for the copy of the data, open or not."""
    yield from user.sessions.order_by("id").values(*EXPORTED).iterator()
