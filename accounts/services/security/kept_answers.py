"""Answers to writes, kept for an app whose answer was lost: it asks again with the same Idempotency-Key and gets the
same answer (draft-ietf-httpapi-idempotency-key-header).

An answer may hold tokens. It is sealed with the app's own key, of which only an HMAC is stored: nobody can open it who
does not have both the key and SECRET_KEY."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import DatabaseError, IntegrityError, InterfaceError, transaction
from django.db.models import QuerySet

from accounts.errors import IdempotencyKeyReused, RequestInProgress
from accounts.lib import postgres, sealing
from accounts.lib.clock import now
from accounts.models import KeptAnswer, User

log = logging.getLogger(__name__)

KEPT = timedelta(days=1)
LEASE = timedelta(seconds=20)  # longer than any request takes: one without an answer by then has died with its process


@dataclass(frozen=True)
class Asked:
    """A request: which operation and whose account, the app's key for it, and the body in one spelling."""

    scope: str
    key: str
    body: str

    @property
    def name(self) -> bytes:
        return f"{self.scope} {self.key}".encode()

    def purpose(self, what: str) -> str:
        return f"kept {what} {self.key}"


def _mine(asked: Asked) -> QuerySet[KeptAnswer]:
    return KeptAnswer.objects.filter(mac__in=sealing.macs("kept answers", asked.name))


def begin(asked: Asked) -> bytes | None:
    """The answer that is kept for this request. None if it is the first: the caller answers it, then calls `keep` or
    `forget`. Raises IdempotencyKeyReused, RequestInProgress."""
    rows = _mine(asked)
    row = rows.first()
    if row and row.begun_at < now() - (KEPT if row.sealed else LEASE):
        rows.filter(begun_at=row.begun_at).delete()
        row = None
    if row is None:
        _claim(asked)
        return None
    if not sealing.is_mac(asked.purpose("body"), asked.body.encode(), bytes(row.body_mac)):
        if row.sealed:
            rows.delete()  # or each further body would be a guess that no limit counts
        raise IdempotencyKeyReused
    if not row.sealed:
        raise RequestInProgress
    return sealing.unseal(asked.purpose("answer"), bytes(row.sealed))


def _claim(asked: Asked) -> None:
    """Of several at once, one gets it."""
    mac, body_mac = sealing.mac("kept answers", asked.name), sealing.mac(asked.purpose("body"), asked.body.encode())
    try:
        with transaction.atomic():
            KeptAnswer.objects.create(mac=mac, body_mac=body_mac, begun_at=now())
    except IntegrityError:
        raise RequestInProgress("at this moment") from None


def keep(asked: Asked, answer: bytes, *, user_id: UUID | None) -> None:
    """With the user whom it tells of, so that it is removed with the account."""
    sealed = sealing.seal(asked.purpose("answer"), answer)
    whose = User.objects.filter(id=user_id).values("id") if user_id else None  # nobody, if erased by now
    with _answered_anyway():
        _mine(asked).update(sealed=sealed, user_id=whose)


def forget(asked: Asked) -> None:
    """It was refused, so asking again is a new try."""
    with _answered_anyway():
        _mine(asked).delete()


@contextmanager
def _answered_anyway() -> Iterator[None]:
    """Postgres went away after the work was done: the app gets its answer, and can't ask for it again."""
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        if not postgres.is_away(error):
            raise
        log.warning("an answer is not kept (%s)", type(error).__name__)


def prune() -> int:
    count, _ = KeptAnswer.objects.filter(begun_at__lt=now() - KEPT).delete()
    return count
