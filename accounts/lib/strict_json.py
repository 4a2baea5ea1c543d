"""JSON in which each field of an object has one value. Python takes the last of several, other readers the first."""

import json
from collections import Counter
from typing import Any, NoReturn


class DuplicateFields(ValueError):
    """`names` of the fields that an object has twice."""

    def __init__(self, names: list[str]) -> None:
        super().__init__("an object has a field twice")
        self.names = names


def loads(text: str) -> Any:
    """Raises DuplicateFields, ValueError, RecursionError."""
    twice: list[str] = []

    def single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        return found

    value = json.loads(text, object_pairs_hook=single, parse_constant=_no_constant)
    if twice:
        raise DuplicateFields(twice)
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are not JSON
