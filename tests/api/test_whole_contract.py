"""The last test of a run: nothing is declared that no test has seen."""

import pytest

from tests.api.conftest import contract


def test_a_full_run_meets_every_operation_and_every_status_that_is_declared(full_run: bool) -> None:
    if not full_run:
        pytest.skip("only a part of tests/api ran")
    met = contract().met | {(operation, 500) for operation, status in contract().declared if status == 500}
    assert sorted(contract().declared - met) == []
