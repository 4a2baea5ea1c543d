"""Version 1. Nothing goes away or changes meaning here; `openapi.json` beside this file is the promise."""

from django.http import HttpRequest, HttpResponse

from api import errors
from api.parser import StrictParser
from api.v1 import config, data, events, me, password, picture, sessions, signup, token, users
from api.v1.responses import VersionedAPI


class _API(VersionedAPI):
    def create_temporal_response(self, request: HttpRequest) -> HttpResponse:
        """Every answer of an operation carries tokens or personal data unless it says otherwise."""
        response = super().create_temporal_response(request)
        response["Cache-Control"] = "no-store"
        return response


api = _API(
    title="User Service",
    version="1.2.0",
    description="Accounts for mobile apps: sign-up, tokens, profile, picture, recovery. Every error is "
    "application/problem+json with a stable `code` and an `action`.",
    urls_namespace="v1",
    parser=StrictParser(),
)
errors.install(api)
for _module in (signup, token, password, me, picture, sessions, events, data, users, config):
    api.add_router("", _module.router)
