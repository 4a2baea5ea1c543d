"""While no statement comes through, every operation that needs one says so in its own form."""

import re
from typing import Any
from uuid import uuid4

from django.db import OperationalError, connection

from accounts.models import User
from accounts.services.authentication import identities
from accounts.services.security import tickets
from accounts.services.sessions import mfa
from accounts.services.sessions.sessions import Tokens
from project.devstack.provider import FakeProvider
from tests.api.conftest import NEVER_ASK_POSTGRES, contract
from tests.api.test_bodies import BODIES
from tests.conftest import Api


def _away(*_: Any) -> None:
    raise OperationalError("the server closed the connection")


def test_every_operation_that_declares_503_answers_so(
    alices_api: Api, alice: User, tokens: Tokens, fake: FakeProvider
) -> None:
    # What is sealed is looked at before Postgres is asked.
    sealed = {
        "refreshTokens": {"refresh_token": tokens.refresh_token},
        "signOut": {"refresh_token": tokens.refresh_token},
        "undoEmailChange": {"key": f"{'0' * 32}-{'x' * 43}"},
        "finishSignIn": {"ticket": mfa._issue(alice, ["pwd"]), "code": "123456"},
        "signInByProvider": {"provider": "google", "id_token": "x", "state": identities.begin(provider="google").state},
        "signUpByProvider": {"ticket": tickets.issue(identities.Newcomer(said={"x": "y"}, methods=["fed"]))},
    }
    found = {}
    for (method, path), operation in contract().operations.items():
        name = operation["operationId"]
        if "503" not in operation["responses"] or name in NEVER_ASK_POSTGRES:
            continue
        body = sealed.get(name, BODIES[name][2] if name in BODIES else None)
        address = re.sub(r"\{\w+\}", str(uuid4()), path.removeprefix("/api/v1"))
        with connection.execute_wrapper(_away):
            answer = alices_api(method, address, body)
        if answer.status_code != 503 or answer.json()["code"] != "service_unavailable":
            found[name] = (answer.status_code, answer.content[:200])
    assert sorted(found) == [], found
