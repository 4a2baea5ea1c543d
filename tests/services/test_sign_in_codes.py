"""Signing in by a code that is mailed."""

import jwt
import pytest
from django.utils.timezone import now
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.caller import Caller
from accounts.errors import AccountDisabled, CodeSignInClosed, InvalidCode, RateLimited
from accounts.models import Budget, Challenge, Event, User
from accounts.services.account import email_requests, password_resets, passwords, sign_in_codes, users
from accounts.services.security import rate_limits
from accounts.services.sessions import sessions
from tests.conftest import PASSWORD, Mailbox
from tests.threads import at_once


def ask(login: str, caller: Caller) -> None:
    sign_in_codes.request(login=login, caller=caller)
    email_requests.answer()


@pytest.mark.parametrize("name", ["alice", "ALICE", "Alice@Example.com"])
def test_the_code_signs_in_once_and_says_how(name: str, alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask(name, caller)
    code = mailbox.code("alice@example.com")
    found = sign_in_codes.sign_in_app(login=name, code=f"{code[:4]}-{code[4:]}", caller=caller)
    assert found.user == alice
    claims = jwt.decode(found.tokens.access_token, options={"verify_signature": False})
    assert claims["amr"] == ["otp"]
    refreshed = sessions.refresh(refresh_token=found.tokens.refresh_token, caller=caller)
    assert jwt.decode(refreshed.access_token, options={"verify_signature": False})["amr"] == ["otp"]
    with pytest.raises(InvalidCode):
        sign_in_codes.sign_in_app(login=name, code=code, caller=caller)
    assert Event.objects.filter(user=alice, kind="login.code_requested").count() == 1


def test_right_codes_use_up_no_tries(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    for _ in range(3):
        ask("alice", caller)
        sign_in_codes.check(login="alice", code=mailbox.code("alice@example.com"), caller=caller)
    assert Budget.objects.get(key=rate_limits._key("wrong_code_per_account", str(alice.id))).spent == 0


def test_the_mail_has_a_code_and_no_link_that_signs_in(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    mail = mailbox.last(alice.email)
    assert "/account/" not in mail.message
    assert "Ada's iPhone" in mail.message
    assert mail.expires_at is not None
    assert (mail.expires_at - now()).total_seconds() < 601


def test_nobody_and_whoever_is_disabled_get_no_mail(alice: User, bob: User, caller: Caller, mailbox: Mailbox) -> None:
    users.set_active(user=bob, active=False, caller=caller)
    User.objects.filter(id=alice.id).update(email="", email_verified=False)
    for name in ("nobody", "nobody@example.com", "bob", "alice"):
        ask(name, caller)
    assert mailbox.all() == []


def test_a_claim_that_is_not_proved_gets_the_way_to_a_new_password(
    carol: User, caller: Caller, mailbox: Mailbox
) -> None:
    """A squatter's password must not live on in an account that its owner signs in to."""
    ask("carol@example.com", caller)
    assert not Challenge.objects.filter(kind="sign_in").exists()
    password_resets.reset_by_code(
        login="carol", code=mailbox.code(), new_password="another lagoon tractor", caller=caller
    )


def test_bobs_code_does_not_sign_alice_in(alice: User, bob: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("bob", caller)
    with pytest.raises(InvalidCode):
        sign_in_codes.check(login="alice", code=mailbox.code("bob@example.com"), caller=caller)


def test_the_code_of_another_mail_does_not_sign_in(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    password_resets.request_reset(login="alice", caller=caller)
    email_requests.answer()
    with pytest.raises(InvalidCode):
        sign_in_codes.check(login="alice", code=mailbox.code(), caller=caller)


def test_a_new_password_voids_the_code(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    code = mailbox.code()
    passwords.change(
        user=alice, current_password=PASSWORD, new_password="another lagoon tractor", keep=None, caller=caller
    )
    with pytest.raises(InvalidCode):
        sign_in_codes.check(login="alice", code=code, caller=caller)


def test_who_was_disabled_meanwhile_is_told_so(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    users.set_active(user=alice, active=False, caller=caller)
    with pytest.raises(AccountDisabled):
        sign_in_codes.check(login="alice", code=mailbox.code(), caller=caller)
    assert Event.objects.filter(user=alice, kind="login.refused").exists()


def test_twenty_wrong_codes_a_day_are_all_for_every_door(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    for number in range(20):
        if number % 5 == 0 and number < 10:
            ask("alice", caller)
        with pytest.raises(InvalidCode):
            sign_in_codes.check(login="alice", code="00000000", caller=caller)
    ask("alice", caller)
    with pytest.raises(InvalidCode):
        sign_in_codes.check(login="alice", code=mailbox.code(), caller=caller)


def test_asking_costs_the_same_for_known_and_unknown(
    alice: User, caller: Caller, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for name in ("alice", "nobody", "alice@example.com", "nobody@example.com"):
        with django_assert_num_queries(2):
            sign_in_codes.request(login=name, caller=caller)


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_asking_too_often_is_refused_alike(name: str, alice: User, caller: Caller) -> None:
    for _ in range(5):
        sign_in_codes.request(login=name, caller=caller)
    with pytest.raises(RateLimited):
        sign_in_codes.request(login=name, caller=caller)


def test_the_switch_closes_both_ends(alice: User, caller: Caller, settings: Settings, mailbox: Mailbox) -> None:
    ask("alice", caller)
    settings.SIGN_IN_BY_CODE = False
    with pytest.raises(CodeSignInClosed):
        sign_in_codes.request(login="alice", caller=caller)
    with pytest.raises(CodeSignInClosed):
        sign_in_codes.check(login="alice", code=mailbox.code(), caller=caller)


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_of_one_code_at_once_one_signs_in(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    code = mailbox.code()
    found = at_once(4, lambda: sign_in_codes.check(login="alice", code=code, caller=caller))
    assert sum(isinstance(item, User) for item in found) == 1, found


def test_what_was_mailed_to_an_earlier_address_signs_nobody_in(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    ask("alice", caller)
    User.objects.filter(id=alice.id).update(email="other@example.com")
    with pytest.raises(InvalidCode):
        sign_in_codes.check(login="alice", code=mailbox.code(), caller=caller)
