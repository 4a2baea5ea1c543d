"""allauth -> our rules. With forms.py the only place that knows allauth: whatever it would decide about a person
is asked here and answered by accounts/services."""

from collections.abc import Sequence
from typing import Any

from allauth.account import views as allauth_views
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.mixins import NextRedirectMixin, RedirectAuthenticatedUserMixin
from allauth.account.utils import get_next_redirect_url, perform_login
from allauth.account.views import INTERNAL_RESET_SESSION_KEY
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.decorators import login_required
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse, reverse_lazy
from django.utils import translation
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import FormView

from accounts.errors import AccountError, InvalidPasskey, InvalidTicket, MfaRequired
from accounts.forms import ConfirmCodeForm, PasskeyForm, RecoveryCodeForm, RequestSignInCodeForm, SecondStepForm
from accounts.http import (
    SESSION_ID,
    AuthenticatedRequest,
    client_ip,
    log_refusal,
    origin,
    show,
    status_of,
    to_second_step,
    with_retry_after,
)
from accounts.models import Session, User
from accounts.services import login as logins
from accounts.services import mail, passkeys, passwords, second_step, sessions, sign_in_codes

SECOND_STEP = "second_step"  # in Django's session: who has proved the first factor


def _methods(request: HttpRequest) -> Sequence[str]:
    """How this browser has just proved who uses it; a view that does not ask for the password says so."""
    methods: Sequence[str] = getattr(request, "sign_in_methods", logins.BY_PASSWORD)
    return methods


class Backend(ModelBackend):
    """Remembers who is signed in and what staff may do. It signs nobody in: a check of the password alone would
    walk past everything else that services/login.py decides."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **_: Any
    ) -> None:
        return None


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return settings.SIGNUP_OPEN

    def authenticate(self, request: HttpRequest, **credentials: Any) -> AbstractBaseUser | None:
        login = credentials.get("email") or credentials.get("username") or ""
        try:
            return logins.check(login=login, password=credentials.get("password", ""), origin=origin(request))
        except AccountError as error:
            log_refusal(request, error)
            request.refusal = error  # type: ignore[attr-defined]
            raise forms.ValidationError(str(error.message), code=error.code) from None

    def reauthenticate(self, user: AbstractBaseUser, password: str) -> bool:
        assert isinstance(user, User)
        try:
            row: Session = self.request.session_row
            logins.reauthenticate(user=user, session=row, password=password, origin=origin(self.request))
        except AccountError as error:
            log_refusal(self.request, error)
            self.request.refusal = error
            raise forms.ValidationError(str(error.message), code=error.code) from None
        return True

    def pre_login(self, request: HttpRequest, user: AbstractBaseUser, **kwargs: Any) -> HttpResponse | None:
        """Where the password is not enough, the second step comes first."""
        assert isinstance(user, User)
        try:
            second_step.ask(user, _methods(request), origin=origin(request))
        except MfaRequired as error:
            request.session[SECOND_STEP] = {"ticket": error.ticket, "next": kwargs["redirect_url"]}
            return HttpResponseRedirect(reverse("second_step"))
        response: HttpResponse | None = super().pre_login(request, user, **kwargs)
        return response

    def login(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        """Puts the browser into the list of devices and notes its row in Django's session."""
        assert isinstance(user, User)
        methods = _methods(request)
        row = sessions.begin(user=user, kind=Session.Kind.BROWSER, origin=origin(request), methods=methods)
        super().login(request, user)
        request.session.pop(SECOND_STEP, None)  # of somebody who was on the way in here before
        request.session[SESSION_ID] = str(row.id)

    def logout(self, request: HttpRequest) -> None:
        row: Session | None = getattr(request, "session_row", None)
        if row is not None:
            sessions.end(user=request.user, session_id=row.id, origin=origin(request))  # type: ignore[arg-type]
        super().logout(request)

    def clean_password(self, password: str, user: AbstractBaseUser | None = None) -> str:
        known = user if isinstance(user, User) else User()
        problem = passwords.problem(password, username=known.username, email=known.email)
        if problem:
            raise forms.ValidationError(str(problem.message), code=problem.code)
        return password

    def set_password(self, user: AbstractBaseUser, password: str) -> None:
        raise NotImplementedError(
            "passwords are set by accounts.services.passwords, which ends sessions and tells the owner"
        )

    def render_mail(
        self,
        template_prefix: str,
        email: str | list[str],
        context: dict[str, Any],
        headers: dict[str, str] | None = None,
    ) -> EmailMessage:
        """allauth's own mails: in our frame, and in the language of who reads them."""
        user = context.get("user")
        language = mail.language_of(user if isinstance(user, User) else User(), origin(self.request))
        with translation.override(language):
            message: EmailMessage = super().render_mail(template_prefix, email, context, headers)
            if isinstance(message, EmailMultiAlternatives) and not message.alternatives:
                words = {
                    "subject": message.subject,
                    "text": message.body,
                    "to": message.to[0],
                    **mail.frame(),
                }
                message.attach_alternative(render_to_string("mail/parts/text.html", words), "text/html")
        return message

    def get_client_ip(self, request: HttpRequest) -> str:
        return client_ip(request.META) or "0.0.0.0"  # noqa: S104 - "unknown" in allauth's own words

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("account_change_password")


# --- allauth's views, with our rules' refusals in their forms -----------------------------------------------


class RuleFormMixin:
    """For allauth's form views: a rule's refusal is shown in the form, with its status."""

    request: HttpRequest

    def obey(self, form: Any) -> HttpResponse:
        """What the form is for; allauth's own way, unless a view says otherwise."""
        return super().form_valid(form)  # type: ignore[misc,no-any-return]

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            return self.obey(form)
        except MfaRequired as error:
            log_refusal(self.request, error)
            return to_second_step(self.request)
        except AccountError as error:
            show(form, error, self.request)
            self.request.refusal = error  # type: ignore[attr-defined]
            return self.form_invalid(form)

    def form_invalid(self, form: Any) -> HttpResponse:
        response: HttpResponse = super().form_invalid(form)  # type: ignore[misc]
        error: AccountError | None = getattr(self.request, "refusal", None)
        response.status_code = status_of(error)
        return with_retry_after(response, error)


class SignInView(RuleFormMixin, allauth_views.LoginView):
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().get_context_data(**kwargs)
        return {**found, "passkey": passkeys.begin_sign_in()}


class _CodeSignInView(RuleFormMixin, RedirectAuthenticatedUserMixin, NextRedirectMixin, FormView):  # type: ignore[type-arg]
    """Signing in by a mailed code, in two pages."""

    @method_decorator(never_cache)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not settings.SIGN_IN_BY_CODE:
            raise Http404
        return super().dispatch(request, *args, **kwargs)  # type: ignore[return-value]


class RequestSignInCodeView(_CodeSignInView):
    form_class = RequestSignInCodeForm
    template_name = "account/request_login_code.html"

    def obey(self, form: Any) -> HttpResponse:
        login = form.cleaned_data["login"]
        sign_in_codes.request(login=login, origin=origin(self.request))
        self.request.session["signing_in"] = {"login": login, "next": self.get_next_url()}
        return HttpResponseRedirect(reverse("account_confirm_login_code"))


class SignInByCodeView(_CodeSignInView):
    form_class = ConfirmCodeForm
    template_name = "account/confirm_login_code.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.asked: dict[str, str] | None = request.session.get("signing_in")
        if settings.SIGN_IN_BY_CODE and not self.asked and not request.user.is_authenticated:
            return HttpResponseRedirect(reverse("account_request_login_code"))
        return super().dispatch(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().get_context_data(**kwargs)
        return {
            **found,
            "login": self.asked["login"] if self.asked else "",
            "minutes_late": mail.minutes_late(),
        }

    def obey(self, form: Any) -> HttpResponse:
        assert self.asked is not None
        user = sign_in_codes.check(
            login=self.asked["login"], code=form.cleaned_data["code"], origin=origin(self.request)
        )
        self.request.sign_in_methods = logins.BY_MAIL  # type: ignore[attr-defined]
        self.request.session.pop("signing_in", None)
        response: HttpResponse = perform_login(self.request, user, redirect_url=self.asked["next"])
        return response


class SecondStepView(RuleFormMixin, FormView):  # type: ignore[type-arg]
    """After the password: a code of the authenticator app. A browser that is signed in already, from before two-step
    verification was on, comes here for what needs both."""

    form_class: type[forms.Form] = SecondStepForm
    template_name = "account/second_step.html"

    @method_decorator(never_cache)
    @method_decorator(sensitive_post_parameters("code"))
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.waiting: dict[str, str] | None = request.session.get(SECOND_STEP)
        if not self.waiting and not request.user.is_authenticated:
            return HttpResponseRedirect(reverse("account_login"))
        return super().dispatch(request, *args, **kwargs)  # type: ignore[return-value]

    def obey(self, form: Any) -> HttpResponse:
        code, where = form.cleaned_data["code"], origin(self.request)
        if self.request.user.is_authenticated:
            request: AuthenticatedRequest = self.request  # type: ignore[assignment]
            sessions.strengthen(request.session_row, second_step.step_up(user=request.user, code=code, origin=where))
            return HttpResponseRedirect(self._next())
        assert self.waiting is not None
        try:
            passed = logins.check_second_step(ticket=self.waiting["ticket"], code=code, origin=where)
        except InvalidTicket as error:
            log_refusal(self.request, error)
            messages.error(self.request, str(error.message))
            self.request.session.pop(SECOND_STEP, None)
            return HttpResponseRedirect(reverse("account_login"))
        self.request.session.pop(SECOND_STEP, None)
        self.request.sign_in_methods = passed.methods  # type: ignore[attr-defined]
        response: HttpResponse = perform_login(self.request, passed.user, redirect_url=self.waiting["next"])
        return response

    def _next(self) -> str:
        wanted: str | None = get_next_redirect_url(self.request)
        return wanted or reverse("overview")


class RecoveryCodeView(SecondStepView):
    form_class = RecoveryCodeForm
    template_name = "account/recovery_code.html"


@method_decorator(never_cache, name="dispatch")
class PasskeyView(RuleFormMixin, NextRedirectMixin, FormView):  # type: ignore[type-arg]
    """Where the script sends what a device answered: to sign in, or once more for who is signed in."""

    form_class = PasskeyForm
    http_method_names = ["post"]

    def form_invalid(self, form: Any) -> HttpResponse:
        error: AccountError = getattr(self.request, "refusal", None) or InvalidPasskey("malformed")
        messages.error(self.request, str(error.message))
        page = "account_reauthenticate" if self.request.user.is_authenticated else "account_login"
        return with_retry_after(HttpResponseRedirect(self.passthrough_next_url(reverse(page))), error)

    def obey(self, form: Any) -> HttpResponse:
        answer = {"state": form.cleaned_data["state"], "credential": form.cleaned_data["credential"]}
        where, wanted = origin(self.request), self.get_next_url()
        if self.request.user.is_authenticated:
            request: AuthenticatedRequest = self.request  # type: ignore[assignment]
            passkeys.reauthenticate(user=request.user, session=request.session_row, origin=where, **answer)
            return HttpResponseRedirect(wanted or reverse("overview"))
        passed = passkeys.check(origin=where, **answer)
        self.request.sign_in_methods = passed.methods  # type: ignore[attr-defined]
        response: HttpResponse = perform_login(self.request, passed.user, redirect_url=wanted)
        return response


class ReauthenticateView(RuleFormMixin, allauth_views.ReauthenticateView):
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().get_context_data(**kwargs)
        return {**found, "passkey": passkeys.begin_sign_in() if self.request.user.passkeys.exists() else None}  # type: ignore[union-attr]


class SignUpView(RuleFormMixin, allauth_views.SignupView):
    def get_success_url(self) -> str | None:
        """First the code of the mail; where somebody was on the way to is kept for after that."""
        wanted: str | None = super().get_success_url()
        if self.request.method != "POST":
            return wanted
        self.request.session["after_confirming"] = wanted
        return reverse("email_confirm")


class ForgotPasswordView(RuleFormMixin, allauth_views.PasswordResetView):
    pass


@method_decorator(never_cache, name="dispatch")
class ResetPasswordView(RuleFormMixin, allauth_views.PasswordResetFromKeyView):
    """The page behind the link. allauth checks the link and keeps its key out of the address; the press of the
    button sets the password."""

    def logout(self) -> None:
        """Not by opening somebody else's link: a new password ends the sessions of the account that it is for."""

    def obey(self, form: Any) -> HttpResponse:
        form.save_with(key=f"{self.kwargs['uidb36']}-{self.key}", request=self.request)
        self.request.session.pop(INTERNAL_RESET_SESSION_KEY, None)
        return HttpResponseRedirect(self.get_success_url())


@method_decorator(login_required, name="dispatch")
class ChangePasswordView(RuleFormMixin, allauth_views.PasswordChangeView):
    request: AuthenticatedRequest
    success_url = reverse_lazy("account_change_password")

    def obey(self, form: Any) -> HttpResponse:
        passwords.change(
            user=self.request.user,
            current_password=form.cleaned_data["current_password"],
            new_password=form.cleaned_data["new_password"],
            keep=self.request.session_row.id,
            origin=origin(self.request),
        )
        self.request.session.cycle_key()  # whoever copied this browser's cookie is signed out too
        messages.success(self.request, _("Your password has been changed, and your other devices are signed out."))
        return HttpResponseRedirect(self.get_success_url())
