"""The directory: every active user exactly once, with exact counts, and no cursor but our own."""

import base64
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from accounts.models import Gender, User, uuid7
from tests.api.conftest import problem, wrong_fields
from tests.conftest import Api, random_ip


@pytest.fixture
def crew(alice: User, bob: User) -> list[UUID]:
    """Ids of the active: Alice, Bob and five more. Two others are switched off."""
    more = [
        User(id=uuid7(), username=f"user{number}", username_skeleton=f"s{number}", gender=gender, is_active=active)
        for number, (gender, active) in enumerate(
            [
                (Gender.FEMALE, True),
                (Gender.FEMALE, False),
                (Gender.MALE, True),
                (Gender.UNSPECIFIED, True),
                (Gender.UNSPECIFIED, True),
                (Gender.UNSPECIFIED, False),
                (Gender.UNSPECIFIED, True),
            ]
        )
    ]
    User.objects.bulk_create(more)
    return [alice.id, bob.id, *(user.id for user in more if user.is_active)]


COUNTS = {"count_female": 2, "count_male": 2, "count_unspecified": 3}


def counts(page: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in page.items() if name.startswith("count_")}


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8, 1000])
def test_paging_meets_every_active_user_exactly_once_with_exact_counts(
    alices_api: Api, crew: list[UUID], limit: int
) -> None:
    met: list[str] = []
    path: str | None = f"/users?limit={limit}"
    while path and len(met) <= len(crew):
        answer = alices_api.get(path)
        assert answer.status_code == 200
        page = answer.json()
        assert set(page) == {"user_ids", "count_female", "count_male", "count_unspecified", "next"}
        assert counts(page) == COUNTS
        assert 1 <= len(page["user_ids"]) <= limit
        met += page["user_ids"]
        path = f"/users?limit={limit}&cursor={page['next']}" if page["next"] else None
    assert sorted(met) == sorted(str(user_id) for user_id in crew)
    assert met == sorted(met)


def test_fifty_come_without_a_limit(alices_api: Api, alice: User) -> None:
    User.objects.bulk_create(User(username=f"u{number}", username_skeleton=f"s{number}") for number in range(60))
    page = alices_api.get("/users").json()
    assert len(page["user_ids"]) == 50
    assert page["next"]
    assert counts(page) == {"count_female": 1, "count_male": 0, "count_unspecified": 60}


def test_a_new_user_between_two_pages_disturbs_nothing(alices_api: Api, crew: list[UUID]) -> None:
    first = alices_api.get("/users?limit=4").json()
    newcomer = User.objects.create(username="newcomer", username_skeleton="newcomer")
    second = alices_api.get(f"/users?limit=4&cursor={first['next']}").json()
    assert sorted(first["user_ids"] + second["user_ids"]) == sorted(str(user_id) for user_id in [*crew, newcomer.id])
    assert second["count_unspecified"] == 4


def test_a_switched_off_user_is_neither_listed_nor_counted(alices_api: Api, crew: list[UUID], bob: User) -> None:
    User.objects.filter(id=bob.id).update(is_active=False)
    page = alices_api.get("/users").json()
    assert str(bob.id) not in page["user_ids"]
    assert counts(page) == {**COUNTS, "count_male": 1}


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "abc", "1.5", "", "9" * 5000, "1e3", "%00", "０", "NaN"])
def test_a_wrong_limit_is_refused_by_name(alices_api: Api, limit: str) -> None:
    assert set(wrong_fields(alices_api.get(f"/users?limit={limit}"))) == {"limit"}


def test_a_forged_cursor_is_refused(alices_api: Api, crew: list[UUID]) -> None:
    real = alices_api.get("/users?limit=2").json()["next"]
    last, _dot, signature = real.partition(".")
    for cursor in (
        "x",
        "=",
        "null",
        real[:-2],
        real + "AAAA",
        f"{uuid4().hex}.{signature}",
        "A" * len(real),
        "%00",
        "%ff",
        "%F0%9F%90%88",
        "A" * 200,
        str(crew[0]),
        last,
        base64.urlsafe_b64encode(bytes(32)).rstrip(b"=").decode(),  # as earlier versions made them
        "%0A",
    ):
        problem(alices_api.get(f"/users?cursor={cursor}"), 400, "invalid_cursor", "fix_input")
    assert wrong_fields(alices_api.get(f"/users?cursor={'A' * 201}")) == {"cursor": "too_long"}


def test_everybody_who_is_signed_in_may_read_it(bobs_api: Api) -> None:
    assert bobs_api.get("/users").status_code == 200


def test_the_directory_can_be_kept_for_staff(alices_api: Api, bobs_api: Api, settings: Any) -> None:
    settings.DIRECTORY_ACCESS = "staff"
    problem(bobs_api.get("/users"), 403, "forbidden", "none")
    assert alices_api.get("/users").status_code == 200


def test_a_page_costs_three_queries_however_many_there_are(
    alices_api: Api, crew: list[UUID], django_assert_max_num_queries: Any
) -> None:
    alices_api.get("/users")
    with django_assert_max_num_queries(3):
        alices_api.get("/users?limit=1000")


# --- Public profiles ----------------------------------------------------------------------------------------

PUBLIC = {"id", "username", "username_display", "first_name", "last_name", "picture"}


def by_ids(api: Api, *user_ids: object) -> Any:
    return api.get("/users/by-ids?" + "&".join(f"ids={user_id}" for user_id in user_ids))


def test_people_see_each_others_username_and_picture_and_nothing_else(
    bobs_api: Api, alice: User, settings: Any
) -> None:
    assert bobs_api.get(f"/users/{alice.id}").json()["username_display"] == "alice"
    User.objects.filter(id=alice.id).update(
        picture="abc", picture_placeholder="LEHV6n", last_name="Liddell", username_typed="Alice"
    )
    answer = bobs_api.get(f"/users/{alice.id}")
    found = answer.json()
    assert set(found) == PUBLIC
    assert (found["id"], found["username"], found["username_display"]) == (str(alice.id), "alice", "Alice")
    assert (found["first_name"], found["last_name"]) == ("", "")
    assert found["picture"]["placeholder"] == "LEHV6n"
    assert all("X-Amz-Signature=" in url for url in found["picture"]["sizes"].values())
    assert (answer.headers["Cache-Control"], answer.headers["Vary"]) == ("private, max-age=60", "Authorization")
    settings.DIRECTORY_NAMES = True
    named = bobs_api.get(f"/users/{alice.id}").json()
    assert (named["first_name"], named["last_name"]) == ("Alice", "Liddell")
    assert by_ids(bobs_api, alice.id).json() == {"users": [named]}


def test_many_at_once_come_in_the_order_that_was_asked_for(alices_api: Api, crew: list[UUID]) -> None:
    asked = [crew[3], crew[0], uuid4(), crew[6], crew[3]]
    assert [found["id"] for found in by_ids(alices_api, *asked).json()["users"]] == [
        str(crew[number]) for number in (3, 0, 6)
    ]
    assert by_ids(alices_api, uuid4()).json() == {"users": []}


def test_people_are_seen_while_they_are_listed_and_not_after(alices_api: Api, bob: User, carol: User) -> None:
    """Carol never verified her address: she is in the list, and may have written in the app by now."""

    def seen(user: User) -> tuple[bool, bool, bool]:
        one = alices_api.get(f"/users/{user.id}")
        if one.status_code != 200:
            problem(one, 404, "user_not_found", "none")
        many = by_ids(alices_api, user.id).json()["users"]
        return one.status_code == 200, bool(many), str(user.id) in alices_api.get("/users").json()["user_ids"]

    assert seen(bob) == seen(carol) == (True, True, True)
    User.objects.filter(id=bob.id).update(is_active=False)
    gone = User(id=carol.id)
    carol.delete()
    assert seen(bob) == seen(gone) == seen(User(id=uuid4())) == (False, False, False)


def test_what_is_no_id_is_refused_by_name(alices_api: Api, alice: User) -> None:
    for wrong in ("1", "alice", "%00", "me", str(alice.id)[:-1], str(alice.id) + "0"):
        assert wrong_fields(alices_api.get(f"/users/{wrong}")) == {"user_id": "not_a_uuid"}
        assert wrong_fields(by_ids(alices_api, alice.id, wrong)) == {"ids.1": "not_a_uuid"}
    assert wrong_fields(alices_api.get("/users/by-ids")) == {"ids": "required"}
    assert wrong_fields(by_ids(alices_api, *[alice.id] * 101)) == {"ids": "too_long"}
    assert by_ids(alices_api, *[alice.id] * 100).status_code == 200


def test_profiles_are_kept_for_staff_as_the_list_is(alices_api: Api, bobs_api: Api, bob: User, settings: Any) -> None:
    settings.DIRECTORY_ACCESS = "staff"
    for answer in (bobs_api.get(f"/users/{bob.id}"), by_ids(bobs_api, bob.id), bobs_api.get(f"/users/{uuid4()}")):
        problem(answer, 403, "forbidden", "none")
    assert alices_api.get(f"/users/{bob.id}").json()["username"] == "bob"
    assert len(by_ids(alices_api, bob.id).json()["users"]) == 1


def test_nobody_reads_everybody(alices_api: Api, bob: User, limits: Callable[..., None]) -> None:
    limits("people_per_ip=2/3600")
    ip = random_ip()
    for path in (f"/users/{bob.id}", f"/users/by-ids?ids={bob.id}"):
        assert alices_api.get(path, REMOTE_ADDR=ip).status_code == 200
    for path in (f"/users/{bob.id}", f"/users/by-ids?ids={bob.id}"):
        problem(alices_api.get(path, REMOTE_ADDR=ip), 429, "rate_limited", "retry")
