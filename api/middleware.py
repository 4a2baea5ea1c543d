"""The API's own middleware: its answers keep their form whatever happens around ninja."""

from django.http import HttpRequest, HttpResponse

from accounts.http import GetResponse
from api import errors

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
}


class ProblemMiddleware:
    """Gives 404, 405 and unforeseen errors under /api/ the one form, and every answer its safety headers."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path.startswith("/api/") and not response.headers.get("Content-Type", "").startswith(
            ("application/problem+json", "application/json", "text/html")
        ):
            response = self._in_form(request, response)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse:
        return errors.server_error(request, error)

    def _in_form(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if response.status_code == 405:
            answer = errors.refuse(request, errors.MethodNotAllowed())
            answer["Allow"] = response.headers.get("Allow", "")
            return answer
        if response.status_code == 404:
            return errors.refuse(request, errors.NotFound())
        return response
