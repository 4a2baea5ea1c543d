"""Web and worker start where only requirements.txt is installed, as in the image: no test tool helps them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from project.devstack.servers import BASE, Valkey, answers, free_ports

pytestmark = pytest.mark.smoke

# Kept beside the packages of the tests, so that the next run finds it made.
RUNTIME = BASE / ".venv" / "runtime"
PYTHON = str(RUNTIME / "bin" / "python")


@pytest.fixture(scope="module", autouse=True)
def runtime() -> None:
    uv = str(Path(sys.executable).parent / "uv")
    if not Path(PYTHON).exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, RUNTIME], check=True)
    sync = [uv, "pip", "sync", "--quiet", "--python", PYTHON, "--require-hashes", str(BASE / "requirements.txt")]
    # All of it has just been installed for the tests, so the cache should do.
    if subprocess.run([*sync, "--offline"], capture_output=True, check=False).returncode:
        subprocess.run(sync, check=True)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    # A broker of its own: this worker must not take what other tests left in the queue.
    with Valkey(tmp_path / "valkey") as valkey:
        yield os.environ | {"DJANGO_SETTINGS_MODULE": "project.settings", "REDIS_URL": valkey.url}


@contextmanager
def running(arguments: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PYTHON, "-m", *arguments], cwd=BASE, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while not ready():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_no_test_tool_is_there() -> None:
    assert subprocess.run([PYTHON, "-c", "import pytest"], capture_output=True, check=False).returncode == 1


def test_the_checks_pass(environment: dict[str, str]) -> None:
    checked = subprocess.run(
        [PYTHON, "manage.py", "check"], cwd=BASE, env=environment, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_web_answers(environment: dict[str, str], tmp_path: Path) -> None:
    (port,) = free_ports(1)
    granian = ["granian", "--interface", "wsgi", "--port", str(port), "--no-ws", "project.wsgi:application"]
    log = tmp_path / "log"
    with running(granian, environment, log) as web:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/livez"), web, log)
        assert answers(f"http://127.0.0.1:{port}/readyz")


def test_the_worker_becomes_ready(environment: dict[str, str], tmp_path: Path) -> None:
    worker = ["celery", "-A", "project", "worker", "--concurrency", "1", "--loglevel", "INFO"]
    log = tmp_path / "log"
    with running(worker, environment, log) as process:
        wait_for(lambda: " ready." in log.read_text(), process, log)
