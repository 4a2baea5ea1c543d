"""The count of calls by version of the API and of the app."""

from io import StringIO
from multiprocessing import util
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.db import Error
from pytest_django import Settings

from accounts.models import ApiUse
from accounts.services.staff import usage
from tests.conftest import Api


@pytest.fixture(autouse=True)
def _none_counted(db: None) -> None:
    usage._counts.clear()


def rows() -> dict[tuple[str, str], int]:
    return {(row.version, row.app_version): row.calls for row in ApiUse.objects.all()}


def test_calls_are_added_up_by_version_and_by_the_version_of_the_app(alices_api: Api, v2: None) -> None:
    for version in ("1.4.0", "1.4.0", "2.0-beta+7"):
        alices_api.get("/me", HTTP_X_APP_VERSION=version)
    alices_api.get("/me")
    alices_api.client.get("/api/v2/hello")
    usage.add_up()
    alices_api.get("/me/sessions", HTTP_X_APP_VERSION="1.4.0")
    usage.add_up()
    assert rows() == {("v1", "1.4.0"): 3, ("v1", "2.0-beta+7"): 1, ("v1", ""): 1, ("v2", ""): 1}


def test_a_stranger_counts_without_a_name(api: Api) -> None:
    api.get("/config", HTTP_X_APP_VERSION="1.0")
    api.get("/me", HTTP_X_APP_VERSION="1.1", token="nonsense")
    usage.add_up()
    assert rows() == {("v1", ""): 2}


def test_what_is_no_version_and_no_operation_fills_no_table(alices_api: Api) -> None:
    for version in ("1 OR 1", "<b>", "x" * 33, "-1"):
        alices_api.get("/me", HTTP_X_APP_VERSION=version)
    alices_api.get("/nothing", HTTP_X_APP_VERSION="1.0")
    alices_api.client.get("/api/v9/config", HTTP_X_APP_VERSION="1.0")
    usage.add_up()
    assert rows() == {("v1", usage.OTHER): 4}


def test_a_flood_of_versions_ends_in_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "MOST", 5)
    for number in range(4):
        usage.count("v1", f"1.{number}")
    usage.add_up()
    for number in range(100):
        usage.count("v1", f"2.{number}")
    usage.add_up()
    assert len(rows()) <= 7
    assert sum(rows().values()) == 104


def test_what_could_not_be_written_is_written_later() -> None:
    usage.count("v1", "1.0")
    with patch.object(usage, "_add", side_effect=Error), pytest.raises(Error):
        usage.add_up()
    usage.count("v1", "1.0")
    usage.add_up()
    assert rows() == {("v1", "1.0"): 2}


def test_the_command_tells_the_most_called_first() -> None:
    for app_version, calls in {"1.0": 3, "2.0": 5, "": 1}.items():
        for _ in range(calls):
            usage.count("v1", app_version)
    usage.add_up()
    out = StringIO()
    call_command("api_use", days=1, stdout=out)
    assert [line.split() for line in out.getvalue().splitlines()[1:]] == [
        ["v1", "2.0", "5"],
        ["v1", "1.0", "3"],
        ["v1", "unknown", "1"],
    ]


def test_a_request_that_finds_it_due_adds_up_and_the_end_of_the_process_does(
    alices_api: Api, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.COUNT_API_USE = True
    monkeypatch.setattr(usage, "INTERVAL", 3600.0)
    monkeypatch.setattr(usage, "_due_at", 0.0)
    alices_api.get("/me", HTTP_X_APP_VERSION="9.9")
    assert rows() == {("v1", "9.9"): 1}
    alices_api.get("/me", HTTP_X_APP_VERSION="9.9")
    assert rows() == {("v1", "9.9"): 1}
    # What a worker of granian does before it ends.
    registry = util._finalizer_registry.values()  # type: ignore[attr-defined]
    [finalizer] = [each for each in registry if each._callback is usage._try_to_add_up]
    finalizer._callback()
    assert rows() == {("v1", "9.9"): 2}
