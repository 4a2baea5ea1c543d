"""In development only (DEBUG=1): every email in every language, as it arrives."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import translation
from django.utils.timezone import now
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_safe

from accounts.caller import Caller
from accounts.models import User
from accounts.services import mail
from accounts.services.mail import Message

_CODE, _KEY = "48291375", "019ab3f27cde7000a1b2c3d4e5f60718-Zk3v9Qw8yT5uXr2oLm7nBc4dHs6jGf1eKa0pVi_RtYw"
_ACCOUNT = f"{settings.PUBLIC_URL}/account"
_RESET = {"code": _CODE, "link": f"{_ACCOUNT}/password/reset/key/{_KEY}/"}
SAMPLES: Mapping[Message, dict[str, Any]] = {
    Message.CONFIRM_EMAIL: {"code": _CODE, "link": f"{_ACCOUNT}/confirm-email/{_KEY}/"},
    Message.SIGN_UP: {"code": _CODE},
    Message.WELCOME: {},
    Message.RESET_PASSWORD: _RESET,
    Message.ADDRESS_TAKEN: {"other": "ada.lovelace"},
    Message.PASSWORD_CHANGED: {},
    Message.PASSWORD_REVOKED: _RESET,
    Message.EMAIL_CHANGED: {
        "email": "ada.new@example.com",
        "link": f"{_ACCOUNT}/email/undo/{_KEY}/",
        "days": settings.UNDO_LIFETIME.days,
    },
    Message.REFRESH_REUSED: {"device": "Ada's iPhone 17"},
    Message.NEW_DEVICE: {},
    Message.SIGN_IN: {"code": _CODE},
    Message.DELETION_PLANNED: {
        "erased_at": now() + settings.DELETION_GRACE,
        "link": f"{_ACCOUNT}/delete/undo/{_KEY}/",
    },
    Message.DELETION_CANCELLED: {},
    Message.ACCOUNT_ERASED: {},
    Message.FACTOR_ADDED: {"factor": "passkey", "other": "Ada's iPhone"},
    Message.FACTOR_REMOVED: {"factor": "two_step"},
    Message.IDENTITY_LINKED: {"other": "Google"},
    Message.IDENTITY_UNLINKED: {"other": "Google"},
    Message.RECOVERY_CODE_USED: {"left": 7},
    Message.SECOND_STEP_TRIED: {},
    Message.EXPORT_READY: {"link": f"{_ACCOUNT}/data/", "days": settings.EXPORT_LIFETIME.days},
}
# Mails bring their styles in themselves, as mail programs want it.
_MAIL_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; frame-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def sample(message: Message, language: str) -> tuple[str, str, str]:
    """Subject, text part and HTML part."""
    with translation.override(language):
        return mail.render(
            message,
            user=User(username="ada", first_name="Ada", email="ada@example.com"),
            caller=Caller(ip="192.0.2.7", known_as="Firefox on Linux"),
            to="ada@example.com",
            context=dict(SAMPLES[message]),
        )


@require_safe
def mail_list(request: HttpRequest) -> HttpResponse:
    language = _known(request.GET.get("language", settings.LANGUAGE_CODE))
    mails = [(message, *sample(message, language)[:2]) for message in Message]
    response = render(request, "accounts/mail_list.html", {"mails": mails, "shown": language})
    response["Content-Security-Policy"] = _PAGE_POLICY
    return response


@require_safe
@xframe_options_sameorigin
def mail_html(request: HttpRequest, language: str, message: str) -> HttpResponse:
    if message not in set(Message):
        raise Http404
    response = HttpResponse(sample(Message(message), _known(language))[2])
    response["Content-Security-Policy"] = _MAIL_POLICY
    return response


def _known(language: str) -> str:
    if not settings.DEBUG or language not in dict(settings.LANGUAGES):
        raise Http404
    return language
