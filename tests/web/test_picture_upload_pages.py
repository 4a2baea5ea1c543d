"""What the script of the profile page calls to send a picture straight to the storage."""

from typing import Any
from uuid import uuid4

import pytest
import requests
from django.test import Client

from accounts.models import User
from accounts.services.profile import picture_uploads
from tests.conftest import picture, random_ip

BEGIN = "/account/profile/picture/uploads/"


def begin(page: Client, content: bytes, content_type: str = "image/png") -> Any:
    return page.post(BEGIN, {"content_type": content_type, "size": len(content)})


def test_a_browser_sends_a_picture_and_asks_what_became_of_it(alices_page: Client, alice: User) -> None:
    content = picture()
    form = begin(alices_page, content).json()
    sent = requests.post(form["url"], data=form["fields"], files={"file": ("me.png", content)}, timeout=10)
    assert sent.status_code == 204
    assert alices_page.post(form["complete"]).json() == {"state": "queued", "code": "", "detail": ""}
    picture_uploads.publish_next()
    assert alices_page.get(form["state"]).json()["state"] == "done"
    alice.refresh_from_db()
    assert alice.picture


def test_a_refusal_can_be_shown(alices_page: Client) -> None:
    form = begin(alices_page, b"text").json()
    alices_page.post(form["complete"])
    picture_uploads.publish_next()
    found = alices_page.get(form["state"]).json()
    assert found["code"] == "upload_missing"
    assert found["detail"].startswith("No file has arrived")


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({}, 422, "invalid_input"),
        ({"content_type": "image/gif", "size": "9"}, 422, "invalid_input"),
        ({"content_type": "image/png", "size": "nine"}, 422, "invalid_input"),
        ({"content_type": "image/png", "size": "9" * 12}, 413, "picture_too_large"),
    ],
)
def test_what_is_wrong_is_said(alices_page: Client, sent: dict[str, str], status: int, code: str) -> None:
    answer = alices_page.post(BEGIN, sent)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["detail"]


def test_somebody_elses_upload_is_not_found(alices_page: Client, bob: User, caller: Any) -> None:
    upload, _ = picture_uploads.begin(user=bob, content_type="image/png", size=9, caller=caller)
    for id_ in (upload.id, uuid4()):
        assert alices_page.get(f"{BEGIN}{id_}/").status_code == 404
        assert alices_page.post(f"{BEGIN}{id_}/complete/").status_code == 404
    upload.refresh_from_db()
    assert upload.state == "asked"


def test_another_site_cannot_begin_one(alice: User, alices_page: Client) -> None:
    strict = Client(SERVER_NAME="localhost", REMOTE_ADDR=random_ip(), enforce_csrf_checks=True)
    strict.cookies = alices_page.cookies
    assert strict.post(BEGIN, {"content_type": "image/png", "size": "9"}).status_code == 403


def test_too_many_pause(alices_page: Client) -> None:
    for _ in range(10):
        assert begin(alices_page, b"123").status_code == 200
    answer = begin(alices_page, b"123")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0


def test_a_visitor_is_sent_to_the_sign_in_page(page: Client) -> None:
    for answer in (page.post(BEGIN), page.get(f"{BEGIN}{uuid4()}/"), page.post(f"{BEGIN}{uuid4()}/complete/")):
        assert answer.status_code == 302
