"""The one form of a time in JSON: UTC with milliseconds, also where they are zero."""

from datetime import UTC, datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder


def text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


class Encoder(DjangoJSONEncoder):
    def default(self, o: Any) -> Any:
        return text(o) if isinstance(o, datetime) else super().default(o)
