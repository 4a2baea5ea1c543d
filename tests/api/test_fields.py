"""Which refusals name a field, and how: `errors[]` of a problem."""

from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpRequest
from pytest_django import Settings

from accounts import errors
from accounts.errors import FieldError, InvalidCode, InvalidInput, PictureTooLarge, WrongPassword
from accounts.models import User
from api.errors import CASES, problem, sample
from tests.api.conftest import OF_FIELDS, sign_up_body
from tests.api.conftest import problem as refusal
from tests.conftest import Api, picture

# The whole table. Those with two names are called otherwise by some operations.
FIELDS = {
    "username_taken": "username",
    "username_change_limited": "username",
    "wrong_password": "password",
    "invalid_code": "code",
    "invalid_key": "key",
    "invalid_cursor": "cursor",
    "invalid_picture": "file",
    "picture_incomplete": "file",
    "picture_too_large": "file",
}
OTHERWISE = {
    ("wrong_password", "current_password"): WrongPassword(field="current_password"),
    ("picture_too_large", "size"): PictureTooLarge(field="size"),
    ("invalid_code", "code"): InvalidCode(kind="totp_code_wrong"),
}


def made(kind: type[errors.AccountError]) -> errors.AccountError:
    return InvalidInput([FieldError("email", "email_invalid")]) if kind is InvalidInput else sample(kind)


def named(error: errors.AccountError) -> list[dict[str, str]]:
    import json

    found: list[dict[str, str]] = json.loads(problem(HttpRequest(), error).content).get("errors", [])
    return found


def test_every_refusal_names_the_field_of_the_table_or_none() -> None:
    found = {kind.code: [item["field"] for item in named(made(kind))] for kind in CASES}
    expected = {code: [FIELDS[code]] if code in FIELDS else [] for code in found} | {"invalid_input": ["email"]}
    assert {code: fields for code, fields in found.items() if fields != expected[code]} == {}
    assert {*FIELDS, "invalid_input"} == OF_FIELDS


def test_what_an_operation_calls_otherwise_is_named_so() -> None:
    assert [(code, error) for (code, field), error in OTHERWISE.items() if named(error)[0]["field"] != field] == []


def test_a_field_has_the_words_and_the_code_of_the_refusal(
    alices_api: Api, bob: User, settings: Settings, limits: Callable[..., None]
) -> None:
    settings.PICTURE_MAX_BYTES = 1000
    asked: dict[tuple[int, str, str], Any] = {
        (409, "username_taken", "username"): alices_api("PATCH", "/me", {"username": "bob"}),
        (403, "wrong_password", "current_password"): alices_api.post(
            "/me/password", {"current_password": "wrong", "new_password": "another lagoon tractor"}
        ),
        (403, "wrong_password", "password"): alices_api.post(
            "/me/email", {"email": "new@example.com", "password": "wrong"}
        ),
        (400, "invalid_code", "code"): alices_api.post("/me/email/confirm", {"code": "00000000"}),
        (400, "invalid_key", "key"): alices_api.post("/email/undo", {"key": "x"}),
        (400, "invalid_cursor", "cursor"): alices_api.get("/me/events?cursor=x"),
        (422, "invalid_picture", "file"): alices_api.upload(b"no picture"),
        (422, "picture_incomplete", "file"): alices_api.upload(picture()[:100]),
        (413, "picture_too_large", "file"): alices_api.upload(picture((600, 400))),
        (413, "picture_too_large", "size"): alices_api.post(
            "/me/picture/uploads", {"content_type": "image/png", "size": 1001}
        ),
    }
    for (status, code, field), answer in asked.items():
        body = refusal(answer, status, code)
        assert body["errors"] == [{"field": field, "code": code, "detail": body["detail"]}]
    taken = refusal(alices_api.post("/signup", sign_up_body("b0b")), 409, "username_taken")
    assert taken["errors"][0]["field"] == "username"


@pytest.mark.parametrize("path", ["/me/mfa/totp", "/me/mfa/recovery-codes"])
def test_no_field_is_named_where_the_operation_has_none(alices_api: Api, path: str) -> None:
    from accounts.models import Session

    Session.objects.update(authenticated_at="2020-01-01T00:00:00Z")
    assert "errors" not in refusal(alices_api.post(path), 403, "recent_sign_in_needed")
