"""Every URL is imported, and pages come out, with the newest versions that pyproject.toml allows: who installs this
service without our lock file gets those, and so do we at the next `make requirements UPGRADE=1`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection

from project.devstack.servers import BASE

pytestmark = pytest.mark.smoke

# Kept beside the packages of the tests, so that the next run only asks for what is new.
NEWEST = BASE / ".venv" / "newest"
PYTHON = str(NEWEST / "bin" / "python")
PAGES = {
    "/account/login/": 200,
    "/account/signup/": 200,
    "/account/login/code/": 200,
    "/account/password/reset/": 200,
    "/account/password/reset/key/0190-wrong/": 200,
    "/account/login/second-step/": 302,
    "/account/password/change/": 302,
    "/account/reauthenticate/": 302,
    "/account/logout/": 302,
    "/admin/login/": 302,
    "/api/v1/config": 200,
    "/api/v1/me": 401,
}
PROGRAM = """
import json, sys
import django
django.setup()
from django.conf import settings
from django.test import Client
from django.urls import get_resolver

def count(patterns):
    return sum(count(one.url_patterns) if hasattr(one, "url_patterns") else 1 for one in patterns)

client = Client(SERVER_NAME=settings.ALLOWED_HOSTS[0])
pages = {path: client.get(path).status_code for path in json.load(sys.stdin)}
print(json.dumps({"urls": count(get_resolver().url_patterns), "pages": pages}))
"""


@pytest.fixture
def _newest() -> None:
    uv = [sys.executable, str(BASE / "project/devstack/uv.py")]
    if not Path(PYTHON).exists():
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, NEWEST], check=True)
    install = [*uv, "pip", "install", "--quiet", "--python", PYTHON, "--upgrade", "--requirement", "pyproject.toml"]
    done = subprocess.run(
        [*install, "--extra", "anymail"], cwd=BASE, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        pytest.skip(f"The newest versions can't be fetched: {(done.stderr.strip().splitlines() or ['?'])[0]}")


@pytest.mark.usefixtures("_newest", "db")
def test_every_url_is_imported_and_pages_come_out() -> None:
    found = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DATABASE_URL": found,
        "DEBUG": "1",  # without it, pages want what collectstatic writes
        "ANYMAIL_ESP": "postmark",
        "ANYMAIL_WEBHOOK_SECRET": "hook:secret",
    }
    done = subprocess.run(
        [PYTHON, "-c", PROGRAM], cwd=BASE, env=environment, input=json.dumps(list(PAGES)),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["pages"] == PAGES
    assert answer["urls"] > 100
