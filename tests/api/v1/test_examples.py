"""What the document shows can be tried: every example is right for its shape, and every body is sent as it stands."""

from collections.abc import Iterator
from typing import Any

import pytest

from accounts.models import Passkey, User
from project.devstack.provider import FakeProvider
from tests.api.conftest import CheckedApi, contract, problem
from tests.conftest import PASSWORD, Api, Mailbox, picture
from tests.factors import App, Device

# Nobody can know these before, or the walk has done what stands there already; everything else is sent as the document
# shows it.
SECRETS = {"code", "key", "login", "ticket", "state", "credential", "refresh_token", "id_token", "create", "username"}


def json_of(message: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = message.get("content", {}).get("application/json", {})
    return found


def examples() -> Iterator[tuple[str, dict[str, Any]]]:
    """Where, and what stands there: a schema with its example."""
    for operation in contract().operations.values():
        name = operation["operationId"]
        if media := json_of(operation.get("requestBody", {})):
            yield f"{name} request", media
        for status, response in operation["responses"].items():
            if int(status) < 300 and (media := json_of(response)):
                yield f"{name} {status}", media


def shape(name: str) -> dict[str, Any]:
    found: dict[str, Any] = contract().document["components"]["schemas"][name]
    return found


def test_every_body_and_every_success_has_an_example_that_fits() -> None:
    wrong = {}
    for where, media in examples():
        name = media["schema"]["$ref"].rpartition("/")[2]
        errors = contract().errors_of_shape(media["schema"]["$ref"], media["example"])
        if name.endswith("Out"):
            errors += sorted(set(shape(name)["properties"]) - set(media["example"]))
        if errors:
            wrong[where] = errors
    assert wrong == {}


def test_every_code_shows_its_own_refusal() -> None:
    document, wrong = contract().document, {}
    for operation in contract().operations.values():
        for status, response in operation["responses"].items():
            for code in response.get("x-codes", ()):
                shown = document["components"]["examples"][code]["value"]
                errors = contract().errors_of_shape("#/components/schemas/ProblemOut", shown)
                if errors or (shown["status"], shown["code"]) != (int(status), code):
                    wrong[code] = errors
                assert code in response["content"]["application/problem+json"]["examples"]
    assert wrong == {}


def test_every_field_has_words() -> None:
    silent = [
        f"{name}.{field}"
        for name, shape in contract().document["components"]["schemas"].items()
        for field, schema in shape.get("properties", {}).items()
        if "description" not in schema
    ]
    assert silent == []


class Reader:
    """Somebody who tries what the document shows. `sent` is what has been tried."""

    def __init__(self) -> None:
        self.api = CheckedApi()
        self.sent: set[str] = set()
        self._operations = {
            operation["operationId"]: (method, path.removeprefix("/api/v1"), operation)
            for (method, path), operation in contract().operations.items()
        }

    def __call__(self, name: str, *, ids: str = "", query: str = "", status: int = 0, **secrets: Any) -> Any:
        assert set(secrets) <= SECRETS
        method, path, operation = self._operations[name]
        example = json_of(operation.get("requestBody", {})).get("example")
        body = example if example is None else {**example, **secrets}
        if "{" in path:
            head, tail = path[: path.index("{")], path[path.index("}") + 1 :]
            path = f"{head}{ids}{tail}"
        answer = self.api.upload(picture()) if name == "putPicture" else self.api(method, path + query, body)
        assert answer.status_code == (status or min(int(code) for code in operation["responses"])), answer.content
        self.sent.add(name)
        return answer.json() if answer.content else None

    @property
    def left(self) -> list[str]:
        return sorted(set(self._operations) - self.sent)


def test_every_example_can_be_sent(db: None, mailbox: Mailbox, fake: FakeProvider) -> None:
    """One walk through every operation. CheckedApi holds each answer against the shape of its example."""
    send = Reader()
    send("getConfig")
    begun = send("signUp")["tokens"]
    send("resendConfirmation")
    send("confirmEmail", code=mailbox.code("ada@example.com"))
    send.api.token = send("signIn")["tokens"]["access_token"]
    _profile_and_pictures(send)
    _devices_and_data(send, begun)
    _second_factors(send)
    _providers(send, fake)
    _other_address_and_password(send, mailbox)
    send("requestSignInCode")
    send("signInByCode", code=mailbox.code())
    assert send.left == []


def _profile_and_pictures(send: Reader) -> None:
    for name in ("getProfile", "updateProfile", "getMyEmail", "putPicture", "deletePicture"):
        send(name)
    me = send("getProfile")["id"]
    send("getUser", ids=me)
    send("getUsers", query=f"?ids={me}&ids={me}")
    upload = send("beginPictureUpload")["id"]
    send("getPictureUpload", ids=upload)
    send("completePictureUpload", ids=upload)


def _devices_and_data(send: Reader, begun: dict[str, Any]) -> None:
    refreshed = send("refreshTokens", refresh_token=begun["refresh_token"])
    send("signOut", refresh_token=refreshed["refresh_token"])
    other = send("signIn")["tokens"]
    send("endSession", ids=other["session_id"])
    for name in ("listSessions", "endOtherSessions", "listEvents", "listUsers", "requestExport", "getExport"):
        send(name)
    for name in ("requestDeletion", "getDeletion", "cancelDeletion"):
        send(name)


def _second_factors(send: Reader) -> None:
    device = Device()
    send("reauthenticate")
    begun = send("beginPasskey")
    passkey = send("addPasskey", state=begun["state"], credential=device.create(begun["options"]))["id"]
    send("renamePasskey", ids=passkey)
    asked = send("beginPasskeySignIn")
    send("finishPasskeySignIn", state=asked["state"], credential=device.get(asked["options"]))
    setup = send("beginTotp")
    app = App(setup["secret"])
    send("confirmTotp", state=setup["state"], code=app.code())
    send("makeRecoveryCodes")
    ticket = send("signIn", status=401)["ticket"]
    send("finishSignIn", ticket=ticket, code=app.code(1))
    for name in ("getMfa", "removeTotp"):
        send(name)
    send("removePasskey", ids=passkey)


def _providers(send: Reader, fake: FakeProvider) -> None:
    def proof(subject: str) -> dict[str, Any]:
        begun = send("beginProviderSignIn")
        token = fake.token("google", {"sub": subject, "preferred_username": "grace"}, nonce=begun["nonce"])
        return {"id_token": token, "state": begun["state"]}

    send("linkIdentity", **proof("1"))
    mine = send("listIdentities")["identities"][0]["id"]
    send("unlinkIdentity", ids=mine)
    send("signInByProvider", **proof("2"))
    ticket = send("signInByProvider", status=409, create=False, **proof("3"))["ticket"]
    send("signUpByProvider", ticket=ticket, username="hopper")


def _other_address_and_password(send: Reader, mailbox: Mailbox) -> None:
    send("requestEmailChange")
    send("cancelEmailChange")
    send("requestEmailChange")
    send("confirmMyEmail", code=mailbox.code("ada@example.net"))
    send("changePassword")
    send("undoEmailChange", key=mailbox.key("ada@example.com"))
    send("requestPasswordReset")
    send("resetPassword", code=mailbox.code("ada@example.com"))


# --- Bounds -------------------------------------------------------------------------------------------------


def beyond(schema: dict[str, Any]) -> Iterator[Any]:
    """Values that this schema does not take."""
    for branch in schema.get("anyOf", ()):
        yield from beyond(branch)
    if "maxLength" in schema:
        length = schema["maxLength"] + 1
        yield f"x@{'d.' * length}"[: length - 2] + "de" if schema.get("format") == "idn-email" else "x" * length
    if schema.get("minLength"):
        yield "x" * (schema["minLength"] - 1)
    if "minimum" in schema:
        yield schema["minimum"] - 1
    if "maximum" in schema:
        yield schema["maximum"] + 1


@pytest.mark.usefixtures("alice")
def test_what_is_beyond_a_bound_is_refused_by_name(alices_api: Api, alice: User, limits: Any) -> None:
    """Those too that the document says and a rule keeps."""
    limits("signup_per_ip=1000/60")
    passkey = Passkey.objects.create(user=alice, name="Key", credential_id=b"k", credential=b"k", synced=True)
    wrong = []
    for (method, template), operation in contract().operations.items():
        path = template.removeprefix("/api/v1").replace("{passkey_id}", str(passkey.id))
        if media := json_of(operation.get("requestBody", {})):
            fields = shape(media["schema"]["$ref"].rpartition("/")[2])["properties"]
            asked = [
                (name, alices_api(method, path, {**media["example"], name: value}))
                for name, schema in fields.items()
                for value in beyond(schema)
            ]
        else:
            asked = [
                (item["name"], alices_api(method, f"{path}?{item['name']}={value}"))
                for item in operation.get("parameters", ())
                for value in beyond(item["schema"])
            ]
        for name, answer in asked:
            named = [error["field"] for error in answer.json().get("errors", ())]
            if answer.status_code != 422 or name not in named:
                wrong.append((operation["operationId"], name, answer.status_code, named))
    assert wrong == []


def test_the_words_name_both_bounds(alices_api: Api) -> None:
    words = {}
    for path in ("/me/events?limit=0", "/me/events?limit=101", "/users?limit=1001"):
        (error,) = problem(alices_api.get(path), 422, "invalid_input")["errors"]
        words[path] = (error["field"], error["code"], error["detail"])
    assert words == {
        "/me/events?limit=0": ("limit", "out_of_range", "Use a number from 1 to 100."),
        "/me/events?limit=101": ("limit", "out_of_range", "Use a number from 1 to 100."),
        "/users?limit=1001": ("limit", "out_of_range", "Use a number from 1 to 1000."),
    }
    (error,) = problem(alices_api.post("/token", {"login": "x" * 1001, "password": PASSWORD}), 422, "invalid_input")[
        "errors"
    ]
    assert error["detail"] == "This is too long: at most 1000."
