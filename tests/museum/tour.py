"""What is recorded of a release: an app's walk through every operation, with the refusals that it acts on."""

import base64

from tests.conftest import picture
from tests.museum.exchange import Step

PASSWORD = "plum tractor lagoon"
DEVICE = {"name": "Ada's iPhone", "platform": "iOS 20", "app_version": "1.0"}


def picture_step() -> Step:
    return {"ask": "PUT /me/picture", "as": "access", "file": base64.b64encode(picture((90, 80))).decode()}


def tour() -> list[Step]:
    return [
        {"ask": "GET /config"},
        # Signing up, and what can be wrong with it.
        {"ask": "POST /signup", "body": {"username": "a", "email": "nobody", "password": "short", "colour": "red"}},
        {"ask": "POST /signup", "body": {"username": "a", "email": "nobody", "password": "short"}},
        {
            "ask": "POST /signup",
            "body": {
                "username": "Ada",
                "email": "Ada@Example.com",
                "password": PASSWORD,
                "first_name": "Ada",
                "last_name": "Lindqvist",
                "gender": "female",
                "device": DEVICE,
            },
            "keep": {
                "access": "tokens.access_token",
                "refresh": "tokens.refresh_token",
                "session": "tokens.session_id",
                "identity": "tokens.session_id",  # that of nothing
            },
        },
        {"ask": "POST /signup", "body": {"username": "ada", "email": "other@example.com", "password": PASSWORD}},
        # Providers, of which this service names none: an ID token can't be recorded (tests/api/v1/test_identities.py).
        {"ask": "POST /token/provider/begin", "body": {"provider": "google"}},
        {"ask": "POST /token/provider", "body": {"provider": "google", "id_token": "x", "state": "x"}},
        {"ask": "POST /token/provider/create", "body": {"ticket": "x"}},
        {"ask": "GET /me/identities", "as": "access"},
        {"ask": "POST /me/identities", "as": "access", "body": {"ticket": "x"}},
        {"ask": "DELETE /me/identities/{identity}", "as": "access"},
        # Proving the address.
        {"ask": "GET /me/email", "as": "access"},
        {"ask": "POST /me/email/confirm", "as": "access", "body": {"code": "00000000"}},
        {"ask": "POST /email/resend", "body": {"email": "ada@example.com"}},
        {"mail": "ada@example.com", "keep": {"code": "code"}},
        {"ask": "POST /me/email/confirm", "as": "access", "body": {"code": "{code}"}},
        # The profile.
        {"ask": "GET /me", "as": "access", "keep": {"etag": "@ETag"}},
        {"ask": "PATCH /me", "as": "access", "body": {"last_name": "L."}, "headers": {"If-Match": "{etag}"}},
        {"ask": "PATCH /me", "as": "access", "body": {"last_name": "M."}, "headers": {"If-Match": "{etag}"}},
        {"ask": "PATCH /me", "as": "access", "body": {"gender": "none"}},
        picture_step(),
        {"ask": "DELETE /me/picture", "as": "access"},
        # A picture straight to the storage; this one never arrives there.
        {"ask": "POST /me/picture/uploads", "as": "access", "body": {"content_type": "image/gif", "size": 0}},
        {
            "ask": "POST /me/picture/uploads",
            "as": "access",
            "body": {"content_type": "image/jpeg", "size": 482133},
            "keep": {"upload": "id"},
        },
        {"ask": "GET /me/picture/uploads/{upload}", "as": "access"},
        {"ask": "POST /me/picture/uploads/{upload}/complete", "as": "access"},
        # Tokens.
        {"ask": "POST /token/refresh", "body": {"refresh_token": "{refresh}"}, "keep": {"access2": "access_token"}},
        {"ask": "POST /token/refresh", "body": {"refresh_token": "{refresh}"}, "keep": {"refresh2": "refresh_token"}},
        {"ask": "GET /me", "as": "access2"},
        {"ask": "POST /token/refresh", "body": {"refresh_token": "nonsense"}},
        {"ask": "GET /me"},
        {"ask": "GET /me", "headers": {"Authorization": "Bearer nonsense"}},
        {"ask": "POST /token", "body": {"login": "ada", "password": "wrong"}},
        {
            "ask": "POST /token",
            "body": {"login": "ADA@example.com", "password": PASSWORD, "device": {"name": "Tablet"}},
            "keep": {"tablet": "tokens.session_id", "tablet_refresh": "tokens.refresh_token"},
        },
        # The security log, devices, the directory. One event: what else a build may write is no promise.
        {"ask": "GET /me/events?limit=1", "as": "access2"},
        {"ask": "GET /me/sessions", "as": "access2"},
        {"ask": "GET /me/sessions?limit=1", "as": "access2", "keep": {"next": "next"}},
        {"ask": "GET /me/sessions?limit=1&cursor={next}", "as": "access2"},
        {"ask": "DELETE /me/sessions/{tablet}", "as": "access2"},
        {"ask": "DELETE /me/sessions/{tablet}", "as": "access2"},
        {"ask": "POST /token/refresh", "body": {"refresh_token": "{tablet_refresh}"}},
        {"ask": "DELETE /me/sessions", "as": "access2"},
        {"ask": "GET /me/events?limit=0", "as": "access2"},
        {"ask": "GET /users", "as": "access2"},
        {"ask": "GET /users?cursor=nonsense", "as": "access2"},
        {"ask": "GET /me", "as": "access2", "keep": {"ada": "id"}},
        {"ask": "GET /users/{ada}", "as": "access2"},
        {"ask": "GET /users/by-ids?ids={ada}", "as": "access2"},
        {"ask": "GET /users/019ab3f2-7cde-7000-a1b2-c3d4e5f60718", "as": "access2"},
        # Another password, another address.
        {
            "ask": "POST /me/password",
            "as": "access2",
            "body": {"current_password": "wrong", "new_password": "another lagoon tractor"},
        },
        {
            "ask": "POST /me/password",
            "as": "access2",
            "body": {"current_password": PASSWORD, "new_password": "another lagoon tractor"},
        },
        {
            "ask": "POST /me/email",
            "as": "access2",
            "body": {"email": "ada@example.net", "password": "another lagoon tractor"},
        },
        {"mail": "ada@example.net", "keep": {"code": "code"}},
        {"ask": "POST /me/email/confirm", "as": "access2", "body": {"code": "{code}"}},
        {
            "ask": "POST /me/email",
            "as": "access2",
            "body": {"email": "ada@example.edu", "password": "another lagoon tractor"},
        },
        {"ask": "POST /me/email/cancel", "as": "access2"},
        # Locked out, and in again by each door.
        {"ask": "POST /password/forgot", "body": {"login": "ada"}},
        {"mail": "ada@example.net", "keep": {"code": "code"}},
        {
            "ask": "POST /password/reset",
            "body": {"login": "ada", "code": "00000000", "new_password": "third lagoon tractor"},
        },
        {"ask": "POST /password/reset", "body": {"login": "ada", "code": "{code}", "new_password": "short"}},
        {
            "ask": "POST /password/reset",
            "body": {"login": "ada", "code": "{code}", "new_password": "third lagoon tractor"},
        },
        {"ask": "GET /me", "as": "access2"},
        {"ask": "POST /token/refresh", "body": {"refresh_token": "{refresh2}"}},
        {"ask": "POST /password/forgot", "body": {"login": "ada@example.net"}},
        {"mail": "ada@example.net", "keep": {"key": "key"}},
        {"ask": "POST /password/reset", "body": {"key": "{key}", "new_password": "fourth lagoon tractor"}},
        {"ask": "POST /password/reset", "body": {"key": "{key}", "new_password": "fifth lagoon tractor"}},
        # A claim that somebody else makes, and its proof from outside.
        {"ask": "POST /signup", "body": {"username": "grace", "email": "grace@example.com", "password": PASSWORD}},
        {"mail": "grace@example.com", "keep": {"code": "code"}},
        {"ask": "POST /email/confirm", "body": {"email": "grace@example.com", "code": "00000000"}},
        {
            "ask": "POST /email/confirm",
            "body": {"email": "grace@example.com", "code": "{code}", "device": {"name": "Grace's phone"}},
            "keep": {"grace": "tokens.refresh_token"},
        },
        {"ask": "POST /token/revoke", "body": {"refresh_token": "{grace}"}},
        {"ask": "POST /token/revoke", "body": {"refresh_token": "{grace}"}},
        # A code to sign in with.
        {"ask": "POST /token/code/request", "body": {"login": "grace"}},
        {"mail": "grace@example.com", "keep": {"code": "code"}},
        {"ask": "POST /token/code", "body": {"login": "grace", "code": "00000000"}},
        {
            "ask": "POST /token/code",
            "body": {"login": "grace", "code": "{code}", "device": {"name": "Grace's phone"}},
            "keep": {"access3": "tokens.access_token"},
        },
        # A change of address, taken back.
        {"ask": "POST /me/email", "as": "access3", "body": {"email": "eve@example.com", "password": PASSWORD}},
        {"mail": "eve@example.com", "keep": {"code": "code"}},
        {"ask": "POST /me/email/confirm", "as": "access3", "body": {"code": "{code}"}},
        {"mail": "grace@example.com", "keep": {"undo": "key"}},
        {"ask": "POST /email/undo", "body": {"key": "{undo}"}, "keep": {"reset": "reset_key"}},
        {"ask": "POST /email/undo", "body": {"key": "{undo}"}},
        {"ask": "POST /password/reset", "body": {"key": "{reset}", "new_password": "sixth lagoon tractor"}},
        # A sign-up that is confirmed by the link.
        {"ask": "POST /signup", "body": {"username": "joan", "email": "joan@example.com", "password": PASSWORD}},
        {"mail": "joan@example.com", "keep": {"key": "key"}},
        {"ask": "POST /email/confirm", "body": {"key": "{key}"}},
        {"ask": "POST /email/confirm", "body": {"key": "{key}"}},
        # A copy of the data; leaving, and staying after all.
        {
            "ask": "POST /signup",
            "body": {"username": "mary", "email": "mary@example.com", "password": PASSWORD},
            "keep": {"access4": "tokens.access_token"},
        },
        {"ask": "GET /me/export", "as": "access4"},
        {"ask": "POST /me/export", "as": "access4"},
        {"ask": "GET /me/export", "as": "access4"},
        {"ask": "GET /me/deletion", "as": "access4"},
        {"ask": "POST /me/deletion", "as": "access4", "body": {"password": "wrong"}},
        {"ask": "POST /me/deletion", "as": "access4", "body": {"password": PASSWORD}},
        {"ask": "GET /me/deletion", "as": "access4"},
        {"ask": "POST /token", "body": {"login": "mary", "password": PASSWORD}},
        {"ask": "DELETE /me/deletion", "as": "access4"},
        {"ask": "GET /me", "as": "access4"},
        # Two-step verification: turned on, signed in with, turned off.
        {
            "ask": "POST /signup",
            "body": {"username": "hedy", "email": "hedy@example.com", "password": PASSWORD},
            "keep": {"access5": "tokens.access_token"},
        },
        {"ask": "GET /me/mfa", "as": "access5"},
        {"ask": "POST /me/mfa/totp", "as": "access5"},
        {"mail": "hedy@example.com", "keep": {"code": "code"}},
        {"ask": "POST /me/email/confirm", "as": "access5", "body": {"code": "{code}"}},
        {"ask": "POST /me/reauthenticate", "as": "access5", "body": {"password": "wrong"}},
        {"ask": "POST /me/reauthenticate", "as": "access5", "body": {"password": PASSWORD}},
        {"ask": "POST /me/mfa/totp", "as": "access5", "keep": {"secret": "secret", "setup": "state"}},
        {"ask": "POST /me/mfa/totp/confirm", "as": "access5", "body": {"state": "{setup}", "code": "x"}},
        {"app": "{secret}", "steps": 0, "keep": {"code": "code"}},
        {"ask": "POST /me/mfa/totp/confirm", "as": "access5", "body": {"state": "{setup}", "code": "{code}"}},
        {"ask": "POST /me/mfa/totp", "as": "access5"},
        {"ask": "POST /token", "body": {"login": "hedy", "password": PASSWORD}, "keep": {"ticket": "ticket"}},
        {"ask": "POST /token/mfa", "body": {"ticket": "{ticket}", "code": "x"}},
        {"app": "{secret}", "steps": 1, "keep": {"code": "code"}},
        {"ask": "POST /token/mfa", "body": {"ticket": "{ticket}", "code": "{code}", "device": DEVICE}},
        {"ask": "POST /token/mfa", "body": {"ticket": "{ticket}", "code": "{code}"}},
        {"ask": "POST /me/mfa/recovery-codes", "as": "access5", "keep": {"recovery": "recovery_codes.0"}},
        {"ask": "POST /token", "body": {"login": "hedy", "password": PASSWORD}, "keep": {"ticket": "ticket"}},
        {"ask": "POST /token/mfa", "body": {"ticket": "{ticket}", "code": "{recovery}"}},
        {"ask": "DELETE /me/mfa/totp", "as": "access5"},
        {"ask": "DELETE /me/mfa/totp", "as": "access5"},
        # A passkey.
        {"ask": "POST /me/mfa/passkeys/begin", "as": "access5", "keep": {"options": "options", "made": "state"}},
        {"passkey": "create", "options": "{options}", "keep": {"credential": "answer"}},
        {
            "ask": "POST /me/mfa/passkeys",
            "as": "access5",
            "body": {"state": "{made}", "credential": "{credential}", "name": "Hedy's phone"},
            "keep": {"passkey": "id"},
        },
        {"ask": "PATCH /me/mfa/passkeys/{passkey}", "as": "access5", "body": {"name": "My phone"}},
        {"ask": "POST /token/passkey/begin", "keep": {"options": "options", "asked": "state"}},
        {"passkey": "get", "options": "{options}", "keep": {"credential": "answer"}},
        {
            "ask": "POST /token/passkey/finish",
            "body": {"state": "{asked}", "credential": "{credential}", "device": DEVICE},
        },
        {"ask": "POST /token/passkey/finish", "body": {"state": "{asked}", "credential": "{credential}"}},
        {"ask": "GET /me/mfa", "as": "access5"},
        {"ask": "DELETE /me/mfa/passkeys/{passkey}", "as": "access5"},
        {"ask": "DELETE /me/mfa/passkeys/{passkey}", "as": "access5"},
        # What is no request at all.
        {"ask": "GET /nothing"},
        {"ask": "DELETE /token"},
        {"ask": "POST /token", "body": "{"},
        {"ask": "POST /token", "body": {"login": ["ada"]}},
    ]
