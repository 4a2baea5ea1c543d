"""The client that `make clients` generates for TypeScript, over the session layer of docs/clients: a program that signs
up, refreshes, meets problems and loses answers is checked against the types of the contract, then it runs against the
service."""

import shutil
import subprocess
from pathlib import Path

import pytest

from project.devstack.servers import BASE
from tests.conftest import picture
from tests.e2e.conftest import NODE, Service

CLIENTS = BASE / "docs/clients"
needs_node = pytest.mark.skipif(not shutil.which("npm"), reason="no node and npm here: apt-get install nodejs npm")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_node
def test_a_program_fits_the_types_of_the_contract_and_works(
    service: Service, node_modules: Path, tmp_path: Path
) -> None:
    for source in (CLIENTS / "typescript/session.ts", NODE / "program.ts", NODE / "tsconfig.json"):
        shutil.copy(source, tmp_path)
    (tmp_path / "node_modules").symlink_to(node_modules)
    tools = node_modules / ".bin"
    config, contract, client = NODE / "openapi-ts.config.mjs", BASE / "api/v1/openapi.json", tmp_path / "client"
    run(tools / "openapi-ts", "--file", config, "--input", contract, "--output", client, "--silent", cwd=NODE)
    run(tools / "tsc", "--project", tmp_path, "--outDir", tmp_path / "js", cwd=NODE)

    (tmp_path / "me.jpg").write_bytes(picture(kind="JPEG"))
    said = run("node", "js/program.js", service.url, "me.jpg", cwd=tmp_path)
    assert said.splitlines() == [
        "signed up once, though the answer was lost",
        "refreshed once for 16 requests",
        "refreshed, though the answer was lost twice",
        "waited as long as it was told to",
        "changed the picture, which others see",
        "did what a problem asked for",
        "stayed signed in",
        "signed out, and in again",
    ]


def test_a_session_layer_is_read_in_ten_minutes() -> None:
    files = [path for path in CLIENTS.rglob("*.*") if path.suffix in {".ts", ".swift", ".kt", ".dart"}]
    lines = {path.name: len(path.read_text().splitlines()) for path in files}
    assert set(lines) == {"session.ts", "Session.swift", "Session.kt", "session.dart"}
    assert {name: count for name, count in lines.items() if count >= 200} == {}
