"""What every page request passes through: safety headers, time zone, and whether its browser is still signed in."""

import sys
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from django.conf import settings
from django.contrib.auth import SESSION_KEY as USER_ID
from django.contrib.auth import logout
from django.contrib.messages.storage.cookie import CookieStorage
from django.contrib.messages.storage.fallback import FallbackStorage
from django.contrib.messages.storage.session import SessionStorage
from django.core.signals import got_request_exception
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import get_language_from_request

from accounts.http import PERMISSIONS, GetResponse, ServiceUnavailable, has_no_length, log_refused
from accounts.lib import postgres, time_zones
from accounts.models import User
from accounts.services.profile import pictures
from accounts.services.sessions import sessions


class MessageCookie(CookieStorage):
    cookie_name = settings.MESSAGE_COOKIE_NAME


class Messages(FallbackStorage):
    """Django's own, but for the cookie's name."""

    storage_classes = (MessageCookie, SessionStorage)


class PageMiddleware:
    """The safety of pages: no body larger than a picture with its form, the headers of safety on every answer, and
    forms that lead back to the page that they stood on."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.headers = {"Content-Security-Policy": _policy(), "Permissions-Policy": PERMISSIONS}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = _refused(request) or self.get_response(request)
        response = _unavailable(request) if hasattr(request, "is_outage") else self._finished(request, response)
        for name, value in self.headers.items():
            response.setdefault(name, value)
        return response

    def _finished(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            _show_wrong_method(request, response)
        if request.method == "POST" and response.status_code == HTTPStatus.FOUND:
            _lead_back(request, response)
            _let_script_follow(request, response)
        mine = getattr(request, "user", None) and request.user.is_authenticated
        if mine or request.path.startswith("/account/"):  # forms, and what a stranger typed, are nobody else's either
            response.setdefault("Cache-Control", "no-store")
        return response


def _policy() -> str:
    """No inline script or style anywhere, nothing from a foreign host but pictures."""
    bucket = _origin(settings.S3_PUBLIC_BUCKET_URL)
    pictures = [_origin(settings.PICTURE_CDN_URL) or bucket, _origin(settings.SITE_LOGO)]
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
        f"img-src 'self' data: {' '.join(filter(None, pictures))}; connect-src 'self' {bucket}; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    )


def _origin(address: str) -> str:
    """Its scheme and host, or nothing if it is a path."""
    place = urlsplit(address)
    return f"{place.scheme}://{place.netloc}" if place.netloc else ""


def _refused(request: HttpRequest) -> HttpResponse | None:
    """What no view should see."""
    if has_no_length(request):  # no browser does this; a webhook may
        log_refused(request, "length_required")
        return HttpResponse("Send a Content-Length.\n", status=411, content_type="text/plain")
    length = request.META.get("CONTENT_LENGTH") or "0"
    has_file = request.content_type == "multipart/form-data"
    most = settings.PICTURE_MAX_BYTES + _FORM if has_file else settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if not length.isdecimal() or int(length) > most:
        log_refused(request, "body_too_large")
        return _page(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    charset = (request.content_params or {}).get("charset", "utf-8")
    if charset.lower() not in {"utf-8", "utf8"}:
        # Django refuses these forms, and then looks into them once more for the page that says so: a 500.
        log_refused(request, "malformed_body", "not UTF-8")
        return _page(request, HTTPStatus.BAD_REQUEST)
    return None


@receiver(got_request_exception)
def _note_outage(request: HttpRequest, **_: object) -> None:
    """Wherever it happened: in a view, in a template or in another middleware, which Django makes a 500 of."""
    if postgres.is_away(sys.exc_info()[1]):
        request.is_outage = True  # type: ignore[attr-defined]


def _unavailable(request: HttpRequest) -> HttpResponse:
    with translation.override(get_language_from_request(request)):
        # Without the request, whose user is in Postgres.
        page = render_to_string("503.html", {"error": ServiceUnavailable.message})
    status, seconds = HTTPStatus.SERVICE_UNAVAILABLE, str(ServiceUnavailable.retry_after)
    return HttpResponse(page, status=status, headers={"Retry-After": seconds, "Cache-Control": "no-store"})


def _show_wrong_method(request: HttpRequest, response: HttpResponse) -> None:
    """Django's own answer is empty."""
    if not response.content and request.accepts("text/html"):
        response.content = _page(request, HTTPStatus.METHOD_NOT_ALLOWED).content
        response["Content-Type"] = "text/html; charset=utf-8"
        response["Content-Length"] = str(len(response.content))


def _page(request: HttpRequest, status: HTTPStatus) -> HttpResponse:
    # No other middleware saw the request, so none has chosen its language.
    with translation.override(get_language_from_request(request)):
        return render(request, f"{status.value}.html", {"mb": settings.PICTURE_MAX_BYTES // 2**20}, status=status)


def _let_script_follow(request: HttpRequest, response: HttpResponse) -> None:
    """A script that sent a form (picture.js) could not see where it leads: its browser would follow unseen, and use up
    the notice that waits there."""
    if "X-Follow" in request.headers:
        response.status_code = HTTPStatus.OK


def _lead_back(request: HttpRequest, response: HttpResponse) -> None:
    """A person who has to sign in before a form is taken comes back to the page with the form. The form's own address
    may have none to show."""
    address = urlsplit(response["Location"])
    query = QueryDict(address.query, mutable=True)
    page = _own_page(request.headers.get("Referer", ""), request.get_host())
    if page and query.get("next") in {request.path, request.get_full_path()}:
        query["next"] = page
        response["Location"] = urlunsplit(address._replace(query=query.urlencode(safe="/")))


def _own_page(address: str, host: str) -> str:
    """Its path, or nothing if it is anybody else's."""
    try:
        page = urlsplit(address)
    except ValueError:
        return ""
    path = urlunsplit(("", "", page.path, page.query, ""))
    return path if page.netloc == host and url_has_allowed_host_and_scheme(path, allowed_hosts=None) else ""


_FORM = 1024 * 1024  # bytes of form around the file; also lets the rule say "too large" of slightly larger ones
SESSION_ID = "device"  # the key in Django's session under which a browser's Session row is named


class BrowserSessionMiddleware:
    """A browser is signed in while its row in the list of devices is open; ending the row ends it here."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if user_id := request.session.get(USER_ID):
            row = sessions.browser(_uuid(request.session.get(SESSION_ID)), _uuid(user_id))
            if row is None:
                logout(request)
            else:  # the user came with the row
                request.user, request.user_session = row.user, row  # type: ignore[attr-defined]
        return self.get_response(request)


class TimeZoneMiddleware:
    """Times in the zone of who is signed in."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not isinstance(request.user, User):
            return self.get_response(request)
        with timezone.override(time_zones.zone_of(request.user.time_zone)):
            return self.get_response(request)


def _uuid(value: object) -> UUID:
    try:
        return UUID(str(value))
    except ValueError:
        return UUID(int=0)


def site(request: HttpRequest) -> dict[str, Any]:
    """For every template."""
    user = getattr(request, "user", None)
    shown = pictures.addresses(user) if isinstance(user, User) else {}
    return {
        "site_name": settings.SITE_NAME,
        "languages": settings.LANGUAGES,  # each in its own words; Django's own tag translates them
        "my_picture": shown.get(64, ""),
        "signup_open": settings.SIGNUP_OPEN,
        "code_sign_in": settings.SIGN_IN_BY_CODE,
    }
