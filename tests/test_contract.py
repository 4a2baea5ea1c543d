"""schemathesis over the whole contract, against the WSGI application with both of its handlers: whatever it thinks
of, nothing is an error of ours and every answer is one that is declared.

Left out of its checks, each for a reason:
- `unsupported_method`, `negative_data_rejection`, `positive_data_acceptance`: whether a value is good the rules say
  (a username has no @), not the shapes; a body that is right for its shape may be refused, and a field may hold more
  than one spelling. Wrong shapes are refused one by one in tests/api/test_bodies.py.
- `ignored_auth`, `use_after_free`, `ensure_resource_availability`: they ask again without our token or in an order of
  their own; tests/api/test_access_tokens.py does that for every operation.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.models import User
from accounts.services.security import rate_limits
from accounts.services.sessions.sessions import Tokens
from project.wsgi import application
from tests.conftest import PASSWORD

# Not for every run of pytest: it takes seconds to import.
pytest_plugins = ["schemathesis.pytest.plugin"]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

CONFIG = schemathesis.Config.from_dict(
    {
        "seed": 1,
        # 405 belongs to an address and not to an operation: tests/api/test_form.py.
        "phases": {"coverage": {"unexpected-methods": []}},
    }
)
document = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application, config=CONFIG)
# Without a token the others answer 401 before they read anything: tests/api/test_access_tokens.py.
PUBLIC = [
    operation["operationId"]
    for methods in document.raw_schema["paths"].values()
    for operation in methods.values()
    if not operation.get("security")
]
# The same in each run: first those that schemathesis lists for every field, then some that are drawn.
bounded = hypothesis_settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def _unlimited(settings: Any) -> Iterator[None]:
    """A limit that is met hides what stands behind it."""
    settings.RATE_LIMITS = [f"{limit.name}=1000000/86400" for limit in rate_limits.DEFAULTS]
    rate_limits.limits.cache_clear()
    yield
    rate_limits.limits.cache_clear()


@pytest.fixture(autouse=True)
def _one_transaction() -> Iterator[None]:
    """As Django's test client does: the end of a request leaves the test's connection open."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


def look(case: Any, **headers: str) -> None:
    answer = case.call(headers=headers)
    case.validate_response(answer, checks=CHECKS)
    assert "set-cookie" not in answer.headers
    with connection.cursor() as cursor:  # the transaction is whole: nothing reached Postgres that it can't take
        cursor.execute("SELECT 1")


@document.include(operation_id=PUBLIC).parametrize()
@bounded
@pytest.mark.usefixtures("_unlimited")
def test_nothing_that_a_stranger_sends_is_an_error_of_ours(db: None, case: Any) -> None:
    look(case)


@document.exclude(operation_id=PUBLIC).parametrize()
@bounded
@pytest.mark.usefixtures("_unlimited")
def test_nothing_that_somebody_signed_in_sends_is_an_error_of_ours(case: Any, alice: User, tokens: Tokens) -> None:
    look(case, Authorization=f"Bearer {tokens.access_token}")


# Right where most guesses end, so that the rest of a body gets further.
RIGHT = {"login": "alice", "email": "somebody@example.com", "password": PASSWORD, "current_password": PASSWORD}
names = itertools.count()


@document.include(operation_id=["signUp", "signIn", "changePassword", "requestEmailChange"]).parametrize()
@hypothesis_settings(bounded, max_examples=30, phases=[Phase.generate])  # the listed ones were asked above
@pytest.mark.usefixtures("_unlimited")
def test_nothing_that_stands_beside_right_values_is_an_error_of_ours(case: Any, alice: User, tokens: Tokens) -> None:
    if isinstance(case.body, dict):
        right = {**RIGHT, "username": f"somebody{next(names)}"}
        case.body = {name: right.get(name, value) for name, value in case.body.items()}
    look(case, Authorization=f"Bearer {tokens.access_token}")


def test_the_document_is_a_valid_one() -> None:
    document.validate()
    assert document.raw_schema["openapi"].startswith("3.1")


def test_every_operation_was_looked_at() -> None:
    found = [operation.ok() for operation in document.get_all_operations()]  # type: ignore[union-attr]
    assert len(found) == sum(len(methods) for methods in document.raw_schema["paths"].values())
    assert 10 < len(PUBLIC) < len(found)
