"""Access tokens: RFC 9068, and everything that is not one is refused."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.errors import InvalidToken, TokenExpired
from accounts.models import Session, SigningKey, User
from accounts.services.sessions import access_tokens, signing_keys
from tests.services.test_signing_keys import age


def claims_of(session: Session) -> dict[str, Any]:
    """What a good token says."""
    token = access_tokens.issue(session, generation=3).access_token
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def signed(
    payload: dict[str, Any], *, key: Any = None, algorithm: str | None = "ES256", headers: dict[str, Any] | None = None
) -> str:
    ring = signing_keys.ring()
    return jwt.encode(
        payload,
        ring.signing.private if key is None else key,
        algorithm=algorithm,
        headers={"kid": ring.signing.kid, "typ": "at+jwt", **(headers or {})},
    )


def part(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


# --- What is issued -----------------------------------------------------------------------------------------


def test_a_token_says_what_rfc_9068_asks_for(phone: Session, alice: User, settings: Settings) -> None:
    before = int(time.time())
    issued = access_tokens.issue(phone, generation=3)
    header = jwt.get_unverified_header(issued.access_token)
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": signing_keys.ring().signing.kid}
    claims = jwt.decode(issued.access_token, options={"verify_signature": False})
    assert set(claims) == {*access_tokens.REQUIRED, "client_id"}
    assert claims["client_id"] == "app"
    assert claims["iss"] == settings.PUBLIC_URL
    assert claims["aud"] == settings.ACCESS_TOKEN_AUDIENCE
    assert (claims["sub"], claims["sid"]) == (str(alice.id), str(phone.id))
    assert before <= claims["iat"] <= time.time()
    assert claims["exp"] - claims["iat"] == issued.expires_in
    assert claims["auth_time"] == int(phone.authenticated_at.timestamp())
    assert claims["amr"] == ["pwd"]


def test_nothing_personal_is_in_a_token(phone: Session, alice: User) -> None:
    token = access_tokens.issue(phone, generation=0).access_token
    readable = b"".join(base64.urlsafe_b64decode(piece + "==") for piece in token.split(".")[:2]).decode()
    for personal in (alice.username, alice.email, alice.first_name, phone.name, str(phone.ip)):
        assert personal not in readable


def test_no_two_tokens_are_the_same_and_lifetimes_spread(phone: Session, settings: Settings) -> None:
    issued = [access_tokens.issue(phone, generation=0) for _ in range(50)]
    assert len({one.access_token for one in issued}) == 50
    lifetime = settings.ACCESS_TOKEN_LIFETIME.total_seconds()
    assert all(0.95 * lifetime <= one.expires_in <= lifetime for one in issued)
    assert len({one.expires_in for one in issued}) > 5


def test_anybody_can_verify_it_with_the_published_keys(phone: Session, settings: Settings) -> None:
    token = access_tokens.issue(phone, generation=0).access_token
    keys = jwt.PyJWKSet.from_dict(json.loads(json.dumps(signing_keys.jwks())))
    found = jwt.decode(
        token,
        keys[jwt.get_unverified_header(token)["kid"]].key,
        algorithms=["ES256"],
        audience=settings.ACCESS_TOKEN_AUDIENCE,
        issuer=settings.PUBLIC_URL,
    )
    assert found["sid"] == str(phone.id)


def test_verify_gives_back_whom_and_which_device_it_means(phone: Session, alice: User) -> None:
    before = int(time.time())
    issued = access_tokens.issue(phone, generation=41)
    after = time.time()
    claims = access_tokens.verify(issued.access_token)
    assert (claims.user_id, claims.session_id, claims.generation) == (alice.id, phone.id, 41)
    assert before <= claims.expires_at - issued.expires_in <= after


def test_the_second_time_neither_signature_nor_database_is_asked(
    phone: Session, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    token = access_tokens.issue(phone, generation=0).access_token
    first = access_tokens.verify(token)
    with django_assert_num_queries(0):
        assert access_tokens.verify(token) is first


# --- Running out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remembered", [False, True])
def test_a_token_runs_out_with_ten_seconds_of_leeway(
    phone: Session, monkeypatch: pytest.MonkeyPatch, remembered: bool
) -> None:
    claims = claims_of(phone)
    good, bad = (signed({**claims, "exp": int(time.time()) - by}) for by in (2, 13))
    assert access_tokens.verify(good).session_id == phone.id
    with pytest.raises(TokenExpired):
        access_tokens.verify(bad)
    if not remembered:
        access_tokens._verify.cache_clear()
    moment = time.time() + 10
    monkeypatch.setattr(time, "time", lambda: moment)
    with pytest.raises(TokenExpired):
        access_tokens.verify(good)


# --- What is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", access_tokens.REQUIRED)
def test_refuses_a_token_that_lacks_a_claim(phone: Session, claim: str) -> None:
    claims = claims_of(phone)
    del claims[claim]
    with pytest.raises(InvalidToken):
        access_tokens.verify(signed(claims))


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": []},
        {"aud": 7},
        {"sub": "alice"},
        {"sub": ""},
        {"sid": "x"},
        {"sid": 5},
        {"sid": None},
        {"jti": "x.y"},
        {"jti": ""},
        {"jti": 5},
        {"jti": None},
        {"exp": "soon"},
        {"exp": None},
        {"iat": "now"},
        {"iat": 99_999_999_999},
        {"nbf": 99_999_999_999},
        {"sid": "\x00" * 36},
    ],
    ids=str,
)
def test_refuses_a_claim_that_is_not_ours(phone: Session, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        access_tokens.verify(signed_by_hand({**claims_of(phone), **change}))


def signed_by_hand(payload: dict[str, Any]) -> str:
    """Because PyJWT refuses to sign some."""
    head = {"alg": "ES256", "typ": "at+jwt", "kid": signing_keys.ring().signing.kid}
    signing_input = f"{part(head)}.{part(payload)}".encode()
    algorithm = jwt.get_algorithm_by_name("ES256")
    signature = algorithm.sign(signing_input, signing_keys.ring().signing.private)
    return f"{signing_input.decode()}.{part(signature)}"


def test_refuses_a_time_that_is_no_whole_number(phone: Session) -> None:
    """RFC 7519 wants a number. PyJWT takes what `int` takes."""
    claims, taken = claims_of(phone), []
    later = claims["exp"] + 600
    for name in ("exp", "iat", "nbf", "auth_time"):
        right = later if name == "exp" else claims["iat"]
        wrong = (
            str(right),
            f" {right} ",
            "\u0661",
            float(right),
            right + 0.5,
            True,
            False,
            None,
            [right],
            0,
            -right,
            10**400,
        )
        for value in wrong if name != "nbf" else wrong[:5]:
            try:
                access_tokens.verify(signed_by_hand({**claims, name: value}))
            except (InvalidToken, TokenExpired):
                continue
            taken.append((name, str(value)[:30]))
        access_tokens.verify(signed_by_hand({**claims, name: right}))
    assert taken == []


@pytest.mark.parametrize(
    "headers", [{"typ": "JWT"}, {"typ": None}, {"kid": "unknown"}, {"kid": ""}, {"kid": "\x00' OR 1=1"}], ids=str
)
def test_refuses_a_header_that_is_not_ours(phone: Session, headers: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        access_tokens.verify(signed(claims_of(phone), headers=headers))


def test_refuses_a_stranger_signature_under_our_kid(phone: Session) -> None:
    with pytest.raises(InvalidToken):
        access_tokens.verify(signed(claims_of(phone), key=ec.generate_private_key(ec.SECP256R1())))


def test_refuses_other_algorithms(phone: Session) -> None:
    claims, ring = claims_of(phone), signing_keys.ring()
    public_pem = ring.signing.public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = {"alg": "HS256", "typ": "at+jwt", "kid": ring.signing.kid}
    signing_input = f"{part(head)}.{part(claims)}"
    confused = jwt.get_algorithm_by_name("HS256").sign(signing_input.encode(), public_pem)
    forged = [
        f"{signing_input}.{part(confused)}",  # our public key taken for a shared secret
        f"{part({**head, 'alg': 'none'})}.{part(claims)}.",
        f"{part({**head, 'alg': 'None'})}.{part(claims)}.",
        f"{part({**head, 'alg': 'ES256'})}.{part(claims)}.",
        signed(claims, key=rsa.generate_private_key(65537, 2048), algorithm="RS256"),
        signed(claims, key=ec.generate_private_key(ec.SECP384R1()), algorithm="ES384"),
    ]
    for token in forged:
        with pytest.raises(InvalidToken):
            access_tokens.verify(token)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "x",
        "a.b.c",
        "é.é.é",
        "\x00",
        "\ud800",
        "." * 10_000,
        "x" * 100_000,
        f"{part([])}.{part({})}.",
        f"{part('text')}.{part({})}.",
        f"{part({'typ': 'at+jwt', 'kid': 5, 'alg': 'ES256'})}.{part({})}.",
        f"{part({'typ': 'at+jwt', 'kid': ['x'], 'alg': 'ES256'})}.{part({})}.",
        f"{part({'typ': 'at+jwt', 'kid': 'x', 'alg': 5})}.{part({})}.",
        f"{part(b'[' * 100_000)}.{part({})}.",
        part(b"{" + b'"a":{' * 50_000) + ".e30.e30",
        part(b"\xff\xfe") + ".e30.e30",
        "eyJhbGciOiJFUzI1NiJ9.e30",
    ],
    ids=lambda token: repr(token[:20]),
)
def test_refuses_what_is_no_token_at_all(token: str) -> None:
    with pytest.raises(InvalidToken):
        access_tokens.verify(token)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"),
        lambda token: token[:-10],
        lambda token: token + "AAAA",
        lambda token: token.rpartition(".")[0],
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: "x" + token,
    ],
)
def test_refuses_a_token_that_was_touched(phone: Session, spoil: Callable[[str], str]) -> None:
    token = access_tokens.issue(phone, generation=0).access_token
    access_tokens.verify(token)
    with pytest.raises(InvalidToken):
        access_tokens.verify(spoil(token))


def test_refuses_alices_token_with_bobs_name_put_in(phone: Session, bob: User) -> None:
    head, _, signature = access_tokens.issue(phone, generation=0).access_token.split(".")
    payload = {**claims_of(phone), "sub": str(bob.id)}
    with pytest.raises(InvalidToken):
        access_tokens.verify(f"{head}.{part(payload)}.{signature}")


# --- Keys that come and go ----------------------------------------------------------------------------------


def test_tokens_of_the_old_key_stay_good_when_a_new_one_signs(phone: Session) -> None:
    old = access_tokens.issue(phone, generation=0).access_token
    signing_keys.make()
    signing_keys.forget()
    new = access_tokens.issue(phone, generation=0).access_token
    kids = {jwt.get_unverified_header(token)["kid"] for token in (old, new)}
    assert len(kids) == 2
    for token in (old, new):
        assert access_tokens.verify(token).session_id == phone.id


def test_a_token_signed_by_another_process_with_a_newer_key_is_taken(phone: Session) -> None:
    signing_keys.ring()
    stale = signing_keys._ring
    signing_keys.make()
    signing_keys.forget()
    token = access_tokens.issue(phone, generation=0).access_token
    signing_keys._ring = stale
    age(2)
    assert access_tokens.verify(token).session_id == phone.id


def test_refuses_a_token_of_a_key_that_was_taken_away(phone: Session) -> None:
    token = access_tokens.issue(phone, generation=0).access_token
    SigningKey.objects.all().delete()
    signing_keys.forget()
    with pytest.raises(InvalidToken):
        access_tokens.verify(token)


def test_a_flood_of_unknown_kids_costs_at_most_one_query_a_second(
    phone: Session, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    claims = claims_of(phone)
    forged = [signed(claims, headers={"kid": uuid4().hex}) for _ in range(20)]
    age(2)
    with django_assert_num_queries(1):
        for token in forged:
            with pytest.raises(InvalidToken):
                access_tokens.verify(token)
