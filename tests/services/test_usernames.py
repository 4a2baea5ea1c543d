"""Changing one's username: how often, and who can have the one before."""

from datetime import timedelta

import pytest
from django.utils import timezone
from django.utils.timezone import now
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import RateLimited, UsernameChangeLimited, UsernameTaken
from accounts.models import Budget, Event, ReservedUsername, User
from accounts.services.account import deletion, email_requests, password_resets, signup, users
from accounts.services.profile import profiles
from tests.conftest import PASSWORD, Mailbox
from tests.threads import each_at_once


def rename(user: User, username: str, caller: Caller) -> User:
    return profiles.update(user=user, changes={"username": username}, caller=caller)


def sign_up(username: str, caller: Caller) -> User:
    return signup.sign_up(username=username, email=f"{username}@example.net", password=PASSWORD, caller=caller)


# --- How often ----------------------------------------------------------------------------------------------


def test_a_third_change_within_thirty_days_is_refused_and_says_when(bob: User, caller: Caller) -> None:
    for name in ("robert", "rob"):
        rename(bob, name, caller)
    with pytest.raises(UsernameChangeLimited) as refused:
        rename(bob, "bobby", caller)
    error = refused.value
    assert error.field == "username"
    assert abs(error.retry_after - 30 * 86400) < 60
    until = now() + timedelta(seconds=error.retry_after)
    assert f"again on {until:%-d %B %Y}" in error.message
    assert error.message.endswith("UTC.")
    assert User.objects.get(id=bob.id).username == "rob"
    assert Event.objects.filter(user=bob, kind="username.changed").count() == 2


def test_when_is_told_in_the_zone_of_who_asks(bob: User, caller: Caller) -> None:
    profiles.update(user=bob, changes={"time_zone": "Asia/Tokyo"}, caller=caller)
    for name in ("robert", "rob"):
        rename(bob, name, caller)
    bob.refresh_from_db()
    with pytest.raises(UsernameChangeLimited) as refused:
        rename(bob, "bobby", caller)
    assert refused.value.message.endswith("(Asia/Tokyo).")
    assert str(timezone.get_current_timezone()) == "UTC"


def test_after_thirty_days_it_can_be_changed_again(bob: User, caller: Caller) -> None:
    for name in ("robert", "rob"):
        rename(bob, name, caller)
    Budget.objects.update(resets_at=now())
    assert rename(bob, "bobby", caller).username == "bobby"


def test_a_change_that_was_refused_or_changed_nothing_does_not_count(bob: User, alice: User, caller: Caller) -> None:
    for _ in range(3):
        with pytest.raises(UsernameTaken):
            rename(bob, "alice", caller)
        rename(bob, "bob", caller)
        profiles.update(user=bob, changes={"first_name": "Bob"}, caller=caller)
    assert rename(bob, "robert", caller).username == "robert"


def test_the_changes_of_alice_are_not_bobs(alice: User, bob: User, caller: Caller) -> None:
    for name in ("alicia", "lissy"):
        rename(alice, name, caller)
    assert rename(bob, "robert", caller).username == "robert"


@pytest.mark.django_db(transaction=True)
def test_of_eight_changes_at_once_two_get_through(bob: User, caller: Caller) -> None:
    names = [f"robert{number}" for number in range(8)]
    answers = each_at_once([lambda name=name: rename(bob, name, caller) for name in names])  # type: ignore[misc]
    assert sum(isinstance(answer, User) for answer in answers) == 2
    assert sum(isinstance(answer, UsernameChangeLimited) for answer in answers) == 6
    assert Event.objects.filter(kind="username.changed").count() == 2


def test_who_gets_an_account_by_its_address_may_change_the_name_that_a_squatter_gave(
    carol: User, caller: Caller, mailbox: Mailbox
) -> None:
    for name in ("carola", "stinker"):
        rename(carol, name, caller)
    password_resets.request_reset(login="carol@example.com", caller=caller)
    email_requests.answer()
    code = mailbox.code("carol@example.com")
    password_resets.reset_by_code(login="carol@example.com", code=code, new_password="another lagoon", caller=caller)
    assert rename(carol, "carol", caller).username == "carol"


def test_it_is_a_limit_like_the_others() -> None:
    assert issubclass(UsernameChangeLimited, RateLimited)


# --- The name before ----------------------------------------------------------------------------------------


def test_nobody_passes_for_whoever_took_another_name(
    alice: User, bob: User, caller: Caller, settings: Settings
) -> None:
    rename(bob, "robert", caller)
    for name in ("bob", "BOB", "b0b"):
        with pytest.raises(UsernameTaken):
            sign_up(name, caller)
        with pytest.raises(UsernameTaken):
            rename(alice, name, caller)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "n" * 60
    with pytest.raises(UsernameTaken):
        sign_up("bob", caller)
    assert not User.objects.filter(username="bob").exists()


def test_the_owner_takes_it_back_and_then_it_does_not_rest(alice: User, bob: User, caller: Caller) -> None:
    rename(bob, "robert", caller)
    assert rename(bob, "bob", caller).username == "bob"
    assert [row.user for row in ReservedUsername.objects.all()] == [bob]
    with pytest.raises(UsernameTaken):
        rename(alice, "robert", caller)


def test_after_ninety_days_it_is_free(bob: User, caller: Caller) -> None:
    rename(bob, "robert", caller)
    rest = ReservedUsername.objects.get()
    assert abs(rest.until - now() - timedelta(days=90)) < timedelta(hours=1)
    ReservedUsername.objects.update(until=now())
    assert sign_up("bob", caller).username == "bob"


def test_another_spelling_of_ones_own_name_lets_nothing_rest(bob: User, caller: Caller) -> None:
    rename(bob, "b0b", caller)
    assert not ReservedUsername.objects.exists()


def test_names_of_an_account_that_is_erased_go_on_resting_and_name_nobody(bob: User, caller: Caller) -> None:
    rename(bob, "robert", caller)
    User.objects.filter(id=bob.id).update(deletes_at=now())
    assert deletion.erase_due() == 1
    assert [row.user_id for row in ReservedUsername.objects.all()] == [None, None]
    for name in ("bob", "robert"):
        with pytest.raises(UsernameTaken):
            sign_up(name, caller)


def test_names_of_an_account_that_was_never_proved_are_free_with_it(carol: User, caller: Caller) -> None:
    rename(carol, "carola", caller)
    old = now() - timedelta(days=60)
    User.objects.update(created_at=old, updated_at=old)
    assert users.remove_unverified() == 1
    assert sign_up("carol", caller).username == "carol"


@pytest.mark.django_db(transaction=True)
def test_who_signs_up_at_the_moment_of_a_change_does_not_get_the_name(bob: User, caller: Caller) -> None:
    works = [lambda: rename(bob, "robert", caller), *[lambda: sign_up("bob", caller) for _ in range(5)]]
    answers = each_at_once(works)
    assert isinstance(answers[0], User)
    assert all(isinstance(answer, UsernameTaken) for answer in answers[1:]), answers
