"""The whole service as it runs for people: web, workers and beat as processes of their own, with a database, a
Valkey and an inbox that a test may take away."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import boto3
import psycopg2
import pytest
import redis
import requests
from playwright.sync_api import Browser, Page, sync_playwright

from project.devstack.servers import BASE, Mail, Valkey, free_ports
from tests.e2e.chromium import PATH, QUIET

T = TypeVar("T")
NODE = BASE / "tests/e2e/typescript"


def eventually(look: Callable[[], T | None], within: float = 180.0) -> T:
    """What `look` returns, as soon as that is true."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s")
        time.sleep(0.1)


def ask(url: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    """The rows of one statement, over a connection of its own."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def new_bucket() -> str:
    """A bucket belongs to one database, so each service has its own."""
    name, environment = f"e2e-{uuid4().hex[:8]}", os.environ
    client = boto3.client(
        "s3",
        endpoint_url=environment["S3_ENDPOINT_URL"],
        region_name=environment["S3_REGION"],
        aws_access_key_id=environment["S3_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["S3_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket=name)
    return name


class Service:
    def __init__(self, folder: Path, *, port: int | None = None, **settings: str) -> None:
        self.folder = folder
        self.settings = settings  # other than below; those that start from now on have them
        self.source = BASE  # where the processes that start from now on have theirs
        self.valkey = Valkey(folder / "valkey", keep=True)
        self.mail = Mail(folder / "mail")
        self.port = port or free_ports(1)[0]
        self.url = f"http://localhost:{self.port}"
        self.database = f"e2e_{uuid4().hex[:8]}"
        self.bucket = new_bucket()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.commands: dict[str, tuple[str, ...]] = {}

    @property
    def environment(self) -> dict[str, str]:
        own = os.environ["DATABASE_URL"]
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DATABASE_URL": own.rpartition("/")[0] + f"/{self.database}",
            "REDIS_URL": self.valkey.url,
            "EMAIL_URL": self.mail.url,
            "S3_BUCKET": self.bucket,
            "PUBLIC_URL": self.url,
            "ALLOWED_HOSTS": "localhost,127.0.0.1",
            "EMAIL_TIMEOUT": "2",
            "SWEEP_INTERVAL": "1",
            "ARGON2_MEMORY_KIB": "1024",
            "RATE_LIMITS": "signup_per_ip=100000/60,login_per_ip=100000/60,mail_per_ip=100000/60,code_per_ip=100000/60,"
            "refresh_per_ip=100000/60,signup_challenge_per_ip=100000/864000,mail_challenge_per_ip=100000/864000",
            **self.settings,
        }

    @contextlib.contextmanager
    def busy_network(self) -> Iterator[None]:
        """Every sign-up and request for an email meets a challenge."""
        self.post("/signup", {"username": "busy", "email": "x@example.com", "password": "plum tractor lagoon"})
        self.post("/password/forgot", {"login": uuid4().hex})
        with redis.Redis.from_url(self.valkey.url) as client:
            keys = list(client.scan_iter("limit:*_challenge_per_ip:*"))
            client.mset(dict.fromkeys(keys, 100_000))
            yield
            client.delete(*keys)

    def address(self, database: str) -> str:
        """Of a database, not through what is between it and the service."""
        return os.environ["DATABASE_URL"].rpartition("/")[0] + f"/{database}"

    def sql(self, statement: str, *values: object, database: str | None = None) -> list[tuple[object, ...]]:
        return ask(self.address(database or self.database), statement, *values)

    def manage(self, *arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.source, env=self.environment | environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def prepare(self, **environment: str) -> None:
        command = [sys.executable, "-m", "project.devstack.prepare"]
        subprocess.run(command, cwd=BASE, env=self.environment | environment, check=True)

    def start(self) -> None:
        self.sql(f"CREATE DATABASE {self.database}", database="postgres")
        self.valkey.start()
        self.mail.start()
        self.prepare()
        self.run_web()
        self.run_worker("worker")
        self.run_beat()
        eventually(self.ready)

    def run_web(self, name: str = "web", port: int | None = None) -> None:
        self.run(
            name, "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port or self.port), "--no-ws",
            "--workers", "1", "--blocking-threads", "4", "--log-level", "warning",
            "--static-path-route", "/static", "--static-path-mount", self.environment["STATIC_ROOT"],
            "project.wsgi:application",
            EMAIL_TIMEOUT="600",  # an answer that waits for a mail server does not come
        )  # fmt: skip

    def run_worker(self, name: str, **environment: str) -> None:
        self.run(
            name, "celery", "-A", "project", "worker", "--concurrency", "1", "-n", f"{name}@%h", **environment,
        )  # fmt: skip

    def run_beat(self) -> None:
        schedule = str(self.folder / "beat")
        self.run("beat", "celery", "-A", "project", "beat", "--pidfile=", "--schedule", schedule)

    def run(self, name: str, *module: str, **environment: str) -> None:
        self.commands[name] = module
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *module],
                cwd=self.source, env=self.environment | environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def ready(self, port: int | None = None) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"http://localhost:{port or self.port}/readyz", timeout=1).ok
        return False

    def restart(self, name: str) -> None:
        """As an orchestrator does: SIGTERM to the main process, time to end, the same command again."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        self.run(name, *self.commands[name])

    def kill(self, name: str) -> None:
        """kill -9 of the process and its children."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        self.mail.stop()
        self.valkey.stop()
        self.sql(f"DROP DATABASE {self.database} WITH (FORCE)", database="postgres")

    # --- What people see ---

    def post(self, path: str, body: Mapping[str, object], token: str = "") -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.post(f"{self.url}/api/v1{path}", json=body, headers=headers, timeout=180)

    def letters(self, to: str) -> list[EmailMessage]:
        return self.mail.messages(to)

    def code(self, to: str, subject: str) -> str:
        """The code of the newest mail of this subject, as soon as it arrives."""
        found = re.search(r"#(\d{8})\s*$", self.text(to, subject))
        assert found
        return found[1]

    def link(self, to: str, subject: str) -> str:
        found = re.search(r"(https?://\S+/account/\S+-\S+/)", self.text(to, subject))
        assert found
        return found[1]

    def text(self, to: str, subject: str) -> str:
        def look() -> EmailMessage | None:
            return next((mail for mail in reversed(self.letters(to)) if re.search(subject, mail["Subject"])), None)

        part = eventually(look).get_body(("plain",))
        assert part is not None
        return str(part.get_content())


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The npm packages of the lock file, kept from run to run."""
    installed = NODE / "node_modules/.package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (NODE / "package-lock.json").stat().st_mtime:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return installed.parent


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PATH, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, service: Service) -> Iterator[Page]:
    """A browser of its own, with JavaScript."""
    context = chromium.new_context(base_url=service.url)
    context.set_default_timeout(8000)
    yield context.new_page()
    context.close()
