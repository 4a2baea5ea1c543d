"""The page that the `type` of every problem names: all codes, what they mean and what an app does about them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from accounts.errors import FIELD_ERRORS, Words
from api.errors import CASES, Action, sample

# What each action asks of an app.
ACTIONS: dict[Action, Words] = {
    Action.RETRY: _("Try again later, after `retry_after` seconds if given."),
    Action.REFRESH: _("Refresh the tokens, then try again."),
    Action.SIGN_IN: _("Ask the person to sign in again."),
    Action.REAUTHENTICATE: _("Ask for the password again."),
    Action.FIX_INPUT: _("Let the person correct what they entered."),
    Action.UPDATE_APP: _("Ask the person to update the app."),
    Action.NONE: _("Show the message. There's nothing else to do."),
}
# Only these end what an app keeps of a session.
SIGNED_OUT = ("refresh_expired", "refresh_reused", "session_revoked")


@dataclass(frozen=True)
class Line:
    code: str
    status: int
    action: Action
    sentence: Words
    advice: Words


def lines() -> Iterator[Line]:
    """Every code in the order of the alphabet."""
    for kind, case in sorted(CASES.items(), key=lambda pair: pair[0].code):
        yield Line(kind.code, case.status, case.action, sample(kind).message, ACTIONS[case.action])


def fields() -> Iterator[tuple[str, str]]:
    """Every code in `errors[]`; numbers are left open."""
    for code, sentence in sorted(FIELD_ERRORS.items()):
        yield code, re.sub(r"%\(\w+\)d", "…", str(sentence))


@require_safe
def catalogue(request: HttpRequest) -> HttpResponse:
    context = {
        "site_name": settings.SITE_NAME,
        "lines": list(lines()),
        "fields": list(fields()),
        "signed_out": SIGNED_OUT,
    }
    response = render(request, "api/errors.html", context)
    response["Cache-Control"] = "public, max-age=3600"
    patch_vary_headers(response, ["Accept-Language"])
    return response
