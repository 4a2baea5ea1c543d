"""The ring of keys that sign access tokens.

In Postgres, private parts sealed, one set for every web process; or in files (SIGNING_KEY_FILES), for operators who
want them out of the database. One key signs; all of them are published and verify. A schedule publishes the next key
a day before it signs, so that services that cache the JWKS know it in time, and removes an old key when the last token
that it signed has expired."""

import base64
import hashlib
import json
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from celery import shared_task
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.utils.timezone import now
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from accounts.lib import sealing
from accounts.models import SigningKey, uuid7

log = logging.getLogger(__name__)

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Public = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

ALGORITHMS = ("ES256", "RS256", "EdDSA")
REREAD_AFTER = 60.0  # seconds until a process looks for keys that another one made
FRESH = 1.0  # seconds that it may have known them where it signs or meets an unknown one
LEAD = timedelta(days=1)  # from publishing to signing, where there is no hurry
SHORT_LEAD = timedelta(minutes=10)  # longer than anybody caches the JWKS (5 minutes) and than REREAD_AFTER
LEAD_AT_ONCE = timedelta(seconds=2 * FRESH)  # until every process that signs or meets an unknown kid has read it
LATE = timedelta(hours=1)  # how much longer than its last token's life an old key is kept


@dataclass(frozen=True)
class Key:
    kid: str
    algorithm: str
    private: Private
    public: Public
    jwk: dict[str, Any]
    signs_from: datetime


@dataclass(frozen=True)
class Ring:
    keys: Sequence[Key]  # by signs_from
    by_kid: dict[str, Key]
    read_at: float

    @property
    def signing(self) -> Key:
        at = now()
        return next((key for key in reversed(self.keys) if key.signs_from <= at), self.keys[0])


_lock = threading.Lock()
_ring: Ring | None = None


def ring(*, fresh: bool = False) -> Ring:
    """The keys as last read; `fresh` reads them again (at most once a second), for signing, for publishing and for a
    kid that is not known."""
    global _ring  # noqa: PLW0603 - one for the process
    oldest = time.monotonic() - (FRESH if fresh else REREAD_AFTER)
    if _ring is None or _ring.read_at < oldest:
        with _lock:
            if _ring is None or _ring.read_at < oldest:  # unless another thread has just done so
                _ring = _read()
    return _ring


def forget() -> None:
    """For tests, and for a process that was told of new keys."""
    global _ring  # noqa: PLW0603 - one for the process
    _ring = None


def _read() -> Ring:
    read_at = time.monotonic()  # before: what comes in meanwhile may be missing
    keys = _from_files() if settings.SIGNING_KEY_FILES else _from_database()
    return Ring(keys, {key.kid: key for key in keys}, read_at)


def jwks() -> dict[str, Any]:
    """RFC 7517: the public keys for services that verify tokens offline, including the next one before it signs."""
    return {"keys": [key.jwk for key in ring(fresh=True).keys]}


# --- Keys of each algorithm ---------------------------------------------------------------------------------


def _generate(algorithm: str) -> Private:
    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def _algorithm_of(private: object) -> str:
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        return "RS256"
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "EdDSA"
    if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP256R1):
        return "ES256"
    raise ImproperlyConfigured("A signing key must be EC P-256, Ed25519, or RSA with 2048 bits or more.")


def _public_jwk(public: Public) -> dict[str, Any]:
    if isinstance(public, rsa.RSAPublicKey):
        text = RSAAlgorithm.to_jwk(public)
    elif isinstance(public, ed25519.Ed25519PublicKey):
        text = OKPAlgorithm.to_jwk(public)
    else:
        text = ECAlgorithm.to_jwk(public)
    found: dict[str, Any] = json.loads(text)
    found.pop("key_ops", None)
    return found


def _load(pem: bytes, *, kid: str | None, signs_from: datetime) -> Key:
    private = serialization.load_pem_private_key(pem, password=None)
    algorithm = _algorithm_of(private)
    assert isinstance(private, Private)
    jwk = _public_jwk(private.public_key())
    name = kid or _thumbprint(jwk)
    return Key(
        name, algorithm, private, private.public_key(), {**jwk, "kid": name, "use": "sig", "alg": algorithm}, signs_from
    )


def _thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638, so that every process gives a key from a file the same name."""
    members = {name: jwk[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in jwk}
    digest = hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


# --- In files -----------------------------------------------------------------------------------------------


def _from_files() -> Sequence[Key]:
    """The first file signs, the others only verify."""
    names = settings.SIGNING_KEY_FILES
    at = now()
    try:
        keys = [
            _load(Path(name).read_bytes(), kid=None, signs_from=at - timedelta(seconds=place))
            for place, name in enumerate(names)
        ]
    except (OSError, ValueError, TypeError) as error:
        raise ImproperlyConfigured(f"SIGNING_KEY_FILES: a key can't be read ({error}).") from None
    return sorted(keys, key=lambda key: key.signs_from)


# --- In Postgres --------------------------------------------------------------------------------------------


def _from_database() -> Sequence[Key]:
    rows = list(SigningKey.objects.order_by("signs_from", "kid")) or [_make_first()]
    return [_load(_open(row), kid=row.kid, signs_from=row.signs_from) for row in rows]


def _open(row: SigningKey) -> bytes:
    pem = sealing.unseal("signing key", bytes(row.sealed_private_key))
    if pem is None:
        raise ImproperlyConfigured(
            "A signing key can't be opened: SECRET_KEY was changed without naming the old one in SECRET_KEY_FALLBACKS."
        )
    return pem


def _alone() -> None:
    """Lock the ring until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('accounts.signing_keys'))")


def _make_first() -> SigningKey:
    with transaction.atomic():
        _alone()  # two processes that start together make one key
        return SigningKey.objects.order_by("signs_from").last() or make()


def make(*, signs_from: datetime | None = None) -> SigningKey:
    """A new key of the configured algorithm, published at once."""
    private = _generate(settings.SIGNING_ALGORITHM)
    kid = uuid7().hex
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    log.info("new signing key kid=%s algorithm=%s", kid, settings.SIGNING_ALGORITHM)
    return SigningKey.objects.create(
        kid=kid,
        algorithm=settings.SIGNING_ALGORITHM,
        sealed_private_key=sealing.seal("signing key", pem),
        public_jwk={**_public_jwk(private.public_key()), "kid": kid, "use": "sig", "alg": settings.SIGNING_ALGORITHM},
        signs_from=signs_from or now(),
    )


def rotate(*, at_once: bool = False) -> SigningKey:
    """Make the next key by hand. It signs in ten minutes, when every cache has seen it.

    `at_once` is for a stolen key. The new one signs in two seconds. A second later, when every process uses it, all
    others are deleted. Tokens that they signed are refused within a minute. Apps refresh once and notice nothing;
    services that verify offline fetch the JWKS again."""
    if settings.SIGNING_KEY_FILES:
        raise ImproperlyConfigured("The signing keys are in files: put the new one first in SIGNING_KEY_FILES.")
    with transaction.atomic():
        _alone()
        key = make(signs_from=now() + (LEAD_AT_ONCE if at_once else SHORT_LEAD))
    if at_once:
        time.sleep(LEAD_AT_ONCE.total_seconds() + FRESH)
        SigningKey.objects.filter(created_at__lt=key.created_at).delete()  # of two hurried operators, the second wins
    forget()
    return key


@shared_task(name="accounts.keep_signing_keys")
def maintain() -> None:
    """Every hour: publish the next key in time, remove keys whose last token has expired, and re-seal what an earlier
    SECRET_KEY sealed."""
    if settings.SIGNING_KEY_FILES:
        return
    with transaction.atomic():
        _alone()
        rows = list(SigningKey.objects.order_by("signs_from", "kid"))
        if not rows:
            return
        newest, at = rows[-1], now()
        outdated = newest.algorithm != settings.SIGNING_ALGORITHM
        if outdated or newest.signs_from + settings.SIGNING_KEY_LIFETIME - LEAD <= at:
            make(signs_from=max(at + (SHORT_LEAD if outdated else LEAD), newest.signs_from + SHORT_LEAD))
        for row, successor in pairwise(rows):
            if successor.signs_from + settings.ACCESS_TOKEN_LIFETIME + LATE <= at:
                log.info("signing key removed kid=%s", row.kid)
                row.delete()
            elif not sealing.is_current("signing key", bytes(row.sealed_private_key)):
                _seal_anew(row)
        if not sealing.is_current("signing key", bytes(newest.sealed_private_key)):
            _seal_anew(newest)


def _seal_anew(row: SigningKey) -> None:
    SigningKey.objects.filter(kid=row.kid).update(sealed_private_key=sealing.seal("signing key", _open(row)))
