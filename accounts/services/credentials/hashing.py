"""Password hashes: Argon2id, a bounded number at a time, one on every path."""

import os
import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from django.conf import settings
from django.contrib.auth.hashers import Argon2PasswordHasher, make_password, verify_password

from accounts.errors import Overloaded
from accounts.lib import metrics
from accounts.models import User

IMPORTED = "imported"  # how hashes of other services begin (imported_hashes.py)
_places = threading.BoundedSemaphore(settings.PASSWORD_HASH_CONCURRENCY)


class Place:
    """One of the few places for a hash in this process. Eight at once with Django's numbers took 841 MB."""

    def __enter__(self) -> None:
        begun = time.perf_counter()
        found = _places.acquire(timeout=settings.PASSWORD_HASH_WAIT)
        metrics.observe(metrics.HASH_WAIT, time.perf_counter() - begun)
        if not found:
            raise Overloaded("no place for a hash")

    def __exit__(self, *_: object) -> None:
        _places.release()


@lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    """As many as there are places. malloc keeps the 19 MiB of a hash for each thread that made one, so none of those
    that answer requests makes any. A process that was forked has its own."""
    return ThreadPoolExecutor(settings.PASSWORD_HASH_CONCURRENCY, thread_name_prefix="hash")


class Argon2id(Argon2PasswordHasher):
    """Argon2id with the parameters of the settings; the default is OWASP's minimum (19 MiB, 2 passes, 1 lane)."""

    memory_cost = settings.ARGON2_MEMORY_KIB
    time_cost = settings.ARGON2_TIME_COST
    parallelism = settings.ARGON2_PARALLELISM

    def encode(self, password: str, salt: str) -> str:
        with Place():
            return _threads(os.getpid()).submit(super().encode, password, salt).result()

    def verify(self, password: str, encoded: str) -> bool:
        with Place():
            return _threads(os.getpid()).submit(super().verify, password, encoded).result()


def normalise(password: str) -> str:
    """One spelling for what different keyboards send for the same letters (NIST SP 800-63B: NFKC)."""
    return unicodedata.normalize("NFKC", password)


def hashed(password: str) -> str:
    return make_password(normalise(password))


def matches(user: User | None, password: str) -> bool:
    """Whether this is the user's password. One hash, for nobody and for an over-long password too; one for each of up
    to three spellings where another service made the hash."""
    typed = password[: settings.PASSWORD_MAX_LENGTH * 4]
    password = normalise(typed)
    if user is None or not user.has_usable_password() or len(password) > settings.PASSWORD_MAX_LENGTH:
        make_password(password[: settings.PASSWORD_MAX_LENGTH])
        return False
    spellings = _spellings(typed) if user.password.startswith(f"{IMPORTED}$") else [password]
    compared = (verify_password(one, user.password) for one in spellings)
    right, outdated = next((found for found in compared if found[0]), (False, False))
    if right and outdated:
        return _renew(user, password)
    return right


def _spellings(typed: str) -> list[str]:
    """Other services hashed what was typed, on another device perhaps: an accent with its letter, or apart from it."""
    return list(dict.fromkeys((typed, *(unicodedata.normalize(form, typed) for form in ("NFC", "NFD")))))


def _renew(user: User, password: str) -> bool:
    """A right password's hash is made anew, unless somebody else has just changed it: then theirs counts."""
    encoded = make_password(password)
    if User.objects.filter(id=user.id, password=user.password).update(password=encoded):
        user.password = encoded
        return True
    user.refresh_from_db(fields=["password"])
    return matches(user, password)
