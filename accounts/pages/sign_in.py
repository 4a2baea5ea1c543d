"""Sign-in, sign-up and password pages: allauth's views with our rules in their forms, and those that allauth lacks."""

from typing import Any

from allauth.account import views as allauth_views
from allauth.account.mixins import NextRedirectMixin, RedirectAuthenticatedUserMixin
from allauth.account.stages import LoginStage, LoginStageController
from allauth.account.utils import get_next_redirect_url, perform_login
from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import FormView

from accounts.errors import AccountError, InvalidCode, InvalidPasskey, InvalidTicket, MfaRequired
from accounts.http import AuthenticatedRequest, caller, log_refusal
from accounts.pages.allauth_adapter import begin
from accounts.pages.forms import ConfirmCodeForm, MfaForm, PasskeyForm, RecoveryCodeForm, RequestSignInCodeForm
from accounts.pages.refusals import RuleFormMixin, prover, with_retry_after
from accounts.services import mail
from accounts.services.account import password_resets, sign_in_codes, signup
from accounts.services.authentication import passkeys, sign_in
from accounts.services.sessions import mfa, sessions


class MfaStage(LoginStage):
    """Begins the session. If the first factor is not enough, allauth keeps the sign-in in the browser's session until
    the second one follows; then `AccountAdapter.login` begins it."""

    key = urlname = "second_step"

    def handle(self) -> tuple[HttpResponse | None, bool]:
        try:
            self.request.begun = begin(self.request, self.login.user)
        except MfaRequired as error:
            self.state["ticket"] = error.ticket
            return redirect(self.urlname), True
        return None, True

    def is_resumable(self, request: HttpRequest) -> bool:
        return False  # the sign-in page that is opened again may be for another account


class SignInView(RuleFormMixin, allauth_views.LoginView):
    def get_context_data(self, **kwargs: Any) -> Any:
        return super().get_context_data(passkey=passkeys.begin_sign_in(), **kwargs)


class _CodeSignInView(RuleFormMixin, RedirectAuthenticatedUserMixin, NextRedirectMixin, FormView):  # type: ignore[type-arg]
    """Signing in by a mailed code, in two pages."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not settings.SIGN_IN_BY_CODE:
            raise Http404
        return super().dispatch(request, *args, **kwargs)  # type: ignore[return-value]


class RequestSignInCodeView(_CodeSignInView):
    form_class = RequestSignInCodeForm
    template_name = "account/request_login_code.html"

    def obey(self, form: Any) -> HttpResponse:
        login = form.cleaned_data["login"]
        sign_in_codes.request(login=login, caller=prover(self.request))
        self.request.session["signing_in"] = {"login": login, "next": self.get_next_url()}
        return redirect("account_confirm_login_code")


class SignInByCodeView(_CodeSignInView):
    form_class = ConfirmCodeForm
    template_name = "account/confirm_login_code.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.asked: dict[str, str] | None = request.session.get("signing_in")
        if settings.SIGN_IN_BY_CODE and not self.asked and not request.user.is_authenticated:
            return redirect("account_request_login_code")
        return super().dispatch(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> Any:
        login = self.asked["login"] if self.asked else ""
        return super().get_context_data(login=login, minutes_late=mail.minutes_late(), **kwargs)

    def obey(self, form: Any) -> HttpResponse:
        assert self.asked is not None
        user = sign_in_codes.check(login=self.asked["login"], **form.cleaned_data, caller=caller(self.request))
        self.request.sign_in_methods = sign_in.BY_MAIL  # type: ignore[attr-defined]
        self.request.session.pop("signing_in", None)
        response: HttpResponse = perform_login(self.request, user, redirect_url=self.asked["next"])
        return response


class MfaView(RuleFormMixin, FormView):  # type: ignore[type-arg]
    """After the password: a code of the authenticator app. A browser that is signed in already, from before two-step
    verification was on, comes here for what needs both."""

    form_class: type[forms.Form] = MfaForm
    template_name = "account/second_step.html"

    @method_decorator(sensitive_post_parameters("code"))
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.stage = LoginStageController.enter(request, MfaStage.key)
        if not self.stage and not request.user.is_authenticated:
            return redirect("account_login")
        return super().dispatch(request, *args, **kwargs)  # type: ignore[return-value]

    def obey(self, form: Any) -> HttpResponse:
        code, where = form.cleaned_data["code"], caller(self.request)
        if self.request.user.is_authenticated:
            request: AuthenticatedRequest = self.request  # type: ignore[assignment]
            sessions.strengthen(request.user_session, mfa.step_up(user=request.user, code=code, caller=where))
            return redirect(get_next_redirect_url(self.request) or "overview")
        try:
            passed = sign_in.check_mfa(ticket=self.stage.state["ticket"], code=code, caller=where)
        except InvalidTicket as error:
            log_refusal(self.request, error)
            messages.error(self.request, str(error.message))
            refused: HttpResponse = self.stage.abort()
            return refused
        self.request.sign_in_methods = passed.methods  # type: ignore[attr-defined]
        self.stage.login.user = passed.user
        response: HttpResponse = self.stage.exit()
        return response


class RecoveryCodeView(MfaView):
    form_class = RecoveryCodeForm
    template_name = "account/recovery_code.html"

    def obey(self, form: Any) -> HttpResponse:
        try:
            return super().obey(form)
        except InvalidCode as error:  # whatever was typed: here a recovery code is meant
            raise InvalidCode(error.reason, kind="recovery_code_wrong") from None


class PasskeyView(RuleFormMixin, NextRedirectMixin, FormView):  # type: ignore[type-arg]
    """Gets what a device answered, from the script: to sign in, or to re-authenticate."""

    form_class = PasskeyForm
    http_method_names = ["post"]

    def form_invalid(self, form: Any) -> HttpResponse:
        error: AccountError = getattr(self.request, "refusal", None) or InvalidPasskey("malformed")
        messages.error(self.request, str(error.message))
        page = "account_reauthenticate" if self.request.user.is_authenticated else "account_login"
        return with_retry_after(redirect(self.passthrough_next_url(reverse(page))), error)

    def obey(self, form: Any) -> HttpResponse:
        answer = form.cleaned_data
        where, wanted = caller(self.request), self.get_next_url()
        if self.request.user.is_authenticated:
            request: AuthenticatedRequest = self.request  # type: ignore[assignment]
            passkeys.reauthenticate(user=request.user, session=request.user_session, caller=where, **answer)
            return redirect(wanted or "overview")
        passed = passkeys.check(caller=where, **answer)
        self.request.sign_in_methods = passed.methods  # type: ignore[attr-defined]
        response: HttpResponse = perform_login(self.request, passed.user, redirect_url=wanted)
        return response


class ReauthenticateView(RuleFormMixin, allauth_views.ReauthenticateView):
    def get_context_data(self, **kwargs: Any) -> Any:
        passkey = passkeys.begin_sign_in() if self.request.user.passkeys.exists() else None  # type: ignore[union-attr]
        return super().get_context_data(passkey=passkey, **kwargs)


class SignUpView(RuleFormMixin, allauth_views.SignupView):
    def get_form_kwargs(self) -> dict[str, Any]:
        """From the challenge page the form comes back in a ticket."""
        kwargs: dict[str, Any] = super().get_form_kwargs()
        if "ticket" in self.request.POST:
            kwargs["data"] = self._typed(self.request.POST["ticket"])
        return kwargs

    def _typed(self, ticket: str) -> dict[str, str]:
        try:
            return signup.typed_before(ticket)
        except InvalidTicket as error:
            log_refusal(self.request, error)
            messages.error(self.request, str(error.message))
            return {}

    def kept(self, form: Any) -> dict[str, str]:
        return {"ticket": signup.keep(**self._fields(form))}

    def _fields(self, form: Any) -> dict[str, str]:
        """But for the picture, which no ticket can hold."""
        return {name: value for name, value in form.cleaned_data.items() if name != "picture"}

    def obey(self, form: Any) -> HttpResponse:
        if "by_code" not in self.request.POST:
            self.request.session.pop("signing_up", None)  # an earlier try
            return super().obey(form)
        ticket = signup.request_by_code(caller=caller(self.request), **self._fields(form))
        self.request.session["signing_up"] = ticket
        return redirect(self.get_success_url() or "email_confirm")

    def get_success_url(self) -> str | None:
        """First the code of the email. The page that the user was on the way to follows after it."""
        wanted: str | None = super().get_success_url()
        if self.request.method != "POST":
            return wanted
        self.request.session["after_confirming"] = wanted
        return reverse("email_confirm")


class ForgotPasswordView(RuleFormMixin, allauth_views.PasswordResetView):
    pass


class ResetPasswordView(RuleFormMixin, allauth_views.PasswordResetFromKeyView):
    """The page behind the link. allauth checks the link and keeps its key out of the address; the press of the
    button sets the password."""

    def logout(self) -> None:
        """Opening somebody else's link signs nobody out: a new password ends the sessions of the account it is for."""

    def get_context_data(self, **kwargs: Any) -> Any:
        # The address without the key, where this browser has none to it.
        elsewhere = self.kwargs["key"] == self.reset_url_key and not self.key
        return super().get_context_data(elsewhere=elsewhere, **kwargs)

    def obey(self, form: Any) -> HttpResponse:
        key = f"{self.kwargs['uidb36']}-{self.key}"
        password_resets.reset_by_key(key=key, caller=caller(self.request), **form.cleaned_data)
        return redirect(self.get_success_url())


class ChangePasswordView(RuleFormMixin, allauth_views.PasswordChangeView):
    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}
