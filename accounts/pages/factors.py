"""The pages about two-step verification and passkeys. Signing in with them is in sign_in.py."""

import base64
import io
from collections.abc import Callable
from functools import wraps
from textwrap import wrap
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import qrcode
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from qrcode.image.svg import SvgPathImage

from accounts.errors import AccountError, SetupExpired
from accounts.http import AuthenticatedRequest, caller
from accounts.pages.forms import AddPasskeyForm, PasskeyNameForm, TurnOnForm
from accounts.pages.refusals import form_page, press, refused_redirect
from accounts.services.authentication import passkeys, reauthentication, totp

View = Callable[..., HttpResponse]


def recently_signed_in(view: View) -> View:
    """A user who signed in too long ago does it again first, and comes back to the page."""

    @wraps(view)
    def asked(request: AuthenticatedRequest, **kwargs: Any) -> HttpResponse:
        if reauthentication.is_recent(request.user_session):
            return view(request, **kwargs)
        back = request.path if request.method == "GET" else reverse("two_step")
        page = "second_step" if reauthentication.lacks_mfa(request.user_session) else "account_reauthenticate"
        return redirect(f"{reverse(page)}?{urlencode({'next': back})}")

    return asked


@login_required
@require_GET
def overview(request: AuthenticatedRequest) -> HttpResponse:
    return render(request, "accounts/two_step.html", {"factors": totp.overview(request.user)})


# --- The authenticator app ----------------------------------------------------------------------------------


@sensitive_post_parameters("state", "code")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@recently_signed_in
def turn_on(request: AuthenticatedRequest) -> HttpResponse:
    """The secret as a picture and as text, and a field for the first code."""

    def save(data: dict[str, Any]) -> HttpResponse:
        codes = totp.turn_on(user=user, session=session, caller=caller(request), **data)
        return _show_recovery_codes(request, codes)

    user, session = request.user, request.user_session
    form = TurnOnForm(request.POST or None)
    try:
        if request.method == "POST":
            setup = totp.begun(user=user, session=session, state=request.POST.get("state", ""))
        else:
            setup = totp.begin(user=user, session=session)
            form.initial["state"] = setup.state
    except AccountError as error:
        return refused_redirect(request, error, "two_step_turn_on" if isinstance(error, SetupExpired) else "two_step")
    shown = {"setup": setup, "secret": " ".join(wrap(setup.secret, 4)), "picture": _qr_code(setup.uri)}
    return form_page(request, "accounts/two_step_turn_on.html", form, save, **shown)


def _qr_code(text: str) -> str:
    """As an address of a picture, because nothing may be drawn by an inline style."""
    file = io.BytesIO()
    qrcode.make(text, image_factory=SvgPathImage, border=2).save(file)
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@recently_signed_in
def turn_off(request: AuthenticatedRequest) -> HttpResponse:
    if request.method != "POST":
        return render(request, "accounts/two_step_turn_off.html")
    return press(
        request,
        lambda: totp.turn_off(user=request.user, session=request.user_session, caller=caller(request)),
        done=_("Two-step verification is off."),
        page="two_step",
    )


@login_required
@require_POST
@recently_signed_in
def recovery_codes(request: AuthenticatedRequest) -> HttpResponse:
    """New ones, shown this once."""
    try:
        codes = totp.make_recovery_codes(user=request.user, session=request.user_session, caller=caller(request))
    except AccountError as error:
        return refused_redirect(request, error, "two_step")
    return _show_recovery_codes(request, codes)


def _show_recovery_codes(request: AuthenticatedRequest, codes: Any) -> HttpResponse:
    file = f"data:text/plain;charset=utf-8,{quote(chr(10).join([*codes, '']))}"
    return render(request, "accounts/recovery_codes.html", {"codes": codes, "file": file})


# --- Passkeys -----------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@recently_signed_in
def passkey_add(request: AuthenticatedRequest) -> HttpResponse:
    def save(data: dict[str, Any]) -> HttpResponse:
        passkeys.add(user=request.user, session=request.user_session, caller=caller(request), **data)
        messages.success(request, _("Your passkey has been added. You can now sign in with it."))
        return redirect("two_step")

    try:
        ceremony = passkeys.begin_adding(user=request.user, session=request.user_session)
    except AccountError as error:
        return refused_redirect(request, error, "two_step")
    form = AddPasskeyForm(request.POST or None)
    return form_page(request, "accounts/passkey_add.html", form, save, passkey=ceremony)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def passkey(request: AuthenticatedRequest, passkey_id: UUID) -> HttpResponse:
    """Its name, and the button that removes it."""
    found = get_object_or_404(request.user.passkeys, id=passkey_id)

    def save(data: dict[str, Any]) -> HttpResponse:
        passkeys.rename(user=request.user, passkey_id=passkey_id, name=data["name"], caller=caller(request))
        messages.success(request, _("The name has been saved."))
        return redirect("two_step")

    form = PasskeyNameForm(request.POST or None, initial={"name": found.name})
    return form_page(request, "accounts/passkey.html", form, save, passkey=found)


@login_required
@require_POST
@recently_signed_in
def passkey_remove(request: AuthenticatedRequest, passkey_id: UUID) -> HttpResponse:
    def remove() -> None:
        passkeys.remove(user=request.user, session=request.user_session, passkey_id=passkey_id, caller=caller(request))

    return press(request, remove, done=_("The passkey has been removed. It no longer works."), page="two_step")
