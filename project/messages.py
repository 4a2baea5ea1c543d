"""How Babel finds the marked strings of a Django template ([tool.babel] in pyproject.toml, `make messages`)."""

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from babel.messages.extract import extract_python
from django.utils.translation.template import templatize


def extract_template(file: BinaryIO, keywords: Any, tags: Any, options: Any) -> Iterator[Any]:
    """Django makes Python of a template for xgettext; its indentation means nothing."""
    lines = templatize(file.read().decode()).splitlines()
    python = "\n".join(line.lstrip() for line in lines).encode()
    return extract_python(io.BytesIO(python), keywords, tags, options)
