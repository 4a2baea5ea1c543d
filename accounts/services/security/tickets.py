"""Short-lived tickets that a client is handed and gives back once: what was proved or asked for so far, sealed, so that
nothing has to be kept for clients that never come back. One that was used is remembered for the rest of its time."""

import json
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import ClassVar, TypeVar
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils.timezone import now

from accounts.errors import AccountError, InvalidTicket, SetupExpired
from accounts.lib import sealing
from accounts.models import Session, SpentTicket, User, uuid7


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What all tickets have. Each kind adds fields that JSON can hold. A client may hold one while the service is
    updated, so a field keeps its name."""

    PURPOSE: ClassVar[str]
    LIFETIME: ClassVar[timedelta] = timedelta(minutes=5)
    REFUSAL: ClassVar[type[AccountError]] = InvalidTicket
    id: str = field(default_factory=lambda: uuid7().hex)
    until: float = 0  # set by `issue`


@dataclass(frozen=True, kw_only=True)
class SetupTicket(Ticket):
    """Of a signed-in device that sets something up. If it is refused, the device stays signed in."""

    REFUSAL = SetupExpired
    user: str
    session: str


Kind = TypeVar("Kind", bound=Ticket)
Setup = TypeVar("Setup", bound=SetupTicket)


def issue(ticket: Ticket) -> str:
    # Without what is left out anyway, so that an earlier version can open one that has nothing new in it.
    said = {one.name: getattr(ticket, one.name) for one in fields(ticket)}
    inside = {name: value for name, value in said.items() if value != ""}
    inside["until"] = (now() + ticket.LIFETIME).timestamp()
    return sealing.seal(f"ticket {ticket.PURPOSE}", json.dumps(inside).encode()).decode()


def read(kind: type[Kind], text: str) -> Kind:
    """The ticket that was issued. It can be read as often as its time allows; `spend` ends it. Raises its REFUSAL."""
    opened = sealing.unseal(f"ticket {kind.PURPOSE}", text.encode())
    if opened is None:
        raise kind.REFUSAL("not one of ours, or for something else")
    ticket = kind(**json.loads(opened))
    if ticket.until <= now().timestamp():
        raise kind.REFUSAL("expired")
    if SpentTicket.objects.filter(id=UUID(hex=ticket.id)).exists():
        raise kind.REFUSAL("used")
    return ticket


def read_own(kind: type[Setup], text: str, user: User, session: Session) -> Setup:
    """The same, if it was issued to this device. Raises SetupExpired."""
    ticket = read(kind, text)
    if (ticket.user, ticket.session) != (user.id.hex, session.id.hex):
        raise SetupExpired("of another device")
    return ticket


def spend(ticket: Ticket) -> None:
    """Use up what `read` returned: of several at once, one gets through. In the transaction of what it is for.
    Raises its REFUSAL."""
    if not use_once(UUID(hex=ticket.id), until=ticket.until):
        raise ticket.REFUSAL("used at this moment")


def use_once(ticket_id: UUID, *, until: float) -> bool:
    """Whether it is the first use. It is remembered `until` that time."""
    try:
        with transaction.atomic():
            SpentTicket.objects.create(id=ticket_id, until=datetime.fromtimestamp(until, tz=UTC))
    except IntegrityError:
        return False
    return True


def prune() -> int:
    count, _ = SpentTicket.objects.filter(until__lt=now()).delete()
    return count
