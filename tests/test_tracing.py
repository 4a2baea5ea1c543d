"""What is traced, and what follows what. That no span has anything private: test_canaries.py."""

import json
import logging
import runpy
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from celery import Celery
from celery.signals import before_task_publish, task_postrun, task_prerun
from django.db import DataError, connection, transaction
from django.test import Client
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pytest_django import Settings

from accounts.services.authentication import sign_in
from project import celery, env, tracing
from project.devstack.servers import BASE
from project.logs import JsonFormatter
from tests.conftest import Api
from tests.traces import recorded, restored


@pytest.fixture
def spans(settings: Settings) -> Iterator[InMemorySpanExporter]:
    with recorded(settings) as found:
        yield found


def named(spans: InMemorySpanExporter) -> dict[str, Any]:
    return {span.name: span for span in spans.get_finished_spans()}


def test_the_endpoint_puts_it_first_in_both_faces_and_starts_it_in_the_worker(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(env, "asked", {})  # what is asked for here belongs into no reference page
    for endpoint, is_traced in (("", False), ("http://127.0.0.1:9", True)):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        found = runpy.run_path(str(BASE / "project/settings.py"))
        for chain in ("MIDDLEWARE", "API_MIDDLEWARE"):
            assert (found[chain][0] == "project.tracing.Middleware") == is_traced
        settings.OTEL_EXPORTER_OTLP_ENDPOINT = endpoint
        with restored():
            celery._traces()
            assert isinstance(tracing._tracer, Tracer) == is_traced


def test_both_faces_are_traced_with_their_statements(
    spans: InMemorySpanExporter, alices_api: Api, alices_page: Client
) -> None:
    spans.clear()
    alices_api.get("/me")
    alices_page.get("/account/profile/?q=typed")
    found = named(spans)
    assert {"getProfile", "profile", "SELECT"} <= set(found)
    for name in ("getProfile", "profile"):
        assert found[name].kind == SpanKind.SERVER
        assert found[name].attributes["http.response.status_code"] == 200
        assert found[name].attributes["http.request.method"] == "GET"
        mine = [span for span in spans.get_finished_spans() if span.context.trace_id == found[name].context.trace_id]
        statements = [span for span in mine if span.kind == SpanKind.CLIENT]
        assert statements
        assert all(span.parent.span_id == found[name].context.span_id for span in statements if span.parent)
        assert all("%s" in str(span.attributes["db.query.text"]) for span in statements if span.attributes)


def test_a_line_of_the_log_names_its_trace(
    spans: InMemorySpanExporter,
    db: None,
    caplog: pytest.LogCaptureFixture,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.ACCESS_LOG = True
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(caplog.handler, "formatter", JsonFormatter())
    Api().get("/me")
    refusal, request = (json.loads(line) for line in caplog.text.splitlines())
    span = named(spans)["getProfile"]
    assert refusal["trace_id"] == request["trace_id"] == f"{span.context.trace_id:032x}"
    assert request["request_id"] == span.attributes["request_id"]


def test_a_request_that_is_not_chosen_leaves_nothing(settings: Settings, db: None) -> None:
    settings.ACCESS_LOG = True
    with recorded(settings, share=0.0) as spans:
        Api().get("/me")
        assert tracing._trace_id() == ""
    assert spans.get_finished_spans() == ()


def test_a_stranger_does_not_decide_what_is_traced(spans: InMemorySpanExporter, db: None) -> None:
    theirs = "4bf92f3577b34da6a3ce929d0e0e4736"
    Api().get("/config", HTTP_TRACEPARENT=f"00-{theirs}-00f067aa0ba902b7-01")
    assert f"{named(spans)['getConfig'].context.trace_id:032x}" != theirs


def test_an_error_is_marked_and_not_told(
    spans: InMemorySpanExporter, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise ValueError("plum")

    monkeypatch.setattr(sign_in, "sign_in_app", fail)
    Api().post("/token", {"login": "ada", "password": "x"})
    with (
        pytest.raises(DataError, match="plum"),
        transaction.atomic(),
        tracing._span("task", SpanKind.CONSUMER),
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT %s::uuid", ["plum"])
    found = named(spans)
    for name in ("signIn", "SELECT", "task"):
        assert found[name].status.status_code == StatusCode.ERROR
        assert "plum" not in found[name].to_json()
    assert found["SELECT"].attributes["error.type"] == "DataError"


def test_a_task_follows_the_request_that_enqueued_it(spans: InMemorySpanExporter) -> None:
    app = Celery("traces", set_as_current=False)

    @app.task(name="traces.task", shared=False)
    def task() -> None:
        """Nothing runs it."""

    headers: dict[str, Any] = {}
    with tracing._span("request", SpanKind.SERVER):
        before_task_publish.send(sender=task.name, headers=headers)
    for state in ("SUCCESS", "FAILURE"):
        task.push_request(**headers)
        task_prerun.send(sender=task, task=task)
        with tracing._span("inside", SpanKind.CLIENT):
            pass
        task_postrun.send(sender=task, task=task, state=state)
        request, inside, done = spans.get_finished_spans()[0], *spans.get_finished_spans()[-2:]
        assert done.name == "traces.task"
        assert {span.context.trace_id for span in (request, inside, done)} == {request.context.trace_id}
        assert inside.parent
        assert inside.parent.span_id == done.context.span_id
        assert (done.status.status_code == StatusCode.ERROR) == (state == "FAILURE")
    assert tracing._trace_id() == ""


def test_spans_are_sent_where_the_setting_says(settings: Settings, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
        processor = BatchSpanProcessor(OTLPSpanExporter())
        with recorded(settings, processor):
            Client(SERVER_NAME="localhost").get("/account/login/")
        processor.shutdown()  # type: ignore[no-untyped-call]
        server.shutdown()
        thread.join()
    ((path, body),) = received
    assert path == "/v1/traces"
    assert b"account_login" in body
    assert b"user-service" in body
