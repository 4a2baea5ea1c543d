"""Every browser session stores the path of this class. It never moves: another path would sign every browser out."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest


class Backend(ModelBackend):
    """Remembers who is signed in and what staff may do. It signs nobody in: a check of the password alone would
    walk past everything else that services/authentication/sign_in.py decides."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **_: Any
    ) -> None:
        return None
