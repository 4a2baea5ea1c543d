"""Postgres, Valkey and the storage are away, hang, or answer with an error: 503, and well again by itself."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import redis
import requests

from project.devstack.servers import free_ports
from tests.conftest import PASSWORD
from tests.conftest import picture as image
from tests.e2e.conftest import eventually
from tests.outages.away import BOUND, Away

log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Away]:
    made = Away(tmp_path_factory.mktemp("away"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def browser(service: Away) -> requests.Session:
    """Somebody who is signed in, in a browser and in an app."""
    body = {"username": "ada", "email": "ada@example.com", "password": PASSWORD}
    token = service.post("/signup", body).json()["tokens"]["access_token"]
    session = requests.Session()
    page = session.get(f"{service.url}/account/login/", timeout=180).text
    csrf = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert csrf
    form = {"login": "ada", "password": PASSWORD, "csrfmiddlewaretoken": csrf[1]}
    session.post(f"{service.url}/account/login/", form, headers={"Referer": service.url}, timeout=180)
    session.headers["Authorization"] = f"Bearer {token}"
    assert session.get(f"{service.url}/account/", timeout=180, allow_redirects=False).status_code == 200
    return session


def asked(ask: Callable[[], requests.Response]) -> requests.Response:
    began = time.monotonic()
    answer = ask()
    seconds = time.monotonic() - began
    log.info("%s %s: %d after %.2f s", answer.request.method, answer.request.path_url, answer.status_code, seconds)
    assert seconds < BOUND
    return answer


def refused(service: Away, browser: requests.Session, methods: tuple[str, ...] = ("GET", "PATCH", "POST")) -> None:
    """On both faces, in their forms."""
    me, token = f"{service.url}/api/v1/me", f"{service.url}/api/v1/token"
    apis = {
        "GET": lambda: browser.get(me, timeout=60),
        "PATCH": lambda: browser.patch(me, json={"first_name": "Ada"}, timeout=60),
        "POST": lambda: requests.post(token, json={"login": "ada", "password": PASSWORD}, timeout=60),
    }
    for method in methods:
        answer = asked(apis[method])
        assert answer.status_code == 503, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        told = answer.json()
        assert (told["code"], told["action"]) == ("service_unavailable", "retry")
        assert int(answer.headers["Retry-After"]) == told["retry_after"]


def no_page(service: Away, browser: requests.Session) -> None:
    for path in ("/account/", "/admin/", "/account/profile/"):
        answer = asked(lambda path=path: browser.get(f"{service.url}{path}", timeout=60))  # type: ignore[misc]
        assert answer.status_code == 503, answer.text
        assert "Back in a moment" in answer.text
        assert answer.headers["Retry-After"]
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def crowd(service: Away, browser: requests.Session, count: int, status: int) -> None:
    def ask() -> requests.Response:
        return requests.get(f"{service.url}/api/v1/me", headers=dict(browser.headers), timeout=60)

    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda _: asked(ask), range(count)))
    assert [answer.status_code for answer in answers] == [status] * count


def health(service: Away) -> tuple[int, int]:
    return tuple(asked(lambda path=path: requests.get(f"{service.url}/{path}", timeout=60)).status_code  # type: ignore[misc,return-value]
                 for path in ("livez", "readyz"))  # fmt: skip


def works(service: Away, browser: requests.Session) -> bool:
    return browser.get(f"{service.url}/api/v1/me", timeout=60).status_code == 200


def test_connections_that_were_cut_at_rest_are_noticed_by_nobody(service: Away, browser: requests.Session) -> None:
    """For a read, for a write in a transaction, and on a page; each web process has some of them."""
    for ask in (
        lambda: browser.get(f"{service.url}/api/v1/me", timeout=60),
        lambda: browser.patch(f"{service.url}/api/v1/me", json={"first_name": "Ada"}, timeout=60),
        lambda: browser.get(f"{service.url}/account/", timeout=60),
    ):
        service.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        time.sleep(0.2)
        assert [asked(ask).status_code for _ in range(6)] == [200] * 6


def test_postgres_is_away(service: Away, browser: requests.Session) -> None:
    before = {name: len(service.log(name)) for name in ("web", "worker")}
    service.postgres.stop()
    began = time.monotonic()
    try:
        for _ in range(10):
            refused(service, browser)
        no_page(service, browser)
        assert health(service) == (200, 503)
    finally:
        seconds = time.monotonic() - began
        service.postgres.start()
    assert eventually(lambda: works(service, browser))
    for name, start in before.items():
        log = service.log(name)[start:]
        assert "Traceback" not in log, log
        assert log.count("\n") <= 2 * seconds + 3, log
    assert "Postgres does not do its work" in service.log("web")


def test_postgres_is_frozen(service: Away, browser: requests.Session) -> None:
    """Also amid statements, and with more requests than the process has threads."""
    crowd(service, browser, 8, 200)
    with service.frozen():
        crowd(service, browser, 12, 503)
        refused(service, browser)
        no_page(service, browser)
        assert health(service) == (200, 503)
    assert eventually(lambda: works(service, browser))


def test_the_network_swallows_everything(service: Away, browser: requests.Session) -> None:
    service.relay.swallow = True
    try:
        refused(service, browser)
        assert health(service) == (200, 503)
    finally:
        service.relay.swallow = False
    assert eventually(lambda: works(service, browser))
    assert "Traceback" not in service.log("web")


@contextmanager
def configured(service: Away, name: str, value: str) -> Iterator[None]:
    before = service.sql(f"SHOW {name}")
    service.sql(f"ALTER SYSTEM SET {name} = '{value}'")
    try:
        service.sql("SELECT pg_reload_conf()")
        eventually(lambda: service.sql(f"SHOW {name}") == [(value,)])
        time.sleep(0.3)  # each backend reads its configuration by itself
        yield
    finally:
        service.sql(f"ALTER SYSTEM RESET {name}")
        service.sql("SELECT pg_reload_conf()")
        eventually(lambda: service.sql(f"SHOW {name}") == before)


def test_a_synchronous_standby_is_away(service: Away, browser: requests.Session) -> None:
    """Every commit waits for it, in a server that answers all else."""
    crowd(service, browser, 8, 200)
    service.sql("UPDATE accounts_session SET last_used_at = now()")  # so that looking at a page writes nothing
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with configured(service, "synchronous_standby_names", "nobody"):
        # Another process, whose commit waits as well, has locked the row.
        change = "UPDATE accounts_user SET first_name = 'C' WHERE username = 'ada'"
        threading.Thread(target=service.sql, args=(change,)).start()
        eventually(lambda: service.sql(waiting))
        refused(service, browser, ("PATCH",))
        assert health(service) == (200, 200)
        assert browser.get(f"{service.url}/account/", timeout=60).status_code == 200
    assert eventually(lambda: browser.patch(f"{service.url}/api/v1/me", json={"first_name": "B"}, timeout=60).ok)


def test_postgres_takes_no_writes(service: Away, browser: requests.Session) -> None:
    service.sql("UPDATE accounts_session SET last_used_at = now() - interval '1 day', generation_used_at = NULL")
    with configured(service, "default_transaction_read_only", "on"):
        assert browser.get(f"{service.url}/api/v1/me", timeout=60).status_code == 200
        assert browser.get(f"{service.url}/account/", timeout=60).status_code == 200
        refused(service, browser, ("PATCH", "POST"))
        answer = requests.get(f"{service.url}/readyz", timeout=60)
        assert (answer.status_code, answer.text) == (503, "the database takes no writes\n")
    eventually(lambda: browser.patch(f"{service.url}/api/v1/me", json={"first_name": "A"}, timeout=60).ok)


# --- Emails -------------------------------------------------------------------------------------------------


def sign_up(service: Away, name: str, port: int | None = None) -> str:
    email = f"{name}@example.com"
    body = {"username": name, "email": email, "password": PASSWORD}
    answer = requests.post(f"http://localhost:{port or service.port}/api/v1/signup", json=body, timeout=60)
    assert answer.status_code == 201, answer.text
    return email


@pytest.mark.parametrize("lost", ["UPDATE", "COMMIT"])
def test_a_claim_whose_answer_is_lost_delays_no_email(service: Away, lost: str) -> None:
    seen: list[str] = []
    line: list[object] = []

    def is_lost(connection: object, question: bytes) -> bool:
        if not seen and b"UPDATE post_office_email SET scheduled_time" in question:
            line.append(connection)
            seen.append("UPDATE")
        elif seen == ["UPDATE"] and line == [connection]:
            seen.append("COMMIT")
        else:
            return False
        return seen[-1] == lost

    service.relay.on_question = is_lost
    try:
        email = sign_up(service, f"claimed.{lost.lower()}")
        eventually(lambda: lost in seen)
        eventually(lambda: service.letters(email))
    finally:
        service.relay.on_question = lambda *_: False
    assert len(service.letters(email)) == 1


SKEWED = """
import datetime
from django.utils import timezone
real = timezone.now
timezone.now = lambda: real() + datetime.timedelta(hours={hours})
"""


@pytest.mark.parametrize("hours", [1, -1])
def test_emails_are_due_by_one_clock(service: Away, hours: int) -> None:
    """The web process's is an hour fast or slow, and the worker's is right."""
    folder = service.folder / f"skewed{hours}"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SKEWED.format(hours=hours))
    service.settings["PYTHONPATH"] = str(folder)
    port = free_ports(1)[0]
    service.run_web(folder.name, port)
    del service.settings["PYTHONPATH"]
    eventually(lambda: service.ready(port))
    email = sign_up(service, "late" if hours > 0 else "never", port)
    service.kill(folder.name)
    eventually(lambda: service.letters(email))


@pytest.mark.parametrize(
    ("error", "broken", "whole"),
    [
        ("readonly", "REPLICAOF 127.0.0.1 9", "REPLICAOF NO ONE"),  # as after a failover
        ("oom", "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("noreplicas", "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    ],
)
def test_the_worker_outlives_a_broker_that_answers_with_errors(
    service: Away, error: str, broken: str, whole: str
) -> None:
    before = len(service.log("beat"))
    with redis.Redis.from_url(service.valkey.url) as valkey:
        valkey.execute_command(*broken.split())
        try:
            email = sign_up(service, error)
            time.sleep(1.5)  # more tries of beat, and of the worker
        finally:
            valkey.execute_command(*whole.split())
    eventually(lambda: service.letters(email))
    assert service.processes["worker"].poll() is None
    assert "Traceback" not in service.log("beat")
    told = re.findall(r"^.* (?:WARNING|ERROR) .*$", service.log("beat")[before:], re.MULTILINE)
    assert len(told) <= 2, "one a minute"


# --- Pictures -----------------------------------------------------------------------------------------------


def test_the_storage_hangs(service: Away, browser: requests.Session) -> None:
    def put() -> requests.Response:
        files = {"file": ("me.png", image(), "image/png")}
        return browser.put(f"{service.url}/api/v1/me/picture", files=files, timeout=60)

    assert put().status_code == 200
    service.s3.swallow = True
    try:
        answer = asked(put)
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
        assert answer.headers["Retry-After"]
    finally:
        service.s3.swallow = False
    assert put().status_code == 200
