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


EACH_FIRST = """
import os, pkgutil, sys, django
django.setup()
import accounts.pages
broken = []
for found in pkgutil.walk_packages(accounts.pages.__path__, "accounts.pages."):
    if found.name == "accounts.pages.hooks":  # wants an extra
        continue
    child = os.fork()
    if not child:
        try:
            __import__(found.name)
        except BaseException as error:
            print(found.name, error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        broken.append(found.name)
sys.exit(bool(broken))
"""


def test_each_module_of_the_pages_can_be_the_first_that_a_process_imports() -> None:
    """allauth's modules import each other in circles, so the order decides whether a cold process starts."""
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "project.settings"}
    command = [PYTHON, "-c", EACH_FIRST]
    found = subprocess.run(command, cwd=BASE, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
