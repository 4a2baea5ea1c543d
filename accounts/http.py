"""What both faces need of HTTP: where a request came from, its id, the status of each refusal and its log line."""

import ipaddress
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _
from django_guid import set_guid

from accounts import errors
from accounts.caller import Caller, Device
from accounts.errors import AccountError
from accounts.lib import metrics
from accounts.lib.log_lines import OTHER, Fields, ids_of, operation_of, request_ids
from accounts.models import Session, User

log = logging.getLogger("accounts.refused")  # its lines have one form
access = logging.getLogger("accounts.access")
proxies = logging.getLogger("accounts.proxies")

GetResponse = Callable[[HttpRequest], HttpResponse]


class ServiceUnavailable(AccountError):
    """Postgres is away (accounts/lib/postgres): no rule raises this, the faces answer so."""

    code = "service_unavailable"
    message = _("We can't do this right now. Try again in a few seconds.")
    retry_after = 5


# The one list. The API answers with these; pages only with those of `accounts/pages/refusals.py`.
STATUSES: dict[type[AccountError], int] = {
    kind: status
    for status, kinds in {
        400: (errors.InvalidCode, errors.InvalidCursor, errors.InvalidKey),
        401: (
            errors.InvalidCredentials, errors.InvalidIdToken, errors.InvalidPasskey, errors.InvalidTicket,
            errors.InvalidToken, errors.MfaRequired, errors.RefreshExpired, errors.RefreshReused, errors.SessionRevoked,
            errors.TokenExpired,
        ),
        403: (
            errors.AccountDisabled, errors.CodeSignInClosed, errors.DirectoryClosed, errors.EmailNotVerified,
            errors.NotAllowed, errors.RecentSignInNeeded, errors.SignUpClosed, errors.WrongPassword,
        ),
        404: (
            errors.IdentityNotFound, errors.PasskeyNotFound, errors.ProviderUnknown, errors.SessionNotFound,
            errors.UploadNotFound, errors.UserNotFound,
        ),
        409: (
            errors.EmailInUse, errors.IdentityTaken, errors.IdentityUnknown, errors.LastSuperuser, errors.LastWayIn,
            errors.MfaIsOff, errors.MfaIsOn, errors.OwnAccount, errors.RequestInProgress, errors.SetupExpired,
            errors.TooManyIdentities, errors.TooManyPasskeys, errors.UploadMissing, errors.UsernameTaken,
        ),
        412: (errors.ProfileChanged,),
        413: (errors.PictureTooLarge,),
        422: (
            errors.IdempotencyKeyReused, errors.InvalidInput, errors.InvalidPicture, errors.PictureIncomplete,
            errors.SearchTooBroad,
        ),
        429: (errors.ChallengeRequired, errors.RateLimited, errors.UsernameChangeLimited),
        503: (errors.Overloaded, errors.ProviderUnavailable, ServiceUnavailable, errors.StorageUnavailable),
    }.items()
    for kind in kinds
}  # fmt: skip


class AuthenticatedRequest(HttpRequest):
    """A request of somebody who is signed in, as mypy sees it. `user_session` is the signed-in device."""

    user: User
    user_session: Session


# Some proxies add the client's port, and with it brackets around version 6: 203.0.113.7:51234, [2001:db8::7]:51234.
_IN_BRACKETS_OR_WITH_PORT = re.compile(r"\[([^\]]+)\](?::[0-9]+)?|([^:]+):[0-9]+")


def _address(entry: str) -> str | None:
    """One spelling of a network address, or None. Without a zone, which Postgres does not take, and of version 4 where
    version 6 only wraps it: else one client would have several budgets."""
    found = _IN_BRACKETS_OR_WITH_PORT.fullmatch(entry)
    try:
        address = ipaddress.ip_address(found[1] or found[2] if found else entry)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or ipaddress.IPv6Address(int(address))
    return str(address)


def client_ip(meta: Mapping[str, Any]) -> str | None:
    """The client's network address: what the outermost trusted proxy saw. Anything that a client writes into
    X-Forwarded-For itself is further left and is not looked at."""
    if settings.TRUSTED_PROXY_COUNT:
        entries = str(meta.get("HTTP_X_FORWARDED_FOR", "")).split(",")
        entry = entries[-settings.TRUSTED_PROXY_COUNT :][0].strip()
        if address := _address(entry):
            return address
        _warn_of(entry)
    return _address(str(meta.get("REMOTE_ADDR", "")))


_WARNING_PAUSE = 3600.0  # seconds
_warned_at: float | None = None


def _warn_of(entry: str) -> None:
    global _warned_at  # noqa: PLW0603 - one for the process
    if _warned_at is None or time.monotonic() >= _warned_at + _WARNING_PAUSE:
        _warned_at = time.monotonic()
        proxies.warning(
            "X-Forwarded-For names no address (%r): everybody behind this proxy shares its limits. Is "
            "TRUSTED_PROXY_COUNT=%d right? (said once an hour)",
            entry[:60],
            settings.TRUSTED_PROXY_COUNT,
        )


def caller(request: HttpRequest, device: Device | None = None) -> Caller:
    return Caller(
        ip=client_ip(request.META),
        user_agent=request.META.get("HTTP_USER_AGENT", "")[:500],
        device=device,
        language=get_language() or "",
        proof=request.META.get("HTTP_X_PROOF", "")[:100],
    )


def has_no_length(request: HttpRequest) -> bool:
    """Whether it has a body in chunks, of which Django reads nothing."""
    coding = request.META.get("HTTP_TRANSFER_ENCODING", "").lower()
    return "chunked" in coding and not request.META.get("CONTENT_LENGTH")


CSRF_FAILED = "csrf_failed"  # of pages alone


def log_refusal(request: HttpRequest, error: AccountError) -> None:
    log_refused(request, error.code, error.reason)


def log_refused(request: HttpRequest, code: str, reason: str = "") -> None:
    """One line, with the reason that the caller was not told, and nothing that was typed: the path is."""
    metrics.add(metrics.REFUSED, code)
    log.info(
        "refused code=%(code)s reason=%(reason)r operation=%(operation)s ip=%(ip)s request_id=%(request_id)s",
        Fields(
            code=code,
            reason=reason,
            operation=operation_of(request),
            ip=client_ip(request.META),
            request_id=request_ids()[0] or "-",
        ),
    )


_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class RequestMiddleware:
    """X-Request-Id: the answer has the caller's where it is well-formed, else ours. Lines of the log have both, because
    a caller may give every request the same. A proxy's is a caller's: most pass on what they are sent."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id, caller_id = uuid4().hex, given if _REQUEST_ID.match(given) else ""
        set_guid(ids_of(request_id, caller_id))
        request.id = caller_id or request_id  # type: ignore[attr-defined]
        response = self.get_response(request)
        response["X-Request-Id"] = caller_id or request_id
        return response


_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def method_of(request: HttpRequest) -> str:
    """One of those that there are. To be asked first: the API answers HEAD as GET."""
    return request.method if request.method in _METHODS else OTHER


class AccessMiddleware:
    """ACCESS_LOG: a line for each request, with nothing that its caller chose."""

    def __init__(self, get_response: GetResponse) -> None:
        if not settings.ACCESS_LOG:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        method, began = method_of(request), time.perf_counter()
        response = self.get_response(request)
        access.info(
            "request method=%(method)s operation=%(operation)s status=%(status)d ms=%(ms).1f ip=%(ip)s "
            "request_id=%(request_id)s",
            Fields(
                method=method,
                operation=operation_of(request),
                status=response.status_code,
                ms=round((time.perf_counter() - began) * 1e3, 1),
                ip=client_ip(request.META),
                request_id=request_ids()[0],
            ),
        )
        return response


# Of both faces; the rest of what browsers should know is Django's own (SecurityMiddleware) or each face's policy.
PERMISSIONS = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
