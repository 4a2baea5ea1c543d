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

import psycopg2
import pytest
import requests

from project.embedded import BASE, Mail, Valkey, free_ports

T = TypeVar("T")


def eventually(look: Callable[[], T | None], within: float = 15.0) -> T:
    """What `look` returns, as soon as that is true."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s")
        time.sleep(0.1)


class Service:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.valkey = Valkey(folder / "valkey", keep=True)
        self.mail = Mail(folder / "mail")
        self.port = free_ports(1)[0]
        self.url = f"http://localhost:{self.port}"
        self.database = f"e2e_{uuid4().hex[:8]}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        own = os.environ["DATABASE_URL"]
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DATABASE_URL": own.rpartition("/")[0] + f"/{self.database}",
            "REDIS_URL": self.valkey.url,
            "EMAIL_URL": self.mail.url,
            "PUBLIC_URL": self.url,
            "ALLOWED_HOSTS": "localhost,127.0.0.1",
            "EMAIL_TIMEOUT": "2",
            "SWEEP_INTERVAL": "1",
            "ARGON2_MEMORY_KIB": "1024",
            "RATE_LIMITS": "signup_per_ip=100000/60,login_per_ip=100000/60,mail_per_ip=100000/60,code_per_ip=100000/60,"
            "refresh_per_ip=100000/60",
        }

    def sql(self, statement: str, *values: object, database: str | None = None) -> list[tuple[object, ...]]:
        address = os.environ["DATABASE_URL"].rpartition("/")[0] + f"/{database or self.database}"
        connection = psycopg2.connect(address)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def manage(self, *arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=BASE, env=self.environment | environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    def start(self) -> None:
        self.sql(f"CREATE DATABASE {self.database}", database="postgres")
        self.valkey.start()
        self.mail.start()
        self.manage("migrate", "--verbosity=0")
        self.manage("collectstatic", "--noinput", "--verbosity=0")
        self.run_web()
        self.run_worker("worker")
        self.run_beat()
        eventually(self.ready, within=30)

    def run_web(self) -> None:
        self.run(
            "web", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.port), "--no-ws",
            "--workers", "1", "--blocking-threads", "4", "--log-level", "warning",
            "--static-path-route", "/static", "--static-path-mount", os.environ["STATIC_ROOT"],
            "project.wsgi:application",
        )  # fmt: skip

    def run_worker(self, name: str, **environment: str) -> None:
        self.run(
            name, "celery", "-A", "project", "worker", "--concurrency", "1", "--loglevel", "WARNING", "-n",
            f"{name}@%h", **environment,
        )  # fmt: skip

    def run_beat(self) -> None:
        schedule = str(self.folder / "beat")
        self.run(
            "beat", "celery", "-A", "project", "beat", "--loglevel", "WARNING", "--pidfile=", "--schedule", schedule
        )

    def run(self, name: str, *module: str, **environment: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *module],
                cwd=BASE, env=self.environment | environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def ready(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.url}/readyz", timeout=1).ok
        return False

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
        return requests.post(f"{self.url}/api/v1{path}", json=body, headers=headers, timeout=10)

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
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("service"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
