"""The API's own middleware: its answers keep their form whatever happens around ninja."""

import re
from http import HTTPStatus

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import translation
from django.utils.cache import patch_vary_headers
from django.utils.http import http_date
from django.utils.translation import get_language_from_request

from accounts.http import PERMISSIONS, GetResponse, has_no_length
from accounts.services.staff import usage
from api import errors
from api.paths import is_under_api

_VERSION = re.compile(r"/api/(v\d{1,3})/")
_WITHOUT_BODY = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": PERMISSIONS,
    "Content-Security-Policy": POLICY,
}


def _say_how_long(response: HttpResponse) -> None:
    """What an app of version 1 should know of its future, as configured."""
    if settings.API_V1_DEPRECATED_AT:
        response["Deprecation"] = f"@{int(settings.API_V1_DEPRECATED_AT.timestamp())}"
    if settings.API_V1_SUNSET_AT:
        response["Sunset"] = http_date(settings.API_V1_SUNSET_AT.timestamp())
    if settings.API_V1_SUCCESSOR:
        response["Link"] = f'<{settings.API_V1_SUCCESSOR}>; rel="successor-version"'


def _count(request: HttpRequest) -> None:
    """Who still calls which version."""
    met = request.resolver_match  # an operation of a version has a namespace
    if met and met.namespace and (version := _VERSION.match(request.path)):
        # What a stranger calls itself counts for nothing: it could fill a day's list with names.
        app_version = request.META.get("HTTP_X_APP_VERSION", "") if hasattr(request, "user_session") else ""
        usage.count(version[1], app_version)


_SHARED = ("/api/", "/.well-known/")
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Accept, Accept-Language, Authorization, Content-Type, Idempotency-Key, If-Match, "
    "If-None-Match, X-App-Version, X-Proof, X-Request-Id",
    "Access-Control-Max-Age": "7200",  # the most that Chromium keeps
}
_EXPOSED = "Deprecation, ETag, Link, RateLimit, RateLimit-Policy, Retry-After, Sunset, X-Request-Id"


class CorsMiddleware:
    """Lets the pages of CORS_ALLOWED_ORIGINS call the API, whatever it answers. Without credentials: nothing here reads
    a cookie."""

    def __init__(self, get_response: GetResponse) -> None:
        if not settings.CORS_ALLOWED_ORIGINS:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path.startswith(_SHARED):
            return self.get_response(request)
        origin = request.headers.get("Origin", "")
        is_allowed = origin in settings.CORS_ALLOWED_ORIGINS
        if is_allowed and request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response = HttpResponse(status=HTTPStatus.NO_CONTENT, headers=_PREFLIGHT)
        else:
            response = self.get_response(request)
        if is_allowed:
            response["Access-Control-Allow-Origin"] = origin
            response["Access-Control-Expose-Headers"] = _EXPOSED
        patch_vary_headers(response, ["Origin"])
        return response


class ProblemMiddleware:
    """Gives 404, 405 and unforeseen errors under /api/ the one form, and every answer its safety headers."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._answer(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if not response.streaming and response.status_code not in _WITHOUT_BODY:
            response.headers.setdefault("Content-Length", str(len(response.content)))  # else it is sent in chunks
        return response

    def _answer(self, request: HttpRequest) -> HttpResponse:
        if request.method == "HEAD":
            request.method = "GET"  # RFC 9110: wherever GET is answered; the server leaves the body out
        if has_no_length(request):  # better told than taken for empty
            return errors.refuse(request, errors.LengthRequired())
        with translation.override(get_language_from_request(request)):
            response = self.get_response(request)
        if response.status_code >= 400 and response.headers.get("Content-Type") != "application/problem+json":
            response = self._in_form(request, response)
        _count(request)
        if request.path.startswith("/api/v1/"):
            _say_how_long(response)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse:
        return (
            errors.refuse(request, errors.NotFound())
            if isinstance(error, Http404)
            else errors.server_error(request, error)
        )

    def _in_form(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if not is_under_api(request.path):
            return response
        if response.status_code == 405:
            request.operation_id = request.resolver_match.url_name  # type: ignore[attr-defined, union-attr]
            answer = errors.refuse(request, errors.MethodNotAllowed())
            answer["Allow"] = response.headers.get("Allow", "")
            return answer
        if response.status_code == 404:
            return errors.refuse(request, errors.NotFound())
        return response
