"""Passkeys: adding, signing in, keeping."""

import copy
import os
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.utils.timezone import now
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import (
    AccountDisabled,
    InvalidInput,
    InvalidPasskey,
    InvalidTicket,
    LastWayIn,
    PasskeyNotFound,
    RecentSignInNeeded,
    SetupExpired,
    TooManyPasskeys,
)
from accounts.models import Event, Passkey, Session, User
from accounts.services.account import users
from accounts.services.authentication import passkeys, reauthentication, sign_in, totp
from accounts.services.security import tickets
from accounts.services.sessions import sessions
from accounts.services.sessions.sessions import SignedIn
from tests.conftest import Mailbox
from tests.factors import Device, passkey_on, two_step_on
from tests.threads import at_once


@pytest.fixture
def device(alice: User, phone: Session, caller: Caller) -> Device:
    """Alice's phone with a passkey that is synced."""
    return passkey_on(alice, phone, caller, name="Ada's iPhone")


@pytest.fixture
def key(alice: User, phone: Session, caller: Caller) -> Device:
    """Alice's security key, which counts."""
    return passkey_on(alice, phone, caller, name="Key", synced=False)


def signed_in(device: Device, caller: Caller) -> SignedIn:
    begun = passkeys.begin_sign_in()
    return passkeys.sign_in_app(state=begun.state, credential=device.get(begun.options), caller=caller)


# --- Signing in ---------------------------------------------------------------------------------------------


def test_a_passkey_signs_in_and_the_token_says_how(device: Device, key: Device, alice: User, caller: Caller) -> None:
    for one, method in ((device, "swk"), (key, "hwk")):
        found = signed_in(one, caller)
        assert found.user == alice
        claims = jwt.decode(found.tokens.access_token, options={"verify_signature": False})
        assert claims["amr"] == [method, "mfa"]
    assert Passkey.objects.exclude(last_used_at=None).count() == 2


def test_no_second_step_follows(device: Device, alice: User, phone: Session, caller: Caller) -> None:
    two_step_on(alice, phone, caller)
    assert signed_in(device, caller).user == alice


def test_a_passkey_alone_does_not_ask_passwords_for_more(device: Device, caller: Caller) -> None:
    """Apps that are out there know no second step: it is asked for where somebody turned it on."""
    sign_in.sign_in_app(login="alice", password="plum tractor lagoon", caller=caller)


def test_an_answer_is_good_once(device: Device, caller: Caller) -> None:
    begun = passkeys.begin_sign_in()
    answer = device.get(begun.options)
    passkeys.sign_in_app(state=begun.state, credential=answer, caller=caller)
    with pytest.raises(InvalidTicket):
        passkeys.sign_in_app(state=begun.state, credential=answer, caller=caller)


def test_an_answer_to_another_question_is_refused(device: Device, caller: Caller) -> None:
    first, second = passkeys.begin_sign_in(), passkeys.begin_sign_in()
    with pytest.raises(InvalidPasskey):
        passkeys.sign_in_app(state=second.state, credential=device.get(first.options), caller=caller)


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example", "https://sub.localhost", "http://localhost:1", "null", "android:apk-key-hash:x"],
)
def test_a_passkey_that_was_used_on_another_site_is_refused(elsewhere: str, device: Device, caller: Caller) -> None:
    device.origin = elsewhere
    with pytest.raises(InvalidPasskey):
        signed_in(device, caller)


def test_our_android_app_may_use_it(device: Device, caller: Caller, settings: Settings) -> None:
    settings.ANDROID_APPS = ["com.example.app=" + ":".join(["AB"] * 32)]
    device.origin = "android:apk-key-hash:q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s"
    signed_in(device, caller)


def test_who_holds_the_device_must_have_been_checked(device: Device, caller: Caller) -> None:
    device.verifies = False
    with pytest.raises(InvalidPasskey):
        signed_in(device, caller)


def test_a_removed_passkey_signs_nobody_in(device: Device, alice: User, phone: Session, caller: Caller) -> None:
    passkeys.remove(user=alice, session=phone, passkey_id=Passkey.objects.get().id, caller=caller)
    with pytest.raises(InvalidPasskey):
        signed_in(device, caller)


def test_a_signature_of_another_key_is_refused(device: Device, caller: Caller) -> None:
    other = Device()
    other.id, other.user = device.id, device.user
    with pytest.raises(InvalidPasskey):
        signed_in(other, caller)


def test_a_passkey_names_its_own_user_only(device: Device, bob: User, caller: Caller) -> None:
    device.user = bob.id.bytes
    with pytest.raises(InvalidPasskey):
        signed_in(device, caller)


def test_a_copied_security_key_is_refused_and_the_owner_can_see_it(key: Device, alice: User, caller: Caller) -> None:
    signed_in(key, caller)
    key.counter -= 1  # the copy does not know of the last use
    with pytest.raises(InvalidPasskey):
        signed_in(key, caller)
    assert Event.objects.filter(user=alice, kind="passkey.refused").count() == 1


def test_a_disabled_account_is_told_so(device: Device, alice: User, caller: Caller) -> None:
    users.set_active(user=alice, active=False, caller=caller)
    with pytest.raises(AccountDisabled):
        signed_in(device, caller)
    assert Event.objects.filter(user=alice, kind="login.refused").exists()


def test_a_question_is_open_for_half_an_hour(device: Device, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = passkeys.begin_sign_in()
    later = now() + timedelta(minutes=30, seconds=1)
    monkeypatch.setattr(tickets, "now", lambda: later)
    with pytest.raises(InvalidTicket):
        passkeys.sign_in_app(state=begun.state, credential=device.get(begun.options), caller=caller)


def broken() -> dict[str, Any]:
    """Every way in which one part of an answer can be something else."""
    bad: list[Any] = [None, "", "é", "AAAA", "A" * 5000, 7, [], {}, "%%%", "a" * 3]
    parts = ["id", "rawId", "response", "clientDataJSON", "authenticatorData", "signature", "userHandle"]
    found = {f"{part} {number}": (part, value) for part in parts for number, value in enumerate(bad)}
    return {name: pair for name, pair in found.items() if pair != ("userHandle", None)}  # optional in WebAuthn


def test_whatever_a_device_sends_is_refused_in_the_agreed_way(device: Device, caller: Caller) -> None:
    found = {}
    for name, (part, value) in broken().items():
        begun = passkeys.begin_sign_in()
        answer = device.get(begun.options)
        inside = answer if part in answer else answer["response"]
        inside[part] = value
        try:
            found[name] = str(passkeys.sign_in_app(state=begun.state, credential=answer, caller=caller))
        except Exception as error:  # noqa: BLE001 - looked at below
            found[name] = type(error).__name__
    assert {name: what for name, what in found.items() if what != "InvalidPasskey"} == {}
    assert Session.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_of_one_answer_at_once_one_signs_in(device: Device, caller: Caller) -> None:
    begun = passkeys.begin_sign_in()
    answer = device.get(begun.options)
    found = at_once(4, lambda: passkeys.sign_in_app(state=begun.state, credential=copy.deepcopy(answer), caller=caller))
    assert sum(isinstance(item, SignedIn) for item in found) == 1, found


# --- Adding -------------------------------------------------------------------------------------------------


def test_adding_is_in_the_log_and_in_a_mail_and_counts_for_this_device(
    device: Device, alice: User, phone: Session, mailbox: Mailbox
) -> None:
    made = Passkey.objects.get()
    assert (made.name, made.synced, made.user) == ("Ada's iPhone", True, alice)
    assert Event.objects.get(user=alice, kind="passkey.added").data == {"name": "Ada's iPhone"}
    assert "Ada's iPhone" in mailbox.last(alice.email).message
    assert Session.objects.get(id=phone.id).methods == ["pwd", "swk", "mfa"]


def test_a_passkey_without_a_name_has_the_devices_and_each_another(
    alice: User, phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    for name in ("  ", "", "Key", "Key", "", "x" * 60):  # what a person typed stays
        passkey_on(alice, phone, caller, name=name)
    long = Caller(ip=caller.ip, known_as="x" * 100)
    passkey_on(alice, phone, long)
    passkey_on(alice, phone, long)
    assert [one.name for one in alice.passkeys.order_by("id")] == [
        "Ada's iPhone", "Ada's iPhone 2", "Key", "Key", "Ada's iPhone 3", "x" * 60, "x" * 57, f"{'x' * 57} 2",
    ]  # fmt: skip
    assert "Ada's iPhone 3" in mailbox.all()[4].message


def test_a_passkey_without_a_name_is_called_by_what_keeps_it(alice: User, phone: Session, caller: Caller) -> None:
    for aaguid in (
        "ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4", "fbfc3007-154e-4ecc-8c0b-6e020557d7bd",
        "08987058-cadc-4b81-b6e1-30de50dcbe96", "9ddd1817-af5a-4672-a2b9-3e3dd95000a9",
        "bada5566-a7aa-401f-bd96-45619a55120d", "11111111-1111-1111-1111-111111111111",
    ):  # fmt: skip
        passkey_on(alice, phone, caller, aaguid=aaguid)
    assert [one.name for one in alice.passkeys.order_by("id")] == [
        "Google Password Manager", "Apple Passwords", "Windows Hello", "Windows Hello 2", "1Password", "Ada's iPhone",
    ]  # fmt: skip


def test_the_device_is_told_what_it_has_already(device: Device, alice: User, phone: Session) -> None:
    options = passkeys.begin_adding(user=alice, session=phone).options
    assert [one["id"] for one in options["excludeCredentials"]] == [device.get({"rpId": "x", "challenge": ""})["id"]]
    assert options["authenticatorSelection"]["residentKey"] == "required"
    assert options["authenticatorSelection"]["userVerification"] == "required"


def test_one_credential_belongs_to_one_account(
    device: Device, bob: User, alice: User, phone: Session, caller: Caller
) -> None:
    bobs = sessions.begin(user=bob, kind=Session.Kind.APP, caller=caller)
    begun = passkeys.begin_adding(user=bob, session=bobs)
    with pytest.raises(InvalidPasskey):
        passkeys.add(user=bob, session=bobs, state=begun.state, credential=device.create(begun.options), caller=caller)


def test_bob_cannot_finish_what_alice_began(alice: User, phone: Session, bob: User, caller: Caller) -> None:
    begun = passkeys.begin_adding(user=alice, session=phone)
    bobs = sessions.begin(user=bob, kind=Session.Kind.APP, caller=caller)
    credential = Device().create(begun.options)
    for user, session in ((bob, bobs), (bob, phone), (alice, bobs)):
        with pytest.raises(SetupExpired):
            passkeys.add(user=user, session=session, state=begun.state, credential=credential, caller=caller)
    assert not Passkey.objects.exists()


def test_an_id_that_no_device_makes_is_refused(alice: User, phone: Session, caller: Caller) -> None:
    for length, taken in ((1023, True), (1024, False), (5000, False)):
        device, begun = Device(), passkeys.begin_adding(user=alice, session=phone)
        device.id = os.urandom(length)
        answer = device.create(begun.options)
        if taken:
            passkeys.add(user=alice, session=phone, state=begun.state, credential=answer, caller=caller)
        else:
            with pytest.raises(InvalidPasskey):
                passkeys.add(user=alice, session=phone, state=begun.state, credential=answer, caller=caller)


def test_a_device_that_does_not_check_its_holder_is_refused(alice: User, phone: Session, caller: Caller) -> None:
    device, begun = Device(), passkeys.begin_adding(user=alice, session=phone)
    device.verifies = False
    with pytest.raises(InvalidPasskey):
        passkeys.add(
            user=alice, session=phone, state=begun.state, credential=device.create(begun.options), caller=caller
        )


def test_adding_needs_a_recent_sign_in(alice: User, phone: Session) -> None:
    Session.objects.filter(id=phone.id).update(authenticated_at=now() - timedelta(minutes=11))
    with pytest.raises(RecentSignInNeeded):
        passkeys.begin_adding(user=alice, session=phone)


def test_signing_with_a_passkey_counts_as_recent(
    device: Device, alice: User, bob: User, phone: Session, caller: Caller
) -> None:
    Session.objects.filter(id=phone.id).update(authenticated_at=now() - timedelta(minutes=11))
    bobs = passkey_on(bob, sessions.begin(user=bob, kind=Session.Kind.APP, caller=caller), caller)
    begun = passkeys.begin_sign_in()
    with pytest.raises(InvalidPasskey):
        passkeys.reauthenticate(
            user=alice, session=phone, state=begun.state, credential=bobs.get(begun.options), caller=caller
        )
    assert not reauthentication.is_recent(phone)
    begun = passkeys.begin_sign_in()
    passkeys.reauthenticate(
        user=alice, session=phone, state=begun.state, credential=device.get(begun.options), caller=caller
    )
    assert reauthentication.is_recent(phone)


def test_an_account_has_twenty_at_most(alice: User, phone: Session, caller: Caller) -> None:
    begun = passkeys.begin_adding(user=alice, session=phone)
    Passkey.objects.bulk_create(
        Passkey(user=alice, credential_id=bytes([number]), credential=b"", synced=True, name="x")
        for number in range(20)
    )
    with pytest.raises(TooManyPasskeys):
        passkeys.add(
            user=alice, session=phone, state=begun.state, credential=Device().create(begun.options), caller=caller
        )
    Passkey.objects.first().delete()  # type: ignore[union-attr]


# --- Keeping them -------------------------------------------------------------------------------------------


def test_a_passkey_is_renamed(device: Device, alice: User, caller: Caller) -> None:
    made = Passkey.objects.get()
    passkeys.rename(user=alice, passkey_id=made.id, name="  Old   phone ", caller=caller)
    assert Passkey.objects.get().name == "Old phone"
    for name in ("", " ", "x" * 61, "a\x07b"):
        with pytest.raises(InvalidInput):
            passkeys.rename(user=alice, passkey_id=made.id, name=name, caller=caller)


def test_bob_can_neither_rename_nor_remove_it(device: Device, bob: User, caller: Caller) -> None:
    made, bobs = Passkey.objects.get(), sessions.begin(user=bob, kind=Session.Kind.APP, caller=caller)
    with pytest.raises(PasskeyNotFound):
        passkeys.rename(user=bob, passkey_id=made.id, name="Bob's", caller=caller)
    with pytest.raises(PasskeyNotFound):
        passkeys.remove(user=bob, session=bobs, passkey_id=made.id, caller=caller)
    assert Passkey.objects.get().name == made.name


def test_removing_tells_the_owner_and_needs_a_recent_sign_in(
    device: Device, alice: User, phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    made = Passkey.objects.get()
    Session.objects.filter(id=phone.id).update(authenticated_at=now() - timedelta(minutes=11))
    with pytest.raises(RecentSignInNeeded):
        passkeys.remove(user=alice, session=phone, passkey_id=made.id, caller=caller)
    Session.objects.filter(id=phone.id).update(authenticated_at=now())
    passkeys.remove(user=alice, session=phone, passkey_id=made.id, caller=caller)
    assert not Passkey.objects.exists()
    assert Event.objects.filter(user=alice, kind="passkey.removed").count() == 1
    assert "removed" in mailbox.last(alice.email).message


def test_the_last_way_in_stays(device: Device, key: Device, alice: User, phone: Session, caller: Caller) -> None:
    first, last = Passkey.objects.order_by("id")
    alice.set_unusable_password()
    alice.email_verified = False
    alice.save()
    passkeys.remove(user=alice, session=phone, passkey_id=first.id, caller=caller)
    with pytest.raises(LastWayIn):
        passkeys.remove(user=alice, session=phone, passkey_id=last.id, caller=caller)


def test_what_somebody_has_set_up_is_told(
    device: Device, key: Device, alice: User, phone: Session, caller: Caller
) -> None:
    assert totp.overview(alice).two_step_since is None
    two_step_on(alice, phone, caller)
    found = totp.overview(alice)
    assert [one.name for one in found.passkeys] == ["Ada's iPhone", "Key"]
    assert found.recovery_codes_left == 10
    assert found.two_step_since is not None
