"""The list of devices: one for browsers and apps, and nobody ends somebody else's."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from accounts.caller import Caller
from accounts.models import Session, User
from accounts.services.sessions import sessions
from tests.api.conftest import problem, wrong_fields
from tests.conftest import Api


@pytest.fixture
def browser(alice: User) -> Session:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    return sessions.begin(user=alice, kind=Session.Kind.BROWSER, caller=Caller(ip="2001:db8::1", user_agent=agent))


def test_browsers_and_apps_make_one_list(alices_api: Api, phone: Session, browser: Session, bobs_api: Api) -> None:
    answer = alices_api.get("/me/sessions")
    assert answer.status_code == 200
    assert answer.json()["next"] is None
    found = {row["id"]: row for row in answer.json()["sessions"]}
    assert set(found) == {str(phone.id), str(browser.id)}
    assert found[str(phone.id)]["current"] is True
    assert found[str(browser.id)]["current"] is False
    assert (found[str(browser.id)]["kind"], found[str(phone.id)]["kind"]) == ("browser", "app")
    assert found[str(browser.id)]["name"] == "Firefox on Linux"
    assert found[str(browser.id)]["ip"] == "2001:db8::1"
    assert found[str(phone.id)]["name"] == "Ada's iPhone"
    assert (found[str(phone.id)]["platform"], found[str(phone.id)]["app_version"]) == (
        phone.platform,
        phone.app_version,
    )
    assert (found[str(browser.id)]["platform"], found[str(browser.id)]["app_version"]) == ("", "")
    for name in ("created_at", "last_used_at"):
        assert datetime.fromisoformat(found[str(phone.id)][name]).tzinfo is not None
    assert len(bobs_api.get("/me/sessions").json()["sessions"]) == 1


def walk(api: Api, size: int) -> list[str]:
    """The ids of all pages."""
    found, query = [], f"?page_size={size}"
    while True:
        page = api.get(f"/me/sessions{query}").json()
        assert len(page["sessions"]) <= size
        found += [row["id"] for row in page["sessions"]]
        if page["next"] is None:
            return found
        query = f"?page_size={size}&cursor={page['next']}"


def test_the_list_comes_in_pages_where_they_are_asked_for(
    alices_api: Api, alice: User, browser: Session, caller: Caller
) -> None:
    for _ in range(5):
        sessions.begin(user=alice, kind=Session.Kind.APP, caller=caller)
    whole = [row["id"] for row in alices_api.get("/me/sessions").json()["sessions"]]
    assert len(whole) == 7
    for size in (1, 3, 6, 7, 100):
        assert walk(alices_api, size) == whole


def test_a_page_follows_a_device_that_was_signed_out_meanwhile(
    alices_api: Api, browser: Session, phone: Session
) -> None:
    Session.objects.filter(id=browser.id).update(last_used_at=browser.last_used_at + timedelta(hours=1))
    first = alices_api.get("/me/sessions?page_size=1").json()
    assert [row["id"] for row in first["sessions"]] == [str(browser.id)]
    assert alices_api("DELETE", f"/me/sessions/{browser.id}").status_code == 204
    rest = alices_api.get(f"/me/sessions?page_size=1&cursor={first['next']}").json()
    assert [row["id"] for row in rest["sessions"]] == [str(phone.id)]


def test_a_cursor_of_somebody_or_something_else_is_refused(
    alices_api: Api, bobs_api: Api, browser: Session, bob: User, caller: Caller
) -> None:
    sessions.begin(user=bob, kind=Session.Kind.APP, caller=caller)
    bobs = bobs_api.get("/me/sessions?page_size=1").json()["next"]
    event = alices_api.get("/me/events?limit=1").json()["next"]
    for cursor in (bobs, event, "x", "%00", "none", "null"):
        problem(alices_api.get(f"/me/sessions?page_size=1&cursor={cursor}"), 400, "invalid_cursor", "fix_input")
    for size in ("0", "101", "-1"):
        assert wrong_fields(alices_api.get(f"/me/sessions?page_size={size}")) == {"page_size": "out_of_range"}


def test_old_apps_get_the_whole_list(alices_api: Api, browser: Session) -> None:
    """1.0 to 1.2 took neither a limit nor a cursor."""
    for query in ("", "?limit=1", "?limit=1&cursor=None", "?cursor="):
        assert len(alices_api.get(f"/me/sessions{query}").json()["sessions"]) == 2


def test_a_device_can_be_signed_out_once(alices_api: Api, browser: Session) -> None:
    answer = alices_api("DELETE", f"/me/sessions/{browser.id}")
    assert answer.status_code == 204
    assert answer.content == b""
    problem(alices_api("DELETE", f"/me/sessions/{browser.id}"), 404, "session_not_found", "none")
    assert len(alices_api.get("/me/sessions").json()["sessions"]) == 1


def test_a_device_can_sign_itself_out(alices_api: Api, phone: Session) -> None:
    assert alices_api("DELETE", f"/me/sessions/{phone.id}").status_code == 204
    problem(alices_api.get("/me"), 401, "session_revoked", "sign_in")


def test_nobody_ends_a_device_of_somebody_else(alices_api: Api, bobs_api: Api, phone: Session) -> None:
    problem(bobs_api("DELETE", f"/me/sessions/{phone.id}"), 404, "session_not_found")
    assert bobs_api("DELETE", "/me/sessions").status_code == 204
    assert alices_api.get("/me").status_code == 200


def test_a_device_that_never_was_is_not_found(alices_api: Api) -> None:
    problem(alices_api("DELETE", f"/me/sessions/{uuid4()}"), 404, "session_not_found")


@pytest.mark.parametrize("session_id", ["x", "1", "%00", "%F0%9F%90%88", "%ff", "0" * 33, "current", "{}", "a" * 3000])
def test_an_id_that_is_none_is_refused_by_name(alices_api: Api, session_id: str) -> None:
    assert wrong_fields(alices_api("DELETE", f"/me/sessions/{session_id}")) == {"session_id": "not_a_uuid"}


def test_all_others_are_signed_out_and_this_one_stays(
    alices_api: Api, alice: User, browser: Session, another_app: Callable[[User], Api]
) -> None:
    other = another_app(alice)
    for _ in range(2):
        assert alices_api("DELETE", "/me/sessions").status_code == 204
    problem(other.get("/me"), 401, "session_revoked", "sign_in")
    rows: list[dict[str, Any]] = alices_api.get("/me/sessions").json()["sessions"]
    assert [row["current"] for row in rows] == [True]
