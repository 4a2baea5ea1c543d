"""Version 1. Nothing goes away or changes meaning here; `openapi.json` beside this file is the promise."""

from django.conf import settings

from api import errors
from api.parser import StrictParser
from api.v1 import config, data, events, identities, me, mfa, password, picture, sessions, signup, token, users
from api.v1.responses import Renderer, VersionedAPI

DESCRIPTION = """\
Accounts for apps: sign-up, tokens, profile, picture, recovery. [Read it](/api/v1/reference), or
[try it](/api/v1/docs).

**Errors** are `application/problem+json` (RFC 9457), with a `code` that never changes and an `action` that says what an
app should do. Each status of an operation lists its codes, also as `x-codes`. [All codes](/api/errors).

**What may be sent with every request**

| header | what it does |
|---|---|
| `Authorization` | `Bearer` and the access token, wherever an operation asks for it. |
| `Accept-Language` | The language of every `detail`; at sign-up, also that of the user's emails. |
| `X-App-Version` | The app's version. The operator sees which versions are still in use. |
| `X-Request-Id` | An id for our log, 64 letters, digits, `.`, `_` or `-` at most. Every answer has one. |

**What changes**: new operations, new fields of answers, new codes and new values of enums may come. Ignore what you
don't know. A field that the service does not know is refused.
"""
TAGS = {
    "sign up": "Create an account, and verify its email address from outside.",
    "tokens": "Sign in, refresh and sign out.",
    "password": "Change a password, or set a new one if it is forgotten.",
    "me": "The signed-in user's profile and email address.",
    "picture": "The profile picture, sent through the service or straight to the storage.",
    "devices": "Browsers and apps that are signed in.",
    "security log": "What happened to the account, for its owner.",
    "data": "A copy of all data, and the deletion of the account.",
    "directory": "The other users of the service.",
    "config": "What an app must not hard-code.",
    "second factors": "Authenticator app, recovery codes and passkeys.",
    "sign-in providers": "Google, Apple and others that sign the user in.",
}

api = VersionedAPI(
    title="User Service",
    version="1.3.0",
    description=DESCRIPTION,
    servers=[{"url": settings.PUBLIC_URL}],
    openapi_extra={"tags": [{"name": name, "description": words} for name, words in TAGS.items()]},
    urls_namespace="v1",
    parser=StrictParser(),
    renderer=Renderer(),
)
errors.install(api)
for _module in (signup, token, password, me, picture, sessions, events, data, users, config, mfa, identities):
    api.add_router("", _module.router)
api.add_router("", mfa.entrance)
api.add_router("", identities.entrance)
