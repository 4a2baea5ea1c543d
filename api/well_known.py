"""What lies at the root for machines (RFC 8615): the public keys, which apps may open our links, where passkeys are
managed, where to report a vulnerability, and what search engines may show."""

from datetime import timedelta

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.utils.timezone import now
from django.views.decorators.http import require_safe

from accounts.services.sessions import signing_keys

# Where an app can take over from the browser: it sends the key in the path to the API.
LINKS = ("/account/password/reset/key/*", "/account/confirm-email/*", "/account/email/undo/*")


# What a search engine may show: the doors, and what developers of apps read. All else is somebody's own page, or the
# link of an email. "$" is the end of an address (RFC 9309), so none with ?next=.
FOUND = (
    "/account/login/$",
    "/account/signup/$",
    "/account/password/reset/$",
    "/api/errors$",
    "/api/v1/reference$",
    "/static/",
)
_KEPT = {"Cache-Control": "public, max-age=300"}


def _cacheable(body: object, *, content_type: str = "application/json") -> JsonResponse:
    return JsonResponse(body, content_type=content_type, safe=False, headers=_KEPT)


def _text(*lines: str) -> HttpResponse:
    return HttpResponse("".join(f"{line}\n" for line in lines), content_type="text/plain; charset=utf-8", headers=_KEPT)


@require_safe
def jwks(request: HttpRequest) -> JsonResponse:
    """RFC 7517. Five minutes of caching: the next key is here a day before it signs."""
    return _cacheable(signing_keys.jwks(), content_type="application/jwk-set+json")


@require_safe
def apple_app_site_association(request: HttpRequest) -> JsonResponse:
    """For iOS: universal links, and passwords shared between the pages and the app."""
    if not settings.APPLE_APP_IDS:
        raise Http404
    components = [{"/": link} for link in LINKS]
    return _cacheable(
        {
            "applinks": {"details": [{"appIDs": settings.APPLE_APP_IDS, "components": components}]},
            "webcredentials": {"apps": settings.APPLE_APP_IDS},
        }
    )


@require_safe
def assetlinks(request: HttpRequest) -> JsonResponse:
    """For Android (Digital Asset Links)."""
    if not settings.ANDROID_APPS:
        raise Http404
    relation = ["delegate_permission/common.handle_all_urls", "delegate_permission/common.get_login_creds"]
    return _cacheable(
        [
            {
                "relation": relation,
                "target": {
                    "namespace": "android_app",
                    "package_name": package,
                    "sha256_cert_fingerprints": [fingerprint],
                },
            }
            for package, _, fingerprint in (app.partition("=") for app in settings.ANDROID_APPS)
        ]
    )


@require_safe
def passkey_endpoints(request: HttpRequest) -> JsonResponse:
    """For browsers and password managers (W3C, "Passkey Endpoints")."""
    pages = {"enroll": "passkey_add", "manage": "two_step"}
    return _cacheable({name: settings.PUBLIC_URL + reverse(page) for name, page in pages.items()})


@require_safe
def security_txt(request: HttpRequest) -> HttpResponse:
    """RFC 9116. As true as the setting, so what expires is only a copy of it."""
    if not settings.SECURITY_CONTACT:
        raise Http404
    return _text(
        *(f"Contact: {contact}" for contact in settings.SECURITY_CONTACT),
        f"Expires: {now() + timedelta(days=180):%Y-%m-%dT00:00:00Z}",
        f"Preferred-Languages: {', '.join(dict.fromkeys((settings.LANGUAGE_CODE, 'en')))}",
        f"Canonical: {settings.PUBLIC_URL}{request.path}",
    )


@require_safe
def robots_txt(request: HttpRequest) -> HttpResponse:
    """RFC 9309."""
    return _text("User-agent: *", *(f"Allow: {path}" for path in FOUND), "Disallow: /")
