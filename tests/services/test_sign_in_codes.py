"""Signing in by a code that is mailed."""

import jwt
import pytest
from django.utils.timezone import now
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.caller import Origin
from accounts.errors import AccountDisabled, CodeSignInClosed, InvalidCode, RateLimited
from accounts.models import Challenge, Event, User
from accounts.services.account import passwords, sign_in_codes, users
from accounts.services.sessions import sessions
from tests.conftest import PASSWORD, Mailbox
from tests.threads import at_once


def ask(login: str, origin: Origin) -> None:
    sign_in_codes.request(login=login, origin=origin)
    sign_in_codes.answer_requests()


@pytest.mark.parametrize("name", ["alice", "ALICE", "Alice@Example.com"])
def test_the_code_signs_in_once_and_says_how(name: str, alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask(name, origin)
    code = mailbox.code("alice@example.com")
    found = sign_in_codes.sign_in_app(login=name, code=f"{code[:4]}-{code[4:]}", origin=origin)
    assert found.user == alice
    claims = jwt.decode(found.tokens.access_token, options={"verify_signature": False})
    assert claims["amr"] == ["otp"]
    refreshed = sessions.refresh(refresh_token=found.tokens.refresh_token, origin=origin)
    assert jwt.decode(refreshed.access_token, options={"verify_signature": False})["amr"] == ["otp"]
    with pytest.raises(InvalidCode):
        sign_in_codes.sign_in_app(login=name, code=code, origin=origin)
    assert Event.objects.filter(user=alice, kind="login.code_requested").count() == 1


def test_the_mail_has_a_code_and_no_link_that_signs_in(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    mail = mailbox.last(alice.email)
    assert "/account/" not in mail.message
    assert "Ada's iPhone" in mail.message
    assert mail.expires_at is not None
    assert (mail.expires_at - now()).total_seconds() < 601


def test_nobody_and_whoever_is_disabled_get_no_mail(alice: User, bob: User, origin: Origin, mailbox: Mailbox) -> None:
    users.set_active(user=bob, active=False, origin=origin)
    User.objects.filter(id=alice.id).update(email="", email_verified=False)
    for name in ("nobody", "nobody@example.com", "bob", "alice"):
        ask(name, origin)
    assert mailbox.all() == []


def test_a_claim_that_is_not_proved_gets_the_way_to_a_new_password(
    carol: User, origin: Origin, mailbox: Mailbox
) -> None:
    """A squatter's password must not live on in an account that its owner signs in to."""
    ask("carol@example.com", origin)
    assert not Challenge.objects.filter(kind="sign_in").exists()
    passwords.reset_by_code(login="carol", code=mailbox.code(), new_password="another lagoon tractor", origin=origin)


def test_bobs_code_does_not_sign_alice_in(alice: User, bob: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("bob", origin)
    with pytest.raises(InvalidCode):
        sign_in_codes.check(login="alice", code=mailbox.code("bob@example.com"), origin=origin)


def test_the_code_of_another_mail_does_not_sign_in(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    passwords.request_reset(login="alice", origin=origin)
    passwords.answer_requests()
    with pytest.raises(InvalidCode):
        sign_in_codes.check(login="alice", code=mailbox.code(), origin=origin)


def test_a_new_password_voids_the_code(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    code = mailbox.code()
    passwords.change(
        user=alice, current_password=PASSWORD, new_password="another lagoon tractor", keep=None, origin=origin
    )
    with pytest.raises(InvalidCode):
        sign_in_codes.check(login="alice", code=code, origin=origin)


def test_who_was_disabled_meanwhile_is_told_so(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    users.set_active(user=alice, active=False, origin=origin)
    with pytest.raises(AccountDisabled):
        sign_in_codes.check(login="alice", code=mailbox.code(), origin=origin)
    assert Event.objects.filter(user=alice, kind="login.refused").exists()


def test_twenty_wrong_codes_a_day_are_all_for_every_door(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    for number in range(20):
        if number % 5 == 0 and number < 10:
            ask("alice", origin)
        with pytest.raises(InvalidCode):
            sign_in_codes.check(login="alice", code="x", origin=origin)
    ask("alice", origin)
    with pytest.raises(InvalidCode):
        sign_in_codes.check(login="alice", code=mailbox.code(), origin=origin)


def test_asking_costs_the_same_for_known_and_unknown(
    alice: User, origin: Origin, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for name in ("alice", "nobody", "alice@example.com", "nobody@example.com"):
        with django_assert_num_queries(4):
            sign_in_codes.request(login=name, origin=origin)


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_asking_too_often_is_refused_alike(name: str, alice: User, origin: Origin) -> None:
    for _ in range(5):
        sign_in_codes.request(login=name, origin=origin)
    with pytest.raises(RateLimited):
        sign_in_codes.request(login=name, origin=origin)


def test_the_switch_closes_both_ends(alice: User, origin: Origin, settings: Settings, mailbox: Mailbox) -> None:
    ask("alice", origin)
    settings.SIGN_IN_BY_CODE = False
    with pytest.raises(CodeSignInClosed):
        sign_in_codes.request(login="alice", origin=origin)
    with pytest.raises(CodeSignInClosed):
        sign_in_codes.check(login="alice", code=mailbox.code(), origin=origin)


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_of_one_code_at_once_one_signs_in(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    code = mailbox.code()
    found = at_once(4, lambda: sign_in_codes.check(login="alice", code=code, origin=origin))
    assert sum(isinstance(item, User) for item in found) == 1, found


def test_what_was_mailed_to_an_earlier_address_signs_nobody_in(alice: User, origin: Origin, mailbox: Mailbox) -> None:
    ask("alice", origin)
    User.objects.filter(id=alice.id).update(email="other@example.com")
    with pytest.raises(InvalidCode):
        sign_in_codes.check(login="alice", code=mailbox.code(), origin=origin)
