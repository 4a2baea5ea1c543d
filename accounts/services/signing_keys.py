"""The keys that sign access tokens: in Postgres, sealed, one set for every web process. The first is made when
it is first needed. One signs; all that are there are published and verify."""

import json
import threading
import time
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from jwt.algorithms import ECAlgorithm

from accounts.models import SigningKey, uuid7
from accounts.services import sealing

ALGORITHM = "ES256"
REREAD_AFTER = 60.0  # seconds until a process looks for keys that another one made


@dataclass(frozen=True)
class Key:
    kid: str
    private: ec.EllipticCurvePrivateKey
    public: ec.EllipticCurvePublicKey
    jwk: dict[str, Any]


@dataclass(frozen=True)
class Ring:
    signing: Key
    by_kid: dict[str, Key]
    read_at: float


_lock = threading.Lock()
_ring: Ring | None = None


def ring(*, fresh: bool = False) -> Ring:
    """The keys as last read; `fresh` reads them again (at most once a second), for a kid that is not known."""
    global _ring  # noqa: PLW0603 - one for the process
    age = time.monotonic() - _ring.read_at if _ring else float("inf")
    if _ring is None or age > (1.0 if fresh else REREAD_AFTER):
        with _lock:
            _ring = _read()
    return _ring


def forget() -> None:
    """For tests, and for a process that was told of new keys."""
    global _ring  # noqa: PLW0603 - one for the process
    _ring = None


def _read() -> Ring:
    rows = list(SigningKey.objects.order_by("created_at"))
    if not rows:
        rows = [_make_first()]
    keys = [_open(row) for row in rows]
    return Ring(signing=keys[-1], by_kid={key.kid: key for key in keys}, read_at=time.monotonic())


def _open(row: SigningKey) -> Key:
    pem = sealing.unseal("signing key", bytes(row.sealed_private_key))
    if pem is None:
        raise ImproperlyConfigured(
            "A signing key can't be opened: SECRET_KEY was changed without naming the old one in SECRET_KEY_FALLBACKS."
        )
    private = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return Key(row.kid, private, private.public_key(), row.public_jwk)


def _make_first() -> SigningKey:
    with transaction.atomic():
        with connection.cursor() as cursor:  # two processes that start together make one key
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('accounts.signing_keys'))")
        return SigningKey.objects.order_by("created_at").last() or make()


def make() -> SigningKey:
    """A new key, which signs from the moment that a process reads it."""
    private = ec.generate_private_key(ec.SECP256R1())
    kid = uuid7().hex
    jwk = json.loads(ECAlgorithm.to_jwk(private.public_key()))
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return SigningKey.objects.create(
        kid=kid,
        algorithm=ALGORITHM,
        sealed_private_key=sealing.seal("signing key", pem),
        public_jwk={**jwk, "kid": kid, "use": "sig", "alg": ALGORITHM},
    )


def jwks() -> dict[str, Any]:
    """RFC 7517: the public keys, for whoever verifies tokens offline."""
    return {"keys": [key.jwk for key in ring().by_kid.values()]}
