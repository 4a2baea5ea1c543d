"""Password hashes of other services. Each is checked in its own way until its owner's first right sign-in, which makes
it an Argon2id hash (`hashing.matches`).

What is stored is `imported$scheme$numbers$salt$hash`, in one spelling for all services. `parse` makes it of what they
export, and refuses numbers that would cost too much memory or time."""

import base64
import binascii
import hashlib
import logging
import re
import string
from collections.abc import Callable, Sequence
from functools import partial
from hmac import compare_digest, digest

import argon2
import bcrypt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from django.conf import settings
from django.contrib.auth.hashers import BasePasswordHasher

from accounts.services.credentials import hashing

log = logging.getLogger(__name__)

# PASSWORD_HASH_CONCURRENCY of these may be under way in a process. Django's own Argon2 takes 100 MiB.
MAX_MEMORY = 128 * 2**20
# Bytes of memory that are read and written: about a second of each.
MAX_SCRYPT_WORK = 2**28
MAX_SCRYPT_BLOCK, MAX_SCRYPT_LANES = 64, 16
MAX_ARGON2_WORK = 2**30
MAX_BCRYPT_COST = 14
MAX_PBKDF2_ITERATIONS = 2_000_000
MAX_PHPASS_LOG2 = 17
MAX_LENGTH = 128  # of the column
# Only the beginning of a longer hash is kept: 256 bits are as good, and fit into the column.
_KEPT = 32


class UnusableHash(Exception):
    """`code` is what is wrong with it; the hash itself is in no message."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class ImportedHasher(BasePasswordHasher):
    """Only compares: every new hash is Argon2id."""

    algorithm = hashing.IMPORTED

    def verify(self, password: str, encoded: str) -> bool:
        _imported, scheme, *parts = encoded.split("$")
        with hashing.Place():
            return _SCHEMES[scheme](password, parts)

    def must_update(self, encoded: str) -> bool:
        return True

    def harden_runtime(self, password: str, encoded: str) -> None:
        """Nothing evens out the difference from Argon2id: docs/importing.md says what it reveals."""


# --- Comparing ----------------------------------------------------------------------------------------------


def _is_bcrypt(password: str, parts: Sequence[str]) -> bool:
    kept = ("$" + "$".join(parts)).encode()
    # As bcrypt always did, but its library no longer does: a NUL ends a password, and so do 72 bytes.
    return compare_digest(bcrypt.hashpw(password.encode().partition(b"\0")[0][:72], kept), kept)


def _is_passlib_bcrypt(password: str, parts: Sequence[str]) -> bool:
    """Version 2 of passlib's bcrypt_sha256, whose key is the salt in bcrypt's own letters."""
    return _is_bcrypt(_text(digest(parts[2][:22].encode(), password.encode(), "sha256")), parts)


def _is_wordpress_bcrypt(password: str, parts: Sequence[str]) -> bool:
    return _is_bcrypt(_text(digest(b"wp-sha384", _trimmed(password).encode(), "sha384")), parts)


def _trimmed(password: str) -> str:
    """As WordPress does with every password."""
    return password.strip(" \n\r\t\v\0")


def _is_phpass(password: str, parts: Sequence[str]) -> bool:
    typed, made = password.encode(), parts[1].encode()
    for _ in range(1 + 2 ** int(parts[0])):
        made = hashlib.md5(made + typed, usedforsecurity=False).digest()
    return compare_digest(_in_phpass_letters(made), parts[2])


_PHPASS_LETTERS = f"./{string.digits}{string.ascii_uppercase}{string.ascii_lowercase}"


def _in_phpass_letters(made: bytes) -> str:
    """Its own base64: three bytes are a number whose lowest six bits come first."""
    threes = (made[start : start + 3] for start in range(0, len(made), 3))
    return "".join(
        _PHPASS_LETTERS[int.from_bytes(three, "little") >> 6 * place & 63]
        for three in threes
        for place in range(len(three) + 1)
    )


def _is_argon2(variety: str, password: str, parts: Sequence[str]) -> bool:
    try:
        return argon2.PasswordHasher().verify(f"${variety}$" + "$".join(parts), password)
    except argon2.exceptions.VerificationError:
        return False


def _is_pbkdf2(name: str, password: str, parts: Sequence[str]) -> bool:
    iterations, salt, kept = int(parts[0]), _bytes(parts[1]), _bytes(parts[2])
    return compare_digest(hashlib.pbkdf2_hmac(name, password.encode(), salt, iterations, len(kept)), kept)


def _is_scrypt(password: str, parts: Sequence[str]) -> bool:
    n, r, p = (int(part) for part in parts[:3])
    salt, kept = _bytes(parts[3]), _bytes(parts[4])
    return compare_digest(_scrypt(password, salt, n, r, p)[: len(kept)], kept)


def _is_firebase(password: str, parts: Sequence[str]) -> bool:
    """Firebase's scrypt makes a key, with which the project's signer key is encrypted: that is the hash."""
    rounds, memory = int(parts[0]), int(parts[1])
    separator, salt, kept = (_bytes(part) for part in parts[2:5])
    key = _scrypt(password, salt + separator, 2**memory, rounds, 1)[:32]
    project_key = signer_key()
    if project_key is None:
        log.error("FIREBASE_SIGNER_KEY is missing: passwords that came from Firebase can't be checked")
        return False
    made = Cipher(AES(key), CTR(bytes(16))).encryptor().update(project_key)
    return compare_digest(made[: len(kept)], kept)


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=2 * MAX_MEMORY, dklen=64)


_SCHEMES: dict[str, Callable[[str, Sequence[str]], bool]] = {
    "bcrypt": _is_bcrypt,
    "bcrypt_sha256_base64": lambda password, parts: _is_bcrypt(
        _text(hashlib.sha256(password.encode()).digest()), parts
    ),
    "bcrypt_sha256_keyed": _is_passlib_bcrypt,
    "bcrypt_wordpress": _is_wordpress_bcrypt,
    "bcrypt_sha256": lambda password, parts: _is_bcrypt(hashlib.sha256(password.encode()).hexdigest(), parts),
    **{variety: partial(_is_argon2, variety) for variety in ("argon2id", "argon2i", "argon2d")},
    **{f"pbkdf2_{name}": partial(_is_pbkdf2, name) for name in ("sha1", "sha256", "sha512")},
    "phpass": _is_phpass,
    "phpass_wordpress": lambda password, parts: _is_phpass(_trimmed(password), parts),
    "scrypt": _is_scrypt,
    "better_auth": lambda password, parts: _is_scrypt(hashing.normalise(password), parts),
    "firebase": _is_firebase,
}


# --- Parsing ------------------------------------------------------------------------------------------------


def parse(given: str) -> str:
    """What is stored for a hash that another service exported. Raises UnusableHash."""
    for form, reader in _FORMS:
        if found := form.fullmatch(given):
            try:
                kept = f"{hashing.IMPORTED}${reader(*found.groups())}"
            except (ValueError, OverflowError):  # numbers or base64 that are none
                raise UnusableHash("hash_malformed") from None
            if len(kept) > MAX_LENGTH:
                raise UnusableHash("hash_too_long")
            return kept
    raise UnusableHash("hash_unknown")


def _read_bcrypt(scheme: str, cost: str, rest: str) -> str:
    if not 4 <= int(cost) <= 31:
        raise ValueError("not a cost of bcrypt")
    _require(int(cost) <= MAX_BCRYPT_COST)
    # Today's $2a$ and $2y$ are $2b$ by other names. The faulty hashes before 2011 are $2x$, which is unknown here.
    return f"{scheme}$2b${cost}${_without_loose_bits(rest[:22], 2)}{_without_loose_bits(rest[22:], 4)}"


def _without_loose_bits(letters: str, used: int) -> str:
    """The last letter of bcrypt's base64 has 6 bits, some of them unused. The library wants these to be 0, but not all
    services write them so."""
    value = _BCRYPT_LETTERS.index(letters[-1])
    return letters[:-1] + _BCRYPT_LETTERS[value >> (6 - used) << (6 - used)]


_BCRYPT_LETTERS = f"./{string.ascii_uppercase}{string.ascii_lowercase}{string.digits}"


def _read_argon2(rest: str) -> str:
    numbers = argon2.extract_parameters(f"${rest}")
    *head, salt, made = (part.rstrip("=") for part in rest.split("$"))
    if len(_bytes(salt)) < 8 or not _kept(_bytes(made)) or numbers.time_cost < 1 or numbers.parallelism < 1:
        raise ValueError("not Argon2's numbers")
    memory = numbers.memory_cost * 1024
    _require(memory <= MAX_MEMORY and memory * numbers.time_cost <= MAX_ARGON2_WORK and numbers.parallelism <= 16)
    return "$".join([*head, salt, made])


def _read_phpass(letter: str, cost: str, salt: str, made: str) -> str:
    log2 = _PHPASS_LETTERS.index(cost)
    if not 7 <= log2 <= 30:
        raise ValueError("not a cost of phpass")
    _require(log2 <= MAX_PHPASS_LOG2)
    return f"phpass{'_wordpress' * (letter == 'P')}${log2}${salt}${made}"


def _read_aspnet(given: str) -> str:
    """ASP.NET Core Identity: one number says which of two layouts follows."""
    blob = _bytes(given)
    if blob[0] == 0:
        return _read_pbkdf2("sha1", "1000", blob[1:17], blob[17:])
    algorithm, iterations, size = (int.from_bytes(blob[start : start + 4]) for start in (1, 5, 9))
    if algorithm > 2 or size < 8:
        raise ValueError("not the numbers of ASP.NET")
    name = ("sha1", "sha256", "sha512")[algorithm]
    return _read_pbkdf2(name, str(iterations), blob[13 : 13 + size], blob[13 + size :])


def _read_pbkdf2(name: str, iterations: str, salt: bytes, made: bytes) -> str:
    if int(iterations) < 1:
        raise ValueError("no iterations")
    _require(int(iterations) <= MAX_PBKDF2_ITERATIONS)
    return f"pbkdf2_{name}${int(iterations)}${_text(salt)}${_kept(made)}"


def _read_scrypt(scheme: str, n: int, r: int, p: int, salt: bytes, made: bytes) -> str:
    _require_scrypt(n, r, p)
    return f"{scheme}${n}${r}${p}${_text(salt)}${_kept(made)}"


def _read_firebase(rounds: str, memory: str, separator: str, salt: str, made: str, key: str = "") -> str:
    _require_scrypt(2 ** int(memory), int(rounds), 1)
    if signer_key() is None or (key and _bytes(key) != signer_key()):
        raise UnusableHash("hash_needs_signer_key")
    separator, salt, made = _text(_bytes(separator)), _text(_bytes(salt)), _kept(_bytes(made))
    return f"firebase${int(rounds)}${int(memory)}${separator}${salt}${made}"


def _read_redacted(*_: str) -> str:
    raise UnusableHash("hash_redacted")


def _require_scrypt(n: int, r: int, p: int) -> None:
    # RFC 7914: n is a power of 2 below 2**(16 r).
    if n < 2 or n & (n - 1) or r < 1 or p < 1 or n.bit_length() > 16 * r:
        raise ValueError("not the numbers of scrypt")
    memory = 128 * n * r
    _require(r <= MAX_SCRYPT_BLOCK and p <= MAX_SCRYPT_LANES)
    _require(memory <= MAX_MEMORY and memory * p <= MAX_SCRYPT_WORK)


def _require(affordable: bool) -> None:
    if not affordable:
        raise UnusableHash("hash_too_costly")


def signer_key() -> bytes | None:
    """The Firebase project's; None if it is missing or not base64."""
    try:
        return _bytes(settings.FIREBASE_SIGNER_KEY) or None
    except ValueError:
        return None


def _bytes(text: str) -> bytes:
    """Base64 in any alphabet, passlib's too, with or without its padding."""
    text = text.rstrip("=").replace("-", "+").replace("_", "/").replace(".", "+")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _kept(made: bytes) -> str:
    if len(made) < 16:
        raise ValueError("too short to be a hash")
    return _text(made[:_KEPT])


_NUMBER, _BASE64, _SALT, _HEX = r"([0-9]{1,9})", r"([A-Za-z0-9+/_.=-]+)", r"([^$]+)", "([0-9a-f]+)"
_BCRYPT = r"\$2[aby]\$([0-9]{2})\$([./A-Za-z0-9]{53})"
_SCRYPT = r"ln=([0-9]{1,7}),r=([0-9]{1,7}),p=([0-9]{1,7})"
_FORMS: Sequence[tuple[re.Pattern[str], Callable[..., str]]] = (
    # Plain bcrypt (Supabase, Kratos, Rails, PHP), and Django's two.
    (re.compile(rf"(?:bcrypt\$)?{_BCRYPT}"), lambda *parts: _read_bcrypt("bcrypt", *parts)),
    (re.compile(rf"bcrypt_sha256\${_BCRYPT}"), lambda *parts: _read_bcrypt("bcrypt_sha256", *parts)),
    # WordPress since 6.8, and both versions of passlib's bcrypt_sha256.
    (re.compile(rf"\$wp{_BCRYPT}"), lambda *parts: _read_bcrypt("bcrypt_wordpress", *parts)),
    (
        re.compile(r"\$bcrypt-sha256\$v=2,t=2[aby],r=([0-9]{1,2})\$([./A-Za-z0-9]{22})\$([./A-Za-z0-9]{31})"),
        lambda cost, salt, made: _read_bcrypt("bcrypt_sha256_keyed", cost.zfill(2), salt + made),
    ),
    (
        re.compile(r"\$bcrypt-sha256\$2[aby],([0-9]{1,2})\$([./A-Za-z0-9]{22})\$([./A-Za-z0-9]{31})"),
        lambda cost, salt, made: _read_bcrypt("bcrypt_sha256_base64", cost.zfill(2), salt + made),
    ),
    # phpass: WordPress before 6.8 ($P$), phpBB ($H$).
    (re.compile(r"\$([PH])\$([./0-9A-Za-z])([./0-9A-Za-z]{8})([./0-9A-Za-z]{22})"), _read_phpass),
    # Argon2's own form, before which Django writes its word.
    (re.compile(r"(?:argon2)?\$(argon2(?:id|i|d)\$[A-Za-z0-9+/=,$]+)"), _read_argon2),
    # PBKDF2 of Django and Flask: the salt is text, and its letters are the bytes.
    (
        re.compile(rf"pbkdf2_(sha1|sha256)\${_NUMBER}\${_SALT}\${_BASE64}"),
        lambda name, iterations, salt, made: _read_pbkdf2(name, iterations, salt.encode(), _bytes(made)),
    ),
    (
        re.compile(rf"pbkdf2:(sha1|sha256|sha512):{_NUMBER}\${_SALT}\${_HEX}"),
        lambda name, iterations, salt, made: _read_pbkdf2(name, iterations, salt.encode(), bytes.fromhex(made)),
    ),
    # PBKDF2 as Kratos and we write it, for salts of any bytes, and as passlib does.
    (
        re.compile(rf"\$pbkdf2(?:-(sha1|sha256|sha512))?\$(?:i=)?{_NUMBER}(?:,l=[0-9]+)?\${_BASE64}\${_BASE64}"),
        lambda name, iterations, salt, made: _read_pbkdf2(name or "sha1", iterations, _bytes(salt), _bytes(made)),
    ),
    # ASP.NET Core Identity, its newer and its older layout.
    (re.compile(r"(AQAAAA[A-Za-z0-9+/]{34,}={0,2}|A[A-P][A-Za-z0-9+/]{64}==)"), _read_aspnet),
    # scrypt of Django and Flask.
    (
        re.compile(rf"scrypt\${_NUMBER}\${_SALT}\${_NUMBER}\${_NUMBER}\${_BASE64}"),
        lambda n, salt, r, p, made: _read_scrypt("scrypt", int(n), int(r), int(p), salt.encode(), _bytes(made)),
    ),
    (
        re.compile(rf"scrypt:{_NUMBER}:{_NUMBER}:{_NUMBER}\${_SALT}\${_HEX}"),
        lambda n, r, p, salt, made: _read_scrypt("scrypt", int(n), int(r), int(p), salt.encode(), bytes.fromhex(made)),
    ),
    # passlib and Kratos. What the former calls ln is a logarithm; with the latter it is N itself.
    (
        re.compile(rf"\$scrypt\${_SCRYPT}\${_BASE64}\${_BASE64}"),
        lambda ln, r, p, salt, made: _read_scrypt(
            "scrypt", 2 ** int(ln) if int(ln) < 32 else int(ln), int(r), int(p), _bytes(salt), _bytes(made)
        ),
    ),
    # better-auth: the salt's hexadecimal letters are the bytes.
    (
        re.compile(r"([0-9a-f]{32}):([0-9a-f]{128})"),
        lambda salt, made: _read_scrypt("better_auth", 2**14, 16, 1, salt.encode(), bytes.fromhex(made)),
    ),
    # What an export says where it was made without the right to see hashes.
    (re.compile(r"(?s)(?:.*\$)?(?:UkVEQUNURUQ=?|REDACTED)"), _read_redacted),
    # Firebase, as docs/importing.md says: rounds, mem_cost, separator, salt, hash. Then as Kratos and Supabase have it.
    (re.compile(rf"firebase\${_NUMBER}\$([0-9][0-9]?)\${_BASE64}\${_BASE64}\${_BASE64}"), _read_firebase),
    (
        re.compile(rf"\$firescrypt\$ln=([0-9][0-9]?),r={_NUMBER},p=1\${_BASE64}\${_BASE64}\${_BASE64}\${_BASE64}"),
        lambda memory, rounds, salt, made, separator, key: _read_firebase(rounds, memory, separator, salt, made, key),
    ),
    (
        re.compile(rf"\$fbscrypt\$v=1,n=([0-9][0-9]?),r={_NUMBER},p=1,ss={_BASE64},sk={_BASE64}\${_BASE64}\${_BASE64}"),
        lambda memory, rounds, separator, key, salt, made: _read_firebase(rounds, memory, separator, salt, made, key),
    ),
)
