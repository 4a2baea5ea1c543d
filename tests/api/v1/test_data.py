"""The copy of one's data and the deletion of the account, for an app."""

import io
import urllib.request
import zipfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.utils.timezone import now

from accounts.models import Export, Session, User
from accounts.services.account import deletion, export
from tests.api.conftest import Crowd, problem
from tests.conftest import PASSWORD, Api

# --- The copy -----------------------------------------------------------------------------------------------


def test_a_copy_is_asked_for_and_downloaded(bobs_api: Api) -> None:
    none = {"state": "none", "requested_at": None, "expires_at": None, "size": None, "url": None}
    assert bobs_api.get("/me/export").json() == none
    asked = bobs_api("POST", "/me/export")
    assert asked.status_code == 202
    assert asked.json()["state"] == "queued"
    assert asked.json()["url"] is None
    assert bobs_api("POST", "/me/export").json() == asked.json() == bobs_api.get("/me/export").json()
    export.make_queued()
    found = bobs_api.get("/me/export").json()
    assert found["state"] == "ready"
    assert found["expires_at"]
    with urllib.request.urlopen(found["url"], timeout=5) as answer:  # noqa: S310 - signed by us
        body = answer.read()
    assert len(body) == found["size"]
    assert "profile.json" in zipfile.ZipFile(io.BytesIO(body)).namelist()


def test_a_copy_that_could_not_be_made_says_so(bobs_api: Api) -> None:
    bobs_api("POST", "/me/export")
    Export.objects.update(state="failed", expires_at=now() + timedelta(days=1))
    found = bobs_api.get("/me/export").json()
    assert (found["state"], found["url"]) == ("failed", None)


def test_copies_of_a_day_are_limited(bobs_api: Api, limits: Callable[..., None]) -> None:
    limits("export_per_account=1/60")
    bobs_api("POST", "/me/export")
    export.make_queued()
    problem(bobs_api("POST", "/me/export"), 429, "rate_limited", "retry")


def test_nobody_sees_the_copy_of_somebody_else(alices_api: Api, bobs_api: Api) -> None:
    alices_api("POST", "/me/export")
    export.make_queued()
    assert bobs_api.get("/me/export").json()["state"] == "none"


def test_who_is_not_signed_in_gets_and_deletes_nothing(api: Api) -> None:
    for method, path in (("GET", "/me/export"), ("POST", "/me/export"), ("GET", "/me/deletion")):
        problem(api(method, path), 401, "invalid_token")
    problem(api("DELETE", "/me/deletion"), 401, "invalid_token")
    problem(api.post("/me/deletion", {"password": PASSWORD}), 401, "invalid_token")


# --- The deletion -------------------------------------------------------------------------------------------


def planned_for(bob: User) -> Any:
    return User.objects.values_list("deletes_at", flat=True).get(id=bob.id)


def test_a_deletion_is_planned_seen_everywhere_and_taken_back(bobs_api: Api, bob: User) -> None:
    assert bobs_api.get("/me/deletion").json() == {"erased_on": None}
    assert bobs_api.get("/me").json()["deletion_planned_for"] is None
    etag = bobs_api.get("/me")["ETag"]

    answer = bobs_api.post("/me/deletion", {"password": PASSWORD})
    assert answer.status_code == 202
    day = answer.json()["erased_on"]
    assert day
    assert bobs_api.get("/me/deletion").json() == {"erased_on": day}
    profile = bobs_api.get("/me")
    assert profile.json()["deletion_planned_for"] == day
    assert profile["ETag"] != etag
    again = bobs_api.post("/token", {"login": "bob", "password": PASSWORD}, token="")
    assert again.json()["user"]["deletion_planned_for"] == day
    assert bobs_api("PATCH", "/me", {"first_name": "B"}).status_code == 200

    for _ in range(2):
        assert bobs_api("DELETE", "/me/deletion").status_code == 204
        assert planned_for(bob) is None
    assert bobs_api.get("/me").json()["deletion_planned_for"] is None


def test_a_wrong_password_is_refused_and_counted(bobs_api: Api, bob: User) -> None:
    for _ in range(10):
        problem(bobs_api.post("/me/deletion", {"password": "wrong"}), 403, "wrong_password", "fix_input")
    problem(bobs_api.post("/me/deletion", {"password": PASSWORD}), 429, "rate_limited", "retry")
    assert planned_for(bob) is None


def test_without_a_password_the_sign_in_must_be_recent(bobs_api: Api, bob: User) -> None:
    Session.objects.update(authenticated_at=now() - timedelta(hours=1))
    problem(bobs_api.post("/me/deletion"), 403, "recent_sign_in_needed", "reauthenticate")
    Session.objects.update(authenticated_at=now())
    assert bobs_api.post("/me/deletion").status_code == 202
    assert planned_for(bob)


def test_whoever_has_every_right_alone_is_refused(alices_api: Api) -> None:
    problem(alices_api.post("/me/deletion", {"password": PASSWORD}), 409, "last_superuser", "none")


def test_a_crowd_of_hashes_is_told_to_wait(bobs_api: Api, crowd: Crowd) -> None:
    crowd.come()
    problem(bobs_api.post("/me/deletion", {"password": PASSWORD}), 503, "overloaded", "retry")


def test_after_the_day_the_account_is_gone_for_its_apps(bobs_api: Api, bob: User) -> None:
    bobs_api.post("/me/deletion", {"password": PASSWORD})
    User.objects.filter(id=bob.id).update(deletes_at=now())
    deletion.erase_due()
    problem(bobs_api.get("/me"), 401, "session_revoked", "sign_in")
    problem(bobs_api("DELETE", "/me/deletion"), 401, "session_revoked", "sign_in")
    problem(bobs_api.post("/token", {"login": "bob", "password": PASSWORD}, token=""), 401, "invalid_credentials")
