"""Traces by OpenTelemetry (the extra `otel`), where OTEL_EXPORTER_OTLP_ENDPOINT is set; else nothing imports this.

The spans are our own. The libraries' instrumentation sees no request of the API (it adds itself to MIDDLEWARE alone),
and sends whole paths with the keys of links, network addresses, and the messages of errors. Here a span has names of
ours, numbers, and statements without their values."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from celery.signals import before_task_publish, task_postrun, task_prerun
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from accounts.http import GetResponse, method_of
from accounts.lib.log_lines import operation_of, request_ids
from project import logs

_tracer: trace.Tracer = trace.NoOpTracer()
_header = TraceContextTextMapPropagator()


def start(processor: SpanProcessor | None = None) -> None:
    """For a process that works, after it was forked: spans leave in a thread of their own."""
    global _tracer  # noqa: PLW0603 - one for the process
    os.environ.setdefault("OTEL_SERVICE_NAME", "user-service")
    # A stranger's `traceparent` is not read: it could have every request traced. Tasks follow their request.
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(settings.OTEL_TRACES_SAMPLER_ARG)))
    provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("user_service")
    connection_created.connect(_watch)
    before_task_publish.connect(_send_along)
    task_prerun.connect(_begin_task)
    task_postrun.connect(_end_task)
    logs.trace_id = _trace_id


def _trace_id() -> str:
    """Of the trace that is recorded now; any other leads nowhere."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.trace_flags.sampled else ""


@contextmanager
def _span(name: str, kind: SpanKind, parent: Context | None = None) -> Iterator[Span]:
    """Without the message of an error, which may hold anything."""
    with _tracer.start_as_current_span(
        name, parent, kind, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR)
            raise


class Middleware:
    """The first of both faces."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with _span("request", SpanKind.SERVER) as span:
            method = method_of(request)
            response = self.get_response(request)
            if span.is_recording():
                span.update_name(operation_of(request))
                span.set_attributes(
                    {
                        "http.request.method": method,
                        "http.response.status_code": response.status_code,
                        "request_id": request_ids()[0],
                    }
                )
                if response.status_code >= 500:
                    span.set_status(StatusCode.ERROR)
        return response


def _watch(connection: BaseDatabaseWrapper, **_: object) -> None:
    if _statement not in connection.execute_wrappers:
        connection.execute_wrappers.append(_statement)


def _statement(execute: Callable[..., Any], sql: Any, *arguments: Any) -> Any:
    if not trace.get_current_span().is_recording():
        return execute(sql, *arguments)
    text = str(sql)
    with _span(text.split(maxsplit=1)[0], SpanKind.CLIENT) as span:
        span.set_attributes({"db.system.name": "postgresql", "db.query.text": text[:2000]})
        return execute(sql, *arguments)


# --- Tasks ----------------------------------------------------------------------------------------------------


def _send_along(headers: dict[str, Any], **_: object) -> None:
    _header.inject(headers)


def _begin_task(task: Any, **_: object) -> None:
    stack = ExitStack()
    parent = _header.extract({"traceparent": task.request.get("traceparent") or ""})
    span = stack.enter_context(_span(task.name, SpanKind.CONSUMER, parent))
    span.set_attribute("request_id", request_ids()[0])
    task.request.trace = stack, span


def _end_task(task: Any, state: str, **_: object) -> None:
    if begun := task.request.get("trace"):
        stack, span = begun
        if state == "FAILURE":
            span.set_status(StatusCode.ERROR)
        stack.close()
