"""An app that solves challenges, with the lines of docs/mobile.md."""

import re
from collections.abc import Mapping
from typing import Any

from project.devstack.servers import BASE

_LINES = re.search(r"```python\n(from hashlib.*?)```", (BASE / "docs/mobile.md").read_text(), re.DOTALL)
assert _LINES
_app: dict[str, Any] = {}
exec(_LINES[1], _app)  # noqa: S102 - our own page


def solve(challenge: Mapping[str, Any]) -> str:
    """What to send as X-Proof."""
    found: str = _app["proof"]({"algorithm": "SHA-256", **challenge})
    return found
