"""Where pip knows a company's index and certificate, `make` finds the packages with uv too."""

import hashlib
import os
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from project.devstack.servers import BASE
from project.devstack.uv import settings

WHEEL = "plum-0.1-py3-none-any.whl"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[int]:
    """The port of an index with one package, behind a certificate that only the company knows."""
    simple = tmp_path / "index/simple/plum"
    simple.mkdir(parents=True)
    with zipfile.ZipFile(simple / WHEEL, "w") as wheel:
        wheel.writestr("plum.py", "TREE = True\n")
        about = "plum-0.1.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: plum\nVersion: 0.1\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"plum.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    (simple / "index.html").write_text(f'<a href="{WHEEL}">{WHEEL}</a>')
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    named += ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run([*make, *named, "-keyout", "key", "-out", "ca.pem"], cwd=tmp_path, check=True, capture_output=True)

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *about: object) -> None:
            super().__init__(*about, directory=str(tmp_path / "index"))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None: ...

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key")
    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_package_comes_from_the_index_of_pip_conf_with_its_certificate(tmp_path: Path, index: int) -> None:
    (tmp_path / "pip.conf").write_text(
        f"[global]\nindex-url = https://localhost:{index}/simple\ncert = {tmp_path}/ca.pem\n"
    )
    made = hashlib.sha256((tmp_path / "index/simple/plum" / WHEEL).read_bytes()).hexdigest()
    (tmp_path / "requirements.txt").write_text(f"plum==0.1 --hash=sha256:{made}\n")
    ask = ["pip", "install", "--no-cache", "--target", "here", "--require-hashes", "--requirement", "requirements.txt"]
    strangers = ("PIP_", "UV_", "SSL_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(strangers)}
    environment |= {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "NO_PROXY": "localhost"}
    uv = [sys.executable, str(BASE / "project/devstack/uv.py")]
    done = subprocess.run(
        [*uv, *ask], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here/plum.py").exists()


def test_pips_settings_are_said_in_the_words_of_uv() -> None:
    said = r"""
:env:.config-file='/etc/pip.conf'
:env:.index-url='https://ada:plum@env/simple'
:env:.proxy=''
global.cert='/company/ca bundle.pem'
global.extra-index-url='\nhttps://b/simple\nfile:///c/simple'
global.find-links='/wheels /more'
global.index-url='https://global/simple'
global.no-color='true'
install.cert='/install/ca.pem'
install.trusted-host='d e:8'
"""
    assert settings(said) == {
        "SSL_CERT_FILE": "/install/ca.pem",
        "UV_DEFAULT_INDEX": "https://ada:plum@env/simple",
        "UV_INDEX": "https://b/simple file:///c/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_INSECURE_HOST": "d e:8",
    }
    assert settings("") == {}


def test_make_calls_uv_in_no_other_way() -> None:
    assert ".venv/bin/uv " not in (BASE / "Makefile").read_text()
