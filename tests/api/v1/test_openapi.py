"""The document: what clients are generated from."""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Contract
from tests.conftest import Api

OPERATIONS = {
    "signUp": "POST /signup",
    "confirmEmail": "POST /email/confirm",
    "resendConfirmation": "POST /email/resend",
    "undoEmailChange": "POST /email/undo",
    "confirmMyEmail": "POST /me/email/confirm",
    "signIn": "POST /token",
    "requestSignInCode": "POST /token/code/request",
    "signInByCode": "POST /token/code",
    "refreshTokens": "POST /token/refresh",
    "signOut": "POST /token/revoke",
    "requestPasswordReset": "POST /password/forgot",
    "resetPassword": "POST /password/reset",
    "getProfile": "GET /me",
    "updateProfile": "PATCH /me",
    "changePassword": "POST /me/password",
    "getMyEmail": "GET /me/email",
    "requestEmailChange": "POST /me/email",
    "cancelEmailChange": "POST /me/email/cancel",
    "putPicture": "PUT /me/picture",
    "deletePicture": "DELETE /me/picture",
    "beginPictureUpload": "POST /me/picture/uploads",
    "completePictureUpload": "POST /me/picture/uploads/{upload_id}/complete",
    "getPictureUpload": "GET /me/picture/uploads/{upload_id}",
    "listSessions": "GET /me/sessions",
    "listEvents": "GET /me/events",
    "endSession": "DELETE /me/sessions/{session_id}",
    "endOtherSessions": "DELETE /me/sessions",
    "requestExport": "POST /me/export",
    "getExport": "GET /me/export",
    "requestDeletion": "POST /me/deletion",
    "getDeletion": "GET /me/deletion",
    "cancelDeletion": "DELETE /me/deletion",
    "finishSignIn": "POST /token/mfa",
    "beginPasskeySignIn": "POST /token/passkey/begin",
    "finishPasskeySignIn": "POST /token/passkey/finish",
    "reauthenticate": "POST /me/reauthenticate",
    "beginProviderSignIn": "POST /token/provider/begin",
    "signInByProvider": "POST /token/provider",
    "signUpByProvider": "POST /token/provider/create",
    "listIdentities": "GET /me/identities",
    "linkIdentity": "POST /me/identities",
    "unlinkIdentity": "DELETE /me/identities/{identity_id}",
    "getMfa": "GET /me/mfa",
    "beginTotp": "POST /me/mfa/totp",
    "confirmTotp": "POST /me/mfa/totp/confirm",
    "removeTotp": "DELETE /me/mfa/totp",
    "makeRecoveryCodes": "POST /me/mfa/recovery-codes",
    "beginPasskey": "POST /me/mfa/passkeys/begin",
    "addPasskey": "POST /me/mfa/passkeys",
    "renamePasskey": "PATCH /me/mfa/passkeys/{passkey_id}",
    "removePasskey": "DELETE /me/mfa/passkeys/{passkey_id}",
    "listUsers": "GET /users",
    "getUser": "GET /users/{user_id}",
    "getUsers": "GET /users/by-ids",
    "getConfig": "GET /config",
}
PUBLIC = {
    "signUp",
    "confirmEmail",
    "resendConfirmation",
    "signIn",
    "refreshTokens",
    "requestSignInCode",
    "signInByCode",
    "undoEmailChange",
    "finishSignIn",
    "beginPasskeySignIn",
    "finishPasskeySignIn",
    "beginProviderSignIn",
    "signInByProvider",
    "signUpByProvider",
    "signOut",
    "requestPasswordReset",
    "resetPassword",
    "getConfig",
}
NEUTRAL = [{"url": "https://accounts.example.com"}]
FROZEN = Path(__file__).parents[3] / "api" / "v1" / "openapi.json"


@lru_cache
def document() -> dict[str, Any]:
    """Asked for once: putting it together takes a second."""
    answer = Api().get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def served(db: None) -> Contract:
    return Contract(document())


def each(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from each(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from each(inner)


def test_the_operations_are_those_that_were_promised(served: Contract) -> None:
    found = {
        operation["operationId"]: f"{method} {path.removeprefix('/api/v1')}"
        for (method, path), operation in served.operations.items()
    }
    assert found == OPERATIONS


def test_the_document_is_the_frozen_one(served: Contract) -> None:
    if not FROZEN.exists():
        pytest.skip("not frozen yet")
    assert {**served.document, "servers": NEUTRAL} == json.loads(FROZEN.read_text())


def test_it_names_this_service(served: Contract, settings: Any) -> None:
    assert served.document["servers"] == [{"url": settings.PUBLIC_URL}]


def test_every_reference_leads_somewhere(served: Contract) -> None:
    parts = served.document["components"]
    used = {item["$ref"] for item in each(served.document) if "$ref" in item}
    kinds = ("schemas", "headers", "examples")
    assert used == {f"#/components/{kind}/{name}" for kind in kinds for name in parts[kind]}


def test_every_refusal_is_a_problem_and_every_success_is_json(served: Contract) -> None:
    for operation in served.operations.values():
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            assert "X-Request-Id" in response["headers"]
            assert ("Retry-After" in response["headers"]) == (status in {"429", "503"})
            if int(status) >= 400:
                assert list(content) == ["application/problem+json"], operation["operationId"]
                assert response["x-codes"], operation["operationId"]
                assert all(f"`{code}`" in response["description"] for code in response["x-codes"])
                assert content["application/problem+json"]["schema"]["$ref"].endswith("/ProblemOut")
            elif int(status) in {204, 304}:
                assert not content
            else:
                assert list(content) == ["application/json"], operation["operationId"]


def test_every_operation_declares_what_any_can_meet(served: Contract) -> None:
    for operation in served.operations.values():
        statuses = {int(status) for status in operation["responses"]}
        assert 500 in statuses
        if "requestBody" in operation:
            assert statuses >= {400, 413, 415, 422}, operation["operationId"]
        assert (401 in statuses) or operation["operationId"] in PUBLIC


def test_what_asks_for_a_token_says_so(served: Contract) -> None:
    public = {operation["operationId"] for operation in served.operations.values() if not operation.get("security")}
    assert public == PUBLIC
    (scheme,) = served.document["components"]["securitySchemes"].values()
    assert scheme == {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


def test_there_are_no_unions_but_with_null(served: Contract) -> None:
    for item in each(served.document):
        assert "oneOf" not in item
        if "anyOf" in item:
            assert [branch for branch in item["anyOf"] if branch.get("type") != "null"] != item["anyOf"]
            assert len(item["anyOf"]) == 2


def test_every_operation_has_words(served: Contract) -> None:
    for operation in served.operations.values():
        assert re.fullmatch(r"[A-Z][^\n.]{5,60}", operation["summary"]), operation["summary"]
        assert operation["description"].endswith("."), operation["description"]
    tags = {tag["name"]: tag["description"] for tag in served.document["tags"]}
    assert all(words.endswith(".") for words in tags.values())
    assert {tag for operation in served.operations.values() for tag in operation["tags"]} == set(tags)


def test_every_shape_that_comes_in_is_closed(served: Contract) -> None:
    for name, shape in served.document["components"]["schemas"].items():
        if name.endswith("In"):
            assert shape["additionalProperties"] is False, name


def test_a_shape_goes_in_or_out_and_never_both(served: Contract) -> None:
    for name, shape in served.document["components"]["schemas"].items():
        assert name.endswith(("In", "Out")) or "enum" in shape, name


def test_the_shapes_are_those_that_were_promised(served: Contract) -> None:
    shapes = served.document["components"]["schemas"]
    assert list(shapes["ProfileOut"]["properties"]) == [
        "id",
        "username",
        "email",
        "email_verified",
        "first_name",
        "last_name",
        "gender",
        "language",
        "time_zone",
        "picture",
        "created_at",
        "updated_at",
        "deletion_planned_for",
        "username_display",
        "email_display",
    ]
    assert set(shapes["ProfileOut"]["required"]) == set(shapes["ProfileOut"]["properties"])
    assert list(shapes["TokensOut"]["properties"]) == [
        "access_token",
        "token_type",
        "expires_in",
        "refresh_token",
        "session_id",
    ]
    assert list(shapes["SignedInOut"]["properties"]) == ["user", "tokens"]
    assert list(shapes["DeviceIn"]["properties"]) == ["name", "platform", "app_version"]
    assert shapes["DeviceIn"]["required"] == ["name"]
