"""The user's own security log."""

import json
from uuid import UUID

import pytest

from accounts.caller import Caller
from accounts.models import Session, User
from accounts.services.security import audit
from tests.api.conftest import problem, wrong_fields
from tests.conftest import Api


def test_the_log_is_read_page_by_page_the_newest_first(alices_api: Api, alice: User, phone: Session) -> None:
    for number in range(5):
        audit.record(audit.Kind.PROFILE_CHANGED, user=alice, caller=Caller(ip=f"192.0.2.{number}"))
    found = []
    cursor = ""
    while True:
        page = alices_api.get(f"/me/events?limit=2&cursor={cursor}").json()
        found += page["events"]
        cursor = page["next"]
        if not cursor:
            break
    assert [event["ip"] for event in found[:5]] == [f"192.0.2.{number}" for number in reversed(range(5))]
    assert (found[-1]["kind"], found[-1]["session_id"]) == ("session.started", str(phone.id))
    assert found[-1]["detail"] == "Signed in"
    assert len({UUID(event["id"]) for event in found}) == len(found)


def test_nobody_reads_the_log_of_somebody_else(alices_api: Api, bobs_api: Api, alice: User) -> None:
    audit.record(audit.Kind.PASSWORD_CHANGED, user=alice, caller=Caller(ip="192.0.2.7"))
    assert "192.0.2.7" not in json.dumps(bobs_api.get("/me/events").json())
    cursor = alices_api.get("/me/events?limit=1").json()["next"]
    assert "192.0.2.7" not in json.dumps(bobs_api.get(f"/me/events?cursor={cursor}").json())


def test_who_is_not_signed_in_reads_no_log(api: Api) -> None:
    problem(api.get("/me/events"), 401, "invalid_token")


@pytest.mark.parametrize("limit", ["0", "101", "x"])
def test_a_limit_out_of_range_is_refused(limit: str, alices_api: Api) -> None:
    answer = alices_api.get(f"/me/events?limit={limit}")
    problem(answer, 422, "invalid_input", "fix_input")
    assert set(wrong_fields(answer)) == {"limit"}


def test_a_forged_cursor_is_refused(alices_api: Api) -> None:
    problem(alices_api.get("/me/events?cursor=forged"), 400, "invalid_cursor", "fix_input")
