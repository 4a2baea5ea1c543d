"""Bad input. A clear 4xx in the one form for whatever a body may be, and nothing half-written."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from accounts.models import Challenge, Event, User
from accounts.services.security import rate_limits
from tests.api.conftest import contract, problem, sign_up_body, wrong_fields
from tests.conftest import PASSWORD, Api

# Every operation that takes JSON, with a body whose shape is right.
BODIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "signUp": ("POST", "/signup", sign_up_body(first_name="Ada", last_name="L", gender="female", device={"name": "x"})),
    "confirmEmail": (
        "POST",
        "/email/confirm",
        {"email": "ada@example.com", "code": "12345678", "key": "", "device": {"name": "x"}},
    ),
    "undoEmailChange": ("POST", "/email/undo", {"key": "abc"}),
    "resendConfirmation": ("POST", "/email/resend", {"email": "ada@example.com"}),
    "signIn": ("POST", "/token", {"login": "ada", "password": "plum", "device": {"name": "x"}}),
    "requestSignInCode": ("POST", "/token/code/request", {"login": "ada"}),
    "signInByCode": ("POST", "/token/code", {"login": "ada", "code": "12345678", "device": {"name": "x"}}),
    "refreshTokens": ("POST", "/token/refresh", {"refresh_token": "abc"}),
    "signOut": ("POST", "/token/revoke", {"refresh_token": "abc"}),
    "requestPasswordReset": ("POST", "/password/forgot", {"login": "ada"}),
    "resetPassword": (
        "POST",
        "/password/reset",
        {"login": "ada", "code": "12345678", "new_password": PASSWORD, "key": ""},
    ),
    "updateProfile": ("PATCH", "/me", {"username": "ada", "first_name": "A", "last_name": "B", "gender": "male"}),
    "changePassword": ("POST", "/me/password", {"current_password": "x", "new_password": PASSWORD}),
    "requestEmailChange": ("POST", "/me/email", {"email": "new@example.com", "password": "x"}),
    "beginPictureUpload": ("POST", "/me/picture/uploads", {"content_type": "image/png", "size": 9}),
    "requestDeletion": ("POST", "/me/deletion", {"password": "x"}),
    "finishSignIn": ("POST", "/token/mfa", {"ticket": "x", "code": "123456", "device": {"name": "x"}}),
    "finishPasskeySignIn": (
        "POST",
        "/token/passkey/finish",
        {"state": "x", "credential": {"id": "x"}, "device": {"name": "x"}},
    ),
    "reauthenticate": ("POST", "/me/reauthenticate", {"password": "x"}),
    "beginProviderSignIn": ("POST", "/token/provider/begin", {"provider": "google"}),
    "signInByProvider": (
        "POST",
        "/token/provider",
        {"provider": "google", "id_token": "x", "state": "x", "create": True, "device": {"name": "x"}},
    ),
    "signUpByProvider": ("POST", "/token/provider/create", {"ticket": "x", "username": "ada", "device": {"name": "x"}}),
    "linkIdentity": ("POST", "/me/identities", {"provider": "google", "id_token": "x", "state": "x"}),
    "confirmTotp": ("POST", "/me/mfa/totp/confirm", {"state": "x", "code": "123456"}),
    "addPasskey": ("POST", "/me/mfa/passkeys", {"state": "x", "credential": {"id": "x"}, "name": "x"}),
    "renamePasskey": ("PATCH", "/me/mfa/passkeys/019ab3f2-7cde-7000-a1b2-c3d4e5f60718", {"name": "x"}),
    "confirmMyEmail": ("POST", "/me/email/confirm", {"code": "12345678"}),
}
OPTIONAL = {"first_name", "last_name", "gender", "device"}
# Of these an app sends the one pair or the other: what is missing is a wrong code.
EITHER_OR = {
    "confirmEmail": set(),
    "resetPassword": {"new_password"},
    "requestDeletion": set(),
    "addPasskey": {"state", "credential"},
    "reauthenticate": set(),
    "changePassword": {"new_password"},
    "requestEmailChange": {"email"},
    "signInByProvider": {"provider", "id_token", "state"},
    "signUpByProvider": {"ticket"},
    "linkIdentity": set(),
}


def send(api: Api, operation: str, body: Any, **extra: Any) -> Any:
    method, path, _ = BODIES[operation]
    return api(method, path, body, **extra)


def good(operation: str) -> dict[str, Any]:
    return dict(BODIES[operation][2])


def refusal(answer: Any) -> tuple[int, str, str]:
    """Status, code and action."""
    body = answer.json() if answer.content else {}
    return answer.status_code, body.get("code", ""), body.get("action", "")


def fields(answer: Any) -> dict[str, str] | tuple[int, str, str]:
    """{field: code} of a 422, or how else it was answered."""
    found = refusal(answer)
    return wrong_fields(answer) if found == (422, "invalid_input", "fix_input") else found


@pytest.fixture
def unlimited(settings: Any) -> Iterator[None]:
    """A limit that is met hides what stands behind it."""
    settings.RATE_LIMITS = [f"{limit.name}=1000000/86400" for limit in rate_limits.DEFAULTS]
    rate_limits.limits.cache_clear()
    yield
    rate_limits.limits.cache_clear()


def test_this_list_names_every_operation_that_takes_json() -> None:
    takes_json = {
        operation["operationId"]
        for operation in contract().operations.values()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    assert takes_json == set(BODIES)


def test_no_field_of_a_shape_has_a_default_that_a_generated_client_would_send() -> None:
    shapes = contract().document["components"]["schemas"]
    fields = ((shape, name, field) for shape in shapes for name, field in shapes[shape].get("properties", {}).items())
    assert [(shape, name) for shape, name, field in fields if "default" in field] == []


def test_of_thousands_of_mistakes_the_first_are_told(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "accounts.refused")
    unknown = ", ".join(f'"x{number}": 1' for number in range(3500))
    twice = ", ".join('"x": 1' for _ in range(3500))
    for body in (f"{{{unknown}}}", f"{{{twice}}}"):
        answer = api.client.post("/api/v1/token", body, content_type="application/json")
        assert answer.status_code == 422
        assert len(answer.json()["errors"]) <= 50
        assert len(answer.content) < 10_000
    assert len(caplog.records) == 2
    assert max(len(record.getMessage()) for record in caplog.records) < 1000


def test_an_unknown_field_is_refused_by_name(alices_api: Api) -> None:
    expected = {"is_staff": "unknown_field", "id": "unknown_field"}
    answers = {name: fields(send(alices_api, name, {**good(name), "is_staff": True, "id": 1})) for name in BODIES}
    assert {name: found for name, found in answers.items() if found != expected} == {}


def test_what_is_no_json_is_refused(alices_api: Api) -> None:
    bodies: tuple[bytes, ...] = (
        b"{",
        b"}",
        b'{"a"}',
        b"{'a': 1}",
        b'{"a": 1,}',
        b"a=1&b=2",
        b"<a/>",
        b" ",
        b"\x00",
        b'{"a": "\x01"}',
        b'{"a": 01}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1} {"b": 2}',
        b"\xff\xfe",
        b'{"a": "\xff"}',
        b'{"\xc3": 1}',
        b'{"a": "\xed\xa0\x80"}',
        '{"a": 1}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"[" * 100_00,
        b'{"a":' * 10_000,
        b"[]",
        b"[{}]",
        b'"text"',
        b"1",
        b"1.5",
        b"true",
        b"null",
        b"1e999",
        b"9" * 5000,
    )
    # One parser reads them all (api/parser.py): whether an operation has it, three of them show.
    asked = [("signUp", body) for body in bodies] + [(name, body) for name in BODIES for body in (b"{", b"[]", b"\xff")]
    answers = [(name, body[:20], send(alices_api, name, body)) for name, body in asked]
    expected = (400, "malformed_body", "fix_input")
    assert [(name, body, found) for name, body, answer in answers if (found := refusal(answer)) != expected] == []


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"username":', b'{"device":'])
def test_json_that_is_too_deep_is_refused(api: Api, settings: Any, opening: bytes) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_000_000
    problem(send(api, "signUp", opening * 100_000), 400, "malformed_body")
    closing = {b"[": b"]", b'{"a":': b"}", b'{"username":': b"}", b'{"device":': b"}"}[opening]
    answer = send(api, "signUp", opening * 900 + b"1" + closing * 900)
    assert answer.status_code in {400, 422}


def test_a_huge_body_is_refused(alices_api: Api, settings: Any) -> None:
    body = b'{"a": "' + b"a" * settings.DATA_UPLOAD_MAX_MEMORY_SIZE + b'"}'
    answers = {name: refusal(send(alices_api, name, body)) for name in BODIES}
    assert {name: found for name, found in answers.items() if found != (413, "body_too_large", "fix_input")} == {}


def test_a_body_as_large_as_allowed_is_read(api: Api, settings: Any) -> None:
    head, tail = b'{"login": "', b'"}'
    body = head + b"a" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE - len(head) - len(tail)) + tail
    assert wrong_fields(send(api, "requestPasswordReset", body)) == {"login": "too_long"}


def test_another_content_type_is_refused(alices_api: Api) -> None:
    kinds = (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/jsonp",
        "text/json",
        "garbage",
        "",
    )
    answers = {
        (name, kind): refusal(send(alices_api, name, json.dumps(good(name)), content_type=kind))
        for name in BODIES
        for kind in (kinds if name == "signUp" else kinds[:2])
    }
    assert {
        pair: found for pair, found in answers.items() if found != (415, "unsupported_media_type", "fix_input")
    } == {}


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_may_name_its_letters(api: Api, content_type: str) -> None:
    assert send(api, "signOut", '{"refresh_token": "x"}', content_type=content_type).status_code == 204


def test_an_empty_body_is_refused(alices_api: Api) -> None:
    needed = set(BODIES) - set(WITHOUT_ANY)
    answers = {
        (name, kind): fields(alices_api(*BODIES[name][:2], CONTENT_TYPE=kind))
        for name in needed
        for kind in ("application/json", "text/plain", "")
    }
    assert {pair: found for pair, found in answers.items() if not isinstance(found, dict)} == {}


# What answers when nothing that must be there is missing.
WITHOUT_ANY = {
    "updateProfile": (200, "", ""),
    "requestDeletion": (409, "last_superuser", "none"),
    "reauthenticate": (403, "wrong_password", "fix_input"),
    "linkIdentity": (404, "provider_unknown", "none"),
}


def test_every_missing_field_is_named_at_once(alices_api: Api) -> None:
    offenders = {}
    for name in BODIES:
        required = EITHER_OR.get(name, set(good(name)) - OPTIONAL)
        expected = dict.fromkeys(required, "required") or (400, "invalid_code", "fix_input")
        found = fields(send(alices_api, name, {}))
        if found != WITHOUT_ANY.get(name, expected):
            offenders[name] = found
    assert offenders == {}


def text_fields() -> list[tuple[str, str]]:
    return [
        (operation, name)
        for operation, (_, _, body) in BODIES.items()
        for name, value in body.items()
        if isinstance(value, str)
    ]


def swept(api: Api, values: Iterable[object]) -> Iterator[tuple[str, str, object, Any]]:
    """The answers to every value in every text field of every operation."""
    for operation, name in text_fields():
        for value in values:
            yield operation, name, value, send(api, operation, {**good(operation), name: value})


def test_a_value_of_another_type_is_refused_by_name(alices_api: Api) -> None:
    values: tuple[object, ...] = (None, 1, 1.5, True, [], ["a"], {}, {"a": 1}, -(10**400))
    assert [
        (operation, name, value, found)
        for operation, name, value, answer in swept(alices_api, values)
        if (found := fields(answer)) not in ({name: "not_a_string"}, {name: "unknown_choice"})
    ] == []


def test_nul_and_lone_surrogates_are_refused_by_name(alices_api: Api) -> None:
    values = ("\x00", "ada\x00", "\ud800", "ada\udfff", "\udc00\ud800")
    assert [
        (operation, name, ascii(value), found)
        for operation, name, value, answer in swept(alices_api, values)
        if not isinstance(found := fields(answer), dict) or set(found) != {name}
    ] == []


def test_nul_and_lone_surrogates_have_one_code(api: Api) -> None:
    for value in ("\x00", "\ud800"):
        assert wrong_fields(send(api, "signOut", {"refresh_token": value})) == {"refresh_token": "invalid_characters"}


def test_a_value_that_is_absurdly_long_is_refused_by_name(alices_api: Api) -> None:
    assert [
        (operation, name, found)
        for operation, name, _, answer in swept(alices_api, ["a" * 17_000])
        if (found := fields(answer)) not in ({name: "too_long"}, {name: "unknown_choice"})
    ] == []


def test_strange_characters_are_no_error_of_ours(alices_api: Api, unlimited: None) -> None:
    strange = (
        "",
        " ",
        "\n",
        "\t\r\n",
        "\x7f",
        "\x1b[31m",
        "\u200b",
        "\u202e",
        "\ufeff",
        "\U0001f408",
        "\uffff",
        "%s",
        "%00",
        "{{x}}",
        "{% x %}",
        "';--",
        "\\",
        "<b>",
        "a" * 255,
        "@",
        "a@",
        "@b",
        "a@b",
        "é",
        "ß",
        "İ",
        "ﬀ",
        "١٢٣٤٥٦٧٨",
        "../..",
        "=?utf-8?q?x?=",
        "\u0345",
    )
    assert [
        (operation, name, value, answer.content)
        for operation, name, value, answer in swept(alices_api, strange)
        if answer.status_code >= 500
    ] == []
    assert alices_api.get("/me").status_code == 200  # she was signed in to the end, and the transaction is whole


def test_a_surrogate_in_the_name_of_a_field_is_no_error_of_ours(api: Api) -> None:
    answer = send(api, "signUp", '{"\\ud800": 1, "\\u0000": 2}')
    assert wrong_fields(answer)


def test_a_field_that_is_named_twice_is_refused_by_name(alices_api: Api) -> None:
    """Another reader, such as a firewall, may take the first where we take the last."""
    twice = {
        '{"login": "nobody", "login": "alice", "password": "plum tractor lagoon"}': {"login"},
        '{"login": "a", "login": "a", "password": "x", "password": "y", "x": 1}': {"login", "password"},
        '{"login": "a", "password": "x", "device": {"name": "a", "name": "b"}}': {"name"},
        '{"login": "a", "\\u006cogin": "b"}': {"login"},
    }
    answers = [(body, fields(send(alices_api, "signIn", body))) for body in twice]
    # One parser reads them all: whether an operation has it, one body shows.
    answers += [(name, fields(send(alices_api, name, '{"x": 1, "x": 2}'))) for name in BODIES]
    expected = {body: dict.fromkeys(names, "duplicate_field") for body, names in twice.items()}
    assert [(body, found) for body, found in answers if found != expected.get(body, {"x": "duplicate_field"})] == []


# By operation: a body, and all that is wrong with it.
WRONG_TOGETHER: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    (
        "signUp",
        {"username": "a", "email": "nobody", "password": "short", "colour": "red"},
        {
            "colour": "unknown_field",
            "username": "username_length",
            "email": "email_invalid",
            "password": "password_too_short",
        },
    ),
    (
        "signUp",
        {"email": "nobody", "first_name": "<", "is_staff": 1, "device": {}},
        {
            "username": "required",
            "password": "required",
            "is_staff": "unknown_field",
            "device.name": "required",
            "email": "email_invalid",
            "first_name": "name_characters",
        },
    ),
    (
        "updateProfile",
        {"first_name": 1, "last_name": "<", "language": "xx", "time_zone": "Mars", "username": "a"},
        {
            "first_name": "not_a_string",
            "last_name": "name_characters",
            "language": "language_unknown",
            "time_zone": "time_zone_unknown",
            "username": "username_length",
        },
    ),
    (
        "changePassword",
        {"current_password": 1, "new_password": "short"},
        {"current_password": "not_a_string", "new_password": "password_too_short"},
    ),
    ("resetPassword", {"new_password": "short", "x": 1}, {"x": "unknown_field", "new_password": "password_too_short"}),
    ("requestEmailChange", {"email": "nobody", "password": 1}, {"password": "not_a_string", "email": "email_invalid"}),
    (
        "addPasskey",
        {"name": "a" * 61},
        {"state": "required", "credential": "required", "name": "passkey_name_too_long"},
    ),
    ("renamePasskey", {"name": "a" * 61, "x": 1}, {"x": "unknown_field", "name": "passkey_name_too_long"}),
    (
        "beginPictureUpload",
        {"content_type": "image/gif", "size": 0, "x": 1},
        {"x": "unknown_field", "content_type": "unknown_choice", "size": "out_of_range"},
    ),
    (
        "beginPictureUpload",
        {"content_type": "image/gif", "size": 0},
        {"content_type": "unknown_choice", "size": "out_of_range"},
    ),
]


def test_one_mistake_hides_no_other(alices_api: Api) -> None:
    """All that an answer of the rule alone would name, after what is wrong with the shape."""
    answers = [(name, expected, fields(send(alices_api, name, body))) for name, body, expected in WRONG_TOGETHER]
    assert [(name, found) for name, expected, found in answers if found != expected] == []


def test_telling_all_mistakes_is_limited_as_the_rule_is(api: Api, limits: Any, settings: Any) -> None:
    """A look at a password may ask another server. With no tries left, the answer tells of the shape alone."""
    limits("signup_per_ip=1/60", "code_per_ip=1/60")
    for name, wrong in (("signUp", "password"), ("resetPassword", "new_password")):
        body = {**good(name), wrong: "short", "x": 1}
        assert fields(send(api, name, body)) == {"x": "unknown_field", wrong: "password_too_short"}
        assert fields(send(api, name, body)) == {"x": "unknown_field"}


def test_a_body_in_chunks_without_a_length_is_told_so(alices_api: Api) -> None:
    """Django reads nothing of it, and would say that every field is missing."""
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    answers = {name: refusal(send(alices_api, name, good(name), **chunked)) for name in BODIES}
    answers["putPicture"] = refusal(alices_api.upload(b"x", **chunked))
    gzipped = {**chunked, "HTTP_TRANSFER_ENCODING": "gzip, Chunked"}
    answers["in another coding too"] = refusal(send(alices_api, "signIn", good("signIn"), **gzipped))
    assert {name: found for name, found in answers.items() if found != (411, "length_required", "none")} == {}


WRONG_DEVICES = [
    ({}, "device.name"),
    ({"name": ""}, "device.name"),
    ({"name": "a" * 101}, "device.name"),
    ({"name": "\x00"}, "device.name"),
    ({"name": 1}, "device.name"),
    ({"name": None}, "device.name"),
    ({"name": "a", "platform": "a" * 51}, "device.platform"),
    ({"name": "a", "app_version": "a" * 51}, "device.app_version"),
    ({"name": "a", "x": 1}, "device.x"),
    ({"name": "a", "platform": None}, "device.platform"),
    ("phone", "device"),
    ([], "device"),
    (1, "device"),
    ({"name": "\ud800"}, "device.name"),
]


def test_a_wrong_device_is_refused_by_name(api: Api) -> None:
    answers = [
        (name, ascii(device), field, fields(send(api, name, {**good(name), "device": device})))
        for name in BODIES
        if "device" in good(name)
        for device, field in WRONG_DEVICES
    ]
    assert [answer for answer in answers if not isinstance(answer[3], dict) or set(answer[3]) != {answer[2]}] == []


def test_nothing_is_written_by_what_is_refused(api: Api, db: None) -> None:
    before = (User.objects.count(), Event.objects.count(), Challenge.objects.count())
    for username, email, password in (
        ("a", "ada@example.com", "plum tractor lagoon"),
        ("ada", "ada", "plum tractor lagoon"),
        ("ada", "ada@example.com", "short"),
    ):
        assert wrong_fields(api.post("/signup", {"username": username, "email": email, "password": password}))
    assert (User.objects.count(), Event.objects.count(), Challenge.objects.count()) == before
