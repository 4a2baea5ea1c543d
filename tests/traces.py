"""Spans that are kept in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from celery.signals import before_task_publish, task_postrun, task_prerun
from django.db import connection
from django.db.backends.signals import connection_created
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pytest_django import Settings

from project import logs, tracing


@contextmanager
def restored() -> Iterator[None]:
    """Afterwards nothing is traced in this process."""
    before = tracing._tracer, logs.trace_id
    try:
        yield
    finally:
        tracing._tracer, logs.trace_id = before
        if tracing._statement in connection.execute_wrappers:
            connection.execute_wrappers.remove(tracing._statement)
        connection_created.disconnect(tracing._watch)
        before_task_publish.disconnect(tracing._send_along)
        task_prerun.disconnect(tracing._begin_task)
        task_postrun.disconnect(tracing._end_task)


@contextmanager
def recorded(
    settings: Settings, processor: SpanProcessor | None = None, *, share: float = 1.0
) -> Iterator[InMemorySpanExporter]:
    """As in a process with OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_TRACES_SAMPLER_ARG, for clients made from here on."""
    spans = InMemorySpanExporter()
    settings.OTEL_TRACES_SAMPLER_ARG = share
    settings.MIDDLEWARE = ["project.tracing.Middleware", *settings.MIDDLEWARE]
    settings.API_MIDDLEWARE = ["project.tracing.Middleware", *settings.API_MIDDLEWARE]
    with restored():
        tracing.start(processor or SimpleSpanProcessor(spans))
        tracing._watch(connection)  # which is open already
        yield spans
