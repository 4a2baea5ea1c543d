"""An environment that has what requirements.txt names and nothing else, as in the image: no test tool helps."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from project.devstack.servers import BASE

# Kept beside the packages of the tests, so that the next run finds it made.
RUNTIME = BASE / ".venv" / "runtime"
PYTHON = str(RUNTIME / "bin" / "python")


@pytest.fixture(scope="session", autouse=True)
def runtime() -> None:
    uv = [sys.executable, str(BASE / "project/devstack/uv.py")]
    if not Path(PYTHON).exists():
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, RUNTIME], check=True)
    sync = [*uv, "pip", "sync", "--quiet", "--python", PYTHON, "--require-hashes", str(BASE / "requirements.txt")]
    # All of it has just been installed for the tests, so the cache should do.
    if subprocess.run([*sync, "--offline"], capture_output=True, check=False).returncode:
        subprocess.run(sync, check=True)


@contextmanager
def running(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=BASE, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
