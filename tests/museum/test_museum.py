"""Every released version's recorded traffic, against this build; and the tokens that its apps still hold."""

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.utils.timezone import now
from pytest_django import Settings

from accounts.caller import Caller
from accounts.models import Session, SigningKey, User
from accounts.services.sessions import access_tokens, sessions, signing_keys
from tests.api.conftest import CheckedApi
from tests.conftest import Api, Mailbox
from tests.museum import CURRENT, MUSEUM, RELEASES
from tests.museum.exchange import PUBLIC_URL, Step, Walk, general, missing
from tests.museum.tour import tour

SECRET_KEY = "the museum's own key, which opens what its releases gave out"

each_release = pytest.mark.parametrize("release", RELEASES, ids=lambda release: str(release.name))


@pytest.fixture
def api(db: None, settings: Settings) -> Api:
    settings.PUBLIC_URL = PUBLIC_URL
    settings.PICTURE_MAX_PIXELS = 50_000_000  # an operator's number; its default has grown
    return CheckedApi()


def replay(release: Path, api: Api, mailbox: Mailbox) -> list[str]:
    walk = Walk(api, mailbox)
    lost = []
    for number, step in enumerate(json.loads((release / "traffic.json").read_text())):
        status, body = walk.take(step)
        if "ask" in step:
            found = missing(step["answer"], body) if status == step["status"] else [f" {status}: {body}"]
            lost += [f"step {number} {step['ask']}{line}" for line in found]
    return lost


@each_release
def test_an_app_of_this_release_is_answered_as_it_was(release: Path, api: Api, mailbox: Mailbox) -> None:
    assert replay(release, api, mailbox) == []


@pytest.mark.usefixtures("v2")
def test_and_so_it_is_with_a_second_version_beside_it(api: Api, mailbox: Mailbox) -> None:
    """Of the newest release, which asks every operation (below)."""
    assert api.client.get("/api/v2/hello").json() == {"version": 2}
    assert replay(RELEASES[-1], api, mailbox) == []


@each_release
def test_a_phone_that_slept_since_this_release_is_still_signed_in(
    release: Path, alice: User, caller: Caller, settings: Settings
) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = SECRET_KEY, []
    held: dict[str, Any] = json.loads((release / "tokens.json").read_text())
    at = now()
    session = Session.objects.create(
        id=UUID(held["session_id"]), user=alice, kind=Session.Kind.APP, expires_at=at + timedelta(days=9)
    )
    SigningKey.objects.all().delete()
    key = held["signing_key"]
    SigningKey.objects.create(**{**key, "sealed_private_key": key["sealed_private_key"].encode()})
    signing_keys.forget()
    found = sessions.refresh(refresh_token=held["refresh_token"], caller=caller)
    assert found.session_id == session.id
    assert access_tokens.verify(found.access_token).kid == key["kid"]


def test_every_operation_is_in_the_newest_release() -> None:
    """What was added since is not promised yet; what was promised is walked through."""
    contract = json.loads((RELEASES[-1] / "contract.json").read_text())
    steps = json.loads((RELEASES[-1] / "traffic.json").read_text())
    names = {"{ada}": "{user_id}", "{tablet}": "{session_id}", "{passkey}": "{passkey_id}", "{upload}": "{upload_id}"}
    names["{identity}"] = "{identity_id}"
    kept = re.compile("|".join(re.escape(name) for name in names))
    asked = {kept.sub(lambda met: names[met[0]], step["ask"].split("?")[0]) for step in steps if "ask" in step}
    promised = {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, methods in contract["paths"].items()
        for method in methods
    }
    assert promised - asked == set()


@pytest.mark.parametrize(
    ("recorded", "actual", "lost"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": 1}, {}, [".a: gone"]),
        ({"a": None}, {"a": 1}, [".a: 1 instead of None"]),
        ({"a": True}, {"a": 1}, [".a: 1 instead of True"]),
        ({"a": [{"b": "{uuid}"}]}, {"a": [{"b": "x"}]}, [".a[0].b: 'x' instead of '{uuid}'"]),
        ({"a": [1]}, {"a": []}, [".a: [] instead of 1 items"]),
        ({"a": ["x", "y"]}, {"a": ["z", "y", "x"]}, []),
        ({"a": ["x", "y"]}, {"a": ["y"]}, [".a: 'x' is gone"]),
        ({"a": ["{uuid}"]}, {"a": ["x"]}, [".a[0]: 'x' instead of '{uuid}'"]),
        ({"a": {}}, {"a": "x"}, [".a: 'x' is no object"]),
        ({"errors": [{"a": 1}]}, {"errors": [{"a": 1}, {"a": 2}]}, []),
        ({"errors": [{"a": 1}]}, {"errors": [{"a": 2}, {"a": 1}]}, [".errors[0].a: 2 instead of 1"]),
        ({"errors": [{"a": 1}]}, {"errors": []}, [".errors: [] instead of 1 items"]),
        (None, {"a": 1}, [": {'a': 1} instead of None"]),
    ],
)
def test_what_an_app_would_miss_is_seen(recorded: Any, actual: Any, lost: list[str]) -> None:
    assert missing(recorded, actual) == lost


# --- Recording (`make release`) ---------------------------------------------------------------


@pytest.mark.skipif("RECORD_RELEASE" not in os.environ, reason="only `make release` records")
def test_record(api: Api, mailbox: Mailbox, settings: Settings) -> None:
    version = json.loads(CURRENT.read_text())["info"]["version"]
    release = MUSEUM / version
    assert not release.exists(), f"{version} is released: choose the next version in api/v1/__init__.py"
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = SECRET_KEY, []
    walk = Walk(api, mailbox)
    recorded: list[Step] = []
    for step in tour():
        status, body = walk.take(step)
        recorded.append({**step, "status": status, "answer": general(body)} if "ask" in step else step)
    held = sessions.begin(user=User.objects.get(username="ada"), kind=Session.Kind.APP, caller=Caller(ip="10.0.0.1"))
    key = SigningKey.objects.get(kid=signing_keys.ring().signing.kid)
    tokens = {
        "session_id": str(held.id),
        "refresh_token": sessions.tokens(held).refresh_token,
        "signing_key": {
            "kid": key.kid,
            "algorithm": key.algorithm,
            "sealed_private_key": bytes(key.sealed_private_key).decode(),
            "public_jwk": key.public_jwk,
        },
    }
    release.mkdir()
    _write(release / "traffic.json", recorded)
    _write(release / "tokens.json", tokens)
    (release / "contract.json").write_text(CURRENT.read_text())


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
