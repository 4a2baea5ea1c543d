"""The last tests of a run: nothing is declared that no test has seen."""

import pytest

from accounts.errors import FIELD_ERRORS
from api.errors import CASES
from tests.api.conftest import NEVER_ASK_POSTGRES, contract

# Of every operation, or of every access token: test_form.py, test_postgres_away.py, test_access_tokens.py.
EVERYWHERE = {"server_error", "service_unavailable", "session_revoked", "token_expired"}


@pytest.fixture(autouse=True)
def _whole(full_run: bool) -> None:
    if not full_run:
        pytest.skip("only a part of tests/api ran")


def test_a_full_run_meets_every_operation_and_every_status_that_is_declared() -> None:
    met = contract().met | {(operation, 500) for operation, status in contract().declared if status == 500}
    met |= {(operation, 503) for operation in NEVER_ASK_POSTGRES}
    assert sorted(contract().declared - met) == []


def test_a_full_run_meets_every_code_that_an_operation_declares_of_its_own() -> None:
    left = {(name, code) for name, code in contract().declared_codes - contract().refused if code not in EVERYWHERE}
    assert sorted(left) == []


def test_a_full_run_meets_every_code_of_the_catalogue() -> None:
    codes = {kind.code for kind in CASES} | set(FIELD_ERRORS)
    codes -= {
        "server_error",  # test_form.py breaks a rule for it, under an address of its own
        "upload_missing",  # told in the state of an upload, not in an answer of its own
        "gender_invalid",  # of pages: an app is told unknown_choice by the shape
        "not_allowed", "own_account", "search_too_broad",  # of staff's pages
    }  # fmt: skip
    assert sorted(codes - contract().codes) == []
