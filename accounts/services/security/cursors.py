"""Opaque cursors: the key of the last row of a page, signed, so that a forged one is refused and a cursor
works only for its own list."""

from uuid import UUID

from django.core.signing import BadSignature, Signer

from accounts.errors import InvalidCursor


def write(purpose: str, last: UUID) -> str:
    return _signer(purpose).sign(last.hex)


def read(purpose: str, cursor: str) -> UUID:
    """Raises InvalidCursor."""
    try:
        return UUID(hex=_signer(purpose).unsign(cursor))
    except BadSignature:
        raise InvalidCursor("forged") from None


def _signer(purpose: str) -> Signer:
    return Signer(sep=".", salt=f"cursor {purpose}")
