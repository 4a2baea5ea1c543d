"""What people notice of a Patroni failover: `make bench ARGS=failover`, with etcd (`apt-get install etcd-server`) and
Patroni 4 (`pipx install "patroni[etcd3]"`; with Debian 12's 3.0 the first failover works, and then no standby becomes
synchronous any more).

Two Postgres nodes with `synchronous_mode`, one etcd, and the service under a load of sign-ups and profiles. The primary
is killed, frozen, and cut off from everything, one after the other. Nothing that was acknowledged may be lost,
every answer is what it always is or 503, and no process is restarted. Writes the figures to docs/bench/failover.md."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests
from mirakuru.base_env import processes_with_env

from project.devstack.servers import MARK, answers, free_ports, postgres_bin, without_root
from tests.bench.server import OUT, PASSWORD
from tests.e2e.conftest import Service, eventually
from tests.outages.away import Relay

PATRONI, ETCD = shutil.which("patroni"), shutil.which("etcd")
SETTINGS = {"ttl": 20, "loop_wait": 5, "retry_timeout": 5, "synchronous_mode": True}


class Command:
    """A program in a folder of its own, with everything that it starts."""

    def __init__(self, folder: Path, command: Sequence[str], **environment: str) -> None:
        self.folder, self.command, self.environment = folder, command, environment
        folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=os.environ | self.environment | {MARK: f"{self.folder}/"},
                stdout=log,
                stderr=log,
            )

    def signal(self, number: signal.Signals) -> None:
        for pid in processes_with_env(MARK, f"{self.folder}/"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        if self.process:
            self.signal(signal.SIGKILL)
            self.process.wait()


class Node:
    """A Postgres with its Patroni. Others reach it, and it reaches etcd, over lines that can be cut."""

    def __init__(self, name: str, folder: Path, etcd: int, password: str) -> None:
        self.name = name
        self.port, self.rest = free_ports(2)
        self.line, self.etcd = Relay(self.port), Relay(etcd)
        folder.mkdir()
        login = {"username": "app", "password": password}
        config = {
            "scope": "crew",
            "name": name,
            "restapi": {"listen": f"127.0.0.1:{self.rest}", "connect_address": f"127.0.0.1:{self.rest}"},
            "etcd3": {"hosts": f"127.0.0.1:{self.etcd.port}", "use_proxies": True},  # else it looks for a shorter way
            "bootstrap": {
                "dcs": {**SETTINGS, "postgresql": {"use_pg_rewind": True}},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}],
                "pg_hba": [f"host {what} all 127.0.0.1/32 scram-sha-256" for what in ("all", "replication")],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.line.port}",
                "data_dir": str(folder / "data"),
                "bin_dir": str(postgres_bin()),
                "pgpass": str(folder / "pgpass"),
                "authentication": {"superuser": login, "replication": login},
                # A primary that went on alone for a moment comes back as a copy of the new one.
                "remove_data_directory_on_diverged_timelines": True,
                "remove_data_directory_on_rewind_failure": True,
                "parameters": {"unix_socket_directories": "", "password_encryption": "scram-sha-256"},
            },
        }
        (folder / "patroni.json").write_text(json.dumps(config))
        assert PATRONI
        self.program = Command(folder, [*without_root(folder), PATRONI, str(folder / "patroni.json")], LC_ALL="C.UTF-8")

    def is_leader(self) -> bool:
        return answers(f"http://127.0.0.1:{self.rest}/primary")

    def is_synchronous(self) -> bool:
        return answers(f"http://127.0.0.1:{self.rest}/synchronous")

    def swallow(self, value: bool) -> None:
        for line in (self.line, self.etcd):
            line.swallow = value


class Cluster:
    def __init__(self, folder: Path) -> None:
        assert ETCD
        client, peer = free_ports(2)
        urls = {"client": f"http://127.0.0.1:{client}", "peer": f"http://127.0.0.1:{peer}"}
        self.etcd = Command(
            folder / "etcd",
            [
                ETCD, "--data-dir", str(folder / "etcd/data"), "--listen-client-urls", urls["client"],
                "--advertise-client-urls", urls["client"], "--listen-peer-urls", urls["peer"],
                "--initial-advertise-peer-urls", urls["peer"], "--initial-cluster", f"default={urls['peer']}",
            ],
        )  # fmt: skip
        self.password = uuid4().hex
        self.nodes = [Node(name, folder / name, client, self.password) for name in ("one", "two")]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.line.port}" for node in self.nodes)
        return f"postgres://app:{self.password}@{hosts}/postgres?target_session_attrs=read-write"

    def start(self) -> None:
        self.etcd.start()
        for node in self.nodes:
            node.program.start()
            eventually(lambda node=node: self.leader() or node.is_synchronous())  # type: ignore[misc]
        self.settle()

    def leader(self) -> Node | None:
        return next((node for node in self.nodes if node.is_leader()), None)

    def settle(self) -> Node:
        """Until there are a leader and a synchronous standby; the standby."""
        return eventually(lambda: next((node for node in self.nodes if self.leader() and node.is_synchronous()), None))

    def stop(self) -> None:
        for node in self.nodes:
            node.program.kill()
        self.etcd.kill()


class Crew(Service):
    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self.cluster = cluster

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "DATABASE_URL": self.cluster.url}

    def address(self, database: str) -> str:
        return self.cluster.url

    def start(self) -> None:
        self.valkey.start()
        self.mail.start()
        self.prepare()
        self.run_web()
        self.run_worker("worker")
        self.run_beat()
        eventually(self.ready)

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        self.mail.stop()
        self.valkey.stop()

    def size_of_log(self) -> int:
        return sum((self.folder / f"{name}.log").stat().st_size for name in ("web", "worker", "beat"))


@dataclass
class Load:
    """Sign-ups and profiles, over and over, by a few clients."""

    service: Crew
    statuses: Counter[int] = field(default_factory=Counter)
    signed_up: list[str] = field(default_factory=list)
    slowest: float = 0.0
    good_at: float = 0.0  # when the last sign-up was acknowledged
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._run, args=(work,)) for work in (self.sign_up, self.profile()) * 2]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _run(self, work: Callable[[], requests.Response]) -> None:
        while not self._over.wait(0.05):
            began = time.monotonic()
            status = work().status_code
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.statuses[status] += 1

    def sign_up(self) -> requests.Response:
        name = "d" + re.sub(r"\d", lambda digit: "ghijklmnop"[int(digit[0])], uuid4().hex[:16])
        body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        answer = self.service.post("/signup", body)
        if answer.status_code == 201:
            self.signed_up.append(name)
            self.good_at = time.monotonic()
        return answer

    def profile(self) -> Callable[[], requests.Response]:
        token = self.sign_up().json()["tokens"]["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        return lambda: requests.get(f"{self.service.url}/api/v1/me", headers=headers, timeout=180)


Fault = Callable[[Node], Any]
FAULTS: dict[str, tuple[Fault, Fault]] = {
    "killed": (lambda node: node.program.kill(), lambda node: node.program.start()),
    "frozen": (
        lambda node: node.program.signal(signal.SIGSTOP),
        lambda node: node.program.signal(signal.SIGCONT),
    ),
    "cut off": (lambda node: node.swallow(True), lambda node: node.swallow(False)),
}


def measure(name: str, service: Crew, cluster: Cluster) -> str:
    begin, end = FAULTS[name]
    successor = cluster.settle()
    old = cluster.leader()
    assert old is not None
    processes = {each: process.pid for each, process in service.processes.items()}
    size = service.size_of_log()
    load = Load(service)
    with load.running():
        time.sleep(3)
        begin(old)
        began = time.monotonic()
        eventually(successor.is_leader)
        led = time.monotonic()
        eventually(lambda: load.good_at > led)
        good = load.good_at
        time.sleep(5)  # the old one is still away
        end(old)
        cluster.settle()
        time.sleep(2)
    size = service.size_of_log() - size
    assert load.statuses.keys() <= {200, 201, 503}, load.statuses
    [[kept]] = service.sql("SELECT count(*) FROM accounts_user WHERE username = ANY(%s)", load.signed_up)
    assert kept == len(load.signed_up), (kept, len(load.signed_up))
    waiting = "SELECT count(*) FROM post_office_email WHERE status IN (2, 3)"
    eventually(lambda: service.sql(waiting) == [(0,)])
    assert {each: process.pid for each, process in service.processes.items() if process.poll() is None} == processes
    row = (
        f"| {name} | {led - began:.1f} | {good - led:.1f} | {load.slowest:.1f} | {load.statuses[503]} of "
        f"{load.statuses.total()} | {len(load.signed_up)}, {kept} | {size // 1000} kB |"
    )
    print(row, flush=True)
    return row


def main() -> None:
    if not (PATRONI and ETCD):
        sys.exit("This needs patroni and etcd: the head of tests/bench/failover.py says where from.")
    folder = Path(tempfile.mkdtemp(prefix="failover-"))
    folder.chmod(0o711)
    cluster = Cluster(folder)
    service = Crew(folder / "service", cluster)
    try:
        cluster.start()
        service.start()
        rows = [measure(name, service, cluster) for name in FAULTS]
    except BaseException:
        print(f"The logs are in {folder}.")
        raise
    finally:
        service.stop()
        cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)
    (OUT / "failover.md").write_text(
        "# A Patroni failover\n\nWritten by `make bench ARGS=failover`: two nodes, one etcd, "
        f"`{json.dumps(SETTINGS)}`, one web process of four threads, one worker, and four clients that sign up or read "
        "their profile all the time, on one machine of two cores. Seconds.\n\n"
        "| the primary is | until there is a new leader | from then to the next sign-up | slowest answer | 503 | "
        "sign-ups acknowledged, kept | log |\n|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )
