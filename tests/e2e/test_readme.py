"""The README's curl lines, as they stand there."""

import re
import shutil
import subprocess

import pytest

from project.devstack.servers import BASE
from tests.e2e.conftest import Service

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")


def test_the_six_curl_lines_work(service: Service, tmp_path_factory: pytest.TempPathFactory) -> None:
    block = re.search(r"```sh\n(API=.*?)```", (BASE / "README.md").read_text(), re.DOTALL)
    assert block
    first, second, third = block[1].replace("http://localhost:8000", service.url).split('CODE="4829 1375"\n')
    folder = tmp_path_factory.mktemp("curl")
    (folder / "docs").symlink_to(BASE / "docs")

    def run(script: str) -> str:
        done = subprocess.run(["bash", "-ec", script], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def written(code: str) -> str:
        return f'"{code[:4]} {code[4:]}"'  # as the mail has it

    head = first.partition("curl ")[0]  # the address; `token` comes with the first line
    run(first)
    token = re.search(r"^token\(\).*$", first, re.MULTILINE)
    assert token
    asked, _, forgot = second.rpartition("# 6")
    said = run(f"{head}{token[0]}\nCODE={written(service.code('ada@example.com', 'Confirm'))}\n{asked}")
    assert said.count('"email_verified": true') == 3
    assert '"1024"' in said
    assert '"refresh_token"' in said
    run(f"{head}# 6{forgot}")
    assert run(f"{head}CODE={written(service.code('ada@example.com', 'Choose a new'))}\n{third}").strip() == "204"
