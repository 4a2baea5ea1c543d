"""The lines of docs/mobile.md that verify an access token in another service, with tokens of the running one and with
tokens that are wrong in one thing each."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from project.devstack.servers import BASE
from tests.conftest import PASSWORD
from tests.e2e.conftest import Service

# Each prints, for the tokens that it is given, whose they are.
SHOW = {
    "python": """
import sys
for token in sys.argv[1:]:
    try:
        print(user_id(token))
    except jwt.PyJWTError:
        print("refused")
""",
    "js": """
for (const token of process.argv.slice(2)) console.log(await userId(token).catch(() => "refused"));
""",
}

Verify = Callable[..., list[str]]


@pytest.fixture(
    params=[
        "python",
        pytest.param("js", marks=pytest.mark.skipif(not shutil.which("npm"), reason="no node and npm here")),
    ]
)
def verify(request: pytest.FixtureRequest, tmp_path: Path) -> Verify:
    language = request.param
    block = re.search(rf"```{language}\n(.*?)```", (BASE / "docs/mobile.md").read_text(), re.DOTALL)
    assert block
    if language == "js":
        (tmp_path / "node_modules").symlink_to(request.getfixturevalue("node_modules"))

    def run(issuer: str, *tokens: str) -> list[str]:
        script = tmp_path / {"python": "check.py", "js": "check.mjs"}[language]
        script.write_text(block[1].replace("https://accounts.example.com", issuer) + SHOW[language])
        command = sys.executable if language == "python" else "node"
        done = subprocess.run(
            [command, script, *tokens], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return run


@pytest.fixture
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ec.EllipticCurvePrivateKey]]:
    """A service whose key is at hand, so that a wrong token can be signed rightly."""
    folder = tmp_path_factory.mktemp("issuer")
    key = ec.generate_private_key(ec.SECP256R1())
    public = {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "one", "alg": "ES256", "use": "sig"}
    (folder / ".well-known").mkdir()
    (folder / ".well-known/jwks.json").write_text(json.dumps({"keys": [public]}))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}", key
    server.shutdown()
    server.server_close()


def test_the_guide_knows_a_token_of_the_service(service: Service, verify: Verify) -> None:
    name = f"u{uuid4().hex[:8]}"
    made = service.post("/signup", {"username": name, "email": f"{name}@example.com", "password": PASSWORD}).json()
    token = made["tokens"]["access_token"]
    assert verify(service.url, token, made["tokens"]["refresh_token"]) == [made["user"]["id"], "refused"]


def test_the_guide_refuses_what_is_wrong_in_one_thing(
    issuer: tuple[str, ec.EllipticCurvePrivateKey], verify: Verify
) -> None:
    address, key = issuer
    right = {"iss": address, "aud": "api", "sub": "ada", "sid": "s", "exp": int(time.time()) + 60}

    def token(header: dict[str, Any] | None = None, signer: Any = key, algorithm: str = "ES256", **other: Any) -> str:
        claims = {name: value for name, value in {**right, **other}.items() if value is not None}
        return jwt.encode(
            claims, signer, algorithm=algorithm, headers={"typ": "at+jwt", "kid": "one", **(header or {})}
        )

    wrong = {
        "typ": token({"typ": "JWT"}),
        "iss": token(iss="https://elsewhere.example.com"),
        "aud": token(aud="another"),
        "exp": token(exp=int(time.time()) - 60),
        "no exp": token(exp=None),
        "no sub": token(sub=None),
        "no sid": token(sid=None),
        "kid": token({"kid": "two"}),
        "signature": token(signer=ec.generate_private_key(ec.SECP256R1())),
        "algorithm": token(signer="x" * 64, algorithm="HS256"),
        "none": token(signer=None, algorithm="none"),
    }
    said = verify(address, token(), *wrong.values())
    assert said[0] == "ada"
    assert dict(zip(wrong, said[1:], strict=True)) == dict.fromkeys(wrong, "refused")
