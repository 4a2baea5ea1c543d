"""Access tokens as strangers make them. Each is refused with the right code, and none is an error of ours."""

import base64
import hmac
import json
import re
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from accounts.caller import Caller
from accounts.models import Session, User
from accounts.services.account import passwords
from accounts.services.sessions import sessions, signing_keys
from accounts.services.sessions.sessions import Tokens
from tests.api.conftest import contract, problem
from tests.conftest import PASSWORD, Api


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Forger:
    """Makes tokens, right ones too."""

    def __init__(self, phone: Session, settings: Any) -> None:
        at = int(time.time())
        self.claims: dict[str, Any] = {
            "iss": settings.PUBLIC_URL,
            "sub": str(phone.user_id),
            "aud": settings.ACCESS_TOKEN_AUDIENCE,
            "iat": at,
            "exp": at + 600,
            "jti": "0.abcdefghijkl",
            "sid": str(phone.id),
            "auth_time": at,
            "amr": ["pwd"],
        }
        self.key = signing_keys.ring().signing
        self.headers: dict[str, Any] = {"typ": "at+jwt", "kid": self.key.kid}

    def __call__(
        self, *, key: Any = None, algorithm: str = "ES256", headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        payload = {**self.claims, **claims}
        return jwt.encode(
            payload, self.key.private if key is None else key, algorithm, headers={**self.headers, **(headers or {})}
        )

    def without(self, claim: str) -> str:
        del self.claims[claim]
        return self()

    def unsigned(self, head: Any, payload: Any = None, signature: bytes = b"") -> str:
        return f"{part(head)}.{part(self.claims if payload is None else payload)}.{part(signature)}"

    def signed_raw(self, head: Any, payload: Any) -> str:
        """Signed as it should be, whatever it says."""
        message = f"{part(head)}.{part(payload)}"
        signature = jwt.get_algorithm_by_name("ES256").sign(message.encode(), self.key.private)
        return f"{message}.{part(signature)}"


@pytest.fixture
def forger(phone: Session, settings: Any) -> Forger:
    return Forger(phone, settings)


def refused(api: Api, token: str, code: str, action: str) -> None:
    answer = api.get("/me", token=token)
    problem(answer, 401, code, action)
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_a_token_like_ours_is_taken(api: Api, forger: Forger) -> None:
    assert api.get("/me", token=forger()).status_code == 200


def test_a_token_carries_nothing_personal_and_what_rfc_9068_asks(tokens: Tokens, alice: User, settings: Any) -> None:
    head = jwt.get_unverified_header(tokens.access_token)
    claims = jwt.decode(tokens.access_token, options={"verify_signature": False})
    assert (head["typ"], head["alg"]) == ("at+jwt", "ES256")
    assert set(head) == {"typ", "alg", "kid"}
    assert claims["client_id"] == "app"
    assert set(claims) == {"iss", "sub", "aud", "client_id", "iat", "exp", "jti", "sid", "auth_time", "amr"}
    assert claims["sub"] == str(alice.id)
    assert claims["sid"] == str(tokens.session_id)
    assert claims["amr"] == ["pwd"]
    assert "alice" not in json.dumps(claims)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YWxpY2U6cGx1bQ==",
        "Bearer a",
        "Bearer a.b",
        "Bearer a.b.c",
        "Bearer ..",
        "Bearer a.b.c.d.e",
        "Bearer \xff.\xfe.\xfd",
        "Bearer ey" + "J" * 20000,
        "bearer",
        "Token abc",
        "Bearer =.=.=",
        "Bearer null",
        "Bearer e30.e30.e30",
        "Bearer W10.W10.W10",
    ],
)
def test_something_that_is_no_token_is_refused(api: Api, header: str) -> None:
    answer = api.get("/me", HTTP_AUTHORIZATION=header)
    problem(answer, 401, "invalid_token", "refresh")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_scheme_is_read_without_regard_to_case(api: Api, tokens: Tokens) -> None:
    assert api.get("/me", HTTP_AUTHORIZATION=f"bEaReR {tokens.access_token}").status_code == 200


def test_a_token_in_the_address_or_in_a_form_is_not_read(api: Api, tokens: Tokens) -> None:
    problem(api.get(f"/me?access_token={tokens.access_token}"), 401, "invalid_token")


def test_an_expired_token_is_told_apart(api: Api, forger: Forger) -> None:
    at = int(time.time())
    refused(api, forger(iat=at - 900, exp=at - 11), "token_expired", "refresh")


def test_clocks_may_differ_by_some_seconds(api: Api, forger: Forger) -> None:
    at = int(time.time())
    assert api.get("/me", token=forger(exp=at - 5)).status_code == 200
    assert api.get("/me", token=forger(iat=at + 5)).status_code == 200


def test_a_token_that_expires_after_it_was_seen_is_refused_from_then_on(
    api: Api, forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = forger()
    assert api.get("/me", token=token).status_code == 200
    later = time.time() + 3600
    monkeypatch.setattr("accounts.services.sessions.sessions.access_tokens.time.time", lambda: later)
    refused(api, token, "token_expired", "refresh")


def test_an_unsigned_token_is_refused(api: Api, forger: Forger) -> None:
    for algorithm in ("none", "None", "NONE", "", None):
        refused(api, forger.unsigned({**forger.headers, "alg": algorithm}), "invalid_token", "refresh")


def test_a_token_signed_with_the_public_key_as_a_password_is_refused(api: Api, forger: Forger) -> None:
    encodings = [
        (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint),
    ]
    for encoding, form in encodings:
        password = forger.key.public.public_bytes(encoding, form)
        message = f"{part({**forger.headers, 'alg': 'HS256'})}.{part(forger.claims)}"
        token = f"{message}.{part(hmac.digest(password, message.encode(), sha256))}"
        refused(api, token, "invalid_token", "refresh")


def test_a_token_of_another_key_is_refused(api: Api, forger: Forger) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    refused(api, forger(key=stranger), "invalid_token", "refresh")
    refused(api, forger(key=stranger, headers={"kid": "stranger"}), "invalid_token", "refresh")
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(stranger.public_key()))
    refused(api, forger(key=stranger, headers={"jwk": jwk}), "invalid_token", "refresh")


def test_a_token_of_another_algorithm_is_refused(api: Api, forger: Forger) -> None:
    refused(api, forger(key=rsa.generate_private_key(65537, 2048), algorithm="RS256"), "invalid_token", "refresh")
    refused(api, forger(key=ec.generate_private_key(ec.SECP384R1()), algorithm="ES384"), "invalid_token", "refresh")


@pytest.mark.parametrize("typ", ["JWT", "", "at+JWT ", "application/x", "refresh+jwt"])
def test_a_token_of_another_kind_is_refused(api: Api, forger: Forger, typ: str) -> None:
    refused(api, forger(headers={"typ": typ}), "invalid_token", "refresh")


@pytest.mark.parametrize("kid", ["", "unknown", 1, None, [], {}, "a" * 10000, "\x00", "../key"])
def test_a_token_without_a_known_kid_is_refused(api: Api, forger: Forger, kid: object) -> None:
    refused(
        api, forger.signed_raw({"alg": "ES256", "typ": "at+jwt", "kid": kid}, forger.claims), "invalid_token", "refresh"
    )


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("aud", "other"),
        ("aud", ["other"]),
        ("aud", 1),
        ("aud", []),
        ("iss", "https://evil.example"),
        ("iss", 1),
        ("iss", ["http://testserver"]),
        ("sub", "alice"),
        ("sub", "1"),
        ("sub", 1),
        ("sub", ""),
        ("sub", "\x00"),
        ("sub", ["x"]),
        ("sub", {}),
        ("sid", "phone"),
        ("sid", 1),
        ("sid", []),
        ("sid", "\x00"),
        ("jti", "abc"),
        ("jti", 5),
        ("jti", ""),
        ("jti", "9" * 5000),
        ("jti", "1." * 5),
        ("exp", "soon"),
        ("exp", []),
        ("exp", None),
        ("iat", "then"),
        ("iat", []),
        ("nbf", "then"),
    ],
)
def test_a_token_with_a_wrong_claim_is_refused_though_its_signature_is_right(
    api: Api, forger: Forger, claim: str, value: object
) -> None:
    refused(
        api,
        forger.signed_raw({**forger.headers, "alg": "ES256"}, {**forger.claims, claim: value}),
        "invalid_token",
        "refresh",
    )


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "iat", "exp", "jti", "sid", "auth_time", "amr"])
def test_a_token_that_lacks_a_claim_is_refused(api: Api, forger: Forger, claim: str) -> None:
    refused(api, forger.without(claim), "invalid_token", "refresh")


def test_a_token_that_is_not_valid_yet_is_refused(api: Api, forger: Forger) -> None:
    at = int(time.time())
    refused(api, forger(iat=at + 3600, exp=at + 7200), "invalid_token", "refresh")
    refused(api, forger(nbf=at + 3600), "invalid_token", "refresh")


def test_a_token_with_an_extension_that_must_be_understood_is_refused(api: Api, forger: Forger) -> None:
    refused(api, forger(headers={"crit": ["exp"], "exp": 1}), "invalid_token", "refresh")


@pytest.mark.parametrize("payload", [[], "alice", 1, None, b"\xff", b"{", b"[" * 100_000])
def test_a_signed_payload_that_is_no_object_is_refused(api: Api, forger: Forger, payload: object) -> None:
    refused(api, forger.signed_raw({**forger.headers, "alg": "ES256"}, payload), "invalid_token", "refresh")


@pytest.mark.parametrize("head", [[], "alice", 1, None, b"\xff", b"{", b"[" * 100_000, b'{"a":' * 100_000])
def test_a_head_that_is_no_object_is_refused(api: Api, forger: Forger, head: object) -> None:
    refused(api, forger.unsigned(head, signature=b"x" * 64), "invalid_token", "refresh")


@pytest.mark.parametrize("signature", [b"", b"x", b"\x00" * 64, b"\xff" * 64, b"x" * 10_000])
def test_a_signature_that_is_none_is_refused(api: Api, forger: Forger, signature: bytes) -> None:
    refused(api, forger.unsigned({**forger.headers, "alg": "ES256"}, signature=signature), "invalid_token", "refresh")


def test_a_token_whose_claims_were_changed_is_refused(api: Api, tokens: Tokens, bob: User) -> None:
    head, payload, signature = tokens.access_token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    refused(api, f"{head}.{part({**claims, 'sub': str(bob.id)})}.{signature}", "invalid_token", "refresh")


def test_a_session_of_somebody_else_does_not_make_its_owner(api: Api, forger: Forger, bob: User) -> None:
    refused(api, forger(sub=str(bob.id)), "session_revoked", "sign_in")


def test_a_session_that_never_was_is_refused(api: Api, forger: Forger) -> None:
    refused(api, forger(sid=str(uuid4())), "session_revoked", "sign_in")


def test_a_generation_that_was_never_handed_out_is_refused(api: Api, forger: Forger) -> None:
    refused(api, forger(jti="7.abc"), "invalid_token", "refresh")


def test_a_refresh_token_opens_no_door(api: Api, tokens: Tokens) -> None:
    refused(api, tokens.refresh_token, "invalid_token", "refresh")


# --- What ends a token before its time ----------------------------------------------------------------------


def test_a_disabled_user_is_refused_at_once(alices_api: Api, alice: User) -> None:
    assert alices_api.get("/me").status_code == 200
    User.objects.filter(id=alice.id).update(is_active=False)
    refused(alices_api, alices_api.token, "session_revoked", "sign_in")


def test_a_deleted_user_is_refused_at_once(alices_api: Api, alice: User) -> None:
    assert alices_api.get("/me").status_code == 200
    alice.delete()
    refused(alices_api, alices_api.token, "session_revoked", "sign_in")


def test_an_ended_session_is_refused_at_once(alices_api: Api, alice: User, phone: Session, caller: Caller) -> None:
    assert alices_api.get("/me").status_code == 200
    sessions.end(user=alice, session_id=phone.id, caller=caller)
    refused(alices_api, alices_api.token, "session_revoked", "sign_in")


def test_a_changed_password_refuses_the_other_devices_at_once(
    alices_api: Api, alice: User, another_app: Callable[[User], Api], caller: Caller
) -> None:
    other = another_app(alice)
    assert other.get("/me").status_code == 200
    body = {"current_password": PASSWORD, "new_password": "another lagoon tractor"}
    assert alices_api.post("/me/password", body).status_code == 204
    refused(other, other.token, "session_revoked", "sign_in")
    assert alices_api.get("/me").status_code == 200


def test_a_password_changed_elsewhere_refuses_every_device(alices_api: Api, alice: User, caller: Caller) -> None:
    passwords.change(
        user=alice, current_password=PASSWORD, new_password="another lagoon tractor", keep=None, caller=caller
    )
    refused(alices_api, alices_api.token, "session_revoked", "sign_in")


def test_every_personal_operation_asks_for_a_token_before_it_reads_anything(api: Api) -> None:
    asked = []
    for (method, template), operation in contract().operations.items():
        if operation.get("security"):
            path = re.sub(r"\{\w+\}", str(uuid4()), template.removeprefix("/api/v1"))
            for body in (None, b"\xff" * 1000, b'{"a": 1}', b"{"):
                answer = api(method, path, body, content_type="application/json")
                asked.append((operation["operationId"], body, answer.status_code, answer.json()["code"]))
    assert len({name for name, *_ in asked}) > 30
    assert [one for one in asked if one[2:] != (401, "invalid_token")] == []


# --- What it costs ------------------------------------------------------------------------------------------


def test_the_profile_costs_one_query_after_the_first_use(alices_api: Api, django_assert_num_queries: Any) -> None:
    alices_api.get("/me")
    with django_assert_num_queries(1):
        assert alices_api.get("/me").status_code == 200


def test_an_expired_or_forged_token_costs_no_query(api: Api, forger: Forger, django_assert_num_queries: Any) -> None:
    expired = forger(exp=int(time.time()) - 60)
    with django_assert_num_queries(0):
        refused(api, expired, "token_expired", "refresh")
        refused(api, "a.b.c", "invalid_token", "refresh")


def test_refreshing_costs_at_most_two_queries(api: Api, tokens: Tokens, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(2):
        answer = api.post("/token/refresh", {"refresh_token": tokens.refresh_token})
    assert answer.status_code == 200
