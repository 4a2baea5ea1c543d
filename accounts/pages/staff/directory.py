"""The directory for staff: all users, the search, and the copy as CSV."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.utils.timezone import now
from django.utils.translation import gettext as say
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import AccountError, Words
from accounts.http import AuthenticatedRequest, caller, log_refusal
from accounts.models import Gender
from accounts.services.staff import directory
from accounts.services.staff.directory import Filters


def _either(label: Any, yes: Words, no: Words) -> forms.TypedChoiceField:
    return forms.TypedChoiceField(
        label=label,
        choices=[("", _("All")), ("1", yes), ("0", no)],
        coerce=lambda value: value == "1",
        empty_value=None,
        required=False,
    )


class SearchForm(forms.Form):
    q = forms.CharField(
        label=_("Name, username, email or ID"),
        max_length=254,
        required=False,
        widget=forms.TextInput(attrs={"type": "search", "autocomplete": "off"}),
    )
    gender = forms.ChoiceField(label=_("Gender"), choices=[("", _("All")), *Gender.choices], required=False)
    is_active = _either(_("Account"), _("Active"), _("Switched off"))
    email_verified = _either(_("Email address"), _("Confirmed"), _("Not confirmed"))
    is_staff = _either(_("Staff"), _("Yes"), _("No"))

    @property
    def asked(self) -> dict[str, Any]:
        """The arguments of the rules."""
        chosen = self.cleaned_data.copy()
        return {"text": chosen.pop("q"), "filters": Filters(**chosen)}


def _page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    context |= {**admin.site.each_context(request), "title": say("Directory")}
    return TemplateResponse(request, "staff/directory.html", context)


@require_GET
@permission_required("accounts.view_user", raise_exception=True)  # also where the form is not asked
def people(request: AuthenticatedRequest) -> HttpResponse:
    form = SearchForm(request.GET)
    found, problem = directory.Found([]), None
    if form.is_valid():
        try:
            found = directory.search(viewer=request.user, cursor=request.GET.get("cursor"), **form.asked)
        except AccountError as error:
            log_refusal(request, error)
            problem = error.message
    query = request.GET.copy()
    query["cursor"] = found.next or ""
    context = {
        "form": form,
        "found": found,
        "problem": problem,
        "next": f"?{query.urlencode()}" if found.next else "",
        "may_export": request.user.has_perm("accounts.export_user"),
    }
    return _page(request, context)


@require_POST
@permission_required("accounts.export_user", raise_exception=True)
def people_export(request: AuthenticatedRequest) -> HttpResponse | StreamingHttpResponse:
    form = SearchForm(request.POST)
    if not form.is_valid():
        return _page(request, {"form": form, "found": directory.Found([])})
    lines = directory.export(viewer=request.user, caller=caller(request), **form.asked)
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="users-{now():%Y-%m-%d}.csv"'
    response["X-Accel-Buffering"] = "no"  # else nginx would keep the first lines back
    return response
