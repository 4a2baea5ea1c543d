"""Codes and links of emails: one record with two secrets, an 8-digit code to type and a key for the link. Only HMACs
are stored. Using one closes both; a newer pair closes the older.

One UPDATE spends a try before anything is compared. After five wrong codes the code stops working but the link does
not: otherwise anybody could keep the owner out by guessing."""

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NewType
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q

from accounts.caller import Caller
from accounts.errors import InvalidCode, InvalidKey
from accounts.lib import jobs, sealing, typed
from accounts.lib.clock import now
from accounts.lib.leases import Queue
from accounts.models import Challenge, User
from accounts.services.security import audit, rate_limits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Secrets:
    """Readable only here, on the way into an email."""

    code: str
    key: str
    challenge: Challenge


# --- Requests for an email ----------------------------------------------------------------------------------

_requests = Queue(rows=Challenge.objects, waiting=Q(answered_at=None), on_claim="")
LEASE = timedelta(seconds=30)  # after which one that failed, or whose worker died, is tried again
GIVEN_UP_AFTER = timedelta(hours=1)


def ask(
    kind: Challenge.Kind,
    *,
    login: str = "",
    email: str = "",
    user: User | None = None,
    ticket: UUID | None = None,
    caller: Caller,
) -> None:
    """One small write; the worker writes the email. Either for a name, which is the same for any and the worker finds
    out whom it means, or for a `user`, or to an `email` for somebody who has no account yet. In the caller's
    transaction, if there is one."""
    Challenge.objects.create(
        kind=kind,
        login=login[:254],
        email=email,
        user=user,
        ticket=ticket,
        created_at=now(),
        ip=caller.ip,
        device=caller.label[:200],
        language=caller.language,
    )
    jobs.enqueue("accounts.answer_requests")


def answer_asked(answer: Callable[[Challenge], None]) -> int:
    """In the worker: `answer` each waiting request, in a transaction of its own that also removes it. One that fails
    is tried again after the lease and delays none behind it. The number of requests."""
    count = 0
    while request := _requests.claim(lease=LEASE):
        count += 1
        try:
            with transaction.atomic():
                answer(request)
                if not _requests.mine(request).delete()[0]:  # erased, or another worker's by now
                    transaction.set_rollback(True)
        except Exception:
            log.exception("a request for an email could not be answered")
            if request.created_at <= now() - GIVEN_UP_AFTER:
                _requests.mine(request).delete()
    return count


def caller_of(challenge: Challenge) -> Caller:
    return Caller(ip=challenge.ip, known_as=challenge.device, language=challenge.language)


# --- Codes and links ----------------------------------------------------------------------------------------

DIGITS = 8


def issue(
    kind: Challenge.Kind, *, user: User | None, email: str, ticket: UUID | None = None, caller: Caller
) -> Secrets:
    """A new pair for this user; earlier ones of the kind are closed. For somebody who has no account yet they are not:
    a stranger may have asked for them, or for this one. In the caller's transaction, with the email."""
    if user:
        # A new password or an undone change closes all that is open. The lock puts it before or after this, not
        # between.
        list(User.objects.lock().filter(id=user.id).values_list("id"))
        if kind != Challenge.Kind.UNDO_EMAIL:  # each change has its own, and an older one goes further back
            Challenge.objects.open().filter(kind=kind, user=user).close()
    code, key = f"{secrets.randbelow(10**DIGITS):0{DIGITS}}", secrets.token_urlsafe(32)
    at = now()
    challenge = Challenge(kind=kind, user=user, email=email, ticket=ticket, created_at=at, answered_at=at)
    challenge.ip, challenge.device = caller.ip, caller.label[:200]
    challenge.code_mac = _code_mac(challenge.id, code)
    challenge.key_mac = sealing.mac("challenge key", key.encode())
    challenge.save(force_insert=True)
    return Secrets(code, f"{challenge.id.hex}-{key}", challenge)


def _code_mac(challenge_id: UUID, code: str) -> bytes:
    return sealing.mac("challenge code", challenge_id.bytes + code.encode())


Code = NewType("Code", str)


def read_code(given: str) -> Code:
    """An emailed code, however it was typed. What can't be one guesses nothing and spends no try.

    Raises InvalidCode."""
    code = typed.code(given)
    if len(code) != DIGITS or not code.isdecimal():
        raise InvalidCode("no eight digits")
    return Code(code)


_SPEND = """
    UPDATE accounts_challenge SET attempts = attempts + 1
    WHERE kind = %(kind)s AND {whose} AND closed_at IS NULL AND answered_at > %(oldest)s AND attempts < %(most)s
    RETURNING id
"""


def match_code(
    kind: Challenge.Kind,
    code: Code,
    *,
    caller: Caller,
    user_id: UUID | None = None,
    email: str | None = None,
    ticket: UUID | None = None,
) -> Challenge:
    """The open challenge that the code belongs to: of this user, or of anybody who claims this address, or of the
    `ticket` alone that somebody without an account has. `close` then uses it up. Raises InvalidCode."""
    whose = "user_id = %(whose)s" if email is None else "email = %(whose)s"
    if ticket:
        whose += " AND ticket = %(ticket)s"
    with transaction.atomic(), connection.cursor() as cursor:
        if email is not None:
            lock(email)
        cursor.execute(
            _SPEND.format(whose=whose),
            {
                "kind": kind,
                "whose": user_id if email is None else email,
                "ticket": ticket,
                "oldest": now() - settings.CODE_LIFETIME,
                "most": Challenge.MAX_ATTEMPTS,
            },
        )
        tried = [row[0] for row in cursor.fetchall()]
    if not tried:  # the same work as for somebody
        rate_limits.spend("wrong_code_per_account", f"nobody {user_id or email}")
    # For nobody the same look-up runs, with an id that nobody has: the time tells nothing.
    found = list(Challenge.objects.filter(id__in=tried or [UUID(int=0)]).select_related("user"))
    for challenge in found:
        assert challenge.code_mac is not None
        if sealing.is_mac("challenge code", challenge.id.bytes + code.encode(), bytes(challenge.code_mac)):
            for other in tried:  # a right code is not a wrong guess at others who claim the address
                if other != challenge.id:
                    refund(other)
            return challenge
    _note_failure(kind, [challenge.user for challenge in found], user_id, caller)
    raise InvalidCode("no open challenge" if not tried else "wrong code")


def _note_failure(kind: Challenge.Kind, tried: Sequence[User | None], user_id: UUID | None, caller: Caller) -> None:
    """In the log of each whose code was guessed at; for nobody a line as well, which takes as long. A code to get in
    by is asked for by a name: who only claims an address must not learn from their own log that it means them."""
    for user in tried or [User.objects.filter(id=user_id).first() if user_id else None]:
        meant = user and (kind == Challenge.Kind.CONFIRM_EMAIL or user.email_verified)
        audit.record(audit.Kind.CODE_FAILED, user=user if meant else None, caller=caller)


def refund(challenge_id: UUID) -> None:
    """Give the try back: the code was right, and something else was refused."""
    Challenge.objects.filter(id=challenge_id).update(attempts=F("attempts") - 1)


def lock(email: str) -> None:
    """Lock this address until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 1))", [email])


def lock_with_users(email: str, user_id: UUID) -> None:
    """The same, and lock this user and those who claim the address."""
    lock(email)
    list(User.objects.lock().filter(Q(id=user_id) | Q(email=email)).order_by("id").values_list("id"))


def match_key(kind: Challenge.Kind, key: str) -> Challenge:
    """The open challenge that a link's key belongs to. Changes nothing: scanners open links. Raises InvalidKey."""
    head, _, secret = key.partition("-")
    try:
        challenge_id = UUID(hex=head)
    except ValueError:
        raise InvalidKey("malformed") from None
    challenge = Challenge.objects.open().filter(id=challenge_id, kind=kind).select_related("user").first()
    if challenge is None or challenge.key_mac is None or challenge.link_expires_at <= now():
        raise InvalidKey("unknown, used or expired")
    if not sealing.is_mac("challenge key", secret.encode(), bytes(challenge.key_mac)):
        raise InvalidKey("forged")
    return challenge


def close(challenge: Challenge) -> None:
    """Use it up. If several try at once, one succeeds and the others raise InvalidCode."""
    if not Challenge.objects.open().filter(id=challenge.id).close():
        raise InvalidCode("already used")


def use(challenge: Challenge) -> User:
    """Use it up and lock its user, in the caller's transaction. Raises InvalidCode if it was already used, or if the
    account has another address by now."""
    assert challenge.user_id is not None
    lock_with_users(challenge.email, challenge.user_id)
    close(challenge)  # before reading the user, since an account erased in the meantime has no open challenge
    user = User.objects.get(id=challenge.user_id)
    if user.email != challenge.email:
        raise InvalidCode("sent to an address that the account no longer has")
    return user


def close_all(user: User) -> None:
    """Close every code and link but those that undo something."""
    Challenge.objects.open().proofs().filter(user=user).close()


def close_before(moment: datetime, *, answered: datetime, apply: bool) -> int:
    """Close every code and link of before this moment but those that undo something, and remove the requests of before
    `answered` that wait for the worker. How many they are."""
    codes = Challenge.objects.open().proofs().filter(created_at__lt=moment)
    requests = Challenge.objects.asked().filter(created_at__lt=min(moment, answered))
    if not apply:
        return codes.count() + requests.count()
    return codes.close() + requests.delete()[0]


def prune() -> int:
    """Delete what expired more than a day ago; an operator may still look at the last day."""
    at = now() - timedelta(days=1)
    return sum(
        Challenge.objects.filter(kind=kind, created_at__lt=at - Challenge.link_lifetime(kind)).delete()[0]
        for kind in Challenge.Kind
    )


def forget(user: User) -> None:
    """Delete everything of an erased account: its own, requests that wait for the worker, and what others used up on an
    address that it had verified."""
    user.challenges.all().delete()
    Challenge.objects.asked().filter(login__in=[name for name in (user.username, user.email) if name]).delete()
    if user.email_verified:
        Challenge.objects.filter(email=user.email).exclude(closed_at=None).delete()
