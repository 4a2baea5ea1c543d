"""What docs/importing.md tells people to run on their old service gives lines that come in, with passwords that fit."""

# ruff: noqa: S608 - the rows of the old services are written here

import base64
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from hashlib import pbkdf2_hmac
from pathlib import Path
from typing import Any

import argon2
import bcrypt
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connection
from pytest_django import Settings

from accounts.caller import NOBODY
from accounts.models import User
from accounts.services.credentials import hashing, imported_hashes
from accounts.services.staff import imports
from tests.conftest import PASSWORD
from tests.services.test_imported_hashes import FIREBASE, FIREBASE_KEY, better_auth

pytestmark = pytest.mark.django_db

PAGE = (django_settings.BASE_DIR / "docs/importing.md").read_text()
BLOCKS = dict(re.findall(r"^```(?:sql|python) (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
BCRYPT = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
ID = "0b3e4a52-9d3f-4b0e-8e67-0d8d1b1f2c3d"
SECOND = "1b3e4a52-9d3f-4b0e-8e67-0d8d1b1f2c3d"
SALT = bytes(range(240, 256))


def comes_in(lines: Sequence[str], password: str = PASSWORD, *, left_out: Sequence[str] = ()) -> User:
    """Dora. The old service knows nothing of its other user that anybody could sign in with."""
    (report,) = imports.run([line.encode() for line in lines], apply=True, caller=NOBODY)
    assert report.made == 1
    assert [problem.error.code for problem in report.refusals] == ["no_way_in"]
    assert [f"{problem.error.field}: {problem.error.code}" for problem in report.left_out] == list(left_out)
    user = User.objects.get()
    assert user.email == "dora@example.com"
    assert user.created_at.isoformat() == "2021-03-01T12:00:00+00:00"
    assert hashing.matches(user, password)
    return user


def selected(name: str, *tables: str) -> Sequence[str]:
    with connection.cursor() as sql:
        for statement in tables:
            sql.execute(statement)
        sql.execute(BLOCKS[name])
        return [json.dumps(row[0]) if isinstance(row[0], dict) else row[0] for row in sql.fetchall()]


def written(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, export: str, content: Any) -> Sequence[str]:
    (folder / export).write_text(json.dumps(content))
    monkeypatch.chdir(folder)
    exec(compile(BLOCKS[name], name, "exec"), {})  # noqa: S102 - the page's own words
    return (folder / "users.jsonl").read_text().splitlines()


def test_every_service_of_the_page_is_tried_here() -> None:
    assert set(BLOCKS) == {"django", "supabase", "better-auth", "kratos", "firebase", "keycloak"}


def test_the_page_and_the_code_name_one_limit_for_each_hash() -> None:
    page, mib = " ".join(PAGE.split()), 2**20
    for said in (
        f"more than {imported_hashes.MAX_MEMORY // mib} MiB",
        f"N·r·p·128 over {imported_hashes.MAX_SCRYPT_WORK // mib} MiB",
        f"r over {imported_hashes.MAX_SCRYPT_BLOCK} or p over {imported_hashes.MAX_SCRYPT_LANES}",
        f"m·t over {imported_hashes.MAX_ARGON2_WORK // 2**30} GiB",
        f"bcrypt over cost {imported_hashes.MAX_BCRYPT_COST}",
        f"PBKDF2 over {imported_hashes.MAX_PBKDF2_ITERATIONS:,} rounds",
        f"phpass over {2**imported_hashes.MAX_PHPASS_LOG2:,} rounds",
    ):
        assert said in page


def test_django(tmp_path: Path) -> None:
    old = (
        "from django.conf import settings\n"
        "settings.configure(USE_TZ=True, INSTALLED_APPS=['django.contrib.auth', 'django.contrib.contenttypes'],\n"
        "    DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}})\n"
        "import datetime, django\n"
        "django.setup()\n"
        "from django.core.management import call_command\n"
        "call_command('migrate', verbosity=0)\n"
        "from django.contrib.auth.models import User\n"
        "at = datetime.datetime(2021, 3, 1, 12, tzinfo=datetime.UTC)\n"
        f"password = {PBKDF2PasswordHasher().encode(PASSWORD, 'aSaltOfTwentyTwoLetter', 1000)!r}\n"
        "User.objects.create(username='Dora', email='Dora@example.com', date_joined=at, password=password)\n"
        "User.objects.create(username='nobody')\n"
    )
    subprocess.run([sys.executable, "-c", old + BLOCKS["django"]], cwd=tmp_path, check=True, timeout=60)
    assert comes_in((tmp_path / "users.jsonl").read_text().splitlines()).username == "dora"


def test_supabase() -> None:
    user = comes_in(
        selected(
            "supabase",
            "CREATE SCHEMA auth",
            "CREATE TABLE auth.users (id uuid, email varchar(255), email_confirmed_at timestamptz, encrypted_password "
            "varchar(255), created_at timestamptz, banned_until timestamptz, deleted_at timestamptz)",
            "CREATE TABLE auth.mfa_factors (user_id uuid, factor_type text, status text)",
            f"INSERT INTO auth.users VALUES ('{ID}', 'dora@example.com', now(), '{BCRYPT}', '2021-03-01 12:00Z'), "
            "(gen_random_uuid(), NULL, NULL, '', now())",
            f"INSERT INTO auth.mfa_factors VALUES ('{ID}', 'totp', 'verified'), ('{ID}', 'totp', 'verified'), "
            f"('{ID}', 'phone', 'unverified')",
        ),
        left_out=["second_factors.totp: second_factor"],
    )
    assert (str(user.id), user.email_verified, user.is_active) == (ID, True, True)


def test_better_auth() -> None:
    user = comes_in(
        selected(
            "better-auth",
            'CREATE TEMP TABLE "user" (id text, name text, email text, "emailVerified" boolean, '
            '"createdAt" timestamp(3))',
            'CREATE TEMP TABLE account (id text, "userId" text, "providerId" text, password text)',
            "INSERT INTO \"user\" VALUES ('x7', 'Dora D', 'dora@example.com', true, '2021-03-01 12:00'), "
            "('x8', 'Nobody', NULL, false, now())",
            "INSERT INTO account VALUES ('a', 'x7', 'google', NULL), "
            f"('b', 'x7', 'credential', '{better_auth(PASSWORD)}')",
        )
    )
    assert (user.first_name, user.email_verified) == ("Dora D", True)


def test_kratos() -> None:
    kept = argon2.PasswordHasher(1, 1024, 1).hash(PASSWORD)
    user = comes_in(
        selected(
            "kratos",
            "CREATE TEMP TABLE identities (id uuid, traits jsonb, state text, created_at timestamp)",
            "CREATE TEMP TABLE identity_verifiable_addresses (identity_id uuid, value text, verified boolean)",
            "CREATE TEMP TABLE identity_credential_types (id uuid, name text)",
            "CREATE TEMP TABLE identity_credentials (identity_id uuid, identity_credential_type_id uuid, config jsonb)",
            f"""INSERT INTO identities VALUES ('{ID}',
                '{{"email": "Dora@example.com", "name": {{"first": "Dora"}}}}', 'active', '2021-03-01 12:00'),
                (gen_random_uuid(), '{{"phone": "+1"}}', 'active', '2021-03-01 12:00')""",
            f"INSERT INTO identity_verifiable_addresses VALUES ('{ID}', 'dora@example.com', true)",
            f"INSERT INTO identity_credential_types VALUES ('{ID}', 'password'), ('{SECOND}', 'totp')",
            f"""INSERT INTO identity_credentials VALUES ('{ID}', '{ID}', '{{"hashed_password": "{kept}"}}'),
                ('{ID}', '{SECOND}', '{{}}')""",
        ),
        left_out=["second_factors.totp: second_factor"],
    )
    assert (str(user.id), user.first_name, user.last_name, user.email_verified) == (ID, "Dora", "", True)


def test_firebase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.FIREBASE_SIGNER_KEY = FIREBASE_KEY
    *_, salt, made = FIREBASE.split("$")
    export = {
        "users": [
            {
                "localId": "x7", "email": "dora@example.com", "emailVerified": True, "passwordHash": made,
                "salt": salt, "displayName": "Dora D", "createdAt": "1614600000000", "mfaInfo": [{"phoneInfo": "+1"}],
            },
            {"localId": "x8", "phoneNumber": "+1"},
        ]
    }  # fmt: skip
    lines = written("firebase", tmp_path, monkeypatch, "users.json", export)
    user = comes_in(lines, "user1password", left_out=["second_factors.phone: second_factor"])
    assert (user.first_name, user.email_verified) == ("Dora D", True)


def test_firebase_that_hides_its_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.FIREBASE_SIGNER_KEY = FIREBASE_KEY
    export = {
        "users": [
            {"localId": name, "email": f"{name}@example.com", "passwordHash": "UkVEQUNURUQ=", "salt": salt}
            for name, salt in (("dora", ""), ("eve", "42xEC+ixf3L2lw=="))
        ]
    }
    lines = written("firebase", tmp_path, monkeypatch, "users.json", export)
    (report,) = imports.run([line.encode() for line in lines], apply=True, caller=NOBODY)
    assert (report.made, report.refusals) == (2, [])
    assert [problem.error.code for problem in report.left_out] == ["hash_redacted"] * 2


def keycloak_pbkdf2(name: str, digest: str) -> tuple[dict[str, Any], dict[str, Any]]:
    made = pbkdf2_hmac(digest, PASSWORD.encode(), SALT, 1000, 64)
    return {"hashIterations": 1000, "algorithm": name, "additionalParameters": {}}, {
        "value": base64.b64encode(made).decode(),
        "salt": base64.b64encode(SALT).decode(),
    }


def keycloak_argon2() -> tuple[dict[str, Any], dict[str, Any]]:
    made = argon2.low_level.hash_secret_raw(PASSWORD.encode(), SALT, 5, 7168, 1, 32, argon2.Type.ID)
    more = {"hashLength": ["32"], "memory": ["7168"], "type": ["id"], "version": ["1.3"], "parallelism": ["1"]}
    return {"hashIterations": 5, "algorithm": "argon2", "additionalParameters": more}, {
        "value": base64.b64encode(made).decode(),
        "salt": base64.b64encode(SALT).decode(),
    }


def keycloak_credential(about: dict[str, Any], secret: dict[str, Any]) -> dict[str, Any]:
    return {"type": "password", "credentialData": json.dumps(about), "secretData": json.dumps(secret)}


def keycloak_of_old(name: str | None, digest: str) -> dict[str, Any]:
    """As exported before version 8."""
    about, secret = keycloak_pbkdf2(name or "", digest)
    old = {"type": "password", "hashedSaltedValue": secret["value"], "salt": secret["salt"], "counter": 0, "digits": 0}
    return {**old, "hashIterations": about["hashIterations"], "period": 0, **({"algorithm": name} if name else {})}


@pytest.mark.parametrize(
    "kept",
    [
        keycloak_credential(*keycloak_pbkdf2("pbkdf2", "sha1")),
        {**keycloak_credential(*keycloak_pbkdf2("pbkdf2-sha256", "sha256")), "hashedSaltedValue": None},
        keycloak_credential(*keycloak_pbkdf2("pbkdf2-sha512", "sha512")),
        keycloak_credential(*keycloak_argon2()),
        keycloak_of_old("pbkdf2-sha256", "sha256"),
        keycloak_of_old("pbkdf2", "sha1"),
        keycloak_of_old(None, "sha1"),
    ],
)
def test_keycloak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: dict[str, Any]) -> None:
    export = {
        "users": [
            {
                "id": ID, "username": "dora@example.com", "email": "dora@example.com", "emailVerified": True,
                "enabled": False, "createdTimestamp": 1614600000000, "firstName": "Dora",
                "credentials": [{"type": "otp"}, {"type": "password-history"}, kept],
            },
            {"id": SECOND, "username": "service-account-x", "serviceAccountClientId": "x"},
            {"id": SECOND, "username": "nobody"},
        ]
    }  # fmt: skip
    lines = written("keycloak", tmp_path, monkeypatch, "realm.json", export)
    user = comes_in(lines, left_out=["second_factors.otp: second_factor"])
    assert (str(user.id), user.first_name, user.email_verified, user.is_active) == (ID, "Dora", True, False)


def test_odd_users_of_a_keycloak_are_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bcrypt_of_an_extension = keycloak_credential(
        {"hashIterations": 10, "algorithm": "bcrypt"}, {"value": "x", "salt": ""}
    )
    plain = keycloak_credential(*keycloak_pbkdf2("pbkdf2-sha256", "sha256"))
    export = {
        "users": [
            {"id": "f:7:o'brien", "username": "o'brien", "email": "obrien@example.com", "firstName": "x" * 81},
            {"username": "without.address", "credentials": [plain]},
            {"username": "by@example.com", "credentials": [bcrypt_of_an_extension, {"type": "webauthn"}]},
        ]
    }
    lines = written("keycloak", tmp_path, monkeypatch, "realm.json", export)
    (report,) = imports.run([line.encode() for line in lines], apply=True, caller=NOBODY)
    assert (report.made, report.refusals) == (3, [])
    assert [(problem.line, problem.error.field, problem.error.code) for problem in report.left_out] == [
        (1, "username", "username_characters"),
        (1, "first_name", "name_too_long"),
        (1, "id", "not_a_uuid"),
        (3, "password_hash", "hash_unknown"),
        (3, "second_factors.webauthn", "second_factor"),
    ]
    assert hashing.matches(User.objects.get(username="without.address", email=""), PASSWORD)
    assert set(User.objects.values_list("email", flat=True)) == {"", "obrien@example.com", "by@example.com"}
    (again,) = imports.run([line.encode() for line in lines], apply=True, caller=NOBODY)
    assert (again.made, again.there) == (0, 3)
