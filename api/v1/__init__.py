"""Version 1. Nothing goes away or changes meaning here; `openapi.json` beside this file is the promise."""

from api import errors
from api.parser import StrictParser
from api.v1 import config, data, events, me, mfa, password, picture, sessions, signup, token, users
from api.v1.responses import Renderer, VersionedAPI

api = VersionedAPI(
    title="User Service",
    version="1.3.0",
    description="Accounts for mobile apps: sign-up, tokens, profile, picture, recovery. Every error is "
    "application/problem+json with a stable `code` and an `action`.",
    urls_namespace="v1",
    parser=StrictParser(),
    renderer=Renderer(),
)
errors.install(api)
for _module in (signup, token, password, me, picture, sessions, events, data, users, config, mfa):
    api.add_router("", _module.router)
api.add_router("", mfa.entrance)
