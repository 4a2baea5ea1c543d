"""The keys that sign access tokens: one set for all processes, sealed, each published."""

import io
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.utils.timezone import now
from jwt.algorithms import ECAlgorithm
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.errors import InvalidToken
from accounts.lib import sealing
from accounts.models import Session, SigningKey
from accounts.services.sessions import access_tokens, sessions, signing_keys
from accounts.services.sessions.sessions import Tokens
from accounts.services.sessions.signing_keys import Ring
from tests.threads import at_once

pytestmark = pytest.mark.django_db


def age(by: float) -> None:
    """As if the keys had been read longer ago."""
    assert signing_keys._ring is not None
    signing_keys._ring = replace(signing_keys._ring, read_at=time.monotonic() - by)


def test_the_first_key_is_made_when_it_is_needed_and_only_then() -> None:
    assert SigningKey.objects.count() == 0
    first = signing_keys.ring()
    signing_keys.forget()
    again = signing_keys.ring()
    assert SigningKey.objects.get().kid == first.signing.kid == again.signing.kid
    assert set(again.by_kid) == {first.signing.kid}
    assert isinstance(first.signing.public, ec.EllipticCurvePublicKey)
    assert isinstance(first.signing.public.curve, ec.SECP256R1)


@pytest.mark.django_db(transaction=True)
def test_processes_that_start_together_make_one_key() -> None:
    # `_read` and not `ring`, whose lock is only among the threads of one process.
    found = at_once(12, signing_keys._read)
    assert all(isinstance(ring, Ring) for ring in found), found
    assert len({ring.signing.kid for ring in found if isinstance(ring, Ring)}) == 1
    assert SigningKey.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_threads_that_start_together_make_one_key() -> None:
    found = at_once(8, lambda: signing_keys.ring().signing.kid)
    assert set(found) == {SigningKey.objects.get().kid}


def test_the_newest_key_signs_and_all_verify() -> None:
    first = signing_keys.ring().signing.kid
    second = signing_keys.make().kid
    signing_keys.forget()
    ring = signing_keys.ring()
    assert ring.signing.kid == second != first
    assert set(ring.by_kid) == {first, second}


def test_the_private_part_is_sealed() -> None:
    row = signing_keys.make()
    sealed = bytes(row.sealed_private_key)
    assert b"PRIVATE" not in sealed
    assert b"PRIVATE KEY" in (sealing.unseal("signing key", sealed) or b"")
    assert "d" not in row.public_jwk


def test_the_published_set_has_the_public_parts_of_all_keys_and_nothing_else() -> None:
    signing_keys.make()
    signing_keys.make()
    keys = signing_keys.jwks()["keys"]
    assert len(keys) == 2
    for jwk in keys:
        assert set(jwk) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
        assert (jwk["kty"], jwk["crv"], jwk["use"], jwk["alg"]) == ("EC", "P-256", "sig", "ES256")
        public = ECAlgorithm.from_jwk(jwk)
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert public == signing_keys.ring().by_kid[jwk["kid"]].public


# --- What a process remembers -------------------------------------------------------------------------------


def test_keys_are_read_once(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    signing_keys.ring()
    with django_assert_num_queries(0):
        signing_keys.ring()
        age(signing_keys.REREAD_AFTER - 1)
        signing_keys.ring()


def test_a_key_of_another_process_is_found_within_a_minute() -> None:
    signing_keys.ring()
    made = signing_keys.make().kid
    assert signing_keys.ring().signing.kid != made
    age(signing_keys.REREAD_AFTER + 1)
    assert signing_keys.ring().signing.kid == made


def test_who_asks_for_fresh_keys_gets_them_at_most_once_a_second(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    signing_keys.ring()
    made = signing_keys.make().kid
    with django_assert_num_queries(0):
        for _ in range(20):
            signing_keys.ring(fresh=True)
    age(1.1)
    with django_assert_num_queries(1):
        assert made in signing_keys.ring(fresh=True).by_kid
        signing_keys.ring(fresh=True)


def test_a_process_signs_with_a_key_of_another_one_a_second_later_and_publishes_it(phone: Session) -> None:
    signing_keys.ring()
    made = signing_keys.make().kid
    age(1.1)
    assert jwt.get_unverified_header(sessions.tokens(phone).access_token)["kid"] == made
    signing_keys.make()
    age(1.1)
    assert len(signing_keys.jwks()["keys"]) == 3


# --- A changed SECRET_KEY -----------------------------------------------------------------------------------


def test_a_changed_secret_key_opens_old_keys_by_its_fallback(settings: Settings) -> None:
    kid = signing_keys.ring().signing.kid
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another" * 10, [settings.SECRET_KEY]
    signing_keys.forget()
    assert signing_keys.ring().signing.kid == kid


def test_a_changed_secret_key_without_its_fallback_says_so(settings: Settings) -> None:
    signing_keys.ring()
    settings.SECRET_KEY = "another" * 10
    signing_keys.forget()
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY_FALLBACKS"):
        signing_keys.ring()
    assert SigningKey.objects.count() == 1


# --- Taking turns -------------------------------------------------------------------------------------------


class Later:
    """Moves the time that the rules see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by = timedelta()
        monkeypatch.setattr(signing_keys, "now", lambda: now() + self.by)

    def forward(self, **delta: float) -> None:
        self.by += timedelta(**delta)
        signing_keys.forget()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    return Later(monkeypatch)


def test_the_next_key_is_published_a_day_before_it_signs_and_the_old_one_goes_when_its_tokens_are_gone(
    db: None, later: Later
) -> None:
    first = signing_keys.ring().signing.kid
    signing_keys.maintain()
    assert SigningKey.objects.count() == 1
    later.forward(days=89, minutes=1)
    signing_keys.maintain()
    signing_keys.maintain()  # twice changes nothing
    signing_keys.forget()
    assert len(signing_keys.jwks()["keys"]) == 2
    assert signing_keys.ring().signing.kid == first
    later.forward(days=1)
    second = signing_keys.ring().signing.kid
    assert second != first
    assert first in signing_keys.ring().by_kid
    later.forward(hours=1, minutes=14)
    signing_keys.maintain()
    assert SigningKey.objects.filter(kid=first).exists()
    later.forward(minutes=2)
    signing_keys.maintain()
    assert list(SigningKey.objects.values_list("kid", flat=True)) == [second]


def test_a_process_that_read_the_ring_before_changes_keys_on_time(db: None, later: Later) -> None:
    first = signing_keys.ring().signing.kid
    key = signing_keys.rotate()
    ring = signing_keys.ring()
    assert ring.signing.kid == first
    later.by += timedelta(minutes=11)  # without reading again
    assert ring.signing.kid == key.kid


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process needs time to learn of a new key."""
    monkeypatch.setattr(signing_keys, "FRESH", 0.0)
    monkeypatch.setattr(signing_keys, "LEAD_AT_ONCE", timedelta())


@pytest.mark.django_db(transaction=True)
def test_every_process_knows_the_key_that_replaces_a_stolen_one_before_it_signs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stolen = signing_keys.ring().signing.kid
    waits: list[tuple[float, set[str], str]] = []

    def wait(seconds: float) -> None:  # as long as another process sees this
        seen = signing_keys._read()
        waits.append((seconds, set(seen.by_kid), seen.signing.kid))

    monkeypatch.setattr(time, "sleep", wait)
    key = signing_keys.rotate(at_once=True)
    known_before_it_signs = (key.signs_from - key.created_at).total_seconds()
    assert known_before_it_signs > signing_keys.FRESH
    assert [(kids, signing) for _, kids, signing in waits] == [({stolen, key.kid}, stolen)]
    assert waits[0][0] >= known_before_it_signs + signing_keys.FRESH
    assert set(signing_keys._read().by_kid) == {key.kid}


@pytest.mark.usefixtures("hurried")
@pytest.mark.django_db(transaction=True)
def test_of_two_who_replace_a_stolen_key_at_once_one_key_is_left() -> None:
    signing_keys.ring()
    made = at_once(2, lambda: signing_keys.rotate(at_once=True).kid)
    assert SigningKey.objects.get().kid in made


@pytest.mark.usefixtures("hurried")
def test_a_stolen_key_is_gone_at_once_with_what_it_signed(tokens: Tokens) -> None:
    claims = access_tokens.verify(tokens.access_token)
    signing_keys.rotate()  # the next one, which whoever read the database has too
    key = signing_keys.rotate(at_once=True)
    assert SigningKey.objects.get().kid == key.kid
    assert signing_keys.ring().signing.kid == key.kid
    assert claims.kid not in signing_keys.ring().by_kid
    with pytest.raises(InvalidToken):  # though this process has seen the token before
        access_tokens.verify(tokens.access_token)


@pytest.mark.parametrize("algorithm", signing_keys.ALGORITHMS)
def test_each_algorithm_signs_and_verifies_here_and_offline(
    algorithm: str, phone: Session, settings: Settings, later: Later
) -> None:
    old = sessions.tokens(phone).access_token
    settings.SIGNING_ALGORITHM = algorithm
    signing_keys.maintain()
    later.forward(minutes=11)
    token = sessions.tokens(phone).access_token
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    assert access_tokens.verify(token).session_id == phone.id
    access_tokens.verify(old)
    public = jwt.PyJWKSet.from_dict(signing_keys.jwks())[jwt.get_unverified_header(token)["kid"]]
    jwt.decode(token, public.key, algorithms=[algorithm], audience="api", issuer=settings.PUBLIC_URL)
    with pytest.raises(jwt.InvalidTokenError):
        jwt.decode(token[:-8] + "AAAAAAAA", public.key, algorithms=[algorithm], audience="api")


def test_keys_may_stand_in_files(phone: Session, settings: Settings, tmp_path: Path) -> None:
    names = []
    for algorithm in signing_keys.ALGORITHMS:
        pem = signing_keys._generate(algorithm).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (tmp_path / algorithm).write_bytes(pem)
        names.append(str(tmp_path / algorithm))
    settings.SIGNING_KEY_FILES = names[:1]
    old = sessions.tokens(phone).access_token
    settings.SIGNING_KEY_FILES = [names[2], names[0]]
    signing_keys.forget()
    token = sessions.tokens(phone).access_token
    assert jwt.get_unverified_header(token)["alg"] == "EdDSA"
    for each in (old, token):
        assert access_tokens.verify(each).session_id == phone.id
    signing_keys.maintain()
    assert not SigningKey.objects.exists()
    with pytest.raises(ImproperlyConfigured):
        signing_keys.rotate()
    settings.SIGNING_KEY_FILES = [str(tmp_path / "missing")]
    signing_keys.forget()
    with pytest.raises(ImproperlyConfigured, match="can't be read"):
        signing_keys.ring()


@pytest.mark.parametrize(
    "private",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 1024)],  # noqa: S505 - that is the point
)
def test_a_weak_or_strange_key_is_refused(private: signing_keys.Private) -> None:
    with pytest.raises(ImproperlyConfigured):
        signing_keys._algorithm_of(private)


def test_what_an_earlier_secret_sealed_is_sealed_anew(db: None, settings: Settings) -> None:
    kid = signing_keys.ring().signing.kid
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another" * 10, [settings.SECRET_KEY]
    signing_keys.maintain()
    settings.SECRET_KEY_FALLBACKS = []
    signing_keys.forget()
    assert signing_keys.ring().signing.kid == kid


@pytest.mark.usefixtures("hurried")
def test_the_command_says_when_the_next_key_signs(db: None) -> None:
    signing_keys.ring()
    said = io.StringIO()
    call_command("rotate_signing_key", stdout=said)
    call_command("rotate_signing_key", "--at-once", stdout=said)
    assert said.getvalue().count("signs from") == 2
    assert SigningKey.objects.count() == 1
