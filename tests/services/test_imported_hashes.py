"""Hashes of other services: known answers, what is refused, and what becomes of them."""

import base64
import hmac
from collections.abc import Iterator
from hashlib import pbkdf2_hmac

import argon2
import bcrypt
import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from django.contrib.auth.hashers import (
    Argon2PasswordHasher,
    BCryptSHA256PasswordHasher,
    PBKDF2PasswordHasher,
    PBKDF2SHA1PasswordHasher,
    ScryptPasswordHasher,
)
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import InvalidCredentials, Overloaded
from accounts.models import User
from accounts.services.authentication import sign_in
from accounts.services.credentials import hashing, imported_hashes
from accounts.services.credentials.imported_hashes import UnusableHash, parse
from tests.conftest import PASSWORD

# Published by Firebase with its scrypt.
FIREBASE_KEY = "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
FIREBASE = (
    "firebase$8$14$Bw==$42xEC+ixf3L2lw==$"
    "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="
)


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def b64_of_hex(text: str) -> str:
    return b64(bytes.fromhex(text))


def better_auth(password: str) -> str:
    """By another scrypt than the one that compares; the salt's letters are its bytes, as better-auth has it."""
    salt = "00112233445566778899aabbccddeeff"
    return f"{salt}:{Scrypt(salt=salt.encode(), length=64, n=16384, r=16, p=1).derive(password.encode()).hex()}"


def hexadecimal(kind: str, password: str, salt: str, **numbers: int) -> str:
    """As Flask (werkzeug) ends its hashes."""
    if kind == "scrypt":
        made = Scrypt(salt=salt.encode(), length=64, **numbers).derive(password.encode())
    else:
        made = pbkdf2_hmac(kind, password.encode(), salt.encode(), **numbers)
    return f"{salt}${made.hex()}"


def wordpress(password: str) -> str:
    """Since 6.8: bcrypt of a key that is made of the trimmed password."""
    key = hmac.digest(b"wp-sha384", password.encode(), "sha384")
    return "$wp" + bcrypt.hashpw(base64.b64encode(key), bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$")


def django_bcrypt_sha256(password: str) -> str:
    hasher = BCryptSHA256PasswordHasher()
    hasher.rounds = 4
    return hasher.encode(password, hasher.salt())


class CheapArgon2(Argon2PasswordHasher):
    time_cost, memory_cost = 1, 1024


*_, FIREBASE_SALT, FIREBASE_MADE = FIREBASE.split("$")
FIRE = "user1password"
RFC_7914 = (
    "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
    "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
)

# (the hash as exported, its password)
KNOWN = {
    "Firebase": (FIREBASE, "user1password"),
    "Firebase in the other alphabet": (FIREBASE.replace("+", "-").replace("/", "_"), "user1password"),
    # jBCrypt's vectors, and the one of PHP's manual.
    "bcrypt 2a": ("$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i", "abc"),
    "bcrypt 2a of nothing": ("$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", ""),
    "bcrypt 2y": ("$2y$07$BCryptRequires22Chrcte/VlQH0piJtjXl.0t1XkA8pw9dMXTpOq", "rasmuslerdorf"),
    # Some services leave bits behind the 128 of the salt.
    "bcrypt with a loose salt": ("$2a$06$DCq7YPn5Rq63x1Lad4cll/TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", ""),
    "bcrypt 2b": (bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode(), PASSWORD),
    # RFC 7914, in Django's writing.
    "scrypt N=1024": (
        "scrypt$1024$NaCl$8$16$"
        + b64_of_hex(
            "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
            "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"
        ),
        "password",
    ),
    "scrypt N=16384": (f"scrypt$16384$SodiumChloride$8$1${b64_of_hex(RFC_7914)}", "pleaseletmein"),
    "better-auth": (better_auth(PASSWORD), PASSWORD),
    # RFC 6070, and its like for SHA-512.
    "pbkdf2-sha1": ("pbkdf2_sha1$4096$salt$" + b64_of_hex("4b007901b765489abead49d926f721d065a429c1"), "password"),
    "pbkdf2-sha512": (
        "$pbkdf2-sha512$i=1,l=64$c2FsdA==$"
        + b64_of_hex(
            "867f70cf1ade02cff3752599a3a53dc4af34c7a669815ae5d513554e1c8cf252"
            "c02d470a285a0501bad999bfe943c08f050235d7d68b1da55e63f73b60a57fce"
        ),
        "password",
    ),
    "pbkdf2 with a salt that is no text": (
        f"$pbkdf2-sha256$i=1000,l=64${b64(bytes(range(240, 256)))}$"
        + b64(pbkdf2_hmac("sha256", PASSWORD.encode(), bytes(range(240, 256)), 1000, 64)),
        PASSWORD,
    ),
    # Argon2's own README, and what Kratos writes.
    "argon2i": ("$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG", "password"),
    "argon2id": (argon2.PasswordHasher(1, 1024, 1).hash(PASSWORD), PASSWORD),
    # Kratos: RFC 7914's second vector in its writing (N itself) and in passlib's (a logarithm), and its own test.
    "Kratos' scrypt": (f"$scrypt$ln=16384,r=8,p=1${b64(b'SodiumChloride')}${b64_of_hex(RFC_7914)}", "pleaseletmein"),
    "passlib's scrypt": (
        f"$scrypt$ln=14,r=8,p=1${b64(b'SodiumChloride').rstrip('=')}${b64_of_hex(RFC_7914).rstrip('=')}",
        "pleaseletmein",
    ),
    "Kratos' firescrypt": (f"$firescrypt$ln=14,r=8,p=1${FIREBASE_SALT}${FIREBASE_MADE}$Bw==${FIREBASE_KEY}", FIRE),
    "Supabase's fbscrypt": (
        f"$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk={FIREBASE_KEY}${FIREBASE_SALT}${FIREBASE_MADE}",
        FIRE,
    ),
    "Flask's pbkdf2": ("pbkdf2:sha256:1000$" + hexadecimal("sha256", PASSWORD, "XJxqkc1o", iterations=1000), PASSWORD),
    "Flask's pbkdf2 by SHA-512": (
        "pbkdf2:sha512:1000$" + hexadecimal("sha512", PASSWORD, "XJxqkc1o", iterations=1000),
        PASSWORD,
    ),
    "Flask's scrypt": (
        "scrypt:1024:8:1$" + hexadecimal("scrypt", PASSWORD, "b7dLCpzTdBoGmX", n=1024, r=8, p=1),
        PASSWORD,
    ),
    # The tests of ASP.NET Core Identity: version 2, and version 3 with SHA-1 and SHA-256.
    "ASP.NET 2": ("AAABAgMEBQYHCAkKCwwNDg+ukCEMDf0yyQ29NYubggHIVY0sdEUfdyeM+E1LtH1uJg==", "my password"),
    "ASP.NET 3 by SHA-1": ("AQAAAAAAAAD6AAAAEAhftMyfTJylOlZT+eEotFXd1elee8ih5WsjXaR3PA9M", "my password"),
    "ASP.NET 3": (
        "AQAAAAEAACcQAAAAEAABAgMEBQYHCAkKCwwNDg+yWU7rLgUwPZb1Itsmra7cbxw2EFpwpVFIEtP+JIuUEw==",
        "my password",
    ),
    # phpass's own test, and WordPress since 6.8.
    "WordPress' phpass": ("$P$9IQRaTwmfeRo7ud9Fh4E2PdI0S3r.L0", "test12345"),
    "phpBB's phpass": ("$H$9IQRaTwmfeRo7ud9Fh4E2PdI0S3r.L0", "test12345"),
    "WordPress' bcrypt": (wordpress(PASSWORD), PASSWORD),
    # passlib's tests, and its oldest PBKDF2.
    "passlib's pbkdf2": (
        "$pbkdf2-sha256$1212$4vjV83LKPjQzk31VI4E0Vw$hsYF68OiOUPdDZ1Fg.fJPeq1h/gXXY7acBp9/6c.tmQ",
        "password",
    ),
    "passlib's pbkdf2 by SHA-1": (
        "$pbkdf2$4096$c2FsdA$" + b64_of_hex("4b007901b765489abead49d926f721d065a429c1").replace("+", "."),
        "password",
    ),
    "passlib's bcrypt_sha256 1": (
        "$bcrypt-sha256$2a,5$5Hg1DKFqPE8C2aflZ5vVoe$12BjNE0p7axMg55.Y/mHsYiVuFBDQyu",
        "password",
    ),
    "passlib's bcrypt_sha256 2": (
        "$bcrypt-sha256$v=2,t=2b,r=5$5Hg1DKFqPE8C2aflZ5vVoe$wOK1VFFtS8IGTrGa7.h5fs0u84qyPbS",
        "password",
    ),
    "Devise's bcrypt": (bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4, b"2a")).decode(), PASSWORD),
    "Django's pbkdf2_sha256": (PBKDF2PasswordHasher().encode(PASSWORD, "aSaltOfTwentyTwoLetter", 1000), PASSWORD),
    "Django's pbkdf2_sha1": (PBKDF2SHA1PasswordHasher().encode(PASSWORD, "aSaltOfTwentyTwoLetter", 1000), PASSWORD),
    "Django's bcrypt": ("bcrypt$" + bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode(), PASSWORD),
    "Django's bcrypt_sha256": (django_bcrypt_sha256("x" * 100), "x" * 100),
    "Django's scrypt": (ScryptPasswordHasher().encode(PASSWORD, "aSaltOfTwentyTwoLetter", 1024), PASSWORD),
    "Django's argon2": (CheapArgon2().encode(PASSWORD, "aSaltOfTwentyTwoLetter"), PASSWORD),
}


@pytest.fixture(autouse=True)
def _signer_key(settings: Settings) -> None:
    settings.FIREBASE_SIGNER_KEY = FIREBASE_KEY


def give(user: User, exported: str) -> str:
    user.password = parse(exported)
    user.save()
    return user.password


# --- Comparing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KNOWN)
def test_the_first_right_password_makes_it_argon2id_and_a_wrong_one_changes_nothing(alice: User, name: str) -> None:
    exported, password = KNOWN[name]
    kept = give(alice, exported)
    assert len(kept) <= 128
    for wrong in (password + "x", "x" + password, password.upper() + "1"):
        assert not hashing.matches(alice, wrong)
    alice.refresh_from_db()
    assert alice.password == kept
    assert hashing.matches(alice, password)
    alice.refresh_from_db()
    assert alice.password.startswith("argon2$argon2id$")
    assert hashing.matches(alice, password)
    assert not hashing.matches(alice, password + "x")


def test_signs_in_by_the_rule_of_everybody(alice: User, caller: Caller) -> None:
    give(alice, KNOWN["bcrypt 2a"][0])
    with pytest.raises(InvalidCredentials):
        sign_in.check(login="alice", password="abd", caller=caller)
    assert sign_in.check(login="alice@example.com", password="abc", caller=caller) == alice


def test_refuses_bobs_imported_password_for_alice(alice: User, bob: User) -> None:
    give(alice, KNOWN["bcrypt 2a"][0])
    give(bob, KNOWN["bcrypt 2y"][0])
    assert not hashing.matches(alice, "rasmuslerdorf")


def test_bcrypt_reads_72_bytes_and_no_further_than_nul(alice: User) -> None:
    exported = bcrypt.hashpw(b"y" * 72, bcrypt.gensalt(4)).decode()
    for same in ("y" * 72, "y" * 100):
        give(alice, exported)
        assert hashing.matches(alice, same)
    give(alice, exported)
    assert not hashing.matches(alice, "y" * 71)
    give(alice, KNOWN["bcrypt 2a"][0])
    assert not hashing.matches(alice, "ab\0c")
    assert hashing.matches(alice, "abc\0d")


def test_other_services_hashed_what_was_typed_and_from_then_on_any_spelling_does(alice: User) -> None:
    typed, other = "ｐｌｕｍ cafe\u0301s", "plum caf\u00e9s"
    give(alice, bcrypt.hashpw(typed.encode(), bcrypt.gensalt(4)).decode())
    assert not hashing.matches(alice, other)
    assert hashing.matches(alice, typed)
    assert hashing.matches(alice, other)


def test_wordpress_trimmed_every_password_and_others_did_not(alice: User) -> None:
    for exported, password, right in (
        (KNOWN["WordPress' bcrypt"][0], f"  {PASSWORD}\n", True),
        (KNOWN["WordPress' phpass"][0], " test12345\t", True),
        (KNOWN["phpBB's phpass"][0], " test12345", False),
        (KNOWN["Devise's bcrypt"][0], f"{PASSWORD} ", False),
    ):
        give(alice, exported)
        assert hashing.matches(alice, password) == right, exported


def test_better_auth_hashed_one_spelling(alice: User) -> None:
    give(alice, better_auth("caf\u00e9 plum lagoon"))
    assert hashing.matches(alice, "cafe\u0301 plum lagoon")


def test_without_the_signer_key_nobody_of_firebase_gets_in_and_the_log_says_why(
    alice: User, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    give(alice, FIREBASE)
    settings.FIREBASE_SIGNER_KEY = ""
    assert not hashing.matches(alice, "user1password")
    assert "FIREBASE_SIGNER_KEY" in caplog.text
    settings.FIREBASE_SIGNER_KEY = b64(b"another key" * 6)
    assert not hashing.matches(alice, "user1password")
    settings.FIREBASE_SIGNER_KEY = FIREBASE_KEY
    assert hashing.matches(alice, "user1password")


# --- Bounded ------------------------------------------------------------------------------------------------


@pytest.fixture
def full(settings: Settings) -> Iterator[None]:
    settings.PASSWORD_HASH_WAIT = 0.01
    for _ in range(settings.PASSWORD_HASH_CONCURRENCY):
        assert hashing._places.acquire(timeout=1)
    yield
    for _ in range(settings.PASSWORD_HASH_CONCURRENCY):
        hashing._places.release()


def test_each_takes_one_of_the_few_places(alice: User, full: None) -> None:
    for exported, _password in KNOWN.values():
        kept = give(alice, exported)
        with pytest.raises(Overloaded):
            hashing.matches(alice, "wrong password")  # a right one would want a second place
        assert alice.password == kept


MADE = b64(b"x" * 32)


REFUSED = [
    ("$2b$15$" + "x" * 53, "hash_too_costly"),
    ("$2b$31$" + "x" * 53, "hash_too_costly"),
    ("$2b$32$" + "x" * 53, "hash_malformed"),
    ("$2b$03$" + "x" * 53, "hash_malformed"),
    ("$2x$10$" + "x" * 53, "hash_unknown"),
    ("$2b$10$" + "x" * 52, "hash_unknown"),
    (f"scrypt$1048576$salt$8$1${MADE}", "hash_too_costly"),
    (f"scrypt$16384$salt$8$100${MADE}", "hash_too_costly"),
    (f"scrypt$2$salt$1$1000${MADE}", "hash_too_costly"),
    (f"scrypt$2$salt$524288$1${MADE}", "hash_too_costly"),
    (f"scrypt$65536$salt$1$1${MADE}", "hash_malformed"),
    (f"scrypt$16383$salt$8$1${MADE}", "hash_malformed"),
    (f"scrypt$16384$salt$0$1${MADE}", "hash_malformed"),
    ("scrypt$16384$salt$8$1$abc", "hash_malformed"),
    (f"firebase$8$99$Bw==$c2FsdA==${MADE}", "hash_too_costly"),
    (f"firebase$0$14$Bw==$c2FsdA==${MADE}", "hash_malformed"),
    (f"firebase$8$14$=$c2FsdA==${MADE}x", "hash_malformed"),
    (f"$argon2id$v=19$m=1048576,t=1,p=1$c2FsdHNhbHQ${MADE}", "hash_too_costly"),
    (f"$argon2id$v=19$m=102400,t=100,p=1$c2FsdHNhbHQ${MADE}", "hash_too_costly"),
    (f"$argon2id$v=19$m=1024,t=1,p=99$c2FsdHNhbHQ${MADE}", "hash_too_costly"),
    (f"$argon2id$v=19$m=1024,t=0,p=1$c2FsdHNhbHQ${MADE}", "hash_malformed"),
    (f"$argon2id$v=19$m=1024,t=1,p=1$c2Fs${MADE}", "hash_malformed"),
    ("$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHQ$", "hash_malformed"),
    (f"$argon2id$v=19$m=1024,t=1,p=1${'c2FsdHNh' * 12}${MADE}", "hash_too_long"),
    (f"pbkdf2_sha256$2000001$salt${MADE}", "hash_too_costly"),
    (f"pbkdf2_sha256$0$salt${MADE}", "hash_malformed"),
    (f"pbkdf2_sha256$٣$salt${MADE}", "hash_unknown"),
    (f"$pbkdf2-sha256$i=99999999,l=32$c2FsdA==${MADE}", "hash_too_costly"),
    (f"$scrypt$ln=1048576,r=8,p=1$c2FsdA==${MADE}", "hash_too_costly"),
    (f"$scrypt$ln=31,r=8,p=1$c2FsdA==${MADE}", "hash_too_costly"),
    (f"$scrypt$ln=15000,r=8,p=1$c2FsdA==${MADE}", "hash_malformed"),
    (f"scrypt:1048576:8:1$salt${'ab' * 64}", "hash_too_costly"),
    (f"scrypt:32768:8:1$salt${'ab' * 7}", "hash_malformed"),
    (f"scrypt:32768:8:1$salt${'ab' * 32}a", "hash_malformed"),
    (f"pbkdf2:sha256:9000000$salt${'ab' * 32}", "hash_too_costly"),
    (f"pbkdf2:md5:1000$salt${'ab' * 32}", "hash_unknown"),
    (f"$pbkdf2-sha256$9000000$c2FsdA${MADE}", "hash_too_costly"),
    ("$P$J" + "x" * 30, "hash_too_costly"),
    ("$P$a" + "x" * 30, "hash_malformed"),
    ("$P$9" + "x" * 29, "hash_unknown"),
    ("$bcrypt-sha256$v=2,t=2b,r=15$" + "x" * 22 + "$" + "x" * 31, "hash_too_costly"),
    ("$wp$2y$15$" + "x" * 53, "hash_too_costly"),
    (b64(b"\x01" + (1).to_bytes(4) + (9_000_000).to_bytes(4) + (16).to_bytes(4) + b"x" * 48), "hash_too_costly"),
    (b64(b"\x01" + (1).to_bytes(4) + (10_000).to_bytes(4) + (99).to_bytes(4) + b"x" * 48), "hash_malformed"),
    (b64(b"\x01" + (3).to_bytes(4) + (10_000).to_bytes(4) + (16).to_bytes(4) + b"x" * 48), "hash_malformed"),
    (f"$firescrypt$ln=31,r=8,p=1${FIREBASE_SALT}${FIREBASE_MADE}$Bw==${FIREBASE_KEY}", "hash_too_costly"),
    (f"$firescrypt$ln=14,r=8,p=1${FIREBASE_SALT}${FIREBASE_MADE}$Bw==${MADE}", "hash_needs_signer_key"),
    (f"$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk={MADE}${FIREBASE_SALT}${FIREBASE_MADE}", "hash_needs_signer_key"),
    ("UkVEQUNURUQ=", "hash_redacted"),
    ("firebase$8$14$Bw==$$UkVEQUNURUQ=", "hash_redacted"),
    ("REDACTED", "hash_redacted"),
    ("bcrypt", "hash_unknown"),
    ("$1$salt$5f4dcc3b5aa765d61d8327", "hash_unknown"),
    ("5f4dcc3b5aa765d61d8327deb882cf99", "hash_unknown"),
    ("md5$salt$5f4dcc3b5aa765d61d8327deb882cf99", "hash_unknown"),
    ("plum tractor lagoon", "hash_unknown"),
    ("", "hash_unknown"),
    ("!", "hash_unknown"),
    ("imported$bcrypt$2b$04$x", "hash_unknown"),
    (hashing.hashed(PASSWORD).replace("argon2$", "argon3$"), "hash_unknown"),
]


def test_what_is_unknown_or_broken_or_would_eat_the_machine_is_refused() -> None:
    def told(exported: str) -> str:
        try:
            return f"taken: {parse(exported)}"
        except UnusableHash as refused:
            return str(refused)  # and nothing of the hash

    found = {exported: (code, told(exported)) for exported, code in REFUSED}
    assert {exported: pair for exported, pair in found.items() if pair[0] != pair[1]} == {}


def test_firebase_is_refused_without_its_key(settings: Settings) -> None:
    settings.FIREBASE_SIGNER_KEY = "not base64!"
    with pytest.raises(UnusableHash) as refused:
        parse(FIREBASE)
    assert refused.value.code == "hash_needs_signer_key"


def test_the_costliest_that_is_taken_stays_within_its_memory() -> None:
    kept = parse(f"scrypt$131072$salt$8$1${MADE}")
    assert not imported_hashes.ImportedHasher().verify(PASSWORD, kept)
