from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from accounts.services import signing_keys


@require_safe
def jwks(request: HttpRequest) -> JsonResponse:
    """RFC 7517. Five minutes of caching: a new key is known to this service at once and to others before long."""
    response = JsonResponse(signing_keys.jwks(), content_type="application/jwk-set+json")
    response["Cache-Control"] = "public, max-age=300"
    return response
