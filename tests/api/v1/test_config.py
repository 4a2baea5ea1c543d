"""What an app must not hard-code."""

from typing import Any

from tests.conftest import Api


def test_the_configuration_is_public_and_may_be_kept_for_a_while(
    api: Api, settings: Any, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        answer = api.get("/config")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert answer.json() == {
        "signup_open": True,
        "email_verification": "optional",
        "password": {"min_length": settings.PASSWORD_MIN_LENGTH, "max_length": 128},
        "sign_in_by_code": True,
        "languages": ["en", "de", "fr", "es", "ar"],
        "providers": [],
        "support_email": None,
        "picture": {
            "max_bytes": settings.PICTURE_MAX_BYTES,
            "max_pixels": settings.PICTURE_MAX_PIXELS,
            "max_pixels_by_type": {
                "image/jpeg": settings.PICTURE_MAX_PIXELS,
                "image/png": settings.PICTURE_MAX_PIXELS,
                "image/webp": 14_155_776,
                "image/heic": settings.PICTURE_MAX_PIXELS,
                "image/avif": 17_422_493,
            },
            "content_types": ["image/jpeg", "image/png", "image/webp", "image/heic", "image/avif"],
            "sizes": [64, 256, 1024],
        },
    }


def test_the_configuration_follows_the_operator(api: Api, settings: Any) -> None:
    settings.SIGNUP_OPEN = False
    settings.EMAIL_VERIFICATION = "mandatory"
    settings.SIGN_IN_BY_CODE = False
    found = api.get("/config").json()
    assert found["signup_open"] is False
    assert found["email_verification"] == "mandatory"
    assert found["sign_in_by_code"] is False


def test_a_token_that_is_wrong_does_not_matter_here(api: Api) -> None:
    assert api.get("/config", token="nonsense").status_code == 200
