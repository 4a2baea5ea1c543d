"""The profile: reading it, changing what was sent and nothing else, and not over somebody's newer change."""

import re
from typing import Any

import pytest

from accounts.models import Event, Session, User
from tests.api.conftest import problem, wrong_fields
from tests.conftest import Api


def patch(api: Api, body: Any, **extra: Any) -> Any:
    return api("PATCH", "/me", body, **extra)


def test_the_profile_is_that_of_the_token(alices_api: Api, bobs_api: Api, alice: User) -> None:
    answer = alices_api.get("/me")
    assert answer.status_code == 200
    assert answer.json()["id"] == str(alice.id)
    assert answer.json()["email_verified"] is True
    assert answer.headers["ETag"].startswith('"')
    assert bobs_api.get("/me").json()["username"] == "bob"


def test_a_claim_that_lapsed_is_null(alices_api: Api) -> None:
    User.objects.update(email="", email_verified=False)
    assert alices_api.get("/me").json()["email"] is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_name", "Ada"),
        ("last_name", "Lind"),
        ("gender", "male"),
        ("username", "countess"),
        ("first_name", ""),
        ("language", "ar"),
        ("time_zone", "Europe/Berlin"),
    ],
)
def test_only_what_is_sent_is_changed(alices_api: Api, field: str, value: str) -> None:
    before = alices_api.get("/me").json()
    answer = patch(alices_api, {field: value})
    assert answer.status_code == 200
    after = answer.json()
    assert after.pop("updated_at") > before.pop("updated_at")
    shown = {"username_display": value} if field == "username" else {}
    assert after == {**before, field: value, **shown}
    assert alices_api.get("/me").headers["ETag"] == answer.headers["ETag"]


def test_a_language_that_nobody_speaks_here_is_refused_and_empty_is_that_of_the_service(alices_api: Api) -> None:
    patch(alices_api, {"language": "fr"})
    for language in ("xx", "de-at", "EN", "../de"):
        assert wrong_fields(patch(alices_api, {"language": language})) == {"language": "language_unknown"}
    assert alices_api.get("/me").json()["language"] == "fr"
    assert patch(alices_api, {"language": ""}).json()["language"] == "en"


def test_a_time_zone_that_nobody_knows_is_refused_and_none_was_chosen_at_first(alices_api: Api) -> None:
    assert alices_api.get("/me").json()["time_zone"] == ""
    patch(alices_api, {"time_zone": "Asia/Kolkata"})
    for zone in ("Asia/Nowhere", "UTC+2", "asia/kolkata"):
        assert wrong_fields(patch(alices_api, {"time_zone": zone})) == {"time_zone": "time_zone_unknown"}
    assert alices_api.get("/me").json()["time_zone"] == "Asia/Kolkata"
    assert patch(alices_api, {"time_zone": ""}).json()["time_zone"] == ""


def test_a_third_change_of_the_username_is_refused_with_the_time_to_come_back(alices_api: Api) -> None:
    for name in ("alicia", "lissy"):
        assert patch(alices_api, {"username": name}).status_code == 200
    answer = patch(alices_api, {"username": "ally"})
    assert answer.status_code == 429
    problem = answer.json()
    assert (problem["code"], problem["action"]) == ("username_change_limited", "retry")
    assert problem["retry_after"] == int(answer.headers["Retry-After"]) > 29 * 86400
    assert "You can change it again on" in problem["detail"]
    assert patch(alices_api, {"first_name": "Ally"}).status_code == 200


def test_an_empty_change_changes_nothing(alices_api: Api) -> None:
    before = alices_api.get("/me")
    answer = patch(alices_api, {})
    assert answer.json() == before.json()
    assert answer.headers["ETag"] == before.headers["ETag"]


@pytest.mark.parametrize("field", ["username", "first_name", "last_name", "gender", "language", "time_zone"])
def test_null_is_refused(alices_api: Api, field: str) -> None:
    assert set(wrong_fields(patch(alices_api, {field: None}))) == {field}


@pytest.mark.parametrize(
    "field", ["id", "email", "email_verified", "picture", "is_staff", "password", "created_at", "updated_at", "user"]
)
def test_what_may_not_be_changed_here_is_refused_by_name(alices_api: Api, field: str) -> None:
    assert wrong_fields(patch(alices_api, {field: "x", "first_name": "Eve"})) == {field: "unknown_field"}
    assert alices_api.get("/me").json()["first_name"] == "Alice"


def test_a_change_of_what_was_read_is_taken(alices_api: Api) -> None:
    tag = alices_api.get("/me").headers["ETag"]
    answer = patch(alices_api, {"first_name": "Ada"}, HTTP_IF_MATCH=tag)
    assert answer.status_code == 200
    assert answer.headers["ETag"] != tag


def test_a_change_of_what_was_changed_since_is_refused(alices_api: Api) -> None:
    tag = alices_api.get("/me").headers["ETag"]
    assert patch(alices_api, {"first_name": "Ada"}, HTTP_IF_MATCH=tag).status_code == 200
    problem(patch(alices_api, {"first_name": "Eve"}, HTTP_IF_MATCH=tag), 412, "profile_changed", "retry")
    assert alices_api.get("/me").json()["first_name"] == "Ada"
    fresh = alices_api.get("/me").headers["ETag"]
    assert patch(alices_api, {"first_name": "Eve"}, HTTP_IF_MATCH=fresh).status_code == 200


def test_a_tag_that_a_proxy_changed_on_the_way_still_matches(alices_api: Api) -> None:
    """One that compresses makes it weak, or writes its method behind it."""
    for sent in ('W/"{}"', '"{}"', 'W/"{}-gzip"', '"{};br"', '"x", W/"{}"', 'W/"{}" , "x"'):
        tag = alices_api.get("/me").headers["ETag"].strip('"')
        assert patch(alices_api, {"first_name": sent}, HTTP_IF_MATCH=sent.format(tag)).status_code == 200, sent
        stale = patch(alices_api, {"first_name": "Eve"}, HTTP_IF_MATCH=sent.format(tag))
        problem(stale, 412, "profile_changed", "retry")


def test_a_tag_of_before_still_matches(alices_api: Api, alice: User) -> None:
    """Until 1.3 it was the version alone."""
    assert patch(alices_api, {"first_name": "Ada"}, HTTP_IF_MATCH=f'"{alice.version}"').status_code == 200


def test_what_an_app_has_already_is_not_sent_again(alices_api: Api) -> None:
    tag = alices_api.get("/me").headers["ETag"]
    for sent in (tag, f"W/{tag}", f'"x", {tag}', f'{tag[:-1]}-gzip"'):
        for method in ("GET", "HEAD"):
            answer = alices_api(method, "/me", HTTP_IF_NONE_MATCH=sent)
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["ETag"] == tag
            assert answer.headers["Cache-Control"] == "no-store"
            assert "Content-Type" not in answer.headers
    for stale in ('"x"', "", tag.replace(".", ""), tag.partition(".")[0]):
        assert alices_api.get("/me", HTTP_IF_NONE_MATCH=stale).status_code == 200


def test_whatever_the_answer_says_otherwise_is_sent(alices_api: Api, settings: Any) -> None:
    """Addresses of a picture run out without a change of the profile."""
    User.objects.update(picture="pictures/x/y")
    for change in (
        lambda: setattr(settings, "PICTURE_CDN_URL", "https://cdn.example.com"),
        lambda: User.objects.update(picture_placeholder="LEHV6nWB2yk8pyo0adR*.7kCMdnj"),
        lambda: patch(alices_api, {"first_name": "Ada"}),
        lambda: User.objects.update(deletes_at="2041-01-01T00:00:00Z"),
    ):
        tag = alices_api.get("/me").headers["ETag"]
        change()
        assert alices_api.get("/me", HTTP_IF_NONE_MATCH=tag).status_code == 200


def test_every_time_has_one_form(alices_api: Api) -> None:
    """Of an imported account the parts of a second are zero."""
    for at in ("2021-03-01T12:00:00Z", "2021-03-01T12:00:00.700Z", "2021-03-01T12:00:00.000400Z"):
        for model in (User, Session, Event):
            model.objects.update(created_at=at)
        User.objects.update(updated_at=at, deletes_at=at.replace("2021", "2041"))
        Session.objects.update(last_used_at=at)
        paths = ("/me", "/me/sessions", "/me/events", "/me/deletion")
        times = re.findall(
            r'"(\d{4}-\d\d-\d\dT[^"]*)"', " ".join(alices_api.get(path).content.decode() for path in paths)
        )
        assert len(times) >= 7
        assert [time for time in times if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)] == []


def test_a_star_matches_anything(alices_api: Api) -> None:
    assert patch(alices_api, {"first_name": "Ada"}, HTTP_IF_MATCH="*").status_code == 200


@pytest.mark.parametrize("tag", ['"x"', "x", "", '""', '"', 'W/"x"', "é", "0" * 5000, '"a", "b"'])
def test_any_other_tag_is_stale(alices_api: Api, tag: str) -> None:
    problem(patch(alices_api, {"first_name": "Eve"}, HTTP_IF_MATCH=tag), 412, "profile_changed")


def test_a_tag_among_others_matches(alices_api: Api) -> None:
    tag = alices_api.get("/me").headers["ETag"]
    assert patch(alices_api, {"first_name": "Ada"}, HTTP_IF_MATCH=f'"stale", {tag}').status_code == 200


def test_a_username_that_somebody_has_is_refused(alices_api: Api, bob: User) -> None:
    for username in ("bob", "BOB", "b0b"):
        problem(patch(alices_api, {"username": username}), 409, "username_taken", "fix_input")
    assert alices_api.get("/me").json()["username"] == "alice"


def test_a_username_of_ones_own_in_another_spelling_is_taken(alices_api: Api) -> None:
    assert patch(alices_api, {"username": "ALICE"}).json()["username"] == "alice"
    assert patch(alices_api, {"username": "a1ice"}).json()["username"] == "a1ice"


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ({"username": ""}, {"username": "username_length"}),
        ({"username": "a" * 31}, {"username": "username_length"}),
        ({"username": "admin"}, {"username": "username_reserved"}),
        ({"first_name": "a" * 81}, {"first_name": "name_too_long"}),
        ({"last_name": "<"}, {"last_name": "name_characters"}),
        ({"gender": "x"}, {"gender": "unknown_choice"}),
        ({"username": "@", "first_name": "<"}, {"username": "username_length", "first_name": "name_characters"}),
    ],
)
def test_a_wrong_value_is_refused_by_name(alices_api: Api, body: dict[str, str], codes: dict[str, str]) -> None:
    assert wrong_fields(patch(alices_api, body)) == codes
