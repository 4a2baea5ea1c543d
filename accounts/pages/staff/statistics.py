"""The statistics of staff, with their charts."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from accounts.errors import DirectoryClosed
from accounts.http import AuthenticatedRequest
from accounts.pages.staff import charts
from accounts.services.staff import statistics


@require_GET
def figures(request: AuthenticatedRequest) -> HttpResponse:
    asked = request.GET.get("days", "")
    days = int(asked) if asked in {str(period) for period in statistics.PERIODS} else statistics.PERIODS[0]
    try:
        found = statistics.read(viewer=request.user, days=days)
    except DirectoryClosed:
        raise PermissionDenied from None
    context = {
        **admin.site.each_context(request),
        "title": _("Statistics"),
        "found": found,
        "days": days,
        "periods": statistics.PERIODS,
        "by_day": [(each, charts.by_day(each.numbers)) for each in found.days],
        "shares": [(each, charts.shares(each.numbers)) for each in found.shares],
    }
    return TemplateResponse(request, "staff/statistics.html", context)
