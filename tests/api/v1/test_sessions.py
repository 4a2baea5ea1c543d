"""The list of devices: one for browsers and apps, and nobody ends somebody else's."""

from collections.abc import Callable
from datetime import datetime
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
    for name in ("created_at", "last_used_at"):
        assert datetime.fromisoformat(found[str(phone.id)][name]).tzinfo is not None
    assert len(bobs_api.get("/me/sessions").json()["sessions"]) == 1


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
