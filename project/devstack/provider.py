"""A provider to sign in with, for tests and to try it out: OpenID ("oidc"), Google, Apple, Microsoft and GitHub at one
address, each with its own habits. It believes everybody who picks a person, and lies when it is told to."""

import json
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
_ADA = {"sub": "1001", "given_name": "Ada", "family_name": "Lovelace", "preferred_username": "ada"}
PEOPLE: dict[str, dict[str, Any]] = {
    "Ada, at gmail.com": {**_ADA, "email": "ada@gmail.com", "email_verified": True},
    "Ada, with another address": {**_ADA, "email": "ada@example.com", "email_verified": True},
    "Bob, whose address nobody has verified": {"sub": "1002", "email": "bob@gmail.com", "email_verified": False},
    "Cleo, without an address": {"sub": "1003", "given_name": "Cleo"},
    "Root, with the address of staff": {"sub": "1004", "email": "root@gmail.com", "email_verified": True},
}
ADA = next(iter(PEOPLE))


@dataclass
class Key:
    kid: str = field(default_factory=lambda: secrets.token_hex(4))
    private: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    algorithm: str = "ES256"
    more: dict[str, Any] = field(default_factory=dict)

    def published(self) -> dict[str, Any]:
        kind = jwt.get_algorithm_by_name(self.algorithm)
        numbers: dict[str, Any] = kind.to_jwk(self.private.public_key(), as_dict=True)
        return {**numbers, "kid": self.kid, "alg": self.algorithm, "use": "sig", **self.more}


class FakeProvider:
    """`lie`: in ID tokens "nonce", "iss", "signature", "kid" or "sub"; of answers "mute", "drip", "huge", "redirect"
    or "error". `says`: other values in the discovery document."""

    def __init__(self, port: int = 0) -> None:
        self.lie = ""
        self.says: dict[str, Any] = {}
        self.keys = [Key()]  # the first one signs
        self.asked: list[str] = []
        self.revoked: list[str] = []
        self.named: set[str] = set()  # whose name Apple has told already
        self.codes: dict[str, dict[str, str]] = {}
        self.access: dict[str, str] = {}  # GitHub's tokens
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def issuer(self, kind: str, tenant: str = "{tenantid}") -> str:
        return f"{self.url}/microsoft/{tenant}/v2.0" if kind == "microsoft" else f"{self.url}/{kind}"

    def settings(self, kind: str, *client_ids: str, **changes: Any) -> dict[str, Any]:
        """What settings.PROVIDERS says of it."""
        return {
            "name": "Fake",
            "issuer": self.issuer(kind),
            "client_ids": client_ids or ("web", "app"),
            "internal": True,
            **changes,
        }

    def rotate(self) -> None:
        self.keys = [Key()]

    def claims(self, kind: str, person: Mapping[str, Any] | str, client_id: str, nonce: str) -> dict[str, Any]:
        """As this kind of provider says them."""
        found = {**(PEOPLE[person] if isinstance(person, str) else person)}
        said: dict[str, Any] = {"iss": self.issuer(kind, TENANT), "aud": client_id, "nonce": nonce, **found}
        said |= {"iat": int(time.time()), "exp": int(time.time()) + 3600}
        domain = str(said.get("email", "")).rpartition("@")[2]
        if kind == "google":
            said |= {"azp": client_id} | ({} if domain in {"", "gmail.com"} else {"hd": domain})
        elif kind == "apple":
            said = {name: value for name, value in said.items() if name not in {"given_name", "family_name"}}
            said["email_verified"] = str(said.get("email_verified", False)).lower()
        elif kind == "microsoft":
            said |= {"tid": TENANT, "ver": "2.0", "xms_edov": said.pop("email_verified", False)}
        return said

    def token(
        self,
        kind: str = "oidc",
        person: Mapping[str, Any] | str = ADA,
        *,
        client_id: str = "web",
        nonce: str = "",
        headers: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """An ID token. `changes` are other claims; those that are None are left out."""
        said = {**self.claims(kind, person, client_id, nonce), **changes}
        if self.lie in {"nonce", "iss", "sub"}:
            said[self.lie] = {"nonce": "foreign", "iss": "https://evil.example", "sub": ""}[self.lie]
        key = Key(self.keys[0].kid) if self.lie == "signature" else self.keys[0]
        kid = "unknown" if self.lie == "kid" else key.kid
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, key.private, algorithm=key.algorithm, headers={"kid": kid, **(headers or {})})


class _Handler(BaseHTTPRequestHandler):
    fake: FakeProvider

    def do_GET(self) -> None:
        self.fake.asked.append(self.path)
        if self.fake.lie == "mute":
            self.fake.closing.wait()
            return
        known = {"openid-configuration", "jwks", "authorize", "user", "emails"}
        name = self._place[-1]
        getattr(self, f"_{name.removeprefix('openid-')}" if name in known else "_answer")()

    def do_POST(self) -> None:
        self.fake.asked.append(self.path)
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self._form = dict(parse_qsl(sent))
        if self._place[-1] == "revoke":
            self.fake.revoked.append(self._form["token"])
            self._answer({})
        elif self._place[-1] == "authorize":
            self._chosen()
        else:
            self._swap()

    @property
    def _place(self) -> list[str]:
        return urlsplit(self.path).path.strip("/").split("/")

    @property
    def _query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.path).query))

    def _configuration(self) -> None:
        kind = self._place[0]
        at = f"{self.fake.url}/{kind}"
        places = {f"{name}_endpoint": f"{at}/{name}" for name in ("authorization", "token", "userinfo")}
        places |= {"authorization_endpoint": f"{at}/authorize", "revocation_endpoint": f"{at}/auth/revoke"}
        said = {"issuer": self.fake.issuer(kind), "jwks_uri": f"{at}/jwks", **places}
        self._answer({**said, "authorization_response_iss_parameter_supported": kind == "oidc", **self.fake.says})

    def _jwks(self) -> None:
        self._answer({"keys": [key.published() for key in self.fake.keys]})

    # --- The page, and what comes back from it ---

    def _authorize(self) -> None:
        buttons = (f'<p><button name=person value="{escape(name)}">{escape(name)}</button>' for name in PEOPLE)
        self._page(f"<h1>Who are you?</h1><form method=post>{''.join(buttons)}</form>")

    def _chosen(self) -> None:
        asked, kind = self._query, self._place[0]
        code = secrets.token_urlsafe(12)
        self.fake.codes[code] = {**asked, "kind": kind, "person": self._form["person"]}
        back = {"code": code, "state": asked.get("state", "")}
        if kind == "oidc":
            back["iss"] = "https://evil.example" if self.fake.lie == "iss" else self.fake.issuer(kind)
        if asked.get("response_mode") != "form_post":
            self._send(302, b"", Location=f"{asked['redirect_uri']}?{urlencode(back)}")
            return
        person = PEOPLE[self._form["person"]]
        if person["sub"] not in self.fake.named:  # Apple says it once
            self.fake.named.add(person["sub"])
            name = {"firstName": person.get("given_name", ""), "lastName": person.get("family_name", "")}
            back["user"] = json.dumps({"name": name, "email": person.get("email")})
        fields = "".join(f'<input type=hidden name={name} value="{escape(value)}">' for name, value in back.items())
        action = escape(asked["redirect_uri"])
        self._page(f'<form method=post action="{action}">{fields}<button>Continue</button></form>')

    def _swap(self) -> None:
        asked = self.fake.codes.pop(self._form.get("code", ""), {})
        digest = sha256(self._form.get("code_verifier", "").encode()).digest()
        challenge = urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (asked.get("redirect_uri"), asked.get("code_challenge")) != (self._form.get("redirect_uri"), challenge):
            self._answer({"error": "invalid_grant"}, 400)
            return
        access = secrets.token_urlsafe(12)
        self.fake.access[access] = asked["person"]
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": 3600}
        if asked["kind"] == "apple":
            answer["refresh_token"] = secrets.token_urlsafe(12)
        if asked["kind"] != "github":
            client, nonce = asked.get("client_id", ""), asked.get("nonce", "")
            answer["id_token"] = self.fake.token(asked["kind"], asked["person"], client_id=client, nonce=nonce)
        self._answer(answer)

    # --- GitHub, which has no ID tokens ---

    def _person(self) -> dict[str, Any]:
        return PEOPLE[self.fake.access[self.headers["Authorization"].split()[-1]]]

    def _user(self) -> None:
        person = self._person()
        self._answer({"id": int(person["sub"]), "login": person.get("preferred_username", "someone"), "email": None})

    def _emails(self) -> None:
        person = self._person()
        mail = {"email": person.get("email"), "verified": person.get("email_verified"), "primary": True}
        self._answer([mail] if mail["email"] else [])

    # --- Answers ---

    def _answer(self, said: Any = None, status: int = 200) -> None:
        body = json.dumps(said).encode()
        self._send(status if said is not None else 404, body, **{"Content-Type": "application/json"})

    def _page(self, html: str) -> None:
        self._send(200, f"<!doctype html><title>Fake</title>{html}".encode(), **{"Content-Type": "text/html"})

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        if self.fake.lie == "redirect":
            status, headers = 302, {"Location": "/redirected"}
        self.send_response(500 if self.fake.lie == "error" else status)
        for name, value in headers.items():
            self.send_header(name, value)
        body = body.ljust(1024**2) if self.fake.lie == "huge" else body
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # the client may have left
            size = 1 if self.fake.lie == "drip" else len(body)
            while body and not (self.fake.lie == "drip" and self.fake.closing.wait(0.05)):
                self.wfile.write(body[:size])
                body = body[size:]

    def log_message(self, *_: object) -> None:
        pass
