"""The client that `make clients` generates for TypeScript: a program that signs up, refreshes, reads and meets a
problem is checked against the types of the contract, then it runs against the service."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from project.devstack.servers import BASE
from tests.conftest import picture
from tests.e2e.conftest import NODE, Service

needs_node = pytest.mark.skipif(not shutil.which("npm"), reason="no node and npm here: apt-get install nodejs npm")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_node
def test_a_program_fits_the_types_of_the_contract_and_works(
    service: Service, node_modules: Path, tmp_path: Path
) -> None:
    for name in ("session.ts", "program.ts", "tsconfig.json"):
        shutil.copy(NODE / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(node_modules)
    tools = node_modules / ".bin"
    config, contract, client = NODE / "openapi-ts.config.mjs", BASE / "api/v1/openapi.json", tmp_path / "client"
    run(tools / "openapi-ts", "--file", config, "--input", contract, "--output", client, "--silent", cwd=NODE)
    run(tools / "tsc", "--project", tmp_path, "--outDir", tmp_path / "js", cwd=NODE)

    (tmp_path / "me.jpg").write_bytes(picture(kind="JPEG"))
    said = run("node", "js/program.js", service.url, "me.jpg", cwd=tmp_path)
    assert said.splitlines() == [
        "signed up", "refreshed", "read the profile", "changed name and picture", "met a problem", "stayed signed in",
        "signed out",
    ]  # fmt: skip


def test_the_guide_shows_the_loop_that_is_tested() -> None:
    shown = re.findall(r"```ts\n(.*?)```", (BASE / "docs/mobile.md").read_text(), re.DOTALL)
    assert (NODE / "session.ts").read_text() in shown
