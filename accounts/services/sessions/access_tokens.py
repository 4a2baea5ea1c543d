"""Access tokens: JWS as in RFC 9068 (`typ: at+jwt`), ES256 or as configured, good for a quarter of an hour.

There is nothing personal in them. Other services verify them offline by the JWKS; this service also asks its
database whether the session still lives (services/sessions/sessions.py), so that an ended one is refused at once."""

import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

import jwt
from django.conf import settings

from accounts.errors import InvalidToken, TokenExpired
from accounts.models import Session
from accounts.services.sessions import signing_keys

REQUIRED = ["iss", "sub", "aud", "iat", "exp", "jti", "sid", "auth_time", "amr"]
LEEWAY = 10  # seconds of difference between clocks
CLIENT = "app"  # RFC 9068 needs a client_id; all apps are one client, because none registers here
_TIMES = ("exp", "iat", "nbf", "auth_time")
_LATEST = 1 << 40  # far above any second that we write


@dataclass(frozen=True)
class Claims:
    kid: str
    user_id: UUID
    session_id: UUID
    generation: int  # of the refresh token that came with it, kept in the first part of jti
    expires_at: int


@dataclass(frozen=True)
class Issued:
    access_token: str
    expires_in: int  # seconds


def issue(session: Session, *, generation: int) -> Issued:
    """A token for a session's device. The lifetime varies by 5 %, so that a crowd that signed in together does
    not refresh together."""
    lifetime = int(settings.ACCESS_TOKEN_LIFETIME.total_seconds())
    lifetime -= secrets.randbelow(max(1, lifetime // 20))
    issued_at = int(time.time())
    key = signing_keys.ring(fresh=True).signing
    token = jwt.encode(
        {
            "iss": settings.PUBLIC_URL,
            "sub": str(session.user_id),
            "aud": settings.ACCESS_TOKEN_AUDIENCE,
            "client_id": CLIENT,
            "iat": issued_at,
            "exp": issued_at + lifetime,
            "jti": f"{generation}.{secrets.token_urlsafe(9)}",
            "sid": str(session.id),
            "auth_time": int(session.authenticated_at.timestamp()),
            "amr": session.methods,
        },
        key.private,
        algorithm=key.algorithm,
        headers={"kid": key.kid, "typ": "at+jwt"},
    )
    return Issued(token, lifetime)


def verify(token: str) -> Claims:
    """The claims of a token that this service signed and that has not run out. Raises InvalidToken, TokenExpired."""
    claims = _verify(token)
    if claims.kid not in signing_keys.ring().by_kid:
        raise InvalidToken("the key was taken away")
    if claims.expires_at + LEEWAY < time.time():
        raise TokenExpired
    return claims


@lru_cache(maxsize=4096)
def _verify(token: str) -> Claims:
    # Remembered, because a phone sends one token hundreds of times. What can change with time is looked at by
    # the caller (expiry) and in the database (session and user); a signature stays what it is.
    try:
        header = jwt.get_unverified_header(token)
        kid = header.get("kid")
        if header.get("typ") != "at+jwt" or not isinstance(kid, str):
            raise InvalidToken("typ or kid")
        key = signing_keys.ring().by_kid.get(kid) or signing_keys.ring(fresh=True).by_kid.get(kid)
        if key is None:
            raise InvalidToken("unknown kid")
        payload: dict[str, Any] = jwt.decode(
            token,
            key.public,
            algorithms=[key.algorithm],
            audience=settings.ACCESS_TOKEN_AUDIENCE,
            issuer=settings.PUBLIC_URL,
            leeway=LEEWAY,
            options={"require": REQUIRED},
        )
        # PyJWT reads "1767225600", True and 1e9 as times too; ours are whole seconds.
        if any(type(payload[name]) is not int or not 0 < payload[name] < _LATEST for name in _TIMES if name in payload):
            raise InvalidToken("a time that is no number")
        return Claims(
            kid=kid,
            user_id=UUID(payload["sub"]),
            session_id=UUID(payload["sid"]),
            generation=int(payload["jti"].split(".")[0]),
            expires_at=payload["exp"],
        )
    except jwt.ExpiredSignatureError:
        raise TokenExpired from None
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidToken(type(error).__name__) from None
