"""The contract to read: Redoc, which comes with ninja. To try it, there is ninja's own page (`docs`)."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from accounts.lib import brand
from api.middleware import POLICY

# The only text in Redoc's style elements: none, because it adds its rules by script, and those of its scroll bar.
STYLES = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"


@require_safe
def reference(request: HttpRequest) -> HttpResponse:
    context = {
        "site_name": settings.SITE_NAME,
        "contract": reverse("v1:openapi-json"),
        "palette": brand.palette(),
    }
    response = render(request, "api/reference.html", context)
    response["Content-Security-Policy"] = POLICY.replace("style-src 'self'", f"style-src 'self' {STYLES}")
    return response
