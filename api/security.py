"""Bearer token -> user and session, in one query."""

from django.http import HttpRequest
from ninja.security.base import AuthBase

from accounts.errors import InvalidToken
from accounts.models import User
from accounts.services.sessions import access_tokens, sessions


class AccessToken(AuthBase):
    openapi_type: str = "http"
    openapi_scheme: str = "bearer"
    openapi_bearerFormat: str = "JWT"  # noqa: N815 - the word of OpenAPI

    def __call__(self, request: HttpRequest) -> User:
        scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise InvalidToken("no bearer token")
        user, session = sessions.authenticate(access_tokens.verify(token.strip()))
        request.user, request.user_session = user, session  # type: ignore[attr-defined]
        return user
