"""Postgres while it is away. The backend is in base.py; here is what errors of it mean."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, InterfaceError, InternalError, OperationalError

# Classes of SQLSTATE: no connection, not enough of something, an operator or a timeout intervened, the disk fails.
_AWAY = ("08", "53", "57", "58")
_READ_ONLY = "25006"


def _code(error: BaseException) -> str:
    return getattr(error.__cause__, "pgcode", None) or ""


def is_away(error: BaseException | None) -> bool:
    """Whether this error says that Postgres can't do its work now, and not that we asked for something wrong."""
    if not isinstance(error, DatabaseError | InterfaceError):
        return False
    if code := _code(error):
        return code.startswith(_AWAY) or code == _READ_ONLY
    return isinstance(error, OperationalError | InterfaceError)  # the connection itself failed


@contextmanager
def dispensable() -> Iterator[None]:
    """For a write that nobody misses while Postgres takes none."""
    try:
        yield
    except InternalError as error:
        if _code(error) != _READ_ONLY:
            raise
