"""`manage.py seed`: people to try the service with."""

import io
import sys

import pytest
from django.core.files.storage import storages
from django.core.management import call_command

from accounts.caller import Caller
from accounts.management.commands import seed
from accounts.models import DiscardedPicture, User
from accounts.services.authentication import sign_in
from accounts.services.credentials import identifiers
from accounts.services.profile import pictures

pytestmark = pytest.mark.django_db


def run(count: int = 0) -> str:
    out = io.StringIO()
    call_command("seed", count=count, stdout=out)
    return out.getvalue()


def test_seeds_alice_bob_and_as_many_others_as_asked_for_and_says_the_password(caller: Caller) -> None:
    out = run(1)
    assert User.objects.count() == 3
    assert "3/3" in out
    for name, staff in (("alice", True), ("bob", False)):
        assert name in out
        user = sign_in.check(login=name, password=seed.PASSWORD, caller=caller)
        assert (user.is_staff, user.is_superuser, user.email_verified) == (staff, staff, True)
        assert sign_in.check(login=f"{name}@example.com", password=seed.PASSWORD, caller=caller) == user
    assert seed.PASSWORD in out


def test_everybody_has_a_picture_in_the_bucket() -> None:
    run(1)
    for user in User.objects.all():
        for size in pictures.SIZES:
            assert storages["default"].exists(pictures.path(user.picture, size))
    assert not DiscardedPicture.objects.exists()


def test_doing_it_twice_adds_and_changes_nobody() -> None:
    run(1)
    before = sorted(User.objects.values_list())
    run(1)
    assert sorted(User.objects.values_list()) == before


def test_a_picture_that_was_lost_comes_back() -> None:
    run()
    User.objects.update(picture="")
    run()
    assert not User.objects.filter(picture="").exists()


def test_a_thousand_others_have_names_that_the_rules_allow_and_that_do_not_look_alike() -> None:
    names = [seed._person(number)["username"] for number in range(1, 1001)]
    assert len({identifiers.skeleton(name) for name in [*names, "alice", "bob"]}) == 1002
    assert not [name for name in names if identifiers.username_problem(name)]
    assert [seed._person(number) for number in range(1, 50)] == [seed._person(number) for number in range(1, 50)]


def test_a_person_at_a_terminal_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    out = run()
    assert "\r" in out
    assert "█" * 30 + " 2/2" in out
