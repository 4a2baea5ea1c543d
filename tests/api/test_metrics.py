"""GET /metrics: who may read it, what it says and never says. What Postgres knows: tests/services/test_gauges.py."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import MiddlewareNotUsed
from django.db import Error
from django.http import HttpResponse
from django.test import Client, RequestFactory

from accounts.lib import metrics
from accounts.models import Seen
from accounts.services.staff import gauges
from api.middleware import POLICY
from project import metrics as door
from project.devstack.servers import BASE
from project.wsgi import application
from tests.api.conftest import Crowd, sign_up_body
from tests.conftest import METRICS_TOKEN as TOKEN
from tests.conftest import Api


def scrape(client: Client) -> str:
    answer = client.get("/metrics", HTTP_AUTHORIZATION=f"Bearer {TOKEN}", HTTP_HOST="10.0.0.5:8000")
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer["Cache-Control"] == "no-store"
    return answer.content.decode()


_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(text: str) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
    """As Prometheus reads them."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            sample = _SAMPLE.fullmatch(line)
            assert sample, line
            found[sample[1], frozenset(_LABEL.findall(sample[2] or ""))] = float(sample[3])
    return found


def value(text: str, name: str, **labels: str) -> float | None:
    return samples(text).get((name, frozenset(labels.items())))


def test_without_the_token_there_is_nothing(watched: None, api: Api, settings: Any) -> None:
    right = f"Bearer {TOKEN}"
    for given in ("", "Bearer", "Bearer ", f"{right}x", right[:-1], TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN} x", "ü"):
        for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
            answer = api.client.generic(method, "/metrics", HTTP_AUTHORIZATION=given)
            assert answer.status_code == 404, (method, given)
            assert b"us_" not in answer.content
    assert api.client.head("/metrics", HTTP_AUTHORIZATION=right).status_code == 200
    for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS"):
        answer = api.client.generic(method, "/metrics", HTTP_AUTHORIZATION=right)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD"), method
    settings.METRICS_TOKEN = ""
    for given in ("", "Bearer ", "Bearer", right):
        assert api.client.get("/metrics", HTTP_AUTHORIZATION=given).status_code == 404, given


def test_only_one_spelling_of_the_path_is_answered(watched: None, db: None) -> None:
    """Through the door of the web process, which decides whether a path is the API's or a page's."""
    said: dict[str, tuple[str, str]] = {}
    for path in ("/metrics", "//metrics", "/metrics/", "/metrics/x", "/./metrics", "/x/../metrics", "/METRICS"):
        head: list[Any] = []
        environ = {**RequestFactory().get("/").environ, "PATH_INFO": path, "HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}
        body = b"".join(application(environ, lambda *told, head=head: head.extend(told)))
        assert (b"us_build_info" in body) == (path == "/metrics")
        said[path] = head[0], dict(head[1])["Content-Security-Policy"]
    assert said.pop("/metrics") == ("200 OK", POLICY)  # that of the API's chain
    assert {status for status, _ in said.values()} == {"404 Not Found"}


def test_without_the_setting_nothing_measures_and_nothing_is_imported(api: Api) -> None:
    for times in (door.PageTimes, door.ApiTimes):
        with pytest.raises(MiddlewareNotUsed):
            times(lambda _: HttpResponse())
    assert metrics._made == {}
    at_start = re.compile(r"^(?:from|import) prometheus", re.MULTILINE)
    files = [path for folder in ("accounts", "api", "project") for path in (BASE / folder).rglob("*.py")]
    assert len(files) > 100
    assert [str(path) for path in files if at_start.search(path.read_text())] == []


def test_each_metric_of_the_list_is_there_and_no_other(watched: None, api: Api) -> None:
    api.get("/config")
    text = scrape(api.client)
    told = {name: (kind, about) for name, about, kind in re.findall(r"# HELP (\w+) (.*)\n# TYPE \w+ (\w+)", text)}
    assert told == {metric.name: (str(metric.kind), metric.about) for metric in metrics.METRICS}
    # What they hold: tests/test_canaries.py.
    names = {label for _, labels in samples(text) for label, _ in labels}
    assert names == {"face", "operation", "status", "code", "kind", "version", "le"}


def test_a_request_is_measured_by_face_operation_and_status(watched: None, api: Api, page: Client) -> None:
    for _ in range(3):
        api.get("/config")
    api.get("/me")
    api.get("/nothing")
    page.get("/account/login/")
    page.get("/nothing/")
    found = scrape(api.client)

    def count(face: str, operation: str, status: str) -> float | None:
        return value(found, "us_http_seconds_count", face=face, operation=operation, status=status)

    assert count("api", "getConfig", "200") == 3
    assert count("api", "getProfile", "401") == 1
    assert count("api", "other", "404") == 1
    assert count("page", "account_login", "200") == 1
    assert count("page", "other", "404") == 1
    assert value(found, "us_refused_total", code="invalid_token") == 1
    assert value(found, "us_refused_total", code="overloaded") == 0
    assert count("api", "metrics", "200") is None  # each is measured when it is over
    assert value(scrape(api.client), "us_http_seconds_count", face="api", operation="metrics", status="200") == 1


def test_an_error_of_ours_is_measured_as_one(watched: None, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.v1.config.settings", None)
    assert api.client.get("/api/v1/config").status_code == 500
    found = scrape(api.client)
    assert value(found, "us_http_seconds_count", face="api", operation="getConfig", status="500") == 1


def test_who_waits_for_a_hash_in_vain_is_measured(watched: None, api: Api, crowd: Crowd) -> None:
    api.post("/signup", sign_up_body())
    crowd.come()
    assert api.post("/signup", sign_up_body("eve")).status_code == 503
    found = scrape(api.client)
    assert value(found, "us_hash_wait_seconds_count") == 2
    assert value(found, "us_refused_total", code="overloaded") == 1


def test_what_postgres_says_is_kept_for_five_seconds(
    watched: None, api: Api, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(door, "KEPT", 3600.0)
    assert value(scrape(api.client), "us_worker_seen_timestamp_seconds") == 0
    Seen.objects.note(Seen.WORKER)
    with django_assert_num_queries(0):
        assert value(scrape(api.client), "us_worker_seen_timestamp_seconds") == 0
    monkeypatch.setattr(door, "KEPT", 0.0)
    with django_assert_num_queries(5):
        assert value(scrape(api.client), "us_worker_seen_timestamp_seconds") != 0


def test_without_postgres_the_rest_is_still_told(watched: None, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.get("/config")

    def away() -> Iterator[metrics.Reading]:
        yield metrics.MAIL_OLDEST, (), 1
        raise Error

    monkeypatch.setattr(gauges, "read", away)
    found = scrape(api.client)
    assert value(found, "us_db_up") == 0
    assert value(found, "us_http_seconds_count", face="api", operation="getConfig", status="200") == 1


# --- Several processes --------------------------------------------------------------------------------------

COUNTS = """
import sys, time
from pathlib import Path
from accounts.lib import metrics
metrics.start(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    metrics.add(metrics.REFUSED, "overloaded")
    metrics.observe(metrics.HASH_WAIT, 0.02)
print(metrics.text(()).decode() + "end", flush=True)
time.sleep(600)
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """One more process that counts so often, and then says what it sees."""
    started = []

    def start(times: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", COUNTS, str(tmp_path), str(times)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return "".join(iter(process.stdout.readline, "end\n"))


def test_a_killed_process_makes_no_counter_fall_and_leaves_no_files(
    tmp_path: Path, process: Callable[[int], subprocess.Popen[str]]
) -> None:
    first, second = process(3), process(4)
    said(first), said(second)
    for number in range(3):
        second.send_signal(signal.SIGKILL)
        second.wait()
        second = process(5)
        text = said(second)
        total = 3 + 4 + 5 * (number + 1)
        assert value(text, "us_refused_total", code="overloaded") == total
        assert value(text, "us_hash_wait_seconds_count") == total
        assert value(text, "us_hash_wait_seconds_bucket", le="0.01") == 0
        assert value(text, "us_hash_wait_seconds_bucket", le="0.05") == total
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0.lock", "1.lock", "counter_0.db", "counter_1.db", "histogram_0.db", "histogram_1.db",
    ]  # fmt: skip


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_is_that_of_the_parent_and_those_of_the_dead_are_removed(temporary: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    theirs, other = temporary / f"{metrics.PREFIX}{gone.pid}-abc", temporary / f"{metrics.PREFIX}1-abc"
    for made in (theirs, other):
        made.mkdir()
        (made / "counter_0.db").touch()
    found = metrics.folder()
    assert metrics.folder() == found
    assert found.stat().st_mode & 0o777 == 0o700
    assert set(temporary.iterdir()) == {found, other}


def test_what_a_stranger_puts_into_the_temporary_folder_stops_nothing(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("99999999999999999999", "99999999999999999999-x", "x", "-1", "", "0-", f"{os.getppid()}"):
        (temporary / f"{metrics.PREFIX}{name}").mkdir()
    (temporary / f"{metrics.PREFIX}999999999-").touch()
    (temporary / f"{metrics.PREFIX}999999999-link").symlink_to("nowhere")
    before = set(temporary.iterdir())
    mine = metrics.folder()
    assert set(temporary.iterdir()) == {*before, mine}
    assert not caplog.records

    mine.rmdir()
    for target in (None, "nowhere", temporary):
        mine.symlink_to(target) if target else mine.touch()
        found = metrics.folder()
        assert (found.parent, found.is_dir()) == (temporary, True)
        assert found not in {mine, *before}
        mine.unlink()
    mine.mkdir()
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    assert metrics.folder() != mine
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4
