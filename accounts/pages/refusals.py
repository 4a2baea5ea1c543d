"""How a page shows that a rule refused: beside the field, with the status and the time to wait."""

import math
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.caller import Caller
from accounts.errors import AccountError, ChallengeRequired, InvalidInput, MfaRequired
from accounts.http import STATUSES, caller, log_refusal


def to_mfa(request: HttpRequest) -> HttpResponse:
    """For a browser that signed in before two-step verification was on: it does the step, and comes back."""
    messages.info(request, _("Nothing has been changed yet. Enter a code first, then make your change again."))
    return HttpResponseRedirect(f"{reverse('second_step')}?{urlencode({'next': request.path})}")


def show(form: forms.Form, error: AccountError, request: HttpRequest) -> None:
    """Put a refusal beside the fields that it is about, or above the form."""
    log_refusal(request, error)
    if isinstance(error, InvalidInput):
        for problem in error.errors:
            field = form.fields.get(problem.field)
            # Those of a page name their field, so that its summary never says the same sentence twice.
            words = field.error_messages["required"] if field and problem.code == "required" else problem.message
            form.add_error(problem.field if field else None, str(words))
    else:
        form.add_error(error.field if error.field in form.fields else None, str(error.message))


def status_of(error: AccountError) -> int:
    """That of a page: a refused form is a page like any other, unless it should be tried again later."""
    status = STATUSES[type(error)]
    return status if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE} else HTTPStatus.OK


def prover(request: HttpRequest) -> Caller:
    """Who asks, with the proof of work of the challenge page."""
    return replace(caller(request), proof=request.POST.get("proof", "")[:100])


def with_retry_after(response: HttpResponse, error: AccountError) -> HttpResponse:
    seconds = getattr(error, "retry_after", None)
    if seconds:
        response["Retry-After"] = str(math.ceil(seconds))
    return response


def refused_page(request: HttpRequest, template: str, error: AccountError, **context: Any) -> HttpResponse:
    """A page that only says why."""
    log_refusal(request, error)
    context["error"] = error.message
    return with_retry_after(render(request, template, context, status=status_of(error)), error)


def refused_json(request: HttpRequest, error: AccountError) -> HttpResponse:
    """For a script, which can read any status."""
    log_refusal(request, error)
    body = {"code": error.code, "detail": str(error.message)}
    return with_retry_after(JsonResponse(body, status=STATUSES[type(error)]), error)


def refused_redirect(request: HttpRequest, error: AccountError, page: str) -> HttpResponse:
    """Go to a page, which says why."""
    log_refusal(request, error)
    messages.error(request, str(error.message))
    return redirect(page)


def press(request: HttpRequest, change: Callable[[], object], *, done: str, page: str) -> HttpResponse:
    """For a button without a form: make the change and go to a page, which says that it is done or why not."""
    try:
        change()
    except AccountError as error:
        return refused_redirect(request, error, page)
    messages.success(request, done)
    return redirect(page)


def form_page(
    request: HttpRequest,
    template: str,
    form: forms.Form,
    save: Callable[[Any], HttpResponse],
    **context: Any,
) -> HttpResponse:
    """Show a form, and on a valid POST do `save(cleaned_data)`; what it refuses is shown in the form."""
    error: AccountError | None = None
    if request.method == "POST" and form.is_valid():
        try:
            return save(form.cleaned_data)
        except MfaRequired as refused:
            log_refusal(request, refused)
            return to_mfa(request)
        except AccountError as refused:
            error = refused
            show(form, refused, request)
    response = render(request, template, {"form": form, **context}, status=status_of(error) if error else None)
    return with_retry_after(response, error) if error else response


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
            return to_mfa(self.request)
        except ChallengeRequired as error:
            return self.challenge_page(form, error)
        except AccountError as error:
            show(form, error, self.request)
            self.request.refusal = error  # type: ignore[attr-defined]
            return self.form_invalid(form)

    def kept(self, form: Any) -> dict[str, str]:
        """What the form is sent again with, after a challenge."""
        return dict(form.cleaned_data)

    def challenge_page(self, form: Any, error: ChallengeRequired) -> HttpResponse:
        """A script solves the challenge and sends the form again (static/js/proof.js)."""
        kept = {**self.kept(form), "next": self.request.POST.get("next", "")}
        return refused_page(self.request, "account/challenge.html", error, challenge=error.challenge, kept=kept)

    def form_invalid(self, form: Any) -> HttpResponse:
        response: HttpResponse = super().form_invalid(form)  # type: ignore[misc]
        error: AccountError | None = getattr(self.request, "refusal", None)
        if error is None:
            return response
        response.status_code = status_of(error)
        return with_retry_after(response, error)
