from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Router

from accounts.services.authentication import providers
from accounts.services.profile import pictures
from api.v1 import schemas
from api.v1.responses import answers

router = Router(tags=["config"])


@router.get("/config", operation_id="getConfig", **answers({200: schemas.ConfigOut}))
def get_config(request: HttpRequest, response: HttpResponse) -> dict[str, Any]:
    """Get what an app must not hard-code.

    The rules and choices of this service. An answer may be kept for five minutes."""
    response["Cache-Control"] = "public, max-age=300"
    return {
        "signup_open": settings.SIGNUP_OPEN,
        "email_verification": settings.EMAIL_VERIFICATION,
        "password": {"min_length": settings.PASSWORD_MIN_LENGTH, "max_length": settings.PASSWORD_MAX_LENGTH},
        "sign_in_by_code": settings.SIGN_IN_BY_CODE,
        "providers": list(providers.listed()),
        "support_email": settings.SUPPORT_EMAIL or None,
        "languages": [code for code, _name in settings.LANGUAGES],
        "picture": {
            "max_bytes": settings.PICTURE_MAX_BYTES,
            "max_pixels": settings.PICTURE_MAX_PIXELS,
            "max_pixels_by_type": pictures.max_pixels(),
            "content_types": list(pictures.max_pixels()),
            "sizes": list(pictures.SIZES),
        },
    }
