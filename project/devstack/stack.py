"""The servers that the environment does not name, all of them at once, and nothing of them left behind."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from mirakuru.base_env import processes_with_env

from project.devstack.servers import (
    BASE,
    DATA,
    HOST,
    MARK,
    Mail,
    Postgres,
    Refused,
    SeaweedFS,
    Server,
    Valkey,
    free_ports,
    kept_secret,
    say,
    write_private,
)


class Stack:
    """The servers that the environment does not name, and the environment for the commands that use them."""

    def __init__(self, folder: Path, *, keep: bool) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.keep = keep
        self.web_port = claim_port(8000)[0] if keep else free_ports(1)[0]
        settings = {
            "PUBLIC_URL": f"http://localhost:{self.web_port}",
            "ALLOWED_HOSTS": f"localhost,{HOST}",
            "SECRET_KEY": kept_secret(folder / "secret_key"),
            "STATIC_ROOT": str(folder / "static"),
            **({"DEBUG": "1"} if keep else {}),
        }
        self.provided = {name: value for name, value in settings.items() if not _given(name)}
        # The slowest first: all of them start at the same time.
        self.servers: list[Server] = []
        if not _given(SeaweedFS.variable):
            web_apps = self.environment.get("CORS_ALLOWED_ORIGINS", "")
            origins = ",".join(filter(None, [self.environment["PUBLIC_URL"], web_apps]))
            port = 8333 if keep else None
            self.servers.append(SeaweedFS(folder / "seaweedfs", keep=keep, port=port, origins=origins))
        if not _given(Mail.variable):
            self.servers.append(Mail(folder / "mail", http_port=8025 if keep else None))
        if not _given(Postgres.variable):
            self.servers.append(Postgres(folder / "postgres", keep=keep))
        if not _given(Valkey.variable):
            self.servers.append(Valkey(folder / "valkey", keep=keep))

    def __enter__(self) -> Self:
        began = time.monotonic()
        try:
            for server in self.servers:
                server.launch()
            for server in self.servers:
                server.start()
                say(f"  {server.name:<12} {time.monotonic() - began:5.1f} s   {server.url.rpartition('@')[2]}")
                self.provided |= server.environment
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.keep:
            say("  Stopping the servers; their data stays ...")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave half of it running
        for server in reversed(self.servers):
            server.stop()
        sweep(self.folder)

    def call(self, *command: str, **options: Any) -> int:
        """Run a command to its end, whatever ends it."""
        child = subprocess.Popen(command, cwd=BASE, env=self.environment, **options)
        try:
            return child.wait()
        except KeyboardInterrupt:
            # Ctrl-C has reached the command too: let it clean up and say its last words.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=10)
            raise
        finally:
            if child.poll() is None:
                child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=3)
                child.kill()
                child.wait()

    def prepare(self, *arguments: str) -> None:
        began = time.monotonic()
        if code := self.call(sys.executable, "-m", "project.devstack.prepare", *arguments):
            raise Refused(f"The database could not be prepared (exit code {code}).")
        say(f"  {'Prepared':<12} {time.monotonic() - began:5.1f} s")

    def is_ours(self, variable: str) -> bool:
        return any(server.variable == variable for server in self.servers)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.provided, MARK: f"{self.folder}/"}


def claim_port(prefer: int) -> tuple[int, int]:
    """A free port for web, and the lock that keeps other stacks off it until this process ends. Web binds it only when
    the servers are up, and would share it with another one (SO_REUSEPORT)."""
    while True:
        [port] = free_ports(1, prefer=prefer)
        # A file for each person: only processes of one may share a port.
        file = Path(tempfile.gettempdir()) / f"user-service-{os.getuid()}-{port}.lock"
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            say(f"  Port {port} is another stack's.")
            prefer = free_ports(1)[0]
        else:
            return port, lock


def _given(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def sweep(folder: Path) -> None:
    """End every process that still carries the mark of this stack: its starter has ended or is ending."""
    deadline = time.monotonic() + 5
    while (left := processes_with_env(MARK, f"{folder}/") - {os.getpid()}) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)  # a process loses its mark a moment before its ports


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What the settings read of it. Their names are in .env.example; the X of a family is any name."""
    names = re.findall(r"^#? ?([A-Z0-9_]+)=", (BASE / ".env.example").read_text(), re.MULTILINE)
    known = re.compile(rf"({'|'.join(names).replace('_X_', '_[A-Z0-9_]+_')})(_FILE)?")
    return {name: value for name, value in environment.items() if known.fullmatch(name)}


class AlreadyRunning(Refused):
    pass


@contextlib.contextmanager
def kept_stack() -> Iterator[Stack]:
    """The servers over .data/, which only one process at a time may have."""
    DATA.mkdir(exist_ok=True)
    with (DATA / "lock").open("w") as lock:
        try:
            # This kind of lock is not inherited, so what is left of a killed run does not hold it.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRunning("`make run`, or a command like it, is already at work on .data/.") from None
        running = DATA / "running.json"
        running.unlink(missing_ok=True)
        sweep(DATA)
        with Stack(DATA, keep=True) as stack:
            write_private(running, json.dumps(_settings(os.environ) | stack.provided))
            try:
                yield stack
            finally:
                running.unlink(missing_ok=True)


@contextlib.contextmanager
def fresh_stack() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="stack-"))
    folder.chmod(0o711)  # where root's Postgres is another user, it must get through; what is secret closes itself
    try:
        with Stack(folder, keep=False) as stack:
            yield stack
    finally:
        shutil.rmtree(folder, ignore_errors=True)
