"""Reading from a copy of the database, where the operator has one. Only what may be a moment old is asked there: the
directory and the pages of staff. Everything else stays with the primary: who a token belongs to, because a session that
was ended must be refused at once, and the profile, which that same query brings along."""

import logging
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, ProgrammingError, connections

from accounts.lib import metrics
from accounts.lib.breaker import Breaker

log = logging.getLogger(__name__)

T = TypeVar("T")

breaker = Breaker(pause=5.0)


def read(work: Callable[[str], T]) -> T:
    """What `work` returns when it is given the name of a database; it may be called twice."""
    if "replica" not in connections.databases:
        return work("default")
    if breaker.may_ask():
        try:
            found = work("replica")
        except (OperationalError, InterfaceError, ProgrammingError) as error:  # the last: its schema is behind
            breaker.failed()
            log.warning("the replica does not answer (%s); the primary does", type(error).__name__)
        else:
            breaker.worked()
            return found
    metrics.add(metrics.REPLICA_AWAY)
    return work("default")
