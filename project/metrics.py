"""GET /metrics, for Prometheus, and the time that each request takes. What there is to see: accounts/lib/metrics.py."""

import secrets
import threading
import time
from collections.abc import Iterator

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.db import Error
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed

from accounts.http import CSRF_FAILED, GetResponse
from accounts.lib import metrics
from accounts.lib.log_lines import operation_of
from accounts.lib.metrics import Reading
from accounts.services.staff import gauges
from api.errors import CASES

KEPT = 5.0  # seconds that a process keeps what it has read from Postgres


def start() -> None:
    """For a web process, before it answers anything."""
    metrics.start(metrics.folder(), [*(kind.code for kind in CASES), CSRF_FAILED])


class PageTimes:
    """Measures each request, outside everything else that answers it."""

    face = "page"

    def __init__(self, get_response: GetResponse) -> None:
        if not settings.METRICS_TOKEN:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        begun = time.perf_counter()
        response = self.get_response(request)
        passed = time.perf_counter() - begun
        metrics.observe(metrics.HTTP, passed, self.face, operation_of(request), str(response.status_code))
        return response


class ApiTimes(PageTimes):
    face = "api"


def show(request: HttpRequest) -> HttpResponse:
    """To nobody without the token: as if there were nothing here."""
    given = request.META.get("HTTP_AUTHORIZATION", "").encode()
    if not settings.METRICS_TOKEN or not secrets.compare_digest(given, f"Bearer {settings.METRICS_TOKEN}".encode()):
        raise Http404
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    text = metrics.text([*_kept(), (metrics.BUILD, (settings.SERVICE_VERSION,), 1)])
    return HttpResponse(text, content_type="text/plain; version=0.0.4; charset=utf-8", headers=_NOT_KEPT)


_NOT_KEPT = {"Cache-Control": "no-store"}
_lock = threading.Lock()
_read: tuple[float, tuple[Reading, ...]] | None = None


def _kept() -> tuple[Reading, ...]:
    global _read  # noqa: PLW0603 - one for the process
    with _lock:  # several who ask at once
        if _read is None or time.monotonic() >= _read[0] + KEPT:
            _read = time.monotonic(), tuple(_from_postgres())
        return _read[1]


def _from_postgres() -> Iterator[Reading]:
    try:
        yield from gauges.read()
    except Error:
        yield metrics.DB_UP, (), 0
    else:
        yield metrics.DB_UP, (), 1
