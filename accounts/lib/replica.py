"""Reading from a copy of the database, where the operator has one. Only what may be a moment old is asked there: the
directory and the pages of staff. Everything else stays with the primary: who a token belongs to, because a session that
was ended must be refused at once, and the profile, which that same query brings along."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, ProgrammingError, connections

log = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE = 5.0  # seconds after a failure in which the copy is not asked
_away_until = 0.0


def read(work: Callable[[str], T]) -> T:
    """What `work` returns when it is given the name of a database; it may be called twice."""
    global _away_until  # noqa: PLW0603 - one for the process
    if "replica" in connections.databases and time.monotonic() >= _away_until:
        try:
            return work("replica")
        except (OperationalError, InterfaceError, ProgrammingError) as error:  # the last: its schema is behind
            _away_until = time.monotonic() + PAUSE
            log.warning("the replica does not answer (%s); the primary does", type(error).__name__)
    return work("default")
