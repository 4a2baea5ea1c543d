"""Signing in by a provider: whom an identity means, how it is connected and disconnected, and who must not get in."""

import json
import zipfile
from collections.abc import Sequence
from datetime import timedelta
from io import BytesIO
from typing import Any

import jwt
import pytest
from django.utils.timezone import now
from pytest_django import Settings

from accounts.caller import Caller, Device
from accounts.errors import (
    AccountDisabled,
    AccountError,
    EmailNotVerified,
    IdentityNotFound,
    IdentityTaken,
    IdentityUnknown,
    InvalidCode,
    InvalidIdToken,
    InvalidInput,
    InvalidTicket,
    LastWayIn,
    MfaRequired,
    ProviderUnknown,
    RecentSignInNeeded,
    SignUpClosed,
    TooManyIdentities,
    UsernameTaken,
    WrongPassword,
)
from accounts.lib import sealing
from accounts.models import Event, Identity, Session, User
from accounts.services.account import (
    deletion,
    email_addresses,
    email_recovery,
    export,
    federation,
    password_resets,
    passwords,
    users,
)
from accounts.services.authentication import identities, passkeys, reauthentication, sign_in
from accounts.services.credentials import reserved_usernames
from accounts.services.security import tickets
from accounts.services.sessions import mfa, sessions
from accounts.services.sessions.sessions import SignedIn
from accounts.services.staff import actions
from project.devstack.provider import FakeProvider
from tests.conftest import PASSWORD, Mailbox, make_user, random_ip
from tests.factors import id_token, passkey_on, two_step_on
from tests.threads import at_once

NEW = "another lagoon tractor"
VICTIM = {"sub": "v", "email": "victim@gmail.com", "email_verified": True, "given_name": "Vic"}
BOB = {"sub": "b", "email": "bob@example.com", "email_verified": True}
STRANGER = {"sub": "s", "email": "stranger@gmail.com", "email_verified": True}

pytestmark = pytest.mark.django_db


def come(
    fake: FakeProvider, caller: Caller, provider: str = "google", person: Any = VICTIM, *, create: bool = True,
    names: dict[str, str] | None = None, **changes: Any,
) -> SignedIn:  # fmt: skip
    """Somebody signs in at the provider, and the app signs in with that."""
    given = id_token(fake, provider, person, **changes)
    found = federation.sign_in_app(**given, create=create, names=names or {}, caller=caller)
    assert found is not None
    return found


def session_of(found: SignedIn) -> Session:
    return Session.objects.get(id=found.tokens.session_id)


def amr(found: SignedIn) -> Sequence[str]:
    said: Sequence[str] = jwt.decode(found.tokens.access_token, options={"verify_signature": False})["amr"]
    return said


def kinds(user: User) -> Sequence[str]:
    return list(Event.objects.filter(user=user).order_by("id").values_list("kind", flat=True))


def subjects(mailbox: Mailbox, to: str) -> Sequence[str]:
    return [mail.subject for mail in mailbox.all(to)]


def age(session: Session) -> None:
    """It signed in an hour ago."""
    Session.objects.filter(id=session.id).update(authenticated_at=now() - timedelta(hours=1))


def connected(user: User, subject: str = "x", provider: str = "google", **changes: Any) -> Identity:
    return Identity.objects.create(user=user, provider=provider, issuer="https://x.example", subject=subject, **changes)


# --- Whom it means ------------------------------------------------------------------------------------------


def test_a_newcomer_with_a_proved_address_gets_an_account_without_a_password(
    fake: FakeProvider, caller: Caller, mailbox: Mailbox
) -> None:
    found = come(fake, caller)
    user, session = User.objects.get(), session_of(found)
    assert (user.username, user.first_name, user.email) == ("victim", "Vic", "victim@gmail.com")
    assert user.email_verified
    assert not user.has_usable_password()
    assert (amr(found), session.methods, session.identity) == (["fed"], ["fed"], user.identities.get())
    assert kinds(user) == ["user.signed_up", "session.started"]
    assert subjects(mailbox, "victim@gmail.com") == ["Welcome to Crew"]


def test_a_known_identity_is_its_user_whatever_else_it_says(fake: FakeProvider, caller: Caller, bob: User) -> None:
    user = come(fake, caller).user
    for said in ({"email": bob.email}, {"email": "new@gmail.com", "given_name": "X"}, {"email": None}):
        assert come(fake, caller, person={**VICTIM, **said}).user == user
    user.refresh_from_db()
    assert (user.email, user.first_name, user.identities.get().email) == ("victim@gmail.com", "Vic", "")
    assert user.identities.get().last_used_at is not None
    assert User.objects.count() == 2


def test_the_same_subject_of_another_issuer_is_another_person(fake: FakeProvider, caller: Caller) -> None:
    first = come(fake, caller, person={"sub": "1"})
    assert come(fake, caller, "corp", {"sub": "1"}).user != first.user


def test_an_address_that_is_not_proved_is_a_claim_as_at_any_sign_up(
    fake: FakeProvider, caller: Caller, bob: User, mailbox: Mailbox
) -> None:
    """Nobody learns whether it is somebody's: the same answer, and the owner is told."""
    unproved = {
        "google": {"email_verified": True},  # of a domain that Google does not vouch for
        "corp": {"email_verified": False},
        "microsoft": {"email_verified": False},  # its tenant's admin typed it (nOAuth)
    }
    for provider, said in unproved.items():
        user = come(fake, caller, provider, {**BOB, **said}, hd=None).user
        assert (user.email, user.email_verified, user.identities.count()) == ("bob@example.com", False, 1)
    assert bob.identities.count() == 0
    assert set(subjects(mailbox, "bob@example.com")) == {"You already have a Crew account"}
    unknown = come(fake, caller, person={**STRANGER, "email": "free@example.net"}, hd=None).user
    email_addresses.confirm_mine(user=unknown, code=mailbox.code("free@example.net"), caller=caller)
    unknown.refresh_from_db()
    assert unknown.email_verified


def test_who_proves_the_address_of_an_account_is_its_owner_who_is_told(
    fake: FakeProvider, caller: Caller, bob: User, mailbox: Mailbox
) -> None:
    found = come(fake, caller, "corp", BOB)
    assert (found.user, amr(found)) == (bob, ["fed"])
    assert kinds(bob)[0] == "identity.linked"
    assert subjects(mailbox, bob.email)[0] == "Fake was connected to your Crew account"
    assert "/account/password/reset/" in mailbox.all(bob.email)[0].message
    assert come(fake, caller, "corp", BOB).user == bob
    assert bob.identities.count() == 1
    assert sign_in.check(login="bob", password=PASSWORD, caller=caller) == bob


def test_staff_are_never_connected_by_an_address(fake: FakeProvider, caller: Caller, alice: User) -> None:
    with pytest.raises(IdentityTaken):
        come(fake, caller, "corp", {**BOB, "email": alice.email})
    assert (kinds(alice), Identity.objects.count(), User.objects.count()) == (["identity.refused"], 0, 1)


def test_a_squatter_s_claim_lapses_and_their_account_is_not_joined(
    fake: FakeProvider, caller: Caller, carol: User
) -> None:
    found = come(fake, caller, "corp", {**BOB, "email": carol.email})
    carol.refresh_from_db()
    assert (carol.email, found.user.email, found.user.email_verified) == ("", "carol@example.com", True)
    assert found.user != carol
    assert "email.claim_lapsed" in kinds(carol)


def test_who_is_switched_off_stays_out(fake: FakeProvider, caller: Caller, bob: User) -> None:
    user = come(fake, caller).user
    for one in (user, bob):
        users.set_active(user=one, active=False, caller=caller)
    with pytest.raises(AccountDisabled):
        come(fake, caller)
    with pytest.raises(AccountDisabled):
        come(fake, caller, "corp", BOB)
    assert kinds(user)[-1] == "login.refused"
    assert (kinds(bob)[-1], bob.identities.count()) == ("identity.refused", 0)


def test_a_closed_sign_up_makes_no_accounts_and_keeps_nobody_out(
    fake: FakeProvider, caller: Caller, settings: Settings, bob: User
) -> None:
    user = come(fake, caller).user
    settings.SIGNUP_OPEN = False
    with pytest.raises(SignUpClosed):
        come(fake, caller, person=STRANGER)
    assert come(fake, caller).user == user
    settings.SIGNUP_OPEN = True
    settings.PROVIDERS["google"]["signup"] = False
    with pytest.raises(SignUpClosed):
        come(fake, caller, person=STRANGER)
    assert come(fake, caller, "corp", BOB).user == bob
    assert User.objects.count() == 2


def test_where_an_address_must_be_verified_a_newcomer_waits_for_the_code(
    fake: FakeProvider, caller: Caller, settings: Settings, mailbox: Mailbox
) -> None:
    settings.EMAIL_VERIFICATION = "mandatory"
    assert come(fake, caller).user.email_verified  # proved: nothing to wait for
    claims = {**STRANGER, "email_verified": False}
    given = id_token(fake, "google", claims)
    assert federation.sign_in_app(**given, create=True, names={}, caller=caller) is None
    with pytest.raises(EmailNotVerified):
        come(fake, caller, person=claims)
    code = mailbox.code("stranger@gmail.com")
    email_addresses.confirm(email="stranger@gmail.com", code=code, caller=caller)
    assert come(fake, caller, person=claims).user.email == "stranger@gmail.com"
    with pytest.raises(IdentityUnknown) as refused:  # without any, it must be asked for
        come(fake, caller, person={"sub": "none"})
    with pytest.raises(InvalidInput):
        federation.create_app(ticket=refused.value.ticket, fields={}, caller=caller)
    fields = {"email": "typed@example.net"}
    assert federation.create_app(ticket=refused.value.ticket, fields=fields, caller=caller) is None
    assert User.objects.get(email="typed@example.net").identities.count() == 1


def test_odd_names_are_left_out_and_taken_ones_get_a_number(fake: FakeProvider, caller: Caller, bob: User) -> None:
    odd = {"sub": "1", "preferred_username": "<b>\x00", "given_name": "<script>", "family_name": {"a": 1}}
    user = come(fake, caller, person=odd).user
    assert (user.first_name, user.last_name, user.email) == ("", "", "")
    assert come(fake, caller, person={"sub": "2", "preferred_username": "Bob"}).user.username.startswith("bob-")
    reserved_usernames.reserve("gone", owner=None)
    assert come(fake, caller, person={"sub": "3", "preferred_username": "gone"}).user.username != "gone"
    named = come(fake, caller, "apple", {"sub": "4"}, names={"first_name": "Ada", "last_name": "<"}).user
    assert (named.first_name, named.last_name) == ("Ada", "")
    relay = {"sub": "5", "email": "x7f3@privaterelay.appleid.com", "email_verified": True}
    assert come(fake, caller, "apple", relay).user.username.startswith("user-")


# --- Newcomers who are asked first --------------------------------------------------------------------------


def test_an_app_may_ask_before_an_account_is_made(fake: FakeProvider, caller: Caller, bob: User) -> None:
    with pytest.raises(IdentityUnknown) as refused:
        come(fake, caller, create=False)
    assert refused.value.suggestion == {
        "username": "victim", "first_name": "Vic", "last_name": "", "email": "victim@gmail.com",
    }  # fmt: skip
    ticket = refused.value.ticket
    assert not Identity.objects.exists()
    for fields, error in (({"username": "bob"}, UsernameTaken), ({"username": "a"}, InvalidInput)):
        with pytest.raises(error):
            federation.create_app(ticket=ticket, fields=fields, caller=caller)
    fields = {"username": "Vicky", "last_name": "Tim", "email": "other@example.net"}
    found = federation.create_app(ticket=ticket, fields=fields, caller=caller)
    assert found is not None
    user = found.user
    assert (user.username_display, user.first_name, user.last_name) == ("Vicky", "Vic", "Tim")
    assert (user.email, user.email_verified, amr(found)) == ("victim@gmail.com", True, ["fed"])
    with pytest.raises(InvalidTicket):
        federation.create_app(ticket=ticket, fields={"username": "again"}, caller=caller)
    assert come(fake, caller, create=False).user == user


def test_a_ticket_makes_nothing_for_an_identity_or_an_address_that_is_somebody_s_by_now(
    fake: FakeProvider, caller: Caller
) -> None:
    invited = []
    for subject in ("1", "1", "2"):
        with pytest.raises(IdentityUnknown) as refused:
            come(fake, caller, person={**VICTIM, "sub": subject}, create=False)
        invited.append(refused.value.ticket)
    assert federation.create_app(ticket=invited[0], fields={}, caller=caller)
    for ticket in invited[1:]:
        with pytest.raises(InvalidTicket):
            federation.create_app(ticket=ticket, fields={}, caller=caller)
    assert User.objects.count() == 1


def test_who_has_an_account_signs_in_to_it_and_connects(
    fake: FakeProvider, caller: Caller, alice: User, phone: Session
) -> None:
    with pytest.raises(IdentityUnknown) as refused:
        come(fake, caller, create=False)
    identity = identities.link_by_ticket(user=alice, session=phone, ticket=refused.value.ticket, caller=caller)
    assert (identity.user, identity.email) == (alice, "victim@gmail.com")
    assert come(fake, caller).user == alice  # staff, who have connected it themselves
    with pytest.raises(InvalidTicket):
        identities.link_by_ticket(user=alice, session=phone, ticket=refused.value.ticket, caller=caller)


# --- What an app sends --------------------------------------------------------------------------------------


def test_a_state_is_good_once_and_for_its_own_token_and_provider(fake: FakeProvider, caller: Caller) -> None:
    given, other = id_token(fake), id_token(fake)
    wrong: list[tuple[dict[str, Any], type[AccountError]]] = [
        ({**given, "state": other["state"]}, InvalidIdToken),
        ({**given, "provider": "apple"}, InvalidTicket),
        ({**given, "state": "x"}, InvalidTicket),
        ({**given, "id_token": "x"}, InvalidIdToken),
        ({**given, "provider": "unknown"}, ProviderUnknown),
    ]
    for sent, error in wrong:
        with pytest.raises(error):
            identities.check(**sent, caller=caller)
    assert identities.check(**given, caller=caller).said.subject == "1001"
    with pytest.raises(InvalidTicket):
        identities.check(**given, caller=caller)
    with pytest.raises(ProviderUnknown):
        identities.begin(provider="github")  # makes no ID tokens


def test_without_providers_there_is_none(caller: Caller, settings: Settings) -> None:
    settings.PROVIDERS = {}
    with pytest.raises(ProviderUnknown):
        identities.begin(provider="google")
    with pytest.raises(ProviderUnknown):
        identities.check(provider="google", id_token="x", state="x", caller=caller)


# --- The second step ----------------------------------------------------------------------------------------


def test_the_second_step_is_asked_and_void_once_the_identity_is_gone(
    fake: FakeProvider, caller: Caller, bob: User
) -> None:
    browser = sessions.begin(user=bob, kind=Session.Kind.BROWSER, caller=caller)
    app = two_step_on(bob, browser, caller)
    with pytest.raises(MfaRequired) as halted:
        come(fake, caller, "corp", BOB)
    found = sign_in.finish(ticket=halted.value.ticket, code=app.code(), caller=caller)
    assert (found.user, amr(found)) == (bob, ["fed", "otp", "mfa"])
    assert session_of(found).identity == bob.identities.get()
    with pytest.raises(MfaRequired) as halted:
        come(fake, caller, "corp", BOB)
    identities.unlink(user=bob, session=browser, identity_id=bob.identities.get().id, caller=caller)
    with pytest.raises(InvalidTicket):
        sign_in.finish(ticket=halted.value.ticket, code=app.code(1), caller=caller)


def test_a_provider_s_own_second_factor_counts_if_the_operator_says_so(
    fake: FakeProvider, caller: Caller, bob: User, settings: Settings
) -> None:
    two_step_on(bob, sessions.begin(user=bob, kind=Session.Kind.BROWSER, caller=caller), caller)
    with pytest.raises(MfaRequired):
        come(fake, caller, "corp", BOB, amr=["pwd", "mfa"])
    settings.PROVIDERS["corp"]["mfa"] = True
    assert amr(come(fake, caller, "corp", BOB, amr=["pwd", "mfa"])) == ["fed", "mfa"]
    with pytest.raises(MfaRequired):
        come(fake, caller, "corp", BOB, amr=["pwd"])


def test_a_ticket_of_an_earlier_version_still_works_and_one_without_an_identity_is_as_it_was(
    bob: User, caller: Caller
) -> None:
    assert tickets.read(mfa.HalfWay, mfa._issue(bob, ["pwd"])).identity == ""
    raw = sealing.unseal("ticket mfa", mfa._issue(bob, ["pwd"]).encode())
    assert set(json.loads(raw or b"")) == {"id", "until", "user", "password", "methods"}


# --- Connecting and disconnecting ---------------------------------------------------------------------------


def test_connecting_asks_for_a_recent_sign_in_and_an_identity_of_nobody_else(
    fake: FakeProvider, caller: Caller, alice: User, phone: Session, mailbox: Mailbox
) -> None:
    come(fake, caller)
    mine: dict[str, Any] = {"user": alice, "session": phone, "caller": caller}
    with pytest.raises(IdentityTaken):
        identities.link(**id_token(fake, "google", VICTIM), **mine)
    made = identities.link(**id_token(fake, "google", STRANGER), **mine)
    assert identities.link(**id_token(fake, "google", STRANGER), **mine) == made
    assert (kinds(alice)[-1], alice.identities.count()) == ("identity.linked", 1)
    assert subjects(mailbox, alice.email) == ["Fake was connected to your Crew account"]
    for number in range(identities.MAX - 1):
        connected(alice, str(number))
    with pytest.raises(TooManyIdentities):
        identities.link(**id_token(fake, "corp", BOB), **mine)
    age(phone)
    given = id_token(fake, "corp", BOB)
    with pytest.raises(RecentSignInNeeded):
        identities.link(**given, **mine)
    identities.check(**given, caller=caller)  # the state was not used up


def test_disconnecting_ends_what_came_in_by_it_but_the_device_that_asks(
    fake: FakeProvider, caller: Caller, mailbox: Mailbox
) -> None:
    asks, other = come(fake, caller), come(fake, caller)
    user, session = asks.user, session_of(asks)
    identity = user.identities.get()
    by_mail = sessions.begin(user=user, kind=Session.Kind.APP, caller=caller, methods=("otp",))
    age(session)
    with pytest.raises(RecentSignInNeeded):
        identities.unlink(user=user, session=session, identity_id=identity.id, caller=caller)
    Session.objects.filter(id=session.id).update(authenticated_at=now())
    identities.unlink(user=user, session=session, identity_id=identity.id, caller=caller)
    assert set(user.sessions.open()) == {session, by_mail}
    assert session_of(other).ended_at is not None
    assert kinds(user)[-1] == "identity.unlinked"
    assert subjects(mailbox, user.email)[-1] == "Fake was disconnected from your Crew account"
    with pytest.raises(IdentityNotFound):
        identities.unlink(user=user, session=session, identity_id=identity.id, caller=caller)


def test_nobody_disconnects_another_s(fake: FakeProvider, caller: Caller, alice: User, phone: Session) -> None:
    identity = come(fake, caller).user.identities.get()
    with pytest.raises(IdentityNotFound):
        identities.unlink(user=alice, session=phone, identity_id=identity.id, caller=caller)


def test_the_last_way_in_stays(fake: FakeProvider, caller: Caller, settings: Settings) -> None:
    found = come(fake, caller, person={"sub": "1"})
    user, session = found.user, session_of(found)
    mine: dict[str, Any] = {"user": user, "session": session, "caller": caller}
    first = user.identities.get()
    with pytest.raises(LastWayIn):
        identities.unlink(identity_id=first.id, **mine)
    second = identities.link(**id_token(fake, "corp", {"sub": "2"}), **mine)
    del settings.PROVIDERS["corp"]  # nobody comes in by it any more
    with pytest.raises(LastWayIn):
        identities.unlink(identity_id=first.id, **mine)
    identities.unlink(identity_id=second.id, **mine)
    passwords.change(user=user, current_password="", new_password=NEW, keep=session.id, caller=caller)
    identities.unlink(identity_id=first.id, **mine)


def test_a_passkey_may_go_where_a_provider_opens_the_account(fake: FakeProvider, caller: Caller) -> None:
    found = come(fake, caller)
    user, session = found.user, session_of(found)
    passkey_on(user, session, caller)
    User.objects.filter(id=user.id).update(email="", email_verified=False)
    passkeys.remove(user=user, session=session, passkey_id=user.passkeys.get().id, caller=caller)
    assert not user.passkeys.exists()


# --- An account without a password --------------------------------------------------------------------------


def test_its_owner_chooses_a_first_password_an_address_and_the_end_after_a_recent_sign_in(
    fake: FakeProvider, caller: Caller, mailbox: Mailbox
) -> None:
    found = come(fake, caller, person={"sub": "1"})
    user, session = found.user, session_of(found)

    def doors() -> None:
        email_addresses.request_change(user=user, email="new@example.net", password="", session=session, caller=caller)
        deletion.request(user=user, session=session, password="", caller=caller)
        passwords.change(user=user, current_password="", new_password=NEW, keep=session.id, caller=caller)

    age(session)
    for door in (
        lambda: email_addresses.request_change(
            user=user, email="a@b.example", password="", session=session, caller=caller
        ),
        lambda: deletion.request(user=user, session=session, password="", caller=caller),
        lambda: passwords.change(user=user, current_password="", new_password=NEW, keep=session.id, caller=caller),
    ):
        with pytest.raises(RecentSignInNeeded):
            door()
    Session.objects.filter(id=session.id).update(authenticated_at=now())
    doors()
    assert mailbox.code("new@example.net")
    assert sign_in.check(login=user.username, password=NEW, caller=caller) == user
    for door in (
        lambda: passwords.change(user=user, current_password="", new_password=NEW, keep=session.id, caller=caller),
        lambda: email_addresses.request_change(
            user=user, email="a@b.example", password="", session=session, caller=caller
        ),
    ):
        with pytest.raises(WrongPassword):  # it has one now
            door()


def test_a_device_that_was_signed_out_at_this_moment_changes_nothing(fake: FakeProvider, caller: Caller) -> None:
    found = come(fake, caller)
    Session.objects.filter(id=found.tokens.session_id).update(ended_at=now())
    with pytest.raises(AccountError):
        passwords.change(
            user=found.user, current_password="", new_password=NEW, keep=found.tokens.session_id, caller=caller
        )


def test_a_provider_proves_again_who_uses_a_device(fake: FakeProvider, caller: Caller, bob: User) -> None:
    found = come(fake, caller)
    user, session = found.user, session_of(found)
    mine: dict[str, Any] = {"user": user, "session": session, "caller": caller}
    seconds = int(now().timestamp())
    come(fake, caller, "corp", BOB)
    for person, changes in (
        (VICTIM, {"auth_time": seconds - 700}),
        (VICTIM, {"iat": seconds - 150}),  # it does not say when its person signed in
        (STRANGER, {}),
    ):
        age(session)
        with pytest.raises(InvalidIdToken):
            identities.reauthenticate(**id_token(fake, "google", person, **changes), **mine)
        assert not reauthentication.is_recent(session)
    with pytest.raises(InvalidIdToken):
        identities.reauthenticate(**id_token(fake, "corp", BOB), **mine)
    identities.reauthenticate(**id_token(fake, "google", VICTIM, auth_time=seconds - 300, iat=seconds - 150), **mine)
    assert reauthentication.is_recent(session)
    app = two_step_on(user, session, caller)
    old = sessions.begin(
        user=user, kind=Session.Kind.APP, caller=caller, methods=("fed", "mfa"), identity=user.identities.get().id
    )
    Session.objects.filter(id=old.id).update(authenticated_by="fed")
    with pytest.raises(MfaRequired):
        identities.reauthenticate(**id_token(fake, "google", VICTIM), user=user, session=old, caller=caller)
    identities.reauthenticate(
        **id_token(fake, "google", VICTIM), user=user, session=old, code=app.code(), caller=caller
    )
    assert reauthentication.is_recent(old)


# --- When an account changes hands --------------------------------------------------------------------------


def reset(user: User, mailbox: Mailbox, caller: Caller) -> None:
    password_resets.request_reset(login=user.email, caller=caller)
    password_resets.reset_by_code(login=user.email, code=mailbox.code(user.email), new_password=NEW, caller=caller)


def test_a_reset_disconnects_those_of_the_last_week_and_tells_of_each(
    fake: FakeProvider, caller: Caller, bob: User, mailbox: Mailbox
) -> None:
    connected(bob, "old", created_at=now() - timedelta(days=8))
    found = come(fake, caller, "corp", BOB)
    reset(bob, mailbox, caller)
    assert [identity.subject for identity in bob.identities.all()] == ["old"]
    assert session_of(found).ended_at is not None
    assert "Fake was disconnected from your Crew account" in subjects(mailbox, bob.email)
    passwords.change(user=bob, current_password=NEW, new_password=PASSWORD, keep=None, caller=caller)
    assert bob.identities.count() == 1


def test_the_owner_of_the_earlier_address_disconnects_what_is_newer_than_a_week_before_the_change(
    caller: Caller, bob: User, mailbox: Mailbox
) -> None:
    connected(bob, "old", created_at=now() - timedelta(days=8))
    connected(bob, "thief's", created_at=now() - timedelta(days=6))
    email_addresses.request_change(user=bob, email="thief@example.net", password=PASSWORD, caller=caller)
    email_addresses.confirm_mine(user=bob, code=mailbox.code("thief@example.net"), caller=caller)
    email_recovery.undo(key=mailbox.key("bob@example.com"), caller=caller)
    assert [identity.subject for identity in bob.identities.all()] == ["old"]


def test_staff_disconnect_all_and_forcing_a_new_password_leaves_them(
    fake: FakeProvider, caller: Caller, alice: User, bob: User, mailbox: Mailbox
) -> None:
    found = come(fake, caller, "corp", BOB)
    actions.revoke_password(staff=alice, user=bob, caller=caller)
    assert (bob.identities.count(), bob.sessions.open().count()) == (1, 0)
    found = come(fake, caller, "corp", BOB)
    actions.disconnect_identities(staff=alice, user=bob, caller=caller)
    assert bob.identities.count() == 0
    assert session_of(found).ended_at is not None
    assert subjects(mailbox, bob.email)[-1] == "Fake was disconnected from your Crew account"
    with pytest.raises(AccountError):
        actions.disconnect_identities(staff=bob, user=alice, caller=caller)
    with pytest.raises(AccountError):
        actions.disconnect_identities(staff=alice, user=alice, caller=caller)


def test_an_erased_account_s_identity_is_a_newcomer_s_again(fake: FakeProvider, caller: Caller) -> None:
    user = come(fake, caller).user
    deletion.erase_again(user.id)
    assert not Identity.objects.exists()
    assert come(fake, caller).user.id != user.id


def test_who_comes_by_a_provider_is_not_pruned_for_want_of_an_address(
    fake: FakeProvider, caller: Caller, carol: User, settings: Settings
) -> None:
    user = come(fake, caller, person={"sub": "1"}).user
    long_ago = now() - settings.UNPROVED_ACCOUNT_LIFETIME - timedelta(days=1)
    User.objects.update(created_at=long_ago, updated_at=long_ago)
    Session.objects.update(last_used_at=long_ago)
    assert users.remove_unverified() == 1
    assert User.objects.get() == user


def test_the_copy_of_the_data_names_them(fake: FakeProvider, caller: Caller) -> None:
    user, file = come(fake, caller).user, BytesIO()
    export.write(file, user)
    with zipfile.ZipFile(file) as archive:
        (found,) = json.loads(archive.read("identities.json"))
    assert (found["provider"], found["subject"], found["email"]) == ("google", "v", "victim@gmail.com")


# --- Getting in before the owner does (pre-hijacking) -------------------------------------------------------


def squat(username: str = "squatter", **fields: Any) -> User:
    """Somebody who signed up with the victim's address and waits."""
    user = make_user(username, verified=False, **fields)
    User.objects.filter(id=user.id).update(email="victim@gmail.com")
    user.refresh_from_db()
    return user


def opens_nothing(victim: User, squatter: User, caller: Caller) -> None:
    """Nothing that the squatter has gets at what is the victim's now."""
    victim.refresh_from_db()
    assert (victim.email, victim.email_verified) == ("victim@gmail.com", True)
    if victim.id != squatter.id:
        squatter.refresh_from_db()
        assert squatter.email != "victim@gmail.com"
    with pytest.raises(AccountError):
        sign_in.check(login="victim@gmail.com", password=PASSWORD, caller=caller)


def test_a_classic_account_is_not_merged_with_the_victim_s_provider(fake: FakeProvider, caller: Caller) -> None:
    squatter = squat()
    victim = come(fake, caller).user
    assert victim != squatter
    opens_nothing(victim, squatter, caller)


def test_an_unexpired_session_and_a_trojan_identity_end_with_the_victim_s_reset(
    fake: FakeProvider, caller: Caller, mailbox: Mailbox
) -> None:
    """The squatter's account becomes the victim's: neither the device nor the squatter's own Google stays."""
    squatter = squat()
    session = sessions.begin(user=squatter, kind=Session.Kind.APP, caller=caller)
    tokens = sessions.tokens(session)
    identities.link(**id_token(fake, "google", STRANGER), user=squatter, session=session, caller=caller)
    by_google = come(fake, caller, person=STRANGER)
    assert by_google.user == squatter
    Identity.objects.update(created_at=now() - timedelta(days=30))  # older than what any reset disconnects
    reset(squatter, mailbox, Caller(ip=random_ip(), device=Device("Victim's phone")))
    opens_nothing(squatter, squatter, caller)
    assert not Identity.objects.exists()
    for token in (tokens.refresh_token, by_google.tokens.refresh_token):
        with pytest.raises(AccountError):
            sessions.refresh(refresh_token=token, caller=caller)
    assert come(fake, caller, person=STRANGER).user != squatter
    assert come(fake, caller).user == squatter  # the victim, by the victim's own Google


def test_an_address_change_that_waits_takes_nothing_from_the_victim(
    fake: FakeProvider, caller: Caller, bob: User, mailbox: Mailbox
) -> None:
    email_addresses.request_change(user=bob, email="victim@gmail.com", password=PASSWORD, caller=caller)
    code = mailbox.code("victim@gmail.com")
    victim = come(fake, caller).user
    with pytest.raises(InvalidCode):
        email_addresses.confirm_mine(user=bob, code=code, caller=caller)
    opens_nothing(victim, bob, caller)


def test_a_provider_that_says_anything_makes_no_way_into_the_victim_s_account(
    fake: FakeProvider, caller: Caller
) -> None:
    says = {"sub": "evil", "email": "victim@gmail.com", "email_verified": True}
    squatter = come(fake, caller, "corp", says).user  # corp vouches for example.com alone
    victim = come(fake, caller).user
    assert victim != squatter
    opens_nothing(victim, squatter, caller)
    assert come(fake, caller, "corp", says).user == squatter


# --- Several at once ----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_of_several_first_sign_ins_at_once_one_makes_the_account(fake: FakeProvider, caller: Caller) -> None:
    given = [id_token(fake, "google", VICTIM) for _ in range(6)]
    found = at_once(6, lambda: federation.sign_in_app(**given.pop(), create=True, names={}, caller=caller))
    assert [one for one in found if not isinstance(one, SignedIn)] == []
    assert (User.objects.count(), Identity.objects.count(), Session.objects.count()) == (1, 1, 6)


@pytest.mark.django_db(transaction=True)
def test_of_twenty_at_once_with_one_state_one_gets_in(fake: FakeProvider, caller: Caller) -> None:
    given = id_token(fake, "google", VICTIM)
    found = at_once(20, lambda: federation.sign_in_app(**given, create=True, names={}, caller=caller))
    refused = [one for one in found if not isinstance(one, SignedIn)]
    assert {type(one) for one in refused} == {InvalidTicket}
    assert (len(refused), User.objects.count(), Session.objects.count()) == (19, 1, 1)
