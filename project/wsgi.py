"""One process, two handlers: pages walk through Django's whole middleware, the API through its own short list.

Measured: the site's middleware costs an API request a fifth of its time, and none of it may run there
(no session, no cookie, no CSRF)."""

import os
from collections.abc import Callable, Iterable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

import django
from django.conf import settings
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIHandler

from api.paths import is_under_api

API_PREFIXES = ("/api/", "/.well-known/", "/robots.txt", "/livez", "/readyz", "/metrics")
MOST_BODY = 12 * 1024 * 1024  # as in docker/nginx.conf


class ApiMiddleware(BaseHandler):
    """Mixed into a handler: loads API_MIDDLEWARE in the place of MIDDLEWARE."""

    def load_middleware(self, is_async: bool = False) -> None:
        pages = settings.MIDDLEWARE
        settings.MIDDLEWARE = settings.API_MIDDLEWARE
        try:
            super().load_middleware(is_async=is_async)
        finally:
            settings.MIDDLEWARE = pages


class ApiHandler(ApiMiddleware, WSGIHandler):
    pass


django.setup(set_prefix=False)
if settings.METRICS_TOKEN:
    from project import metrics

    metrics.start()
if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
    from project import tracing

    tracing.start()
_pages = WSGIHandler()
_api = ApiHandler()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ.get("PATH_INFO", "")
    handler = _api if path.startswith(API_PREFIXES) or is_under_api(path) else _pages
    answer: Iterable[bytes] = handler(environ, start_response)
    if "CONTENT_LENGTH" in environ and environ.get("wsgi.input_terminated"):
        _drain(environ)
    return answer


def _drain(environ: dict[str, Any]) -> None:
    """Read what a refusal left of the body. Else the connection is cut while the proxy is still sending, which then
    answers 503 itself, and an app would send the same picture again instead of fetching a new token."""
    if int(environ["CONTENT_LENGTH"] or 0) <= MOST_BODY:
        while environ["wsgi.input"].read(64 * 1024):
            pass
