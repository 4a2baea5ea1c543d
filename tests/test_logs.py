"""What lines of the log say: the ids of their request, their fields, and no more; and how many there are."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any, cast

import celery.app.log
import pytest
import redis
from celery import Celery
from celery.signals import task_postrun, task_prerun
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.test import Client
from django.utils.module_loading import import_string
from django_guid import clear_guid, get_guid, set_guid
from pytest_django import Settings

from accounts.lib.log_lines import Fields
from accounts.models import User
from project import logs
from project.celery import app
from project.devstack.servers import BASE, Valkey
from project.logs import Formatter, JsonFormatter, Outages
from tests.conftest import Api

Read = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Read:
    """What was written since the last time, as JSON."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(caplog.handler, "formatter", JsonFormatter())

    def read() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in caplog.text.splitlines()]
        caplog.clear()
        return found

    return read


@pytest.mark.parametrize("face", ["page", "api"])
def test_a_line_names_its_request(
    page: Client, api: Api, face: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(caplog.handler, "formatter", Formatter())
    if face == "page":
        form = {"login": "nobody", "password": "x"}
        answer = page.post("/account/login/", form, HTTP_X_REQUEST_ID="order-17.b")
    else:
        answer = api.get("/me", HTTP_X_REQUEST_ID="order-17.b")
    assert answer.headers["X-Request-Id"] == "order-17.b"
    assert re.search(r" INFO accounts.refused [0-9a-f]{32}/order-17.b refused code=", caplog.text)
    clear_guid()
    logging.getLogger("accounts").info("afterwards")
    assert " INFO accounts - afterwards" in caplog.text


def test_a_stranger_cannot_give_two_requests_one_id(api: Api, lines: Read) -> None:
    for _ in range(2):
        api.get("/me", HTTP_X_REQUEST_ID="order-17.b")
    api.get("/me")
    first, second, third = lines()
    assert first["caller_id"] == second["caller_id"] == "order-17.b"
    assert len({line["request_id"] for line in (first, second, third)}) == 3
    assert "caller_id" not in third


def test_a_refusal_has_fields(api: Api, page: Client, lines: Read) -> None:
    api.get("/me")
    page.get(f"/account/confirm-email/{'0' * 32}-secret-of-the-link/?q=typed")
    of_api, of_page = lines()
    times = of_api.pop("time"), of_page.pop("time")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", time) for time in times)
    for line in (of_api, of_page):
        assert re.fullmatch("[0-9a-f]{32}", line.pop("request_id"))
        assert line.pop("ip")
    about = {"level": "INFO", "logger": "accounts.refused", "message": "refused"}
    assert of_api == {
        **about, "code": "invalid_token", "reason": "no bearer token", "operation": "getProfile",
    }  # fmt: skip
    assert of_page == {
        **about, "code": "invalid_key", "reason": "unknown, used or expired", "operation": "account_confirm_email",
    }  # fmt: skip


def test_a_page_says_why_it_refused_a_request_that_no_view_saw(page: Client, lines: Read) -> None:
    page.post("/account/login/", "x", content_type="text/plain", CONTENT_LENGTH="999999999")
    page.post("/account/login/", "x", content_type="text/plain; charset=utf-16")
    page.generic("POST", "/account/login/", b"", HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH="")
    Client(SERVER_NAME="localhost", enforce_csrf_checks=True).post(
        "/account/login/", HTTP_ORIGIN="https://evil.example"
    )
    assert [(line["code"], line.get("reason", "")) for line in lines()] == [
        ("body_too_large", ""),
        ("malformed_body", "not UTF-8"),
        ("length_required", ""),
        ("csrf_failed", "Origin checking failed"),
    ]


def test_a_field_that_does_not_exist_is_not_named(api: Api, lines: Read) -> None:
    api.post("/token", {"login": "ada", "password": "x", "plum tractor": 1})
    api.post("/token", '{"login": "ada", "password": "x", "plum tractor": 1, "plum tractor": 2}')
    assert [line["reason"] for line in lines()] == ["?:unknown_field", "?:duplicate_field"]


def test_what_libraries_hand_to_the_log_is_no_field() -> None:
    """Celery the arguments of a task, Django the request, whose path may hold a key."""
    made = logging.getLogger("celery.app.trace").makeRecord(
        "celery.app.trace", logging.ERROR, "", 0, "Task %(name)s: %(exc)s", ({"name": "x", "exc": "y", "args": "z"},),
        None, extra={"data": {"kwargs": "plum"}, "request": "/account/email/undo/plum"},
    )  # fmt: skip
    line = json.loads(JsonFormatter().format(made))
    assert {**line, "time": ""} == {"time": "", "level": "ERROR", "logger": "celery.app.trace", "message": "Task x: y"}


@pytest.mark.parametrize("formatter", [Formatter(), JsonFormatter()])
def test_no_line_has_the_key_of_a_link(formatter: Formatter) -> None:
    """Django names the whole path where a page fails, or where a form lacks its CSRF token."""
    for path in ("password/reset/key/1-", "confirm-email/", "email/undo/", "delete/undo/"):
        error = ValueError(f"in /account/{path}plum-key/")
        record = logging.LogRecord(
            "x", logging.ERROR, "", 0, "failed: %s", (f"/account/{path}plum-key/?x",), (type(error), error, None)
        )
        said = formatter.format(record)
        assert "plum" not in said
        assert said.count("***") == 2


@pytest.mark.parametrize("formatter", [Formatter(), JsonFormatter()])
def test_nobody_writes_a_line_of_their_own(formatter: Formatter) -> None:
    typed = "x\n2026-11-28 FORGED\r\x1b[2J\u2028/account/email/undo/plum\ntail/"
    error = ValueError(typed)
    record = logging.LogRecord("x", logging.ERROR, "", 0, "failed: %s", (typed,), (type(error), error, None))
    said = formatter.format(record)
    assert not re.search(r"^2026-11-28 FORGED|[\x00-\x09\x0b-\x1f\u2028]", said, re.MULTILINE)
    assert "plum" not in said
    assert "tail" not in formatter.format(logging.LogRecord("x", logging.ERROR, "", 0, "failed: %s", (typed,), None))


@pytest.mark.parametrize("formatter", [Formatter(), JsonFormatter()])
def test_no_line_has_the_row_that_postgres_refused(alice: User, formatter: Formatter) -> None:
    with pytest.raises(IntegrityError) as refused, transaction.atomic():
        User.objects.filter(id=alice.id).update(username=None)
    error = refused.value
    assert "null value in column" in str(error)
    record = logging.LogRecord(
        "celery", logging.ERROR, "", 0, "raised %r %s", (error, error), (type(error), error, error.__traceback__)
    )
    said = formatter.format(record)
    assert "null value in column" in said
    for secret in (alice.email, alice.password, "DETAIL", "Failing row"):
        assert secret not in said


def test_an_error_of_postgres_does_not_repeat_the_statement_with_what_was_typed(db: None) -> None:
    with pytest.raises(ProgrammingError) as refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT %s FROM nowhere", ["plum"])
    assert str(refused.value) == 'relation "nowhere" does not exist'


def test_each_request_is_a_line_where_that_is_asked_for(
    page: Client, api: Api, settings: Settings, lines: Read
) -> None:
    page.get("/account/login/")
    assert lines() == []
    settings.ACCESS_LOG = True
    page, api = Client(SERVER_NAME="localhost"), Api()
    page.get("/account/login/?next=/typed/")
    page.get("/account/typed/")
    page.generic("PLUM", "/account/email/undo/typed/")
    api("HEAD", "/config", HTTP_X_REQUEST_ID="order-17.b")
    api.get("/typed")
    found = [line for line in lines() if line["logger"] == "accounts.access"]
    assert [(line["method"], line["operation"], line["status"]) for line in found] == [
        ("GET", "account_login", 200),
        ("GET", "other", 404),
        ("other", "email_undo", 405),
        ("HEAD", "getConfig", 200),
        ("GET", "other", 404),
    ]
    for line in found:
        assert "typed" not in str(line)
        assert line["ms"] >= 0
        assert line["ip"]
        assert line["message"] == "request"
        assert len(line["request_id"]) == 32
    assert found[3]["caller_id"] == "order-17.b"


def test_a_line_as_text_says_the_same() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "plum x=%(x)s y=%(y)r", (Fields(x=1, y="z"),), None)
    assert Formatter().format(record).endswith(" INFO a - plum x=1 y='z'")


@pytest.mark.parametrize(("given", "kind"), [("", Formatter), ("json", JsonFormatter)])
def test_the_server_in_front_of_the_service_writes_the_same(
    given: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """granian, which reads a file of its own (GRANIAN_LOG_CONFIG in the Dockerfile)."""
    monkeypatch.setenv("LOG_FORMAT", given)
    file = BASE / "project/granian_log.json"
    assert f"GRANIAN_LOG_CONFIG={file.relative_to(BASE)}\n" in (BASE / "Dockerfile").read_text()
    for formatter in json.loads(file.read_text())["formatters"].values():
        assert type(import_string(formatter["()"])()) is kind


def test_a_line_names_the_trace_that_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "trace_id", lambda: "4bf92f")
    record = logging.LogRecord("a", logging.INFO, "", 0, "plum", (), None)
    assert Formatter().format(record).endswith("plum trace_id=4bf92f")
    assert json.loads(JsonFormatter().format(record))["trace_id"] == "4bf92f"


def test_a_form_of_a_thousand_fields_is_one_line_and_so_are_foreign_hosts(page: Client) -> None:
    lines = StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(Formatter())
    handler.addFilter(Outages())
    logging.getLogger().addHandler(handler)
    try:
        answer = page.post("/account/login/", {f"f{number}": "x" for number in range(1001)})
        for host in ("old-name.example.com:8443", "another.example.com"):
            assert page.get("/account/login/", HTTP_HOST=host).status_code == 400
    finally:
        logging.getLogger().removeHandler(handler)
    assert answer.status_code == 400
    of_fields, of_host = lines.getvalue().splitlines()
    assert " WARNING django.security.TooManyFieldsSent " in of_fields
    assert of_host.endswith(
        "refused code=wrong_host reason='not in ALLOWED_HOSTS (said once a minute)' host=old-name.example.com:8443"
    )


# --- Tasks ----------------------------------------------------------------------------------------------------


def test_a_task_has_the_ids_of_the_request_that_enqueued_it(tmp_path: Path, lines: Read) -> None:
    with Valkey(tmp_path / "valkey") as valkey:
        app = Celery("logs", broker=valkey.url, set_as_current=False)

        @app.task(name="logs.task", shared=False)
        def task() -> None:
            """Nothing runs it."""

        set_guid("4f0b/order-17.b")
        task.apply_async()
        clear_guid()
        with redis.Redis.from_url(valkey.url) as client:
            (message,) = cast("list[bytes]", client.lrange("celery", 0, -1))
    task.push_request(**json.loads(message)["headers"])  # as the worker does
    task_prerun.send(sender=task, task=task)
    logging.getLogger("accounts").info("in the task")
    (line,) = lines()
    assert (line["request_id"], line["caller_id"]) == ("4f0b", "order-17.b")
    task_postrun.send(sender=task, task=task)
    assert get_guid() is None


@pytest.fixture
def _celerys_own_log() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield
    root.level, root.handlers[:] = before
    vars(celery.app.log)["Logging"]._setup = False


@pytest.mark.usefixtures("_celerys_own_log")
def test_worker_and_beat_write_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """LOG_LEVEL and LOG_FORMAT reach them: whatever `--loglevel` says, Celery sets up no log of its own."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    for name in ("_MP_FORK_LOGLEVEL_", "_MP_FORK_LOGFILE_", "_MP_FORK_LOGFORMAT_"):
        monkeypatch.setenv(name, "")
    app.log.setup_logging_subsystem(loglevel="DEBUG")
    assert (root.level, root.handlers) == before
    assert "loglevel" not in (BASE / "docker-compose.yml").read_text()


def test_what_the_schedule_calls_is_quiet_unless_it_fails(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app.finalize()
    for name in ("celery.beat", "celery.worker.strategy"):
        assert logging.getLogger(name).level == logging.WARNING
    trace = logging.getLogger("celery.app.trace")
    for task in (*app.conf.beat_schedule, "accounts.deliver_mail"):
        trace.info("Task %(name)s succeeded", {"name": task})
    trace.error("Task %(name)s failed", {"name": "accounts.sweep"})
    assert [record.getMessage() for record in caplog.records] == [
        "Task accounts.deliver_mail succeeded",
        "Task accounts.sweep failed",
    ]
