"""The keys that sign access tokens: one set for all processes, sealed, each published."""

import time
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.exceptions import ImproperlyConfigured
from jwt.algorithms import ECAlgorithm
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.models import SigningKey
from accounts.services import sealing, signing_keys
from accounts.services.signing_keys import Ring
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
        assert public.public_numbers() == signing_keys.ring().by_kid[jwk["kid"]].public.public_numbers()


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
