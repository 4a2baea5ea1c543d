"""Every secret of this service comes from SECRET_KEY: message authentication codes and sealed values, each
purpose with a key of its own. Values made with an earlier key (SECRET_KEY_FALLBACKS) are still understood."""

import base64
import hmac
from functools import lru_cache
from hashlib import sha256

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


@lru_cache(maxsize=64)
def _key(secret: str, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"user-service {purpose}".encode()).derive(
        secret.encode()
    )


def _secrets() -> list[str]:
    return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]


def mac(purpose: str, message: bytes) -> bytes:
    """HMAC-SHA256, 32 bytes."""
    return hmac.digest(_key(settings.SECRET_KEY, purpose), message, sha256)


def is_mac(purpose: str, message: bytes, given: bytes) -> bool:
    """Whether `given` (the whole code or its beginning, at least 16 bytes) was made for this message."""
    length = max(16, len(given))
    found = False
    for secret in _secrets():  # always all of them, so that the time says nothing about the match
        found |= hmac.compare_digest(hmac.digest(_key(secret, purpose), message, sha256)[:length], given)
    return found


def macs(purpose: str, message: bytes) -> list[bytes]:
    """What `mac` makes of it with each secret, to find what was stored under an earlier one."""
    return [hmac.digest(_key(secret, purpose), message, sha256) for secret in _secrets()]


def _box(purpose: str) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(_key(secret, purpose))) for secret in _secrets()])


def seal(purpose: str, value: bytes) -> bytes:
    return _box(purpose).encrypt(value)


def is_current(purpose: str, sealed: bytes) -> bool:
    """Whether SECRET_KEY itself opens this, not a fallback."""
    try:
        Fernet(base64.urlsafe_b64encode(_key(settings.SECRET_KEY, purpose))).decrypt(sealed)
    except InvalidToken:
        return False
    return True


def unseal(purpose: str, sealed: bytes) -> bytes | None:
    """None if neither the secret nor a fallback opens it."""
    try:
        return _box(purpose).decrypt(sealed)
    except InvalidToken:
        return None
