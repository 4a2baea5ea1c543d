"""Two web processes under load while an operator rotates the signing key, changes SECRET_KEY and restarts every
process: no 401 and no 5xx that an app or a browser did not earn.

Takes a minute and a half: `DRILL_SESSIONS=24 make test ARGS=tests/drills/test_load_drill.py`, or 200 for the long run;
`--log-cli-level=INFO` tells the numbers."""

import http.client
import itertools
import json
import logging
import os
import random
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import jwt
import pytest

from project.devstack.servers import free_ports
from tests.conftest import PASSWORD
from tests.e2e.conftest import Service, eventually

SESSIONS = int(os.environ.get("DRILL_SESSIONS", "24"))
THREADS = 20
REST = 0.05 if SESSIONS >= 100 else 0.25  # seconds of a thread between two jobs
PAUSE = (SESSIONS / 100) ** 2  # seconds after each restart: in the long run everybody is to meet what is then
LIFETIME = 3 + SESSIONS // 40  # seconds of an access token
log = logging.getLogger(__name__)
pytestmark = pytest.mark.skipif("DRILL_SESSIONS" not in os.environ, reason="only with DRILL_SESSIONS=24")

NEW = "another lagoon tractor"


class TwoWebs(Service):
    """The service with a second web process, and what its operator does to it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ACCESS_TOKEN_LIFETIME=str(LIFETIME))
        self.web_ports = {"web": self.port, "web2": free_ports(1)[0]}
        self.restarts = 0

    def start(self) -> None:
        super().start()
        self.run_web("web2", self.web_ports["web2"])
        eventually(lambda: self.ready(self.web_ports["web2"]))

    def restart(self, name: str) -> None:
        super().restart(name)
        if name in self.web_ports:
            eventually(lambda: self.ready(self.web_ports[name]))
        self.restarts += 1

    def roll_out(self, **settings: str) -> Iterator[str]:
        """One process after the other takes these settings; yields the name of the one that just did."""
        self.settings |= settings
        for name in ("web", "worker", "web2", "beat"):
            self.restart(name)
            time.sleep(PAUSE)
            yield name

    def secrets(self, *values: str) -> dict[str, str]:
        """The first one in force, the others understood."""
        return {"SECRET_KEY": values[0], "SECRET_KEY_FALLBACKS": ",".join(values[1:])}

    @property
    def secrets_now(self) -> list[str]:
        fallbacks = self.settings.get("SECRET_KEY_FALLBACKS")
        return [self.environment["SECRET_KEY"], *(fallbacks.split(",") if fallbacks else [])]

    def kids(self) -> set[object]:
        return {row[0] for row in self.sql("SELECT kid FROM accounts_signingkey")}

    def removed(self, kid: str) -> bool:
        return kid not in self.kids()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoWebs]:
    made = TwoWebs(tmp_path_factory.mktemp("two_webs"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


# --- What stands in front -----------------------------------------------------------------------------------


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    port: int

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def __str__(self) -> str:
        return f"{self.status} {self.headers['Location'] or self.body[:300]!r} from {self.port}"


class Proxy:
    """Keeps connections open, chooses a web process by chance, and asks the other where one refuses the connection or
    closes it before the answer. Only for what may be asked twice: reading, and refreshing by its design."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.failed: list[str] = []
        self._kept = threading.local()

    def ask(self, method: str, path: str, headers: dict[str, str], body: str | None = None) -> Answer:
        for port in random.sample(self.ports, len(self.ports)):
            kept: dict[int, http.client.HTTPConnection] = self._kept.__dict__.setdefault("connections", {})
            new = http.client.HTTPConnection("127.0.0.1", port, timeout=180)
            for connection in dict.fromkeys((kept.pop(port, new), new)):
                try:
                    connection.request(method, path, body, headers)
                    response = connection.getresponse()
                    answer = Answer(response.status, response.headers, response.read(), port)
                except (ConnectionError, http.client.HTTPException) as error:
                    connection.close()
                    self.failed.append(f"{'new' if connection is new else 'kept'} connection: {type(error).__name__}")
                else:
                    kept[port] = connection
                    return answer
        raise AssertionError(f"nobody answers {method} {path}")

    def close(self) -> None:
        """Those of this thread."""
        for connection in self._kept.__dict__.pop("connections", {}).values():
            connection.close()


@pytest.fixture
def in_front_of() -> Iterator[Callable[..., Proxy]]:
    made: list[Proxy] = []

    def make(*ports: int) -> Proxy:
        made.append(Proxy(list(ports)))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


# --- Apps and browsers --------------------------------------------------------------------------------------


@dataclass
class Load:
    """Threads that let apps and browsers ask, one job after the other, until told to stop."""

    service: TwoWebs
    proxy: Proxy
    done: list[str] = field(default_factory=list)
    unearned: list[str] = field(default_factory=list)

    def run(self, groups: list[list[Callable[[], None]]]) -> Self:
        random.shuffle(groups)
        self._jobs = itertools.cycle(job for group in groups for job in group)  # jobs of a group begin together
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(THREADS)]
        return self

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while not self._stop.wait(REST):
            with self._lock:
                job = next(self._jobs)
            try:
                job()
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody earned it
                self.unearned.append(repr(error))
        self.proxy.close()

    def ask(self, method: str, path: str, headers: dict[str, str], body: str | None = None) -> Answer:
        self.done.append("request")
        return self.proxy.ask(method, path, headers, body)

    def expect(self, answer: Answer, what: str, status: int = 200) -> bool:
        if answer.status != status:
            self.unearned.append(f"{what}: {answer}")
        return answer.status == status


def kid_of(token: str) -> str:
    found: str = jwt.get_unverified_header(token)["kid"]
    return found


class App:
    """The loop of docs/mobile.md."""

    def __init__(self, load: Load, login: str, other: "OtherService | None" = None) -> None:
        self.load = load
        self.other = other
        self.lock = threading.Lock()
        self.cursor: str | None = None
        self.refused: set[str] = set()  # tokens of a key that was taken away
        answer = load.service.post("/token", {"login": login, "password": PASSWORD})
        self.keep(answer.json()["tokens"])

    def keep(self, tokens: dict[str, Any]) -> None:
        self.refresh_token: str = tokens["refresh_token"]
        self.access: str = tokens["access_token"]
        self.valid_until = time.monotonic() + tokens["expires_in"]

    def access_token(self, rejected: str | None = None) -> str:
        with self.lock:
            if self.access == rejected or self.valid_until < time.monotonic() + 1:
                self.refresh()
            return self.access

    def refresh(self) -> None:
        body = json.dumps({"refresh_token": self.refresh_token})
        answer = self.load.ask("POST", "/api/v1/token/refresh", {"Content-Type": "application/json"}, body)
        if self.load.expect(answer, "refresh"):
            self.keep(answer.json)
            self.load.done.append("refreshed")

    def get(self, path: str, token: str) -> Answer:
        return self.load.ask("GET", f"/api/v1{path}", {"Authorization": f"Bearer {token}"})

    def me(self) -> None:
        self.call("/me")

    def leaf(self) -> None:
        """The next page of the directory, by the cursor that one of the web processes signed."""
        query = urlencode({"limit": 1, **({"cursor": self.cursor} if self.cursor else {})})
        self.cursor = self.call(f"/users?{query}").json.get("next")

    def show_elsewhere(self) -> None:
        assert self.other is not None
        self.other.verify(self.access)

    def call(self, path: str) -> Answer:
        token = self.access_token()
        answer = self.get(path, token)
        if answer.status == 401 and answer.json["code"] == "invalid_token" and self.load.service.removed(kid_of(token)):
            self.refused.add(token)
            self.load.done.append("401 for a key that was taken away")
            answer = self.get(path, self.access_token(rejected=token))
        self.load.expect(answer, path)
        return answer


class OtherService:
    """Verifies access tokens offline; fetches the keys again only where it meets an unknown one."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.known: set[str] = set()

    def verify(self, token: str) -> None:
        kid = kid_of(token)
        if kid in self.known:
            return
        published = {key["kid"] for key in self.load.ask("GET", "/.well-known/jwks.json", {}).json["keys"]}
        if kid not in published and not self.load.service.removed(kid):
            self.load.unearned.append(f"the key {kid} signs and is not published")
        self.known = published


class Browser:
    """A jar of cookies. Each request leaves with those of its moment, and several are under way at once."""

    def __init__(self, load: Load, login: str) -> None:
        self.load = load
        self.cookies: dict[str, str] = {}
        self.ask("GET", "/account/login/")
        answer = self.sign_in(login)
        assert answer.status == 302, answer

    def sign_in(self, login: str) -> Answer:
        form = {"login": login, "password": PASSWORD, "csrfmiddlewaretoken": self.cookies["csrf"]}
        return self.ask("POST", "/account/login/", urlencode(form))

    def ask(self, method: str, path: str, body: str | None = None) -> Answer:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.copy().items())}
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        answer = self.load.ask(method, path, headers, body)
        for line in answer.headers.get_all("Set-Cookie", []):
            for name, cookie in SimpleCookie(line).items():
                if cookie["max-age"] == "0" or not cookie.value:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = cookie.value
        return answer

    def overview(self) -> None:
        self.read("/account/")

    def devices(self) -> None:
        self.read("/account/devices/")

    def read(self, path: str) -> None:
        if self.load.expect(self.ask("GET", path), path):
            self.load.done.append("page")


def sign_up(service: Service, name: str) -> None:
    answer = service.post("/signup", {"username": name, "email": f"{name}@example.com", "password": PASSWORD})
    assert answer.status_code == 201, answer.text


# --- The drill ----------------------------------------------------------------------------------------------


def test_nobody_under_load_notices_new_keys_and_restarts(service: TwoWebs, in_front_of: Callable[..., Proxy]) -> None:
    begun, name = time.monotonic(), secrets.token_hex(4)
    proxy = in_front_of(*service.web_ports.values())
    load = Load(service, proxy)
    drivers = [f"driver.{name}.{number}" for number in range(10)]
    for driver in drivers:
        sign_up(service, driver)
    other = OtherService(load)
    apps = [App(load, random.choice(drivers), other) for _ in range(SESSIONS * 3 // 4)]
    browsers = [Browser(load, random.choice(drivers)) for _ in range(SESSIONS - len(apps))]
    groups: list[list[Callable[[], None]]] = [
        *([app.me, app.me, app.leaf, app.show_elsewhere] for app in apps),
        *([browser.overview, browser.devices, browser.overview] for browser in browsers),
    ]
    sign_up(service, f"walker.{name}")
    assert service.post("/password/forgot", {"login": f"walker.{name}"}).status_code == 202
    with load.run(groups):
        service.manage("rotate_signing_key")
        service.sql("UPDATE accounts_signingkey SET signs_from = now() WHERE signs_from > now()")  # ten minutes pass
        old, new = service.secrets_now, secrets.token_urlsafe(50)
        for _ in service.roll_out(**service.secrets(*old, new)):
            pass
        for process in service.roll_out(**service.secrets(new, *old)):
            if process == "web":  # the other one still has the earlier key first
                service.manage("rotate_signing_key", "--at-once")
        (kid,) = service.kids()
        time.sleep(LIFETIME + 1)
    log.info("%s sessions, %.0f s, %s restarts", SESSIONS, time.monotonic() - begun, service.restarts)
    log.info("%s", dict(Counter(load.done + proxy.failed)))
    assert load.unearned == []
    assert load.done.count("refreshed") > 3 * len(apps)
    assert load.done.count("page") > 10 * len(browsers)
    assert max(len(app.refused) for app in apps) <= 1  # the next token is good everywhere
    assert {kid_of(app.access_token()) for app in apps} == {kid}
    code = service.code(f"walker.{name}@example.com", "Choose a new")  # from before all this
    reset = service.post("/password/reset", {"login": f"walker.{name}", "code": code, "new_password": NEW})
    assert reset.status_code == 204, reset.text


# --- Why the key is changed in two steps --------------------------------------------------------------------


def test_a_new_secret_key_that_some_do_not_know_yet_signs_people_out(
    service: TwoWebs, in_front_of: Callable[..., Proxy]
) -> None:
    """The short way, which docs/operating.md warns of."""
    name = f"hasty.{secrets.token_hex(4)}"
    sign_up(service, name)
    new, old = (in_front_of(port) for port in service.web_ports.values())
    load = Load(service, new)
    app = App(load, name)
    service.settings |= service.secrets(secrets.token_urlsafe(50), *service.secrets_now)
    service.restart("web")
    app.refresh()
    browser = Browser(load, name)
    assert load.unearned == []

    load.proxy = old
    app.refresh()
    browser.overview()
    refused, sent_away = load.unearned
    assert re.search(r"401 .*session_revoked", refused)  # on which an app forgets its tokens
    assert "302 '/account/login/" in sent_away
    service.restart("web2")
