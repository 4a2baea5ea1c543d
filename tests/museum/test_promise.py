"""A deliberate break of each kind is named, and nothing that only adds is."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.museum import CURRENT, MUSEUM
from tests.museum.promise import breaks

Document = dict[str, Any]


@pytest.fixture
def old() -> Document:
    found: Document = json.loads(CURRENT.read_text())
    return found


def shape(document: Document, name: str) -> Document:
    found: Document = document["components"]["schemas"][name]
    return found


def operation(document: Document, path: str, method: str = "post") -> Document:
    found: Document = document["paths"][f"/api/v1{path}"][method]
    return found


def choice(*values: str) -> Document:
    return {"type": "string", "enum": list(values)}


BREAKS: dict[str, Callable[[Document], Any]] = {
    "GET /api/v1/me: the operation is gone": lambda d: d["paths"]["/api/v1/me"].pop("get"),
    "operationId signIn became login": lambda d: operation(d, "/token").update(operationId="login"),
    "it asks for a token now": lambda d: operation(d, "/config", "get").update(security=[{"Bearer": []}]),
    "POST /api/v1/token 200: the answer is gone": lambda d: operation(d, "/token")["responses"].pop("200"),
    "202: an answer that apps do not know": lambda d: operation(d, "/token")["responses"].update({"202": {}}),
    "?limit: the parameter is gone": lambda d: operation(d, "/users", "get")["parameters"].pop(0),
    "?limit: the parameter became required": lambda d: operation(d, "/users", "get")["parameters"][0].update(
        required=True
    ),
    "?limit: maximum 1000 became 100": lambda d: operation(d, "/users", "get")["parameters"][0]["schema"].update(
        maximum=100
    ),
    "?sort: a new parameter is required": lambda d: operation(d, "/users", "get")["parameters"].append(
        {"in": "query", "name": "sort", "required": True, "schema": {"type": "string"}}
    ),
    "application/json is not taken any more": lambda d: operation(d, "/token")["requestBody"].update(content={}),
    "it takes no body any more": lambda d: operation(d, "/token").pop("requestBody"),
    "request.gender: the field became required": lambda d: shape(d, "SignUpIn")["required"].append("gender"),
    "request.gender: the field is not taken any more": lambda d: shape(d, "SignUpIn")["properties"].pop("gender"),
    "request.gender: male is not taken any more": lambda d: shape(d, "SignUpIn")["properties"].update(
        gender=choice("female", "unspecified")
    ),
    "request.username: maxLength 30 became 20": lambda d: shape(d, "SignUpIn")["properties"]["username"].update(
        maxLength=20
    ),
    "request.username: minLength 2 became 4": lambda d: shape(d, "SignUpIn")["properties"]["username"].update(
        minLength=4
    ),
    "request.username: format none became date": lambda d: shape(d, "SignUpIn")["properties"]["username"].update(
        format="date"
    ),
    "200.username: format None became date": lambda d: shape(d, "ProfileOut")["properties"]["username"].update(
        format="date"
    ),
    "request.username: pattern none became a": lambda d: shape(d, "SignUpIn")["properties"]["username"].update(
        pattern="a"
    ),
    "request.device: null or object became object": lambda d: shape(d, "SignUpIn")["properties"].update(
        device={"$ref": "#/components/schemas/DeviceIn"}
    ),
    "request.device.name: string became integer": lambda d: shape(d, "DeviceIn")["properties"]["name"].update(
        type="integer"
    ),
    "?limit: left out, it meant 50 and means 20 now": lambda d: operation(d, "/users", "get")["parameters"][0][
        "schema"
    ].update(default=20),
    "200.gender: the field is gone": lambda d: shape(d, "ProfileOut")["properties"].pop("gender"),
    "200.email: the field may be missing now": lambda d: shape(d, "ProfileOut")["required"].remove("email"),
    "200.username: string became integer": lambda d: shape(d, "ProfileOut")["properties"]["username"].update(
        type="integer"
    ),
    "200.username: string became null or string": lambda d: shape(d, "ProfileOut")["properties"]["username"].update(
        type=["string", "null"]
    ),
    "200.id: format uuid became None": lambda d: shape(d, "ProfileOut")["properties"]["id"].pop("format"),
    "200.gender: other is nothing that apps know": lambda d: shape(d, "ProfileOut")["properties"].update(
        gender=choice("female", "male", "unspecified", "other")
    ),
    "200.gender: any other value is nothing that apps know": lambda d: shape(d, "ProfileOut")["properties"].update(
        gender={"type": "string"}
    ),
    "200.sessions[].name: the field is gone": lambda d: shape(d, "SessionOut")["properties"].pop("name"),
    "200.picture.url: the field is gone": lambda d: shape(d, "PictureOut")["properties"].pop("url"),
    "401: it is not application/problem+json any more": lambda d: operation(d, "/token")["responses"]["401"].update(
        content={}
    ),
}
ADDITIONS: dict[str, Callable[[Document], Any]] = {
    "nothing": lambda _: None,
    "an operation": lambda d: d["paths"].update({"/api/v1/more": {"get": {"operationId": "more", "responses": {}}}}),
    "a field in an answer": lambda d: shape(d, "ProfileOut")["properties"].update(more={"type": "string"}),
    "a field that always comes": lambda d: (
        shape(d, "ProfileOut")["properties"].update(more={"type": "string"}),
        shape(d, "ProfileOut")["required"].append("more"),
    ),
    "an optional field in a request": lambda d: shape(d, "SignUpIn")["properties"].update(more={"type": "string"}),
    "an optional parameter": lambda d: operation(d, "/users", "get")["parameters"].append(
        {"in": "query", "name": "sort", "schema": {"type": "string"}}
    ),
    "another refusal": lambda d: operation(d, "/config", "get")["responses"].update({"418": {"description": ""}}),
    "one refusal less": lambda d: operation(d, "/token")["responses"].pop("403"),
    "a longer username": lambda d: shape(d, "SignUpIn")["properties"]["username"].update(maxLength=2000),
    "another word for gender that is taken": lambda d: shape(d, "SignUpIn")["properties"].update(
        gender=choice("female", "male", "unspecified", "other")
    ),
    "a format that clients read as text": lambda d: (
        shape(d, "SignUpIn")["properties"]["username"].update(format="email"),
        shape(d, "ProfileOut")["properties"]["username"].update(format="uri"),
    ),
    "a field that never is null now": lambda d: shape(d, "ProfileOut")["properties"].update(
        picture={"$ref": "#/components/schemas/PictureOut"}
    ),
}


def breaks_after(old: Document, change: Callable[[Document], Any]) -> list[str]:
    new = copy.deepcopy(old)
    change(new)
    return list(breaks(old, new))


def test_a_break_is_named(old: Document) -> None:
    found = {what: breaks_after(old, change) for what, change in BREAKS.items()}
    assert {what: lines for what, lines in found.items() if not any(what in line for line in lines)} == {}


def test_an_addition_is_no_break(old: Document) -> None:
    found = {what: breaks_after(old, change) for what, change in ADDITIONS.items()}
    assert {what: lines for what, lines in found.items() if lines} == {}


def test_the_command_is_red_and_says_what_breaks(old: Document, tmp_path: Path) -> None:
    """What `make check` runs, on a copy of the tree with a contract that lost an operation."""
    house = tmp_path / "tests" / "museum"
    release = house / "1.0.0"
    release.mkdir(parents=True)
    for name in ("__init__.py", "__main__.py", "promise.py"):
        (house / name).write_text((MUSEUM / name).read_text())
    (release / "contract.json").write_text(json.dumps(old))
    current = tmp_path / "api" / "v1" / "openapi.json"
    current.parent.mkdir(parents=True)

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.museum"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)

    current.write_text(json.dumps(old))
    assert run().returncode == 0
    del old["paths"]["/api/v1/me"]
    current.write_text(json.dumps(old))
    done = run()
    assert done.returncode == 1
    assert "breaks 1.0.0: GET /api/v1/me: the operation is gone" in done.stdout
