"""Short-lived tickets that a client is handed and gives back once: what was proved or asked for so far, sealed, so that
nothing has to be kept for clients that never come back. One that was used is remembered for the rest of its time."""

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils.timezone import now

from accounts.errors import InvalidTicket
from accounts.lib import sealing
from accounts.models import SpentTicket, uuid7

LIFETIME = timedelta(minutes=5)


def issue(purpose: str, *, lifetime: timedelta = LIFETIME, **data: Any) -> str:
    """`data` is what JSON can hold."""
    inside = {**data, "id": uuid7().hex, "until": (now() + lifetime).timestamp()}
    return sealing.seal(f"ticket {purpose}", json.dumps(inside).encode()).decode()


def read(purpose: str, ticket: str) -> dict[str, Any]:
    """What was put in. It can be read as often as its time allows; `spend` ends it. Raises InvalidTicket."""
    opened = sealing.unseal(f"ticket {purpose}", ticket.encode())
    if opened is None:
        raise InvalidTicket("not one of ours, or for something else")
    found: dict[str, Any] = json.loads(opened)
    if found["until"] <= now().timestamp():
        raise InvalidTicket("expired")
    if SpentTicket.objects.filter(id=UUID(hex=found["id"])).exists():
        raise InvalidTicket("used")
    return found


def spend(found: dict[str, Any]) -> None:
    """Use up what `read` returned: of several at once, one gets through. In the transaction of what it is for.
    Raises InvalidTicket."""
    until = datetime.fromtimestamp(found["until"], tz=now().tzinfo)
    try:
        with transaction.atomic():
            SpentTicket.objects.create(id=UUID(hex=found["id"]), until=until)
    except IntegrityError:
        raise InvalidTicket("used at this moment") from None


def prune() -> int:
    count, _ = SpentTicket.objects.filter(until__lt=now()).delete()
    return count
