"""The service on more than one process of each kind: two web processes and two workers behind nginx (the configuration
of docker-compose.yml) and PgBouncer in transaction mode, with a streaming replica for the directory. What people do and
what the refresh drills ask must come out the same.

Takes a minute and a half, and wants nginx and pgbouncer on this machine (`apt-get install nginx pgbouncer`):
`DRILL_SCALED=1 make test ARGS=tests/drills/test_scale_drill.py`."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg2
import pytest
import requests

from project.devstack.servers import BASE, Postgres, Server, free_ports, listens, postgres_bin, without_root
from tests.conftest import PASSWORD
from tests.drills.test_directory_drill import test_many_sign_ups_at_once_are_counted_exactly_and_wait_for_nobody
from tests.drills.test_refresh_drills import (
    _walker,
    refresh,
    sign_in,
    test_a_copied_token_ends_its_session_within_a_second_and_spares_the_others,
    test_answers_that_are_lost_on_the_way_sign_nobody_out,
    test_fifty_refreshes_at_once_again_and_again,
)
from tests.e2e.conftest import Service, eventually
from tests.e2e.test_readme import test_the_six_curl_lines_work

__all__ = [  # run here once more, against what stands below
    "_walker",
    "test_a_copied_token_ends_its_session_within_a_second_and_spares_the_others",
    "test_answers_that_are_lost_on_the_way_sign_nobody_out",
    "test_fifty_refreshes_at_once_again_and_again",
    "test_many_sign_ups_at_once_are_counted_exactly_and_wait_for_nobody",
    "test_the_six_curl_lines_work",
]

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
NGINX, PGBOUNCER = (shutil.which(name, path=_PATH) for name in ("nginx", "pgbouncer"))
pytestmark = [
    pytest.mark.skipif("DRILL_SCALED" not in os.environ, reason="only with DRILL_SCALED=1"),
    pytest.mark.skipif(not (NGINX and PGBOUNCER), reason="no nginx or no pgbouncer here"),
]


POOL = 4  # connections of PgBouncer to Postgres: fewer than the service has threads


def edited(file: Path, changes: dict[str, str]) -> str:
    """The file as the containers have it, but for names and folders."""
    text = file.read_text()
    for here, there in changes.items():
        assert here in text, here
        text = text.replace(here, there)
    return text


class PgBouncer(Server):
    """docker/pgbouncer.ini."""

    name = "PgBouncer"
    variable = "DATABASE_URL"

    def __init__(self, folder: Path, primary: str) -> None:
        super().__init__(folder)
        self.primary = urlsplit(primary)

    @property
    def url(self) -> str:
        return f"postgres://{self.primary.username}:{self.primary.password}@127.0.0.1:{self.port}"

    def prepare(self) -> None:
        (self.folder / "users").write_text(f'"{self.primary.username}" "{self.primary.password}"\n')
        changed = edited(
            BASE / "docker/pgbouncer.ini",
            {
                "app = host=postgres port=5432": f"* = host=127.0.0.1 port={self.primary.port}",
                "listen_addr = 0.0.0.0": "listen_addr = 127.0.0.1",
                "listen_port = 6432": f"listen_port = {self.port}",
                "/run/secrets/users": f"{self.folder}/users",
                "default_pool_size = 20": f"default_pool_size = {POOL}",
            },
        )
        (self.folder / "pgbouncer.ini").write_text(changed)

    def command(self) -> list[str]:
        return [*without_root(self.folder), str(PGBOUNCER), str(self.folder / "pgbouncer.ini")]

    def ready(self) -> bool:
        return listens(self.port)


class Nginx(Server):
    """docker/nginx.conf."""

    name = "nginx"
    variable = "PUBLIC_URL"

    def __init__(self, folder: Path, webs: list[int]) -> None:
        super().__init__(folder)
        self.webs = webs

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def prepare(self) -> None:
        changed = edited(
            BASE / "docker/nginx.conf",
            {
                "server web:8000 resolve max_fails=0;": "".join(
                    f"server 127.0.0.1:{port} max_fails=0;" for port in self.webs
                ),
                "listen 8080;": f"listen 127.0.0.1:{self.port};",
                "include mime.types;": "",
                " /tmp/": f" {self.folder}/",
            },
        )
        (self.folder / "nginx.conf").write_text(changed)

    def command(self) -> list[str]:
        return [str(NGINX), "-e", "stderr", "-c", str(self.folder / "nginx.conf"), "-g", "daemon off;"]

    def ready(self) -> bool:
        return listens(self.port)


class Standby(Postgres):
    """A streaming replica of the tests' Postgres."""

    def __init__(self, folder: Path, primary: str) -> None:
        super().__init__(folder)
        self.primary = urlsplit(primary)
        self.secret = str(self.primary.password)

    def prepare(self) -> None:
        if self.cluster.exists():
            return
        server = f"--host=127.0.0.1 --port={self.primary.port} --username={self.primary.username}".split()
        copy = [str(postgres_bin() / "pg_basebackup"), *server, "--checkpoint=fast", "--write-recovery-conf", "-D"]
        subprocess.run(
            [*without_root(self.folder), *copy, str(self.cluster)],
            env={**os.environ, "PGPASSWORD": self.secret},
            check=True,
        )


class Scaled(Service):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder, DATABASE_TRANSACTION_POOLING="1", TRUSTED_PROXY_COUNT="1")
        self.direct = os.environ["DATABASE_URL"]
        self.webs = free_ports(2)
        self.pgbouncer = PgBouncer(folder / "pgbouncer", self.direct)
        self.standby = Standby(folder / "standby", self.direct)
        self.nginx = Nginx(folder / "nginx", self.webs)
        self.port, self.url = self.nginx.port, self.nginx.url

    @property
    def environment(self) -> dict[str, str]:
        pooled = f"{self.pgbouncer.url}/{self.database}"
        replica = self.standby.url.rpartition("/")[0] + f"/{self.database}"
        return {**super().environment, "DATABASE_URL": pooled, "DATABASE_REPLICA_URL": replica}

    def start(self) -> None:
        self.sql(f"CREATE DATABASE {self.database}", database="postgres")
        for server in (self.valkey, self.mail, self.pgbouncer):
            server.start()
        # Past PgBouncer, as in production: a migration is one long session.
        self.prepare(DATABASE_URL=self.direct.rpartition("/")[0] + f"/{self.database}")
        self.standby.start()
        for name, port in zip(("web", "web2"), self.webs, strict=True):
            self.run_web(name, port)
        for name in ("worker", "worker2"):
            self.run_worker(name)
        self.run_beat()
        self.nginx.start()
        for port in self.webs:
            eventually(lambda port=port: self.ready(port))  # type: ignore[misc]

    def stop(self) -> None:
        self.nginx.stop()
        self.pgbouncer.stop()
        self.standby.stop()
        super().stop()

    def of_standby(self, statement: str) -> object:
        connection = psycopg2.connect(self.environment["DATABASE_REPLICA_URL"])
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchone()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scaled]:
    made = Scaled(tmp_path_factory.mktemp("scaled"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_a_web_process_that_is_killed_amid_refreshing_is_noticed_by_nobody(service: Scaled) -> None:
    token = sign_in(service)
    for name, port in zip(("web", "web2"), service.webs, strict=True):
        killer = threading.Timer(0.5, service.kill, args=(name,))
        killer.start()
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            answer = refresh(service, token)
            assert answer.status_code == 200, answer.text
            token = answer.json()["refresh_token"]
        killer.join()
        service.run_web(name, port)
        eventually(lambda port=port: service.ready(port))  # type: ignore[misc]


def test_a_worker_that_is_killed_leaves_its_mails_to_the_other(service: Scaled) -> None:
    service.kill("worker")
    names = [f"left.{letter}" for letter in "abcdef"]
    for name in names:
        body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        assert service.post("/signup", body).status_code == 201
    for name in names:
        eventually(lambda name=name: service.letters(f"{name}@example.com"))  # type: ignore[misc]
    service.run_worker("worker")


def test_both_web_processes_are_asked_and_share_few_connections(service: Scaled) -> None:
    token = service.post("/token", {"login": "walker", "password": PASSWORD}).json()["tokens"]["access_token"]
    before = {name: cpu(service, name) for name in ("web", "web2")}
    for _ in range(200):
        assert get(service, "/me", token).status_code == 200
    assert all(cpu(service, name) > before[name] for name in before)
    ((used,),) = service.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    assert int(str(used)) <= POOL + 1, "and the one that asks here"


def cpu(service: Scaled, name: str) -> float:
    process = psutil.Process(service.processes[name].pid)
    return sum(sum(each.cpu_times()[:2]) for each in [process, *process.children(recursive=True)])


def get(service: Scaled, path: str, token: str) -> requests.Response:
    return requests.get(f"{service.url}/api/v1{path}", headers={"Authorization": f"Bearer {token}"}, timeout=180)


def test_the_directory_is_read_from_the_replica_and_the_profile_never_goes_back(service: Scaled) -> None:
    body = {"username": "reader", "email": "reader@example.com", "password": PASSWORD, "gender": "female"}
    token = service.post("/signup", body).json()["tokens"]["access_token"]

    def females() -> int:
        return int(get(service, "/users", token).json()["count_female"])

    ((real,),) = service.sql("SELECT count(*) FROM accounts_user WHERE gender = 'female' AND is_active")
    time.sleep(6)  # for five seconds after a failure, which another drill may have made, the replica is not asked
    eventually(lambda: females() == real)
    service.of_standby("SELECT pg_wal_replay_pause()")  # which it only asks for
    eventually(lambda: service.of_standby("SELECT pg_get_wal_replay_pause_state()") == ("paused",))
    try:
        for number in range(10):
            changed = requests.patch(
                f"{service.url}/api/v1/me",
                json={"first_name": f"N{number}", "gender": "male"},
                headers={"Authorization": f"Bearer {token}"},
                timeout=180,
            )
            assert changed.status_code == 200
            assert get(service, "/me", token).json()["first_name"] == f"N{number}"
        assert females() == real, "the replica still says what was"
    finally:
        service.of_standby("SELECT pg_wal_replay_resume()")
    eventually(lambda: females() == int(str(real)) - 1)


def test_while_the_replica_is_away_the_primary_lists(service: Scaled) -> None:
    token = service.post("/token", {"login": "walker", "password": PASSWORD}).json()["tokens"]["access_token"]
    service.standby.stop()
    try:
        for _ in range(20):
            assert get(service, "/users", token).status_code == 200
    finally:
        service.standby.start()
    log = (service.folder / "web.log").read_text() + (service.folder / "web2.log").read_text()
    assert "the replica does not answer" in log


def test_an_ended_session_is_refused_at_once_by_both(service: Scaled) -> None:
    signed_in = service.post("/token", {"login": "walker", "password": PASSWORD}).json()["tokens"]
    assert service.post("/token/revoke", {"refresh_token": signed_in["refresh_token"]}).status_code in {200, 204}
    for _ in range(6):
        assert get(service, "/me", signed_in["access_token"]).status_code == 401
