"""ID tokens (OpenID Connect Core 3.1.3.7): which are accepted, and the keys that their issuers publish.

Discovery and keys are kept in each process: known keys for an hour, and for a day while the issuer is away. A token of
an unknown key makes us ask once in 30 seconds. Of many requests one asks, so that an issuer that hangs holds up one."""

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Any

import jwt

from accounts.errors import InvalidIdToken, ProviderUnavailable, ProviderUnknown
from accounts.lib import fetching
from accounts.lib.breaker import Breaker
from accounts.services.authentication.assertions import Claims
from accounts.services.authentication.providers import TENANT, Provider

log = logging.getLogger(__name__)

ALGORITHMS = {"RS256", "PS256", "ES256", "EdDSA"}
TOKEN_MAX_LENGTH = 16 * 1024  # Microsoft's grow with somebody's groups
MAX_AGE = 600  # seconds
LEEWAY = 60  # seconds of difference between clocks
_LATEST = 1 << 40  # far above any second that is meant

TIME, ALL_TIME = 3.0, 4.5  # seconds for a document, and for discovery and keys together
ANSWER_MAX_BYTES = 256 * 1024
FRESH, USABLE = 3600.0, 86_400.0  # seconds that keys are taken without asking, and while the issuer is away
PAUSE = 30.0  # seconds between two questions for the same reason


def nonce_of(secret: str) -> str:
    """The nonce of who keeps `secret`: Apple's SDKs are given this, and for pages the secret is the PKCE verifier."""
    return sha256(secret.encode()).hexdigest()


def verify(token: str, provider: Provider, *, nonce: str) -> Claims:
    """What the provider says of somebody, in a token that was made for us just now and for this `nonce`.

    Raises InvalidIdToken, ProviderUnavailable, ProviderUnknown (it makes no such tokens)."""
    if not provider.native:
        raise ProviderUnknown
    if len(token) > TOKEN_MAX_LENGTH:
        raise InvalidIdToken("too long")
    try:
        header = jwt.get_unverified_header(token)
        _check_header(header)
        key = _key(provider, header["kid"])
        payload: dict[str, Any] = jwt.decode(
            token,
            key.public,
            algorithms=[key.algorithm],  # whatever the header says
            leeway=LEEWAY,
            options={"require": ["iss", "sub", "aud", "exp", "iat"], "verify_aud": False, "verify_iss": False},
        )
        return _claims(provider, key, payload, nonce)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise InvalidIdToken(type(error).__name__) from None


def _check_header(header: Mapping[str, Any]) -> None:
    # An access token or a logout token of the same issuer says so in `typ`.
    if str(header.get("typ", "JWT")).upper() != "JWT" or "crit" in header:
        raise InvalidIdToken("typ or crit")
    if not isinstance(header.get("kid"), str):
        raise InvalidIdToken("kid")


def _claims(provider: Provider, key: "Key", payload: Mapping[str, Any], nonce: str) -> Claims:
    issuer = _issuer(provider, payload)
    if key.issuer and key.issuer.replace("{tenantid}", str(payload.get("tid"))) != issuer:
        raise InvalidIdToken("a key of another issuer")
    # PyJWT reads "1767225600", True and 1e9 as times too.
    times = {name: payload[name] for name in ("iat", "exp", "nbf") if name in payload}
    if any(type(value) not in {int, float} or not 0 < value < _LATEST for value in times.values()):
        raise InvalidIdToken("a time that is no number")
    if time.time() - times["iat"] > MAX_AGE + LEEWAY:
        raise InvalidIdToken("old")
    subject = payload["sub"]
    if not (isinstance(subject, str) and 1 <= len(subject) <= 255 and subject.isprintable()):
        raise InvalidIdToken("sub")
    _check_nonce(payload.get("nonce"), nonce)
    signed_in, methods = payload.get("auth_time"), payload.get("amr")
    return Claims(
        issuer=issuer,
        subject=subject,
        client_id=_audience(provider, payload),
        issued_at=int(times["iat"]),
        authenticated_at=signed_in if type(signed_in) is int and 0 < signed_in < _LATEST else None,
        methods=tuple(one for one in methods if isinstance(one, str)) if isinstance(methods, list) else (),
        payload=payload,
    )


def _issuer(provider: Provider, payload: Mapping[str, Any]) -> str:
    """In one spelling: accounts know people by it."""
    issuer, said = provider.issuer, payload["iss"]
    if "{tenantid}" in issuer or provider.tenants:
        tenant = str(payload.get("tid"))
        if not TENANT.fullmatch(tenant) or (provider.tenants and tenant not in provider.tenants):
            raise InvalidIdToken("tid")
        issuer = issuer.replace("{tenantid}", tenant)
    # Google's documents know both.
    if said != issuer and not (provider.id == "google" and said == issuer.partition("://")[2]):
        raise InvalidIdToken("iss")
    return issuer


def _audience(provider: Provider, payload: Mapping[str, Any]) -> str:
    """The client that it was made for. Anybody else who could read or ask for it must be ours too."""
    audiences = payload["aud"] if isinstance(payload["aud"], list) else [payload["aud"]]
    asked_by = payload.get("azp", audiences[0] if audiences else None)
    if not audiences or not {*audiences, asked_by} <= set(provider.client_ids):
        raise InvalidIdToken("aud or azp")
    return str(audiences[0])


def _check_nonce(said: object, nonce: str) -> None:
    given = said.encode() if isinstance(said, str) else b""
    if not nonce or not (compare_digest(given, nonce.encode()) | compare_digest(given, nonce_of(nonce).encode())):
        raise InvalidIdToken("nonce")


# --- What issuers publish -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    public: Any  # what PyJWT takes
    algorithm: str
    issuer: str  # of Microsoft's keys: whose tokens it signs


@dataclass(frozen=True)
class Published:
    configuration: Mapping[str, Any]
    keys: Mapping[str, Key]  # by kid
    at: float

    @property
    def age(self) -> float:
        return time.monotonic() - self.at


def discovery(provider: Provider) -> Mapping[str, Any]:
    """What the issuer says of itself: its endpoints. Raises ProviderUnavailable."""
    return _issuer_of(provider).published(FRESH).configuration


def _key(provider: Provider, kid: str) -> Key:
    """Raises InvalidIdToken if nobody has published it, ProviderUnavailable if we could not ask."""
    issuer = _issuer_of(provider)
    found = issuer.published(FRESH)
    if kid not in found.keys:
        found = issuer.published(PAUSE, wait=True)  # it may be new
    if key := found.keys.get(kid):
        return key
    raise InvalidIdToken("unknown kid") if found.age < PAUSE else ProviderUnavailable("unknown kid")


class Issuer:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._published: Published | None = None
        self._breaker = Breaker(PAUSE)
        self._asking = threading.Lock()
        self._is_away = False

    def published(self, max_age: float, *, wait: bool = False) -> Published:
        """Not older than `max_age` if the issuer answers. Who finds another asking takes what is there, and waits for
        the answer if nothing is, or with `wait`; but for no issuer that was away the last time."""
        known = self._published
        if known and known.age < max_age:
            return known
        must_wait = (wait or not known) and not self._is_away
        if self._asking.acquire(timeout=TIME if must_wait else 0):
            try:
                if self._published is known and self._breaker.may_ask():
                    self._ask()
            finally:
                self._asking.release()
        if self._published and self._published.age < USABLE:
            return self._published
        raise ProviderUnavailable(self._provider.id)

    def _ask(self) -> None:
        try:
            self._published = _ask(self._provider)
        except Exception as error:  # noqa: BLE001 - the issuer may break it anywhere
            self._breaker.failed()
            self._is_away = True
            why = f"refused: {error}" if isinstance(error, fetching.Refused) else type(error).__name__
            log.warning("the keys of provider %s can't be read (%s); next try in %d s", self._provider.id, why, PAUSE)
        else:
            self._breaker.worked()
            self._is_away = False


_issuers: dict[tuple[str, bool], Issuer] = {}


def _issuer_of(provider: Provider) -> Issuer:
    place = (provider.issuer, provider.internal)
    return _issuers.get(place) or _issuers.setdefault(place, Issuer(provider))


def _ask(provider: Provider) -> Published:
    # Microsoft's issuer is a template; this is the one document for all of its tenants.
    base, end = provider.issuer.replace("{tenantid}", "common").rstrip("/"), time.monotonic() + ALL_TIME
    configuration = _document(f"{base}/.well-known/openid-configuration", provider, TIME)
    if configuration.get("issuer") != provider.issuer:
        raise fetching.Refused("the document is of another issuer")
    left = min(TIME, end - time.monotonic())
    listed = _document(str(configuration.get("jwks_uri")), provider, left).get("keys")
    keys = dict(_keys(listed if isinstance(listed, list) else []))
    if not keys:
        raise fetching.Refused("no keys")
    return Published(configuration, keys, time.monotonic())


def _document(url: str, provider: Provider, seconds: float) -> dict[str, Any]:
    body = fetching.fetch(url, seconds=seconds, max_bytes=ANSWER_MAX_BYTES, internal=provider.internal)
    document = json.loads(body)
    if not isinstance(document, dict):
        raise fetching.Refused("no JSON object")
    return document


def _keys(listed: Sequence[Any]) -> Iterator[tuple[str, Key]]:
    """Those that sign ID tokens. An issuer may publish others too: to encrypt, or of a kind that is not known here."""
    for item in listed:
        try:
            key, kid = jwt.PyJWK(item), item["kid"]
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
            continue
        is_weak = key.key_type == "RSA" and key.key.key_size < 2048
        if (
            isinstance(kid, str)
            and key.algorithm_name in ALGORITHMS
            and item.get("use", "sig") == "sig"
            and not is_weak
        ):
            yield kid, Key(key.key, key.algorithm_name, str(item.get("issuer", "")))
