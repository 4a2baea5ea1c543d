"""Settings from the environment: what counts as set, and which of NAME and NAME_FILE goes first."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from project import env


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for here belongs into no reference page."""
    monkeypatch.setattr(env, "asked", {})


@pytest.mark.parametrize("blank", ["", " "])
def test_a_blank_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    monkeypatch.setenv("PLUM", blank)
    assert env.text("PLUM", "tractor", "") == "tractor"
    assert env.flag("PLUM", True, "") is True
    assert env.flag("PLUM", False, "") is False
    assert env.number("PLUM", 7, "") == 7
    assert env.choice("PLUM", "red", ("red", "blue"), "") == "red"
    assert env.items("PLUM", "a,b", "") == ["a", "b"]
    assert env.time_zone("PLUM", "UTC", "") == "UTC"
    assert env.moment("PLUM", "") is None
    with pytest.raises(ImproperlyConfigured, match="PLUM is not set"):
        env.text("PLUM", None, "")


def test_a_flag_is_turned_off_by_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUM", "0")
    assert env.flag("PLUM", True, "") is False


def test_a_blank_secret_is_read_from_its_file_and_another_goes_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "plum"
    file.write_text("of the file\n")
    monkeypatch.setenv("PLUM_FILE", str(file))
    monkeypatch.setenv("PLUM", "")
    assert env.text("PLUM", None, "", secret=True) == "of the file"
    assert env.items("PLUM", "", "", secret=True) == ["of the file"]
    monkeypatch.setenv("PLUM", "of the environment")
    assert env.text("PLUM", None, "", secret=True) == "of the environment"


def test_a_blank_file_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "plum").write_text("\n")
    monkeypatch.setenv("PLUM_FILE", str(tmp_path / "plum"))
    with pytest.raises(ImproperlyConfigured, match="PLUM is not set"):
        env.text("PLUM", None, "", secret=True)
    monkeypatch.setenv("PLUM_FILE", "")
    assert env.text("PLUM", "tractor", "", secret=True) == "tractor"
