"""Django's browser sessions in Postgres, written once in a request."""

from typing import Any

from django.contrib.sessions.backends.base import VALID_KEY_CHARS
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.utils.crypto import get_random_string


class SessionStore(DatabaseStore):
    """SESSION_ENGINE. Django looks whether a new key is free, writes an empty row and updates it at the end of the
    request. Two of 165 random bits never meet, so one INSERT at the end is enough.

    The name of this class is part of every session's signature."""

    _is_new = False

    def create(self) -> None:
        self._session_cache: dict[str, Any] = getattr(self, "_session_cache", {})
        self._session_key = get_random_string(32, VALID_KEY_CHARS)
        self._is_new = self.modified = True

    def save(self, must_create: bool = False) -> None:
        if self.session_key is None:
            self.create()
        if self._is_new:
            self.create_model_instance(self._session_cache).save(force_insert=True)
            self._is_new = False
        else:
            super().save(must_create)
