"""What people notice of a new version, and of the way back: `make bench ARGS=rollout`, with nginx
(`apt-get install nginx-light`) and the history of git. The earlier version is the last released contract before this
one, or a commit: `make bench ARGS="rollout 924cf38^"`.

Apps, browsers and newcomers ask all the time, through the nginx of docker-compose.yml. Behind it the earlier version
serves alone, this one migrates the database, serves beside it and then alone; and back to the earlier one, on the new
schema. Then processes are ended while nginx still asks them, which an operator should not do, a few times. Emails and
data exports that one version has queued are made by the worker of the other. Writes the figures to
docs/bench/rollout.md."""

import itertools
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import requests

from project.devstack.servers import BASE, free_ports
from tests.bench.server import OUT, PASSWORD
from tests.drills.test_load_drill import Answer, App, Browser, Proxy
from tests.drills.test_scale_drill import NGINX, Nginx
from tests.e2e.conftest import Service, eventually

APPS, BROWSERS, THREADS = 30, 10, 12
LIFETIME = 4  # seconds of an access token
REST = 0.1  # seconds of a thread between two jobs
STEP = 5.0  # seconds of load on each stage
ENDS = 4  # how often each version is ended while nginx asks it
SUDDEN = f"{2 * ENDS} times a process ends while nginx asks it"
LEAVES = 5.0  # seconds from nginx's last new request to SIGTERM, as docs/operating.md says


class Phone(App):
    """A cursor may be of another version. Then an app begins at the first page, as `invalid_cursor` says."""

    def leaf(self) -> None:
        query = urlencode({"limit": 1, **({"cursor": self.cursor} if self.cursor else {})})
        answer = self.get(f"/users?{query}", self.access_token())
        if answer.status == 400 and answer.json["code"] == "invalid_cursor":
            self.cursor = None
            self.load.done.append("cursor of another version")
        elif self.load.expect(answer, "/users"):
            self.cursor = answer.json.get("next")


class Door(Nginx):
    def reload(self, *webs: int) -> None:
        """What is asked of others is answered to its end by the workers of before."""
        self.webs = list(webs)
        self.prepare()
        assert self._process is not None
        self._process.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]


class Crew(Service):
    """Two versions of the service on one database."""

    def __init__(self, folder: Path, earlier: str) -> None:
        super().__init__(folder, ACCESS_TOKEN_LIFETIME=str(LIFETIME), TRUSTED_PROXY_COUNT="1")
        self.versions = {"earlier": folder / "earlier", "this": BASE}
        unpack(earlier, self.versions["earlier"])
        self.ports = dict(zip(self.versions, free_ports(2), strict=True))
        self.static = {version: folder / f"static of {version}" for version in self.versions}
        self.door = Door(folder / "nginx", [self.ports["earlier"]])
        self.url = self.door.url

    @property
    def environment(self) -> dict[str, str]:
        version = next(name for name, source in self.versions.items() if source == self.source)
        found = {**super().environment, "STATIC_ROOT": str(self.static[version])}
        # Only limits that both versions know: an operator names new ones after the upgrade.
        found["RATE_LIMITS"] = ",".join(one for one in found["RATE_LIMITS"].split(",") if "challenge" not in one)
        return {**found, "PROOF_OF_WORK": "0"}

    @contextmanager
    def of(self, version: str) -> Iterator[None]:
        before, self.source = self.source, self.versions[version]
        try:
            yield
        finally:
            self.source = before

    def start(self) -> None:
        self.sql(f"CREATE DATABASE {self.database}", database="postgres")
        for server in (self.valkey, self.mail):
            server.start()
        with self.of("earlier"):
            self.manage("migrate", "--verbosity=0")
        for version in self.versions:
            with self.of(version):
                self.manage("collectstatic", "--noinput", "--verbosity=0")
        self.serve("earlier")
        self.work("earlier")
        self.door.start()

    def stop(self) -> None:
        self.door.stop()
        super().stop()

    def serve(self, version: str) -> None:
        with self.of(version):
            self.run_web(f"web of {version}", self.ports[version])
        eventually(lambda: self.ready(self.ports[version]))

    def work(self, version: str) -> None:
        with self.of(version):
            self.run_worker(f"worker.{version}")
            self.run_beat()

    def end(self, *names: str) -> None:
        """As an orchestrator does."""
        for name in names:
            process = self.processes.pop(name)
            process.terminate()
            process.wait(30)

    def removed(self, _: str) -> bool:
        """No signing key is."""
        return False


def unpack(commit: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=BASE, check=True, capture_output=True)
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)


def last_released() -> str:
    """The commit that recorded the contract before this version's (tests/museum)."""
    version = json.loads((BASE / "api/v1/openapi.json").read_text())["info"]["version"]
    recorded = (path.name for path in (BASE / "tests/museum").glob("[0-9]*"))
    earlier = max((name for name in recorded if name != version), key=lambda name: [int(n) for n in name.split(".")])
    command = ["git", "log", "-1", "--format=%H", "--diff-filter=A", "--", f"tests/museum/{earlier}/contract.json"]
    found = subprocess.run(command, cwd=BASE, check=True, capture_output=True, text=True).stdout.strip()
    assert found, f"the history has no commit that recorded {earlier}"
    return found


# --- Who asks -----------------------------------------------------------------------------------------------


class Load:
    """Threads that let apps, browsers and newcomers ask, and what each stage answered."""

    def __init__(self, service: Crew) -> None:
        self.service = service
        self.proxy = Proxy([service.door.port])
        self.stage = "before"
        self.answers: dict[str, Counter[int]] = defaultdict(Counter)
        self.slowest: dict[str, float] = defaultdict(float)
        self.done: list[str] = []  # `App` and `Browser` write into it
        self.unearned: dict[str, list[str]] = defaultdict(list)
        self.newcomers: list[str] = []

    @contextmanager
    def running(self, jobs: list[Callable[[], None]]) -> Iterator[None]:
        random.shuffle(jobs)
        turns, lock, stop = itertools.cycle(jobs), threading.Lock(), threading.Event()

        def work() -> None:
            while not stop.wait(REST):
                with lock:
                    job = next(turns)
                try:
                    job()
                except Exception as error:  # noqa: BLE001 - whatever it is, nobody earned it
                    self.unearned[self.stage].append(repr(error))
            self.proxy.close()

        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def ask(self, method: str, path: str, headers: dict[str, str], body: str | None = None) -> Answer:
        began, stage = time.monotonic(), self.stage
        answer = self.proxy.ask(method, path, headers, body)
        self.answers[stage][answer.status] += 1
        self.slowest[stage] = max(self.slowest[stage], time.monotonic() - began)
        return answer

    def expect(self, answer: Answer, what: str, status: int = 200) -> bool:
        if answer.status != status:
            self.unearned[self.stage].append(f"{what}: {answer}")
        return answer.status == status

    def send(self, path: str, body: dict[str, Any], status: int = 200) -> dict[str, Any] | None:
        answer = self.ask("POST", f"/api/v1{path}", {"Content-Type": "application/json"}, json.dumps(body))
        return answer.json if self.expect(answer, f"POST {path}", status) else None

    def sign_up(self) -> None:
        name = new_name()
        body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        if self.send("/signup", body, 201):
            self.newcomers.append(name)

    def sign_in(self) -> None:
        self.send("/token", {"login": random.choice(self.newcomers), "password": PASSWORD})

    def page_with_its_files(self) -> None:
        page = self.ask("GET", "/account/login/", {})
        if self.expect(page, "/account/login/"):
            for path in set(re.findall(r'(?:href|src)="(/static/[^"?#]+)"', page.body.decode())):
                self.expect(self.ask("GET", path, {}), f"{path} of a page from {page.headers['Date']}")


def new_name() -> str:
    return "r" + re.sub(r"\d", lambda digit: "ghijklmnop"[int(digit[0])], uuid4().hex[:16])


# --- What one version has queued and the other does ---------------------------------------------------------


class Queued:
    """Somebody of this version's web process, who asks for a new password and a copy of the data."""

    def __init__(self, service: Crew, version: str) -> None:
        self.service, self.url = service, f"http://127.0.0.1:{service.ports[version]}/api/v1"
        self.name = new_name()
        self.email = f"{self.name}@example.com"
        tokens = self._post("/signup", username=self.name, email=self.email, password=PASSWORD)["tokens"]
        self.token: str = tokens["access_token"]
        self._post("/password/forgot", login=self.name)
        self._post("/me/export")

    def _post(self, path: str, **body: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}"} if not body else {}
        answer = requests.post(self.url + path, json=body or None, headers=headers, timeout=180)
        assert answer.ok, answer.text
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def wait(self) -> None:
        """Until all of it is done, no matter by whom."""
        select = "SELECT e.state FROM accounts_export e JOIN accounts_user u ON u.id = e.user_id WHERE u.username = %s"
        eventually(lambda: self.service.sql(select, self.name) == [("ready",)])
        eventually(lambda: len(self.service.letters(self.email)) >= 2)


# --- The drill ----------------------------------------------------------------------------------------------


class Operator:
    """What is done to the service, stage by stage."""

    def __init__(self, service: Crew, load: Load) -> None:
        self.service, self.load = service, load

    def stage(self, name: str, seconds: float = 0) -> None:
        print(name, flush=True)
        self.load.stage = name
        time.sleep(seconds)

    def migrate(self) -> None:
        self.stage("earlier serves alone", STEP)
        self.stage("this migrates while earlier serves")
        with self.service.of("this"):
            self.service.manage("migrate", "--verbosity=0")
        self.stage("earlier serves on this schema", STEP)

    def replace_worker(self, old: str, new: str) -> None:
        """What the web process of the old version has queued, the new worker does."""
        self.stage(f"the worker of {old} ends")
        self.service.end("beat", f"worker.{old}")
        queued = Queued(self.service, old)
        self.service.work(new)
        self.stage(f"the worker of {new} does what {old} has queued")
        queued.wait()

    def replace_web(self, old: str, new: str) -> None:
        """As docs/operating.md says."""
        ports = self.service.ports
        self.stage(f"{new} starts beside {old}")
        self.service.serve(new)
        self.service.door.reload(ports[old], ports[new])
        self.stage(f"{old} and {new} serve", STEP)
        self.stage(f"{old} leaves nginx, and ends")
        self.service.door.reload(ports[new])
        time.sleep(LEAVES)
        self.service.end(f"web of {old}")
        self.stage(f"{new} serves alone", STEP)

    def end_while_asked(self, old: str, new: str) -> None:
        """Whatever was under way to the old one."""
        ports = self.service.ports
        self.service.serve(new)
        self.service.door.reload(ports[old], ports[new])
        time.sleep(1)  # until no worker of nginx knows the old one alone
        self.service.end(f"web of {old}")


def drill(service: Crew) -> Load:
    load = Load(service)
    operator = Operator(service, load)
    load.sign_up()
    people = [new_name() for _ in range(10)]
    for name in people:
        load.send("/signup", {"username": name, "email": f"{name}@example.com", "password": PASSWORD}, 201)
    apps: list[Any] = [Phone(load, random.choice(people)) for _ in range(APPS)]  # type: ignore[arg-type]
    browsers = [Browser(load, random.choice(people)) for _ in range(BROWSERS)]  # type: ignore[arg-type]
    jobs = [job for app in apps for job in (app.me, app.leaf, app.me)]
    jobs += [job for browser in browsers for job in (browser.overview, browser.devices)]
    jobs += [load.sign_up, load.sign_in, load.page_with_its_files] * 5
    ways = (("earlier", "this"), ("this", "earlier"))
    with load.running(jobs):
        operator.migrate()
        for old, new in ways:
            operator.replace_worker(old, new)
            operator.replace_web(old, new)
        operator.stage(SUDDEN)
        for old, new in ways * ENDS:
            operator.end_while_asked(old, new)
    load.stage = "everybody once more at the end"
    for work in (*(app.refresh for app in apps), *(app.me for app in apps), *(each.overview for each in browsers)):
        work()
    letters = eventually(lambda: counted(service, load.newcomers))
    assert set(letters.values()) == {1}, letters.most_common(3)
    return load


def counted(service: Crew, names: list[str]) -> Counter[str] | None:
    """How many emails each got, once each has one."""
    found = Counter(str(letter["X-RcptTo"]).partition("@")[0] for letter in service.mail.messages())
    return Counter({name: found[name] for name in names}) if all(found[name] for name in names) else None


def main(earlier: str = "") -> None:
    if not NGINX:
        sys.exit("This needs nginx: apt-get install nginx-light.")
    earlier = earlier or last_released()
    folder = Path(tempfile.mkdtemp(prefix="rollout-"))
    folder.chmod(0o711)
    service = Crew(folder / "service", earlier)
    try:
        service.start()
        load = drill(service)
    except BaseException:
        print(f"The logs are in {folder}.")
        raise
    finally:
        service.stop()
    for log in sorted(service.folder.glob("*.log")):
        wrong = [line for line in log.read_text().splitlines() if re.search("ERROR|CRITICAL|Traceback", line)]
        print(f"{log.name}: {len(wrong)} errors", *wrong[:5], sep="\n  ")
    report(load, earlier, folder)
    shutil.rmtree(folder, ignore_errors=True)


def report(load: Load, earlier: str, folder: Path) -> None:
    rows = []
    for name, answers in load.answers.items():
        bad = load.unearned[name]
        statuses = ", ".join(f"{count} × {status}" for status, count in sorted(answers.items()))
        rows.append(f"| {name} | {answers.total()} | {statuses} | {load.slowest[name]:.1f} | {len(bad)} |")
        print(rows[-1], *bad[:10], sep="\n  ")
    cut = len(load.proxy.failed)
    print(f"{cut} kept connections were closed by nginx.")
    if any(bad for name, bad in load.unearned.items() if name != SUDDEN):
        sys.exit(f"Somebody was answered what they had not earned. The logs are in {folder}.")
    head = HEAD.format(
        commit=earlier[:7],
        total=sum(answers.total() for answers in load.answers.values()),
        refreshed=load.done.count("refreshed"),
        newcomers=len(load.newcomers),
        pages=load.done.count("page"),
        cut=cut,
        cursors=load.done.count("cursor of another version"),
    )
    (OUT / "rollout.md").write_text("\n".join([head, *rows, ""]))


HEAD = f"""# A new version, and back

Written by `make bench ARGS=rollout`: this version beside commit {{commit}}, with {APPS} apps whose access tokens live
for {LIFETIME} seconds, {BROWSERS} browsers, and newcomers. {THREADS} ask at once, through nginx with the configuration
of docker-compose.yml, on one machine of two cores.

{{total:,}} requests, of them {{refreshed:,}} refreshes, {{newcomers:,}} sign-ups with one email each, and {{pages:,}}
pages of signed-in browsers. At the end every app refreshes and every browser is signed in. {{cut}} times nginx closed
an idle connection when it was reloaded, and the client opened another. {{cursors}} cursors of the directory were of the
other version (400 `invalid_cursor`), and the app began at the first page.

| stage | requests | answers | slowest, s | not earned |
|---|---|---|---|---|"""
