"""What lies at the root for machines: the public keys, and which apps may open our links (RFC 8615)."""

from django.conf import settings
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from accounts.services.sessions import signing_keys

# Where an app can take over from the browser: it sends the key in the path to the API.
LINKS = ("/account/password/reset/key/*", "/account/confirm-email/*", "/account/email/undo/*")


def _cacheable(body: object, *, content_type: str = "application/json") -> JsonResponse:
    response = JsonResponse(body, content_type=content_type, safe=False)
    response["Cache-Control"] = "public, max-age=300"
    return response


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
