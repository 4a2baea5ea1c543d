"""Codes and seals made from SECRET_KEY."""

import pytest
from pytest_django import Settings

from accounts.lib import sealing

OTHER = "another secret of at least fifty characters, they say"


def test_a_mac_is_known_again(settings: Settings) -> None:
    made = sealing.mac("test", b"message")
    assert len(made) == 32
    assert sealing.is_mac("test", b"message", made)
    assert sealing.mac("test", b"message") == made


def test_each_purpose_has_a_key_of_its_own() -> None:
    assert sealing.mac("one", b"message") != sealing.mac("two", b"message")
    assert not sealing.is_mac("two", b"message", sealing.mac("one", b"message"))
    assert sealing.unseal("two", sealing.seal("one", b"value")) is None


@pytest.mark.parametrize("length", [16, 24, 31, 32])
def test_the_beginning_of_a_mac_is_enough_from_sixteen_bytes_on(length: int) -> None:
    assert sealing.is_mac("test", b"message", sealing.mac("test", b"message")[:length])


@pytest.mark.parametrize("length", [0, 1, 8, 15])
def test_refuses_a_shorter_beginning(length: int) -> None:
    assert not sealing.is_mac("test", b"message", sealing.mac("test", b"message")[:length])


@pytest.mark.parametrize("spoil", [b"", b"\x00" * 32, b"\x00" * 16, b"\x00" * 33])
def test_refuses_a_forged_mac(spoil: bytes) -> None:
    made = sealing.mac("test", b"message")
    assert not sealing.is_mac("test", b"message", spoil)
    assert not sealing.is_mac("test", b"message", made + b"\x00" + spoil)
    assert not sealing.is_mac("test", b"other", made)
    assert not sealing.is_mac("test", b"message", bytes([made[0] ^ 1]) + made[1:])


def test_a_seal_hides_and_opens() -> None:
    sealed = sealing.seal("test", b"value")
    assert b"value" not in sealed
    assert sealed != sealing.seal("test", b"value")
    assert sealing.unseal("test", sealed) == b"value"


@pytest.mark.parametrize("spoil", [b"", b"x", b"\x00" * 100, "é".encode()])
def test_unseal_refuses_what_was_not_sealed_here(spoil: bytes) -> None:
    assert sealing.unseal("test", spoil) is None


def test_unseal_refuses_a_value_that_was_touched() -> None:
    sealed = bytearray(sealing.seal("test", b"value"))
    sealed[20] ^= 1
    assert sealing.unseal("test", bytes(sealed)) is None


def test_a_changed_secret_understands_the_old_one_while_it_is_a_fallback(settings: Settings) -> None:
    made, sealed = sealing.mac("test", b"message"), sealing.seal("test", b"value")
    old = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = OTHER, ["yet another one" * 5, old]
    assert sealing.is_mac("test", b"message", made)
    assert sealing.unseal("test", sealed) == b"value"
    # What is made from now on is made with the new one alone.
    assert sealing.mac("test", b"message") != made
    newly_sealed = sealing.seal("test", b"value")
    settings.SECRET_KEY_FALLBACKS = []
    assert not sealing.is_mac("test", b"message", made)
    assert sealing.unseal("test", sealed) is None
    assert sealing.unseal("test", newly_sealed) == b"value"
