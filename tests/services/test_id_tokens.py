"""ID tokens from a provider that lies: which are accepted, how often it is asked, and what its absence costs."""

import dataclasses
import hmac
import json
import re
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from accounts.errors import AccountError, InvalidIdToken, ProviderUnavailable, ProviderUnknown
from accounts.services.authentication import id_tokens, providers
from accounts.services.authentication.assertions import Claims
from project.devstack.provider import ADA, TENANT, FakeProvider, Key
from tests.threads import at_once

NONCE = "2Kj9wqv7TzL0"


def verify(token: str, provider: str = "corp") -> Claims:
    return id_tokens.verify(token, providers.get(provider), nonce=NONCE)


def refusal(token: str, provider: str = "corp") -> str:
    try:
        verify(token, provider)
    except AccountError as error:
        return error.code
    return "accepted"


def segment(part: Any) -> str:
    """Of a token. Text goes in as it is, so that it need not be JSON."""
    return urlsafe_b64encode((part if isinstance(part, str) else json.dumps(part)).encode()).rstrip(b"=").decode()


def signed(fake: FakeProvider, payload: Any, header: Any = None) -> str:
    """By the provider, whatever it is."""
    key = fake.keys[0]
    inside = f"{segment(header or {'alg': key.algorithm, 'kid': key.kid})}.{segment(payload)}"
    signature = jwt.get_algorithm_by_name(key.algorithm).sign(inside.encode(), key.private)
    return f"{inside}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def later(fake: FakeProvider, seconds: float) -> None:
    """As if so much time had gone by since the keys were read, or could not be."""
    for issuer in id_tokens._issuers.values():
        if known := issuer._published:
            issuer._published = dataclasses.replace(known, at=known.at - seconds)
        if issuer._breaker._closed_until is not None:
            issuer._breaker._closed_until -= seconds


# --- Which are accepted -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["google", "apple", "microsoft"])
def test_a_token_says_who_somebody_is(fake: FakeProvider, kind: str) -> None:
    found = verify(fake.token(kind, nonce=NONCE, client_id="app", auth_time=1, amr=["pwd", "mfa", 7]), kind)
    assert (found.issuer, found.subject, found.client_id) == (fake.issuer(kind, TENANT), "1001", "app")
    assert (found.authenticated_at, found.methods) == (1, ("pwd", "mfa"))
    assert found.payload["email"] == "ada@gmail.com"


def test_what_differs_between_good_providers_is_accepted(fake: FakeProvider) -> None:
    now = time.time()
    good = {
        "hashed nonce": fake.token(nonce=id_tokens.nonce_of(NONCE)),
        "a list of audiences": fake.token(nonce=NONCE, aud=["app", "web"], azp="web"),
        "parts of a second": fake.token(nonce=NONCE, iat=now, exp=now + 60),
        "a clock that is late": fake.token(nonce=NONCE, iat=now - 620),
        "a clock that is early": fake.token(nonce=NONCE, iat=now + 30),
        "the longest sub": fake.token(nonce=NONCE, sub="x" * 255),
        "no typ": signed(fake, fake.claims("oidc", ADA, "web", NONCE)),
        "odd claims that nobody needs": fake.token(nonce=NONCE, name={}, auth_time="soon", amr="mfa", email=[1]),
    }
    assert {name: told for name, token in good.items() if (told := refusal(token)) != "accepted"} == {}
    assert verify(good["odd claims that nobody needs"]).authenticated_at is None
    bare = fake.issuer("google").removeprefix("http://")
    assert verify(fake.token("google", nonce=NONCE, iss=bare), "google").issuer == fake.issuer("google")


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_keys_of_every_algorithm_work_and_weak_or_foreign_ones_are_left_out(fake: FakeProvider) -> None:
    large, small = (rsa.generate_private_key(public_exponent=65537, key_size=size) for size in (2048, 1024))
    edwards = ed25519.Ed25519PrivateKey.generate()
    keys = [Key(), Key("rs", large, "RS256"), Key("ps", large, "PS256"), Key("ed", edwards, "EdDSA")]
    bad = [Key("weak", small, "RS256"), Key("other", large, "RS512"), Key("for secrets", more={"use": "enc"})]
    usable = [*keys, *bad]
    told = {}
    for key in usable:
        fake.keys = [key, *(one for one in usable if one is not key)]
        told[key.kid] = refusal(fake.token(nonce=NONCE))
    assert told == {**{key.kid: "accepted" for key in keys}, **{key.kid: "invalid_id_token" for key in bad}}
    # One RSA key can sign in two ways, but each is published for one.
    fake.keys = [Key("rs", large, "PS256")]
    assert refusal(fake.token(nonce=NONCE)) == "invalid_id_token"


def bad_tokens(fake: FakeProvider) -> Iterator[tuple[str, str]]:
    now = int(time.time())
    claims = fake.claims("oidc", ADA, "web", NONCE)
    changes: dict[str, dict[str, Any]] = {
        "of another client": {"aud": "other"}, "for another client too": {"aud": ["web", "other"]},
        "no audience": {"aud": None}, "empty audiences": {"aud": []}, "a number as audience": {"aud": 7},
        "audiences in audiences": {"aud": [["web"]]}, "an object as audience": {"aud": {"web": 1}},
        "asked by another client": {"azp": "other"}, "asked by a list": {"azp": ["web"]}, "asked by null": {"azp": 0},
        "another issuer": {"iss": "https://evil.example"}, "the issuer and a slash": {"iss": f"{claims['iss']}/"},
        "no issuer": {"iss": None}, "the issuer without its scheme": {"iss": claims["iss"].removeprefix("http://")},
        "expired": {"exp": now - 120}, "no expiry": {"exp": None}, "expiry in words": {"exp": str(now + 60)},
        "expiry true": {"exp": True}, "no end": {"exp": float("inf")}, "expiry NaN": {"exp": float("nan")},
        "after all time": {"exp": 10**300}, "no time": {"iat": None}, "of the future": {"iat": now + 300},
        "eleven minutes old": {"iat": now - 720}, "a year old": {"iat": now - 31_536_000},
        "a time in words": {"iat": "1"},
        "a time before all times": {"iat": -1}, "a list as time": {"iat": [now]}, "not yet": {"nbf": now + 300},
        "not yet in words": {"nbf": str(now)},
        "no sub": {"sub": None}, "empty sub": {"sub": ""}, "a number as sub": {"sub": 1001},
        "long sub": {"sub": "x" * 256},
        "a list as sub": {"sub": ["1001"]}, "two lines": {"sub": "10\n01"}, "NUL": {"sub": "\x00"},
        "half a character": {"sub": "\ud800"}, "right to left": {"sub": "\u202e1001"},
        "no nonce": {"nonce": None}, "another nonce": {"nonce": "foreign"}, "empty nonce": {"nonce": ""},
        "a list as nonce": {"nonce": [NONCE]}, "true as nonce": {"nonce": True}, "half a nonce": {"nonce": "\ud800"},
        "the nonce hashed twice": {"nonce": id_tokens.nonce_of(id_tokens.nonce_of(NONCE))},
    }  # fmt: skip
    for name, changed in changes.items():
        yield name, fake.token(**{"nonce": NONCE, **changed})
    key = fake.keys[0]
    headers: dict[str, dict[str, Any]] = {
        "an access token": {"typ": "at+jwt"}, "a logout token": {"typ": "logout+jwt"}, "typ a list": {"typ": []},
        "crit": {"crit": ["exp"]}, "empty crit": {"crit": []}, "no kid": {"kid": None}, "unknown kid": {"kid": "other"},
        "a number as kid": {"kid": 7}, "not encoded": {"b64": False, "crit": ["b64"]},
        "crit of something known": {"b64": True, "crit": ["b64"]},
    }  # fmt: skip
    for name, added in headers.items():
        header = {"alg": key.algorithm, "kid": key.kid, **added}
        yield name, signed(fake, claims, {name: value for name, value in header.items() if value is not None})
    attacker = Key()
    stolen: dict[str, dict[str, Any]] = {
        "its own key": {"kid": "mine", "jwk": attacker.published()},
        "its own key under a known name": {"kid": key.kid, "jwk": attacker.published()},
        "keys at its own address": {"kid": "mine", "jku": "https://evil.example/jwks"},
    }
    for name, header in stolen.items():
        yield name, jwt.encode(claims, attacker.private, algorithm="ES256", headers=header)
    for name, algorithm in {
        "none": "none",
        "NONE": "NONE",
        "another": "RS256",
        "unknown": "XX256",
        "empty": "",
    }.items():
        yield f"algorithm {name}", signed(fake, claims, {"alg": algorithm, "kid": key.kid})
    yield "algorithm as a list", signed(fake, claims, {"alg": ["ES256"], "kid": key.kid})
    public = json.dumps(key.published()).encode()
    inside = f"{segment({'alg': 'HS256', 'kid': key.kid})}.{segment(claims)}"
    mac = urlsafe_b64encode(hmac.digest(public, inside.encode(), sha256)).rstrip(b"=").decode()
    yield "the public key as a password", f"{inside}.{mac}"
    good = fake.token(nonce=NONCE)
    head, body, signature = good.split(".")
    yield "unsigned", f"{segment({'alg': 'none', 'kid': key.kid})}.{body}."
    yield "signature cut off", f"{head}.{body}."
    yield "another body", f"{head}.{segment({**claims, 'sub': '1'})}.{signature}"
    yield "too long", fake.token(nonce=NONCE, groups="x" * 20_000)
    yield "encrypted", f"{good}.x.y"
    for name, text in {
        "nothing": "", "dots": "..", "many dots": "." * 5000, "words": "not a token", "NUL": "\x00",
        "half": "\ud800.a.b",
        "no base64": "ä.ö.ü", "brackets": f"{segment('[' * 9000)}.e30.e30",
    }.items():  # fmt: skip
        yield f"text: {name}", text
    yield "a body of brackets", signed(fake, "[" * 9000)
    yield "a header of brackets", signed(fake, claims, '{"alg":"ES256","kid":' + "[" * 9000)
    for name, payload in {
        "a list": [claims],
        "null": None,
        "text": '"x"',
        "digits": '{"exp":' + "9" * 5000 + "}",
    }.items():
        yield f"body: {name}", signed(fake, payload)


def test_no_bad_token_is_accepted_or_an_error_of_ours(fake: FakeProvider) -> None:
    verify(fake.token(nonce=NONCE))
    rows = dict(bad_tokens(fake))
    assert len(rows) > 60
    assert {name: told for name, token in rows.items() if (told := refusal(token)) != "invalid_id_token"} == {}
    for lie in ("nonce", "iss", "signature", "kid", "sub"):
        fake.lie = lie
        assert refusal(fake.token(nonce=NONCE)) == "invalid_id_token", lie
    fake.lie = ""
    with pytest.raises(InvalidIdToken):  # who has lost the nonce does not accept every token
        id_tokens.verify(fake.token(nonce=""), providers.get("corp"), nonce="")
    assert refusal(fake.token(nonce=NONCE)) == "accepted"


def test_microsoft_names_the_tenant_and_its_keys_name_theirs(fake: FakeProvider, settings: Any) -> None:
    def told(**changes: Any) -> str:
        return refusal(fake.token("microsoft", nonce=NONCE, **changes), "microsoft")

    other = "9188040d-6c67-4c5b-b112-36a304b66dad"
    assert told(tid=other, iss=fake.issuer("microsoft", other)) == "accepted"
    for tid in (None, other, "common", TENANT.upper(), f"{TENANT}/v2.0/../x", 7):
        assert told(tid=tid) == "invalid_id_token", tid
    assert told(tid="common", iss=fake.issuer("microsoft", "common")) == "invalid_id_token"
    settings.PROVIDERS["microsoft"]["tenants"] = (other,)
    assert told() == "invalid_id_token"
    assert told(tid=other, iss=fake.issuer("microsoft", other)) == "accepted"
    settings.PROVIDERS["microsoft"]["tenants"] = ()
    for issuer, expected in {
        fake.issuer("microsoft"): "accepted",
        fake.issuer("microsoft", TENANT): "accepted",
        fake.issuer("microsoft", other): "invalid_id_token",
    }.items():
        id_tokens._issuers.clear()
        fake.keys[0].more = {"issuer": issuer}
        assert told() == expected, issuer


def test_github_has_no_id_tokens_and_others_are_nobody(fake: FakeProvider) -> None:
    with pytest.raises(ProviderUnknown):
        verify(fake.token(nonce=NONCE), "github")
    with pytest.raises(ProviderUnknown):
        providers.get("facebook")


# --- How often the issuer is asked --------------------------------------------------------------------------


def test_a_hundred_tokens_good_and_bad_cost_two_requests(fake: FakeProvider) -> None:
    good, bad = fake.token(nonce=NONCE), fake.token(nonce=NONCE, headers={"kid": "unknown"})
    told = [*at_once(20, lambda: refusal(good))] + [refusal(token) for token in (good, bad) * 40]
    assert (told.count("accepted"), told.count("invalid_id_token")) == (60, 40)
    assert fake.asked == ["/oidc/.well-known/openid-configuration", "/oidc/jwks"]
    assert id_tokens.discovery(providers.get("corp"))["token_endpoint"] == f"{fake.url}/oidc/token"
    assert len(fake.asked) == 2


def test_new_keys_are_found_once_in_30_seconds_and_the_old_ones_are_gone(fake: FakeProvider) -> None:
    old = fake.token(nonce=NONCE)
    assert refusal(old) == "accepted"
    fake.rotate()
    new = fake.token(nonce=NONCE)
    assert [refusal(new) for _ in range(3)] == ["invalid_id_token"] * 3
    later(fake, id_tokens.PAUSE)
    assert set(at_once(10, lambda: refusal(new))) == {"accepted"}
    assert len(fake.asked) == 4
    assert refusal(old) == "invalid_id_token"
    later(fake, id_tokens.FRESH)
    assert refusal(new) == "accepted"
    assert len(fake.asked) == 6


def test_known_keys_are_used_for_a_day_while_the_issuer_is_away(fake: FakeProvider) -> None:
    good = fake.token(nonce=NONCE)
    assert refusal(good) == "accepted"
    fake.lie = "error"
    later(fake, id_tokens.FRESH)
    assert [refusal(good) for _ in range(3)] == ["accepted"] * 3
    assert len(fake.asked) == 3
    # Nobody can say whether this key is new.
    assert refusal(fake.token(nonce=NONCE, headers={"kid": "new"})) == "provider_unavailable"
    later(fake, id_tokens.USABLE - id_tokens.FRESH)
    assert refusal(good) == "provider_unavailable"
    assert len(fake.asked) == 4
    fake.lie = ""
    assert refusal(good) == "provider_unavailable"
    later(fake, id_tokens.PAUSE)
    assert refusal(good) == "accepted"


# --- A provider with bad manners ----------------------------------------------------------------------------


@pytest.mark.parametrize("lie", ["mute", "drip", "huge", "redirect", "error"])
def test_an_issuer_that_hangs_drips_floods_or_leads_elsewhere_is_unavailable_and_keeps_no_thread(
    fake: FakeProvider, monkeypatch: pytest.MonkeyPatch, lie: str, caplog: pytest.LogCaptureFixture
) -> None:
    fake.lie = lie
    if lie in {"mute", "drip"}:
        monkeypatch.setattr(id_tokens, "TIME", 0.2)
    with pytest.raises(ProviderUnavailable) as refused:
        verify(fake.token(nonce=NONCE))
    assert refused.value.retry_after == 30
    assert len(fake.asked) == 1
    assert len(caplog.records) == 1
    for thread in threading.enumerate():
        if thread.name == "fetch":
            thread.join(120)
            assert not thread.is_alive(), "the thread still reads"


def test_while_an_issuer_hangs_one_request_asks_and_the_others_do_not_wait(
    fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.lie = "mute"
    monkeypatch.setattr(id_tokens, "TIME", 0.2)
    good = fake.token(nonce=NONCE)
    assert set(at_once(8, lambda: refusal(good))) == {"provider_unavailable"}
    assert len(fake.asked) == 1
    later(fake, id_tokens.PAUSE)
    monkeypatch.setattr(id_tokens, "TIME", 300.0)
    one = threading.Thread(target=lambda: refusal(good), daemon=True)
    one.start()
    issuer = id_tokens._issuer_of(providers.get("corp"))
    assert wait_for(issuer._asking.locked)
    assert set(at_once(8, lambda: refusal(good))) == {"provider_unavailable"}  # else this would take minutes
    assert one.is_alive()
    fake.closing.set()
    one.join(120)
    assert len(fake.asked) == 2


def wait_for(thing: Callable[[], bool]) -> bool:
    for _ in range(12_000):
        if thing():
            return True
        time.sleep(0.01)
    return False


def test_what_an_issuer_may_not_publish_makes_it_unavailable(fake: FakeProvider) -> None:
    good = fake.token(nonce=NONCE)
    documents: list[dict[str, Any]] = [
        {"issuer": fake.issuer("google")}, {"issuer": None}, {"issuer": f"{fake.issuer('oidc')}/"},
        {"jwks_uri": None}, {"jwks_uri": "http://169.254.169.254/latest/meta-data"}, {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": f"{fake.url}/nothing"}, {"jwks_uri": f"{fake.url}/oidc/.well-known/openid-configuration"},
        {"jwks_uri": f"http://0.0.0.0:{fake.url.rpartition(':')[2]}/oidc/jwks"}, {"jwks_uri": []},
    ]  # fmt: skip
    for says in documents:
        id_tokens._issuers.clear()
        fake.says = says
        assert refusal(good) == "provider_unavailable", says
    fake.says, fake.keys[0].more = {}, {"kid": 7}
    id_tokens._issuers.clear()
    assert refusal(good) == "provider_unavailable"


def test_private_addresses_are_asked_only_where_the_operator_says_so(fake: FakeProvider, settings: Any) -> None:
    settings.PROVIDERS["corp"] = fake.settings("oidc", internal=False)
    assert refusal(fake.token(nonce=NONCE)) == "provider_unavailable"
    assert fake.asked == []


# --- The fake itself, as pages will use it ------------------------------------------------------------------


def test_the_fake_swaps_a_code_once_for_who_has_the_verifier(fake: FakeProvider) -> None:
    verifier = "v" * 43
    back = {"redirect_uri": "https://accounts.example.com/back", "state": "s", "client_id": "web"}
    asked = {**back, "nonce": id_tokens.nonce_of(verifier), "code_challenge": challenge(verifier)}

    def code(kind: str, **more: str) -> dict[str, str]:
        """What comes back with somebody who picked Ada."""
        page = requests.post(
            f"{fake.url}/{kind}/authorize",
            {"person": ADA},
            params={**asked, **more},
            allow_redirects=False,
            timeout=120,
        )
        if more:
            return {name: unescape(value) for name, value in re.findall(r'name=(\w+) value="(.*?)">', page.text)}
        return dict(parse_qsl(urlsplit(page.headers["Location"]).query))

    def swap(kind: str, sent: str, verified: str = verifier) -> dict[str, str]:
        form = {"code": sent, "code_verifier": verified, "redirect_uri": back["redirect_uri"]}
        answer: dict[str, str] = requests.post(f"{fake.url}/{kind}/token", form, timeout=120).json()
        return answer

    assert ADA in requests.get(f"{fake.url}/oidc/authorize", timeout=120).text
    first = code("oidc")
    assert (first["state"], first["iss"]) == ("s", fake.issuer("oidc"))
    claims = id_tokens.verify(swap("oidc", first["code"])["id_token"], providers.get("corp"), nonce=asked["nonce"])
    assert claims.subject == "1001"
    assert swap("oidc", first["code"]) == {"error": "invalid_grant"}
    assert swap("oidc", code("oidc")["code"], "another") == {"error": "invalid_grant"}
    assert "Lovelace" in code("apple", response_mode="form_post")["user"]
    assert "user" not in code("apple", response_mode="form_post")  # Apple says the name once
    token = swap("apple", code("apple")["code"])["refresh_token"]
    requests.post(f"{fake.url}/apple/auth/revoke", {"token": token}, timeout=120)
    assert fake.revoked == [token]
    access = {"Authorization": f"Bearer {swap('github', code('github')['code'])['access_token']}"}
    assert requests.get(f"{fake.url}/github/api/v3/user", headers=access, timeout=120).json()["id"] == 1001
    (mail,) = requests.get(f"{fake.url}/github/api/v3/user/emails", headers=access, timeout=120).json()
    assert (mail["email"], mail["verified"]) == ("ada@gmail.com", True)


def challenge(verifier: str) -> str:
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
