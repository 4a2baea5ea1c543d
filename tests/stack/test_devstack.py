"""The servers of project/devstack, and that none of them outlives its starter."""

import os
import re
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import boto3
import psycopg2
import pytest
import redis
import requests
from botocore.config import Config
from mirakuru.base_env import processes_with_env

from project.devstack import stack
from project.devstack.servers import MARK, Mail, Postgres, Refused, SeaweedFS, Valkey, free_ports
from project.devstack.stack import Stack, claim_port

# A busy machine may take long for anything; only what never comes is a fault.
MINUTES = 300
SERVERS = ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL", "EMAIL_URL")


def alone() -> dict[str, str]:
    """The environment of somebody who has nothing yet."""
    ours = {*SERVERS, "PUBLIC_URL", "ALLOWED_HOSTS", "SECRET_KEY", "STATIC_ROOT", "DJANGO_SETTINGS_MODULE"}
    return {name: value for name, value in os.environ.items() if name not in ours}


def eventually(true: Callable[[], bool], within: float = MINUTES) -> bool:
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_postgres_keeps_its_data_and_wants_its_password(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path / "postgres")
    with postgres:
        with psycopg2.connect(postgres.url) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE kept AS SELECT lower('ÉÖ') AS word")
        connection.close()
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(postgres.url.replace(postgres.secret, "guess"))
        postgres.stop()
        with pytest.raises(psycopg2.OperationalError, match="refused"):
            psycopg2.connect(postgres.url)
        postgres.start()
        with psycopg2.connect(postgres.url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT word FROM kept")
            assert cursor.fetchone() == ("éö",)
        connection.close()


def test_valkey_goes_and_comes_back_at_the_same_address(tmp_path: Path) -> None:
    with Valkey(tmp_path / "valkey", keep=True) as valkey, redis.Redis.from_url(valkey.url) as client:
        client.set("kept", "yes")
        valkey.stop()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        valkey.start()
        assert client.get("kept") == b"yes"


def test_the_bucket_is_private_and_checks_signatures(tmp_path: Path) -> None:
    with SeaweedFS(tmp_path / "seaweedfs", origins="http://localhost:8000") as seaweedfs:
        client = boto3.client(
            "s3",
            endpoint_url=seaweedfs.url,
            region_name=seaweedfs.region,
            aws_access_key_id=seaweedfs.access_key,
            aws_secret_access_key=seaweedfs.secret,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        client.put_object(Bucket=seaweedfs.bucket, Key="a", Body=b"picture")
        signed = client.generate_presigned_url("get_object", Params={"Bucket": seaweedfs.bucket, "Key": "a"})
        unsigned = signed.partition("?")[0]
        assert requests.get(signed, timeout=MINUTES).content == b"picture"
        assert requests.get(signed[:-1] + ("0" if signed[-1] != "0" else "1"), timeout=MINUTES).status_code == 403
        assert requests.get(unsigned, timeout=MINUTES).status_code == 403
        assert requests.put(unsigned, data=b"x", timeout=MINUTES).status_code == 403
        client.close()

        def preflight(origin: str) -> str | None:
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            return requests.options(unsigned, headers=headers, timeout=MINUTES).headers.get(
                "Access-Control-Allow-Origin"
            )

        assert preflight("http://localhost:8000") == "http://localhost:8000"
        assert preflight("http://elsewhere.example") is None
    assert not list(Path("/tmp").glob(f"seaweedfs-*-{seaweedfs.port}.sock"))  # noqa: S108 - weed's own fixed place


def test_mails_can_be_read_again(tmp_path: Path) -> None:
    with Mail(tmp_path / "mail") as mail:
        assert mail.messages() == []
        for to in ("alice@example.com", "bob@example.com"):
            message = EmailMessage()
            message["From"], message["To"], message["Subject"] = "shop@example.com", to, "Grüße"
            message.set_content("Code: 123\n")
            message.add_alternative("<p>Code: 123</p>", subtype="html")
            with smtplib.SMTP("127.0.0.1", mail.port) as smtp:
                smtp.send_message(message)
        (received,) = mail.messages(to="bob@example.com")
        body = received.get_body(("plain",))
        assert body is not None
        assert (received["Subject"], body.get_content().strip()) == ("Grüße", "Code: 123")
        assert len(mail.messages()) == 2
        assert requests.get(mail.http_url, timeout=MINUTES).ok


def test_secrets_are_made_once_and_closed_to_others(tmp_path: Path) -> None:
    assert Valkey(tmp_path).secret == Valkey(tmp_path).secret
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_server_with_an_address_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SERVERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", "postgres://mine/mine")
    monkeypatch.setenv("REDIS_URL_FILE", "/run/secrets/redis")
    stack = Stack(tmp_path, keep=False)
    assert {server.variable for server in stack.servers} == {"S3_ENDPOINT_URL", "EMAIL_URL"}
    assert stack.environment["DATABASE_URL"] == "postgres://mine/mine"


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path)
    postgres.start().stop()
    (postgres.cluster / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(Refused, match=r"(?s)PostgreSQL did not start.*incompatible"):
        postgres.start()


def test_a_taken_port_is_exchanged_for_another(tmp_path: Path) -> None:
    with Valkey(tmp_path / "first") as first:
        second = Valkey(tmp_path / "second")
        second.ports = list(first.ports)
        with second:
            assert second.port != first.port
            second.stop()
            assert first.ready()


def test_two_stacks_that_start_at_the_same_time_have_ports_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither listens yet: web does so last."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    [wanted] = free_ports(1)
    first, lock = claim_port(wanted)
    second, other = claim_port(wanted)
    assert first == wanted != second
    os.close(lock)  # as its process ends
    third, another = claim_port(wanted)
    assert third == wanted
    os.close(other)
    os.close(another)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_stack_that_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    # The command ignores polite requests, as a hung worker would.
    script = "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    script += f"print(os.environ['{MARK}'], flush=True); time.sleep(600)"
    # A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    starter = subprocess.Popen(
        [sys.executable, "-m", "project.devstack", "fresh", sys.executable, "-c", script],
        env=alone() | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert starter.stdout is not None
    folder = next(line.strip() for line in starter.stdout if line.startswith(str(tmp_path)))
    assert len(processes_with_env(MARK, folder)) > 0
    starter.send_signal(number)
    if number is signal.SIGINT:
        time.sleep(0.5)
        starter.send_signal(number)  # as an impatient person does: the command does not listen
    starter.wait(timeout=MINUTES)
    starter.stdout.close()
    if number is signal.SIGKILL:
        # Servers go with their starter; a command that does not listen goes when the next run sweeps.
        assert eventually(lambda: len(processes_with_env(MARK, folder)) == 1)
        stack.sweep(Path(folder))
    assert eventually(lambda: not processes_with_env(MARK, folder))
    assert number is signal.SIGKILL or not Path(folder).exists()


def test_run_brings_up_everything_and_keeps_its_data(tmp_path: Path) -> None:
    data = tmp_path / "data"
    environment = alone() | {"EMBEDDED_DATA": str(data)}
    devstack = [sys.executable, "-m", "project.devstack"]
    said: list[str] = []
    given = {"SITE_NAME": "Plum", "PROVIDER_PLUM_NAME": "Tree", "OTHER_PLUM": "of this terminal"}
    with subprocess.Popen(
        [*devstack, "run"], env=environment | given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as starter:
        assert starter.stdout is not None
        for line in starter.stdout:
            said.append(line)
            if "Ctrl-C stops everything" in line:
                break
        summary = dict(re.findall(r"^  (\w[\w ]+?) +(http\S+)$", "".join(said), re.MULTILINE))
        assert summary.keys() >= {"Pages", "Admin", "API docs", "Inbox"}, "".join(said)
        assert any("Sign in as alice" in line for line in said)
        for address in summary.values():
            assert requests.get(address, timeout=MINUTES).ok
        second = subprocess.run([*devstack, "run"], env=environment, capture_output=True, text=True, check=False)
        assert (second.returncode, second.stderr.count("already at work")) == (1, 1)
        beside = [*devstack, "shell", sys.executable, "-c", "import os; print(os.environ)"]
        told = subprocess.run(beside, env=environment, capture_output=True, text=True, check=True).stdout
        assert {name: name in told for name in given} == {name: name != "OTHER_PLUM" for name in given}
        assert (data / "running.json").stat().st_mode & 0o777 == 0o600
        starter.send_signal(signal.SIGINT)
        rest = starter.stdout.read()
        assert starter.wait(timeout=MINUTES) == 0, rest
    assert not processes_with_env(MARK, f"{data}/")
    secret_key = (data / "secret_key").read_text()

    looked = subprocess.run(
        [*devstack, "shell", sys.executable, "-c", ALICE], env=environment, capture_output=True, text=True, check=False
    )
    assert f"{secret_key} 2" in looked.stdout.splitlines(), looked.stderr  # alice and bob


ALICE = """
import os, psycopg2
cursor = psycopg2.connect(os.environ["DATABASE_URL"]).cursor()
cursor.execute("SELECT count(*) FROM accounts_user")
print(os.environ["SECRET_KEY"], *cursor.fetchone())
"""
PROCESSES = """
from project.devstack.running import Processes
processes = Processes()
for number, command in enumerate({commands!r}):
    processes.add_process(f"p{{number}}", command)
processes.loop()
print("first:", processes.first_to_end)
"""


def test_when_one_process_ends_all_end_and_it_is_named() -> None:
    script = PROCESSES.format(commands=["exec sleep 600", "exec sh -c 'sleep 1; exit 0'"])
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=MINUTES, check=True)
    assert "first: p1" in ended.stdout


def test_processes_that_do_not_listen_are_killed() -> None:
    deaf = "exec sh -c 'trap \"\" TERM INT; echo deaf; while true; do sleep 1; done'"
    script = PROCESSES.format(commands=[deaf, deaf])
    with subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        heard = 0
        while heard < 2:
            heard += "| deaf" in starter.stdout.readline()
        starter.send_signal(signal.SIGTERM)
        rest = starter.stdout.read()
        starter.wait(timeout=MINUTES)
    assert "first: None" in rest


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must become somebody else")
def test_root_is_refused_in_words_where_nobody_else_may_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_namespaces = tmp_path / "bin"
    without_namespaces.mkdir()
    for tool in ("setpriv", "sh", "test"):
        (without_namespaces / tool).symlink_to(str(shutil.which(tool)))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setenv("PATH", str(without_namespaces))
    with pytest.raises(Refused, match="PostgreSQL refuses root"):
        Postgres(closed / "postgres").start()
