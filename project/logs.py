"""How log lines look."""

import logging
import re
from types import TracebackType

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
# Postgres adds the whole row that it refused, with password hash and address.
_ROW = re.compile(r"^(DETAIL|CONTEXT|HINT): .*$", re.MULTILINE)


class Formatter(logging.Formatter):
    """Tracebacks without the contents of rows."""

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's own name
        return _ROW.sub(r"\1: (left out)", super().formatException(ei))
