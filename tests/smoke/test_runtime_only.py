"""The image has only what requirements.txt names. test_compose.py starts web, worker and beat with the same."""

import os
import subprocess

import pytest

from project.devstack.servers import BASE
from tests.smoke.conftest import PYTHON

pytestmark = pytest.mark.smoke


def test_no_test_tool_is_there() -> None:
    assert subprocess.run([PYTHON, "-c", "import pytest"], capture_output=True, check=False).returncode == 1


def test_the_checks_pass() -> None:
    checked = subprocess.run(
        [PYTHON, "manage.py", "check"],
        cwd=BASE,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "project.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
