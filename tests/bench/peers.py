"""Beside others: `make bench ARGS=peers`.

Four services that people build on today are installed from PyPI into environments of their own (.venv/peers), each with
its own database on the same Postgres. All of them and ours are asked in turn, round by round, one request after the
other over one connection, by one worker of the same server program. A figure is the CPU time of the server, Postgres
and Valkey together per request, in milliseconds. A ratio is ours divided by a peer's in the same round.

Writes docs/bench/peers.md with a plot. Ratios hold from machine to machine; milliseconds do not."""

import contextlib
import http.client
import importlib.metadata
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import psutil
import psycopg2
import redis

from project.devstack.servers import BASE, free_ports
from tests.bench.server import OUT, PASSWORD, PER_ADDRESS

ROUNDS = 7
APPS = Path(__file__).parent / "peer_apps"
FREE = {"ARGON2_MEMORY_KIB": "8", "ARGON2_TIME_COST": "1"}
EQUAL = {"ARGON2_MEMORY_KIB": str(19 * 1024), "ARGON2_TIME_COST": "2"}
DJANGO = f"Django=={importlib.metadata.version('Django')}"
COMMON = [
    f"{name}=={importlib.metadata.version(name)}"
    for name in ("granian", "psycopg2-binary", "redis", "argon2-cffi", "dj-database-url")
]
# Operations, and how many requests of each make a round.
TIMES = {
    "me": 300,
    "refresh": 150,
    "sign in": 100,
    "sign in, equal hash": 40,
    "sign up": 60,
    "reset, known": 100,
    "reset, unknown": 100,
}


@dataclass
class Ask:
    """One request, and what its answer must be."""

    path: str
    body: dict[str, str] | None = None
    token: str = ""
    form: bool = False
    statuses: tuple[int, ...] = (200, 201, 202, 204)


@dataclass
class Peer:
    """How one of them is installed, started and asked. `me`, `refresh` and so on give the next request."""

    name: str
    packages: list[str]
    command: list[str]
    prepare: list[list[str]]
    sign_up: Callable[[str], Ask]
    sign_in: Callable[[str], Ask]
    tokens: Callable[[dict[str, object]], tuple[str, str]]
    me: str
    refresh: Callable[[str], Ask] | None
    reset: Callable[[str], Ask] | None
    environment: dict[str, str] = field(default_factory=dict)
    signs_up: bool = True  # else a command of `prepare` has made the people

    def python(self) -> str:
        """In an environment of its own, which the next run finds made."""
        if not self.packages:
            return sys.executable
        folder = BASE / ".venv" / "peers" / self.name
        uv = [sys.executable, str(BASE / "project/devstack/uv.py")]
        if not folder.exists():
            subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        python = str(folder / "bin/python")
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", python, *self.packages], check=True)
        return python


MIGRATE = [["-m", "django", "migrate", "--verbosity=0"]]


def granian(interface: str, target: str) -> list[str]:
    return ["-m", "granian", "--interface", interface, "--no-ws", "--workers", "1", "--log-level", "warning", target]


def django(peer: str) -> dict[str, str]:
    return {"PEER": peer, "DJANGO_SETTINGS_MODULE": "django_peer", "PYTHONPATH": str(APPS)}


def mail(name: str) -> str:
    return f"{name}@example.com"


PEERS = [
    Peer(
        name="ours",
        packages=[],
        command=granian("wsgi", "project.wsgi:application"),
        prepare=[["manage.py", "migrate", "--verbosity=0"]],
        environment={
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "RATE_LIMITS": ",".join(f"{name}=100000000/60" for name in (*PER_ADDRESS, "reset_mail_per_login")),
            "LOG_LEVEL": "WARNING",
        },
        sign_up=lambda name: Ask("/api/v1/signup", {"username": name, "email": mail(name), "password": PASSWORD}),
        sign_in=lambda name: Ask("/api/v1/token", {"login": name, "password": PASSWORD}),
        tokens=lambda found: (found["tokens"]["access_token"], found["tokens"]["refresh_token"]),  # type: ignore[index]
        me="/api/v1/me",
        refresh=lambda token: Ask("/api/v1/token/refresh", {"refresh_token": token}),
        reset=lambda name: Ask("/api/v1/password/forgot", {"login": mail(name)}),
    ),
    Peer(
        name="djoser",
        packages=[DJANGO, *COMMON, "djoser==2.3.5", "djangorestframework-simplejwt==5.5.1"],
        command=granian("wsgi", "django_peer_wsgi:application"),
        prepare=MIGRATE,
        environment=django("djoser"),
        sign_up=lambda name: Ask("/auth/users/", {"username": name, "email": mail(name), "password": PASSWORD}),
        sign_in=lambda name: Ask("/auth/jwt/create/", {"username": name, "password": PASSWORD}),
        tokens=lambda found: (str(found["access"]), str(found["refresh"])),
        me="/auth/users/me/",
        refresh=lambda token: Ask("/auth/jwt/refresh/", {"refresh": token}),
        reset=lambda name: Ask("/auth/users/reset_password/", {"email": mail(name)}),
    ),
    Peer(
        name="ninja-jwt",
        packages=[DJANGO, *COMMON, "django-ninja-jwt==5.4.5", "django-ninja-extra==0.31.7"],
        command=granian("wsgi", "django_peer_wsgi:application"),
        prepare=[*MIGRATE, ["make_people.py"]],
        environment=django("ninja_jwt"),
        signs_up=False,
        sign_up=lambda _: Ask(""),
        sign_in=lambda name: Ask("/api/token/pair", {"username": name, "password": PASSWORD}),
        tokens=lambda found: (str(found["access"]), str(found["refresh"])),
        me="/api/me",
        refresh=lambda token: Ask("/api/token/refresh", {"refresh": token}),
        reset=None,
    ),
    Peer(
        name="allauth headless",
        packages=[DJANGO, *COMMON, "django-allauth[headless]==65.21.1", "PyJWT[crypto]"],
        command=granian("wsgi", "django_peer_wsgi:application"),
        prepare=MIGRATE,
        environment=django("allauth"),
        sign_up=lambda name: Ask(
            "/_allauth/app/v1/auth/signup", {"username": name, "email": mail(name), "password": PASSWORD}
        ),
        sign_in=lambda name: Ask("/_allauth/app/v1/auth/login", {"username": name, "password": PASSWORD}),
        tokens=lambda found: (found["meta"]["access_token"], found["meta"]["refresh_token"]),  # type: ignore[index]
        me="/_allauth/app/v1/auth/session",
        refresh=lambda token: Ask("/_allauth/app/v1/tokens/refresh", {"refresh_token": token}),
        # Answers that the code or link has been sent: 401 is its word for a flow that goes on.
        reset=lambda name: Ask("/_allauth/app/v1/auth/password/request", {"email": mail(name)}, statuses=(200, 401)),
    ),
    Peer(
        name="fastapi-users",
        packages=[*COMMON[:1], "fastapi==0.165.0", "fastapi-users[sqlalchemy]==15.0.5", "asyncpg==0.32.0"],
        command=granian("asgi", "fastapi_peer:app"),
        prepare=[["-c", "import asyncio, fastapi_peer; asyncio.run(fastapi_peer.create_tables())"]],
        environment={"PYTHONPATH": str(APPS)},
        sign_up=lambda name: Ask("/auth/register", {"email": mail(name), "password": PASSWORD}),
        sign_in=lambda name: Ask("/auth/jwt/login", {"username": mail(name), "password": PASSWORD}, form=True),
        tokens=lambda found: (str(found["access_token"]), ""),
        me="/users/me",
        refresh=None,  # it has no refresh tokens
        reset=lambda name: Ask("/auth/forgot-password", {"email": mail(name)}),
    ),
]


class Running:
    """A peer that answers, with hashes of one cost."""

    people = 20  # who are there

    def __init__(self, peer: Peer, hash_cost: dict[str, str], database: str) -> None:
        self.peer = peer
        self.port = free_ports(1)[0]
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.new = (f"new{letters(number)}" for number in count(int(time.time()) % 1_000_000 * 1000))
        url = os.environ["DATABASE_URL"].rpartition("/")[0] + f"/{database}"
        environment = {**os.environ, "DATABASE_URL": url, **hash_cost, **peer.environment}
        folder = BASE if peer.name == "ours" else APPS
        python = peer.python()
        for command in peer.prepare:
            subprocess.run([python, *command], cwd=folder, env=environment, check=True)
        listen = ["--host", "127.0.0.1", "--port", str(self.port)]
        if "wsgi" in peer.command:
            listen += ["--blocking-threads", "1"]
        self.process = subprocess.Popen([python, *peer.command, *listen], cwd=folder, env=environment)

    def start(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                http.client.HTTPConnection("127.0.0.1", self.port, timeout=5).request("GET", "/")
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.peer.name} does not start")
            time.sleep(0.2)
        if self.peer.signs_up:
            for number in range(self.people):
                self.send(self.peer.sign_up(f"person{letters(number)}"))
        self.access, self.refresh_token = self.signed_in(0)

    def send(self, ask: Ask) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {ask.token}"} if ask.token else {}
        body = None
        if ask.body is not None:
            kind = "application/x-www-form-urlencoded" if ask.form else "application/json"
            headers["Content-Type"] = kind
            body = urlencode(ask.body) if ask.form else json.dumps(ask.body)
        self.connection.request("GET" if body is None else "POST", ask.path, body, headers)
        answer = self.connection.getresponse()
        said = answer.read()
        if answer.status not in ask.statuses:
            raise SystemExit(f"{self.peer.name} {ask.path}: {answer.status} {said[:500]!r}")
        found: dict[str, object] = json.loads(said) if said.startswith(b"{") else {}
        return found

    def signed_in(self, number: int) -> tuple[str, str]:
        return self.peer.tokens(self.send(self.peer.sign_in(f"person{letters(number % self.people)}")))

    def works(self) -> Iterator[tuple[str, Callable[[int], object]]]:
        """Each operation that it has."""
        peer = self.peer
        yield "me", lambda _: self.send(Ask(peer.me, token=self.access))
        if refresh := peer.refresh:

            def again(number: int) -> None:
                found = self.send(refresh(self.refresh_token))
                self.refresh_token = successor(found, self.refresh_token)

            yield "refresh", again
        yield "sign in", self.signed_in
        if peer.signs_up:
            yield "sign up", lambda _: self.send(peer.sign_up(next(self.new)))
        if reset := peer.reset:
            yield "reset, known", lambda number: self.send(reset(f"person{letters(number % self.people)}"))
            yield "reset, unknown", lambda number: self.send(reset(f"nobody{letters(number)}"))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def letters(number: int) -> str:
    """A name may not end in digits everywhere."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


def successor(found: dict[str, object], token: str) -> str:
    """The next refresh token, wherever the peer puts it."""
    for place in (found, found.get("data"), found.get("meta")):
        if isinstance(place, dict):
            for name in ("refresh_token", "refresh"):
                if name in place:
                    return str(place[name])
    return token


# --- Measuring ----------------------------------------------------------------------------------------------


class Meter:
    """Seconds of CPU of the databases, and of one server."""

    def __init__(self) -> None:
        connection = psycopg2.connect(os.environ["DATABASE_URL"])
        backend = psutil.Process(connection.info.backend_pid).parent()
        assert backend is not None
        self.postgres = backend
        connection.close()
        client = redis.Redis.from_url(os.environ["REDIS_URL"])
        self.valkey = psutil.Process(int(client.info("server")["process_id"]))
        client.close()

    def read(self, server: psutil.Process) -> float:
        return used(self.postgres) + used(self.valkey) + used(server)


def used(process: psutil.Process) -> float:
    """Of the process and its children, those that have ended included."""
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system + (times.children_user + times.children_system if each == process else 0)
    return total


def measure(meter: Meter, running: Running, work: Callable[[int], object], times: int) -> float:
    """Milliseconds a request."""
    server = psutil.Process(running.process.pid)
    running.connection.close()  # servers end one that has rested; the next request opens another
    work(0)
    before = meter.read(server)
    for number in range(times):
        work(number)
    return (meter.read(server) - before) / times * 1000


Figures = dict[str, dict[str, list[float]]]  # by operation and peer, one of each round


def rounds(meter: Meter, all_of_them: Sequence[Running], suffix: str, only: set[str], figures: Figures) -> None:
    for number in range(ROUNDS):
        for running in all_of_them:
            for name, work in running.works():
                if name in only:
                    taken = measure(meter, running, work, TIMES[name + suffix])
                    figures.setdefault(name + suffix, {}).setdefault(running.peer.name, []).append(taken)
        print(f"round {number + 1} of {ROUNDS}{suffix}", flush=True)


def run(hash_cost: dict[str, str], suffix: str, only: set[str], figures: Figures) -> None:
    meter = Meter()
    with contextlib.ExitStack() as closing:
        started = []
        for peer in PEERS:
            database = f"peer_{secrets.token_hex(4)}"
            connection = psycopg2.connect(os.environ["DATABASE_URL"])
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {database}")
            connection.close()
            running = Running(peer, hash_cost, database)
            closing.callback(running.stop)
            running.start()
            started.append(running)
        rounds(meter, started, suffix, only, figures)


# --- Telling ------------------------------------------------------------------------------------------------


def ratios(figures: Figures, operation: str, peer: str) -> list[float]:
    return [ours / theirs for ours, theirs in zip(figures[operation]["ours"], figures[operation][peer], strict=True)]


def table(figures: Figures) -> str:
    names = [peer.name for peer in PEERS]
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for operation, found in figures.items():
        cells = []
        for name in names:
            if name not in found:
                cells.append("–")
            elif name == "ours":
                cells.append(f"**{median(found[name]):.2f}**")
            else:
                apart = ratios(figures, operation, name)
                cells.append(f"{median(found[name]):.2f} (× {median(apart):.2f}, {min(apart):.2f}–{max(apart):.2f})")
        lines.append(f"| {operation} | {' | '.join(cells)} |")
    return "\n".join(lines)


COLOURS = ("#1d569f", "#8a8f98", "#b08a3c", "#5b8a5b", "#a05a7a")


def plot(figures: Figures) -> str:
    """Bars of each operation, on a scale of its own: the longest is the dearest."""
    parts, y = [], 40
    for operation, found in figures.items():
        parts.append(f'<text x="20" y="{y + 12}" font-weight="600">{operation}</text>')
        dearest = max(median(values) for values in found.values())
        y += 20
        for colour, peer in zip(COLOURS, PEERS, strict=True):
            if peer.name not in found:
                continue
            taken = median(found[peer.name])
            width = max(2, 400 * taken / dearest)
            parts.append(
                f'<text x="150" y="{y + 11}" text-anchor="end">{peer.name}</text>'
                f'<rect x="160" y="{y}" width="{width:.0f}" height="13" rx="2" fill="{colour}"/>'
                f'<text x="{168 + width:.0f}" y="{y + 11}">{taken:.2f} ms</text>'
            )
            y += 18
        y += 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 {y + 10}" font-family="system-ui" font-size="12">'
        f'<rect width="660" height="{y + 10}" fill="#fff"/><text x="20" y="24" font-size="14" font-weight="600">'
        f"CPU of server, Postgres and Valkey a request</text>{''.join(parts)}</svg>\n"
    )


def behind(figures: Figures) -> str:
    slower = [
        f"- {operation}: {median(ratios(figures, operation, peer)):.2f} × {peer}"
        for operation, found in figures.items()
        for peer in found
        if peer != "ours" and median(ratios(figures, operation, peer)) >= 1
    ]
    return "We are slower in:\n\n" + "\n".join(slower) if slower else "We are slower in none of these."


def main() -> None:
    figures: Figures = {}
    run(FREE, "", {name for name in TIMES if "equal" not in name}, figures)
    run(EQUAL, ", equal hash", {"sign in"}, figures)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "peers.svg").write_text(plot(figures))
    versions = ", ".join(
        package for peer in PEERS for package in peer.packages if package not in {DJANGO, *COMMON} and "==" in package
    )
    (OUT / "peers.md").write_text(
        "# Beside others\n\n"
        "Written by `make bench ARGS=peers`. CPU time of the server, Postgres and Valkey together, in milliseconds a\n"
        f"request: the median of {ROUNDS} rounds, in which all were asked in turn. In brackets: ours divided by\n"
        "theirs, the median with the least and the most of a round. Under 1 we are ahead. The hash is Argon2id of one\n"
        "cost for all: next to free (8 KiB), so that the rest can be seen. In the line that says so it is OWASP's\n"
        "minimum. ninja-jwt has no sign-up and no reset, fastapi-users no refresh tokens. Emails cost the others\n"
        "nothing here; ours are queued in Postgres.\n\n"
        f"{table(figures)}\n\n{behind(figures)}\n\n![plot](peers.svg)\n\nWith {DJANGO}, {versions}.\n"
    )
    print(table(figures), behind(figures), sep="\n\n")


if __name__ == "__main__":
    main()
