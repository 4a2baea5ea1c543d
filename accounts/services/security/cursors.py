"""Opaque cursors: the key of the last row of a page, signed, so that a forged one is refused and one list's cursor is
none of another's."""

import base64
from uuid import UUID

from accounts.errors import InvalidCursor
from accounts.lib import sealing

_MAC_LENGTH = 16


def write(purpose: str, last: UUID) -> str:
    return (
        base64.urlsafe_b64encode(last.bytes + sealing.mac(f"cursor {purpose}", last.bytes)[:_MAC_LENGTH])
        .rstrip(b"=")
        .decode()
    )


def read(purpose: str, cursor: str) -> UUID:
    """Raises InvalidCursor."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise InvalidCursor("malformed") from None
    if len(raw) != 16 + _MAC_LENGTH or not sealing.is_mac(f"cursor {purpose}", raw[:16], raw[16:]):
        raise InvalidCursor("forged")
    return UUID(bytes=raw[:16])
