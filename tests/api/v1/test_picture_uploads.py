"""Direct uploads: what the API adds to services/profile/picture_uploads.py."""

from typing import Any
from uuid import uuid4

import pytest
import requests

from accounts.caller import Caller
from accounts.models import Session, User
from accounts.services.profile import picture_uploads
from accounts.services.sessions import sessions
from tests.api.conftest import problem, wrong_fields
from tests.conftest import Api, picture


def begin(api: Api, content: bytes, content_type: str = "image/png") -> dict[str, Any]:
    answer = api.post("/me/picture/uploads", {"content_type": content_type, "size": len(content)})
    assert answer.status_code == 201, answer.content
    found: dict[str, Any] = answer.json()
    return found


def post(form: dict[str, Any], content: bytes) -> None:
    answer = requests.post(form["url"], data=form["fields"], files={"file": ("me.png", content)}, timeout=10)
    assert answer.status_code == 204, answer.text


def test_a_picture_goes_straight_to_the_storage_and_is_shown(alices_api: Api) -> None:
    content = picture()
    form = begin(alices_api, content)
    assert set(form) == {"id", "url", "fields", "expires_at"}
    here = f"/me/picture/uploads/{form['id']}"
    assert alices_api.get(here).json()["state"] == "asked"
    post(form, content)
    answer = alices_api.post(f"{here}/complete", {})
    assert answer.status_code == 202
    assert answer.json() == {"id": form["id"], "state": "queued", "code": None, "detail": None}
    picture_uploads.publish_next()
    assert alices_api.get(here).json()["state"] == "done"
    assert set(alices_api.get("/me").json()["picture"]["sizes"]) == {"64", "256", "1024"}


def test_a_refused_picture_says_why_in_the_language_asked_for(alices_api: Api) -> None:
    form = begin(alices_api, b"text")
    post(form, b"text")
    here = f"/me/picture/uploads/{form['id']}"
    alices_api.post(f"{here}/complete", {})
    picture_uploads.publish_next()
    found = alices_api.get(here, HTTP_ACCEPT_LANGUAGE="de").json()
    assert (found["state"], found["code"]) == ("refused", "invalid_picture")
    assert found["detail"].startswith("Diese Datei")
    assert alices_api.get("/me").json()["picture"] is None


def test_what_is_wrong_with_a_request_is_named(alices_api: Api, settings: Any) -> None:
    def ask(**body: Any) -> Any:
        return alices_api.post("/me/picture/uploads", body)

    assert wrong_fields(ask()) == {"content_type": "required", "size": "required"}
    assert wrong_fields(ask(content_type="image/gif", size=1)) == {"content_type": "unknown_choice"}
    assert wrong_fields(ask(content_type="image/png", size=0)) == {"size": "out_of_range"}
    problem(ask(content_type="image/png", size=settings.PICTURE_MAX_BYTES + 1), 413, "picture_too_large", "fix_input")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_upload_of_someone_else_is_not_found(alices_api: Api, bob: User, caller: Caller, method: str) -> None:
    form = begin(alices_api, b"a picture")
    phone = sessions.begin(user=bob, kind=Session.Kind.APP, caller=caller)
    bobs = sessions.tokens(phone).access_token
    for upload in (form["id"], uuid4()):
        path = f"/me/picture/uploads/{upload}" + ("/complete" if method == "POST" else "")
        problem(alices_api(method, path, {} if method == "POST" else None, token=bobs), 404, "upload_not_found", "none")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_id_that_is_none_is_named_and_a_stranger_is_refused(alices_api: Api, method: str) -> None:
    path = "/me/picture/uploads/mine" + ("/complete" if method == "POST" else "")
    body: dict[str, str] | None = {} if method == "POST" else None
    assert wrong_fields(alices_api(method, path, body)) == {"upload_id": "not_a_uuid"}
    problem(alices_api(method, path.replace("mine", str(uuid4())), body, token=""), 401, "invalid_token")


def test_who_is_not_signed_in_gets_no_form(api: Api) -> None:
    problem(api.post("/me/picture/uploads", {"content_type": "image/png", "size": 9}), 401, "invalid_token")


def test_too_many_uploads_pause(alices_api: Api, limits: Any) -> None:
    limits("open_upload_per_account=1/300")
    begin(alices_api, b"a picture")
    problem(
        alices_api.post("/me/picture/uploads", {"content_type": "image/png", "size": 9}), 429, "rate_limited", "retry"
    )
