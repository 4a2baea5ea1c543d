"""What allauth would decide about a person is asked here and answered by the rules."""

from collections.abc import Sequence
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django import forms
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation

from accounts.errors import AccountError
from accounts.http import caller, client_ip, log_refusal
from accounts.models import Session, User
from accounts.pages.middleware import SESSION_ID
from accounts.services import mail
from accounts.services.authentication import reauthentication, sign_in
from accounts.services.sessions import sessions


def methods_of(request: HttpRequest) -> Sequence[str]:
    """How the user of this browser has just signed in; a view that does not ask for the password says so."""
    methods: Sequence[str] = getattr(request, "sign_in_methods", sign_in.BY_PASSWORD)
    return methods


def begin(request: HttpRequest, user: User) -> Session:
    """Put the browser into the user's list of devices. Raises what `sessions.begin` raises."""
    return sessions.begin(user=user, kind=Session.Kind.BROWSER, caller=caller(request), methods=methods_of(request))


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return settings.SIGNUP_OPEN

    def authenticate(self, request: HttpRequest, **credentials: Any) -> AbstractBaseUser | None:
        login = credentials.get("email") or credentials.get("username") or ""
        try:
            return sign_in.check(login=login, password=credentials.get("password", ""), caller=caller(request))
        except AccountError as error:
            log_refusal(request, error)
            request.refusal = error  # type: ignore[attr-defined]
            raise forms.ValidationError(str(error.message), code=error.code) from None

    def reauthenticate(self, user: AbstractBaseUser, password: str) -> bool:
        assert isinstance(user, User)
        try:
            row: Session = self.request.user_session
            reauthentication.reauthenticate(user=user, session=row, password=password, caller=caller(self.request))
        except AccountError as error:
            log_refusal(self.request, error)
            self.request.refusal = error
            raise forms.ValidationError(str(error.message), code=error.code) from None
        return True

    def get_login_stages(self) -> list[str]:
        return ["accounts.pages.sign_in.MfaStage"]

    def login(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        """Keep the id of the browser's row in the list of devices in Django's session. `MfaStage` may have begun it."""
        assert isinstance(user, User)
        row: Session = getattr(request, "begun", None) or begin(request, user)
        super().login(request, user)
        request.session[SESSION_ID] = str(row.id)

    def logout(self, request: HttpRequest) -> None:
        row: Session | None = getattr(request, "user_session", None)
        if row is not None:
            sessions.end(user=request.user, session_id=row.id, caller=caller(request))  # type: ignore[arg-type]
        super().logout(request)

    def set_password(self, user: AbstractBaseUser, password: str) -> None:
        raise NotImplementedError("services/account/passwords.py sets passwords, ends sessions and emails the owner")

    def render_mail(
        self, template_prefix: str, email: str | list[str], context: dict[str, Any], headers: Any = None
    ) -> EmailMessage:
        """allauth's own emails: in our frame, and in their reader's language."""
        language = mail.language_of(context.get("user") or User(), caller(self.request))
        with translation.override(language):
            message: EmailMessage = super().render_mail(template_prefix, email, context, headers)
            if isinstance(message, EmailMultiAlternatives) and not message.alternatives:
                words = {"subject": message.subject, "text": message.body, "to": message.to[0], **mail.frame()}
                message.attach_alternative(render_to_string("mail/parts/text.html", words), "text/html")
        return message

    def get_client_ip(self, request: HttpRequest) -> str:
        return client_ip(request.META) or "0.0.0.0"  # noqa: S104 - "unknown" in allauth's own words

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("account_change_password")
