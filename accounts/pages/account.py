"""The pages of an account. No rule is here: a view asks a rule, then chooses the words and the next page."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from allauth.account.utils import get_next_redirect_url, perform_login
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe
from django.views.i18n import set_language

from accounts.errors import AccountError
from accounts.http import CSRF_FAILED, AuthenticatedRequest, caller, log_refusal, log_refused
from accounts.lib import addresses, brand, time_zones
from accounts.models import PictureUpload, Session, User
from accounts.pages.forms import ChangeEmailForm, ConfirmCodeForm, DeleteAccountForm, ProfileForm, ResetCodeForm
from accounts.pages.refusals import form_page, press, refused_json, refused_page, refused_redirect
from accounts.services import mail
from accounts.services.account import deletion, email_addresses, email_recovery, export, password_resets, signup
from accounts.services.authentication import reauthentication, totp
from accounts.services.credentials import identifiers, password_policy
from accounts.services.profile import exports, picture_uploads, pictures, profiles
from accounts.services.security import audit, rate_limits
from accounts.services.sessions import sessions


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The page was open too long, or its cookie is gone. A person who signed in meanwhile, in another tab, goes on."""
    log_refused(request, CSRF_FAILED, reason.partition(" - ")[0])  # behind it stands what the browser sent
    if request.user.is_authenticated and _is_signing_in(request):
        messages.info(request, _("You're already signed in."))
        return redirect(get_next_redirect_url(request) or "overview")
    has_cookie = settings.CSRF_COOKIE_NAME in request.COOKIES
    return render(request, "403_csrf.html", {"has_cookie": has_cookie}, status=HTTPStatus.FORBIDDEN)


def _is_signing_in(request: Any) -> bool:
    """Whether this form leads into the account, and not a device that is in it through a step that it lacks."""
    match request.resolver_match.url_name:
        case "second_step" | "recovery_code":
            return not reauthentication.lacks_mfa(request.user_session)
        case name:
            return name in _ENTRANCES


_ENTRANCES = {
    "account_login", "account_signup", "account_request_login_code", "account_confirm_login_code", "passkey_sign_in",
}  # fmt: skip


@require_safe
def brand_stylesheet(request: HttpRequest, color: str) -> HttpResponse:
    """The address names the colour, so that it can be kept for ever."""
    if settings.ACCENT_COLOR.lower() != f"#{color}" or not brand.is_color(settings.ACCENT_COLOR):
        raise Http404
    response = HttpResponse(brand.stylesheet(), content_type="text/css")
    response["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """The switcher in the footer: for this browser's pages, and for the emails of a signed-in user."""
    code = request.POST.get("language")
    if code and isinstance(request.user, User):
        try:
            profiles.update(user=request.user, changes={"language": code}, caller=caller(request))
        except AccountError as error:
            log_refusal(request, error)
    return set_language(request)


def admin_login(request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
    """The admin's sign-in page: sign in as everywhere, then with a second factor (reauthentication.may_administer)."""
    if not isinstance(request.user, User):
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))
    if not request.user.is_staff:
        raise PermissionDenied
    if may_administer(request):
        return redirect("admin:index")
    factors = totp.overview(request.user)
    back = urlencode({"next": reverse("admin:index")})
    if factors.two_step_since:
        return redirect(f"{reverse('second_step')}?{back}")
    if factors.passkeys:
        messages.error(request, _("Staff need more than a password here. Use your passkey."))
        return redirect(f"{reverse('account_reauthenticate')}?{back}")
    messages.error(request, _("Staff need more than a password here. Turn on two-step verification, or add a passkey."))
    return redirect("two_step")


def may_administer(request: HttpRequest) -> bool:
    row: Session | None = getattr(request, "user_session", None)
    return isinstance(request.user, User) and row is not None and reauthentication.may_administer(request.user, row)


# --- The entrance -------------------------------------------------------------------------------------------


@sensitive_post_parameters()
@require_POST
def password_hint(request: HttpRequest) -> HttpResponse:
    """What the rule says of a new password while it is typed (account.js): there is one estimator, and it is here."""
    try:
        rate_limits.count_address("password_hint_per_ip", caller=caller(request))
    except AccountError as error:
        return refused_json(request, error)
    password, known = request.POST.get("password", ""), request.POST.getlist("about")
    if isinstance(request.user, User):
        known += password_policy.about(request.user)
    if problem := password_policy.problem(password, *known):
        level, words = "weak", str(problem.message)
    elif password_policy.is_strong(password, *known):
        level, words = "strong", _("Strong.")
    else:
        level, words = "fair", _("Good. One more word makes it strong.")
    return JsonResponse({"level": level, "words": words})


@sensitive_post_parameters("code", "new_password")
@require_http_methods(["GET", "HEAD", "POST"])
def password_reset_done(request: HttpRequest) -> HttpResponse:
    """ "Check your email": the code can be typed here too."""
    login = request.session.get("resetting")
    if not login:
        return redirect("account_reset_password")

    def save(data: dict[str, Any]) -> HttpResponse:
        password_resets.reset_by_code(login=login, caller=caller(request), **data)
        request.session.pop("resetting", None)
        return redirect("account_reset_password_from_key_done")

    form, late = ResetCodeForm(request.POST or None), mail.minutes_late()
    return form_page(request, "account/password_reset_done.html", form, save, login=login, minutes_late=late)


def _unconfirmed(request: HttpRequest) -> tuple[User | None, email_addresses.Progress | None, str | None]:
    """The address that waits: the one in this browser's session, or the signed-in user's."""
    waiting = request.session.get("confirming")
    if not isinstance(request.user, User):
        return None, None, waiting
    progress = email_addresses.progress(request.user)
    return request.user, progress, waiting or (progress.email if progress else request.user.email)


@require_http_methods(["GET", "HEAD", "POST"])
def email_confirm(request: HttpRequest) -> HttpResponse:
    """Type the code of the confirmation mail: signed in, or after a sign-up that waits for it."""
    ticket = request.session.get("signing_up")
    if ticket and not request.user.is_authenticated:
        return _sign_up_by_code(request, ticket)
    user, progress, pending = _unconfirmed(request)
    if not pending:
        return redirect("account_email" if user else "account_login")

    def save(data: dict[str, Any]) -> HttpResponse:
        if user:
            email_addresses.confirm_mine(user=user, code=data["code"], caller=caller(request))
        else:
            email_addresses.confirm(email=pending, code=data["code"], caller=caller(request))
        request.session.pop("confirming", None)
        messages.success(request, _("Your email address is confirmed."))
        return redirect(request.session.pop("after_confirming", None) or ("overview" if user else "account_login"))

    form = ConfirmCodeForm(request.POST or None)
    delivery = progress.delivery if progress and progress.email == pending else None
    context = {"email": addresses.shown(pending), "delivery": delivery, "minutes_late": mail.minutes_late()}
    return form_page(request, "accounts/email_confirm.html", form, save, **context)


def _sign_up_by_code(request: HttpRequest, ticket: str) -> HttpResponse:
    """The same page for somebody who gets an account with the code."""
    try:
        email = signup.email_of(ticket)
    except AccountError as error:
        request.session.pop("signing_up")
        return refused_redirect(request, error, "account_signup")

    def save(data: dict[str, Any]) -> HttpResponse:
        user = signup.sign_up_by_code(ticket=ticket, code=data["code"], caller=caller(request))
        request.session.pop("signing_up")
        after: HttpResponse = perform_login(request, user, redirect_url=request.session.pop("after_confirming", None))
        return after

    form = ConfirmCodeForm(request.POST or None)
    words = {"email": addresses.shown(email), "signing_up": True, "minutes_late": mail.minutes_late()}
    return form_page(request, "accounts/email_confirm.html", form, save, **words)


@require_http_methods(["GET", "HEAD", "POST"])
def email_confirm_link(request: HttpRequest, key: str) -> HttpResponse:
    """The link of the confirmation mail: a page with a button, because scanners open every link."""
    template = "accounts/email_confirm_link.html"
    try:
        if request.method == "POST":
            found = email_addresses.confirm_by_key(key=key, caller=caller(request))
            # Not "yours": somebody else may be signed in here.
            messages.success(request, _("%(email)s is confirmed.") % {"email": found.email_display})
            return redirect("overview" if request.user.is_authenticated else "account_login")
        challenge = email_addresses.match_key(key)
    except AccountError as error:
        return refused_page(request, template, error)
    return render(request, template, {"email": addresses.shown(challenge.email), "claimant": challenge.user})


@require_POST
def email_resend(request: HttpRequest) -> HttpResponse:
    """Once more to the address that waits."""
    user, _progress, email = _unconfirmed(request)
    ticket = request.session.get("signing_up")

    def resend() -> None:
        if ticket and not user:
            signup.resend_code(ticket=ticket, caller=caller(request))
        elif user and email:
            email_addresses.send_again(user=user, email=email, caller=caller(request))
        elif email:
            email_addresses.resend(email=email, caller=caller(request))

    done = _("If that address still needs confirming, a new email is on its way.")
    return press(request, resend, done=done, page="email_confirm")


@require_http_methods(["GET", "HEAD", "POST"])
def email_undo(request: HttpRequest, key: str) -> HttpResponse:
    """The link that went to the earlier address: a page with a button, because scanners open every link."""
    template = "accounts/email_undo.html"
    try:
        offer = email_recovery.match_key(key)
        if request.method == "POST":
            found = email_recovery.undo(key=key, caller=caller(request))
            uid, _dash, secret = found.reset_key.partition("-")
            return redirect("account_reset_password_from_key", uidb36=uid, key=secret)
    except AccountError as error:
        return refused_page(request, template, error)
    return render(request, template, {"email": addresses.shown(offer.email), "claimant": offer.user})


@require_http_methods(["GET", "HEAD", "POST"])
def deletion_undo(request: HttpRequest, key: str) -> HttpResponse:
    """The link of the mail that says a deletion is planned: a page with a button, because scanners open every link."""
    template = "accounts/deletion_undo.html"
    try:
        if request.method == "POST":
            user = deletion.cancel_by_key(key=key, caller=caller(request))
            return render(request, template, {"kept": user})
        offer = deletion.match_key(key)
    except AccountError as error:
        return refused_page(request, template, error)
    assert offer.user is not None
    return render(request, template, {"claimant": offer.user, "zone": time_zones.zone_of(offer.user.time_zone)})


# --- The account --------------------------------------------------------------------------------------------


@login_required
@require_GET
def overview(request: AuthenticatedRequest) -> HttpResponse:
    context = {
        "devices": sessions.list_for(request.user),
        "factors": totp.summary(request.user),
        "picture": pictures.addresses(request.user).get(256),
    }
    return render(request, "accounts/overview.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: AuthenticatedRequest) -> HttpResponse:
    user, language_before = request.user, request.user.language

    def save(data: dict[str, Any]) -> HttpResponse:
        saved = profiles.update(
            user=user,
            picture=data.pop("picture"),
            remove_picture=data.pop("remove_picture"),
            # A page that was opened before a field existed does not send it.
            changes={field: value for field, value in data.items() if field in request.POST},
            caller=caller(request),
            session=request.user_session,
        )
        response = redirect("profile") if saved.language == language_before else _follow_language(request, saved)
        messages.success(request, _("Your profile has been saved."))
        return response

    form = ProfileForm(request.POST or None, request.FILES or None, user=user)
    picture = pictures.addresses(user).get(256)
    return form_page(request, "accounts/profile.html", form, save, picture=picture, seen_by=_seen_by())


def _seen_by() -> str:
    """What is public, as the operator decided (services/staff/directory.py)."""
    if settings.DIRECTORY_ACCESS == "staff":
        return _("Apps you sign in to can see this. Other people can't.")
    if settings.DIRECTORY_NAMES:
        return _("Other people can see your username, name and picture. Apps you sign in to can see all of this.")
    return _("Other people can see your username and picture. Apps you sign in to can see all of this.")


def _follow_language(request: HttpRequest, user: User) -> HttpResponse:
    """Back to the profile, in the language that was just chosen: this browser's too, as with the switcher."""
    translation.activate(user.language or settings.LANGUAGE_CODE)
    response = set_language(request)
    response["Location"] = reverse("profile")
    return response


def _json(request: HttpRequest, work: Callable[[], dict[str, Any]]) -> HttpResponse:
    """For the script of the profile page: what `work` returns, or a refusal that it can show."""
    try:
        return JsonResponse(work())
    except AccountError as error:
        return refused_json(request, error)


def _upload_state(upload: PictureUpload) -> dict[str, Any]:
    words = picture_uploads.words(upload)
    return {"state": upload.state, "code": upload.reason, "detail": str(words or "")}


@login_required
@require_POST
def picture_upload_begin(request: AuthenticatedRequest) -> HttpResponse:
    """The form with which the browser sends a picture straight to the storage."""

    def work() -> dict[str, Any]:
        kind, size = request.POST.get("content_type", ""), request.POST.get("size", "")
        number = int(size) if re.fullmatch(r"[0-9]{1,12}", size) else 0
        upload, form = picture_uploads.begin(user=request.user, content_type=kind, size=number, caller=caller(request))
        place = {name: reverse(f"picture_upload_{name}", args=[upload.id]) for name in ("complete", "state")}
        return {"url": form.url, "fields": form.fields, **place}

    return _json(request, work)


@login_required
@require_POST
def picture_upload_complete(request: AuthenticatedRequest, upload_id: UUID) -> HttpResponse:
    def work() -> dict[str, Any]:
        return _upload_state(picture_uploads.complete(user=request.user, upload_id=upload_id, caller=caller(request)))

    return _json(request, work)


@login_required
@require_GET
def picture_upload_state(request: AuthenticatedRequest, upload_id: UUID) -> HttpResponse:
    return _json(request, lambda: _upload_state(picture_uploads.find(user=request.user, upload_id=upload_id)))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("password")
def email(request: AuthenticatedRequest) -> HttpResponse:
    def save(data: dict[str, Any]) -> HttpResponse:
        given = {"password": "", **data}
        email_addresses.request_change(user=request.user, session=request.user_session, caller=caller(request), **given)
        request.session["confirming"] = identifiers.fold_email(data["email"])
        return redirect("email_confirm")

    form = ChangeEmailForm(request.POST or None, needs_password=request.user.has_usable_password())
    progress = email_addresses.progress(request.user)
    return form_page(request, "accounts/email.html", form, save, progress=progress)


@login_required
@require_POST
def email_cancel(request: AuthenticatedRequest) -> HttpResponse:
    def cancel() -> None:
        email_addresses.cancel_change(user=request.user, session=request.user_session, caller=caller(request))

    request.session.pop("confirming", None)
    return press(request, cancel, done=_("The change is cancelled. You keep your address."), page="account_email")


@login_required
@require_GET
def activity(request: AuthenticatedRequest) -> HttpResponse:
    """The user's own security log."""
    try:
        found = audit.list_for(request.user, limit=50, cursor=request.GET.get("cursor"))
    except AccountError as error:
        log_refusal(request, error)
        return redirect("activity")
    lines = [
        {"event": event, "words": audit.WORDS[audit.Kind(event.kind)], "notable": event.kind in audit.NOTABLE}
        for event in found.events
    ]
    return render(request, "accounts/activity.html", {"lines": lines, "next": found.next})


@login_required
@require_GET
def session_list(request: AuthenticatedRequest) -> HttpResponse:
    devices = sessions.list_for(request.user)
    context = {"devices": devices, "current": request.user_session.id, "APP": Session.Kind.APP}
    return render(request, "accounts/session_list.html", context)


@login_required
@require_POST
def session_end(request: AuthenticatedRequest, session_id: UUID) -> HttpResponse:
    def end() -> None:
        sessions.end(user=request.user, session_id=session_id, caller=caller(request))

    return press(request, end, done=_("That device has been signed out."), page="session_list")


@login_required
@require_POST
def session_end_others(request: AuthenticatedRequest) -> HttpResponse:
    sessions.end_others(user=request.user, keep=request.user_session.id, caller=caller(request))
    messages.success(request, _("All your other devices have been signed out."))
    return redirect("session_list")


@login_required
@require_GET
def data(request: AuthenticatedRequest) -> HttpResponse:
    """A copy of everything, and the way out."""
    return render(request, "accounts/data.html", {"export": exports.latest(request.user)})


@login_required
@require_POST
def export_request(request: AuthenticatedRequest) -> HttpResponse:
    def ask() -> None:
        export.request(user=request.user, caller=caller(request))

    return press(request, ask, done=_("We're preparing your copy."), page="data")


@login_required
@require_GET
def export_download(request: AuthenticatedRequest) -> HttpResponse:
    """To an address that is signed now: one in a page that was opened long ago would no longer work."""
    address = exports.address(exports.latest(request.user))
    if address is None:
        messages.error(request, _("There's no copy to download. Request a new one."))
        return redirect("data")
    return redirect(address)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("password")
def deletion_request(request: AuthenticatedRequest) -> HttpResponse:
    """Also the address that app stores require."""

    def save(data: dict[str, Any]) -> HttpResponse:
        deletion.request(
            user=request.user, session=request.user_session, password=data.get("password", ""), caller=caller(request)
        )
        return redirect("data")

    # Without a field in it, a form that is sent may be empty.
    sent = request.POST if request.method == "POST" else None
    days = {"days": settings.DELETION_GRACE.days, "rest": settings.USERNAME_REST.days}
    form = DeleteAccountForm(sent, needs_password=not reauthentication.is_recent(request.user_session))
    return form_page(request, "accounts/deletion_request.html", form, save, **days)


@login_required
@require_POST
def deletion_cancel(request: AuthenticatedRequest) -> HttpResponse:
    deletion.cancel(user=request.user, caller=caller(request))
    messages.success(request, _("We've kept your account. Nothing was deleted."))
    return redirect("data")
