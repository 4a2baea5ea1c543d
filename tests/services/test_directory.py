"""The directory: every active user once, in order, with exact counts, and no cursor but our own."""

import base64
from uuid import uuid4

import pytest
from pytest_django import Settings

from accounts.errors import DirectoryClosed, InvalidCursor
from accounts.models import Gender, User
from accounts.services import directory, sealing
from tests.conftest import make_user


def crowd(count: int) -> list[str]:
    genders = list(Gender.values)
    made = User.objects.bulk_create(
        User(
            username=f"crowd{number}",
            username_skeleton=f"crowd{number}",
            email=f"crowd{number}@example.com",
            gender=genders[number % 3],
        )
        for number in range(count)
    )
    return sorted(str(user.id) for user in made)


def everybody(viewer: User, limit: int) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    for _ in range(100):
        page = directory.list_ids(viewer=viewer, limit=limit, cursor=cursor)
        assert len(page.user_ids) <= limit
        found += page.user_ids
        if page.next is None:
            return found
        cursor = page.next
    raise AssertionError("the pages never end")


@pytest.mark.parametrize("limit", [1, 2, 7, 25, 26, 27, 100])
def test_the_pages_give_everybody_once_in_order(bob: User, limit: int) -> None:
    expected = sorted([str(bob.id), *crowd(25)])
    assert everybody(bob, limit) == expected


def test_who_signs_up_between_two_pages_moves_nobody(bob: User) -> None:
    ids = sorted([str(bob.id), *crowd(3)])
    first = directory.list_ids(viewer=bob, limit=2, cursor=None)
    late = make_user("late")
    second = directory.list_ids(viewer=bob, limit=10, cursor=first.next)
    assert [*first.user_ids, *second.user_ids] == [*ids, str(late.id)]


def test_a_cursor_works_though_its_user_is_gone(bob: User) -> None:
    ids = sorted([str(bob.id), *crowd(3)])
    first = directory.list_ids(viewer=bob, limit=2, cursor=None)
    User.objects.filter(id=ids[1]).delete()
    assert list(directory.list_ids(viewer=bob, limit=10, cursor=first.next).user_ids) == ids[2:]


def test_counts_are_of_all_active_users_by_gender(bob: User, alice: User) -> None:
    crowd(6)
    User.objects.filter(username="crowd0").update(is_active=False)  # female
    page = directory.list_ids(viewer=bob, limit=1, cursor=None)
    assert page.counts == {"female": 2, "male": 3, "unspecified": 2}
    assert len(everybody(bob, 3)) == sum(page.counts.values())


def test_a_gender_that_nobody_has_is_nought(bob: User) -> None:
    assert directory.list_ids(viewer=bob, limit=1, cursor=None).counts == {"female": 0, "male": 1, "unspecified": 0}


def test_refuses_bob_where_only_staff_may_list(alice: User, bob: User, settings: Settings) -> None:
    settings.DIRECTORY_ACCESS = "staff"
    with pytest.raises(DirectoryClosed):
        directory.list_ids(viewer=bob, limit=10, cursor=None)
    assert len(directory.list_ids(viewer=alice, limit=10, cursor=None).user_ids) == 2


@pytest.mark.parametrize(
    "cursor", ["x", "é", "\x00", "\ud800", "A" * 43, "A" * 44, "A" * 10_000, "====", "null", "-_" * 21 + "A", " "]
)
def test_refuses_a_cursor_that_was_not_given_out_here(bob: User, cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        directory.list_ids(viewer=bob, limit=10, cursor=cursor)


def test_refuses_a_cursor_that_was_touched(bob: User) -> None:
    crowd(3)
    cursor = directory.list_ids(viewer=bob, limit=2, cursor=None).next
    assert cursor is not None
    for place in (0, 10, 25, 40):
        other = "A" if cursor[place] != "A" else "B"
        with pytest.raises(InvalidCursor):
            directory.list_ids(viewer=bob, limit=2, cursor=cursor[:place] + other + cursor[place + 1 :])
    with pytest.raises(InvalidCursor):
        directory.list_ids(viewer=bob, limit=2, cursor=cursor + "A")


def test_refuses_a_cursor_made_with_another_purpose(bob: User) -> None:
    last = uuid4().bytes
    forged = base64.urlsafe_b64encode(last + sealing.mac("refresh token", last)[:16]).rstrip(b"=").decode()
    with pytest.raises(InvalidCursor):
        directory.list_ids(viewer=bob, limit=2, cursor=forged)
