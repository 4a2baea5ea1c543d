"""System checks: what would bite an operator later, with an id and a hint. `manage.py check --deploy` runs all."""

from collections.abc import Sequence
from email.utils import parseaddr

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as Caution
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email

from accounts.services import breached_passwords, imported_hashes, rate_limits


@register(Tags.security)
def limits_are_known(app_configs: object, **_: object) -> Sequence[CheckMessage]:
    try:
        rate_limits.limits()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="The names stand in docs/limits.md.", id="accounts.E001")]
    return []


@register(Tags.security)
def breached_passwords_are_asked_in_private(app_configs: object, **_: object) -> Sequence[CheckMessage]:
    if not settings.BREACHED_PASSWORDS_URL or breached_passwords.is_private(settings.BREACHED_PASSWORDS_URL):
        return []
    return [
        Error(
            "BREACHED_PASSWORDS_URL is not https: whoever listens would learn parts of new passwords' hashes.",
            hint="Use https://, or http:// for a mirror on this machine. Until then no password is looked up.",
            id="accounts.E003",
        )
    ]


@register(Tags.security)
def firebase_signer_key_can_be_read(app_configs: object, **_: object) -> Sequence[CheckMessage]:
    if not settings.FIREBASE_SIGNER_KEY or imported_hashes.signer_key():
        return []
    return [
        Error(
            "FIREBASE_SIGNER_KEY is not base64: nobody who came from Firebase could sign in.",
            hint="Copy base64_signer_key of the project's password hash parameters, without quotes.",
            id="accounts.E004",
        )
    ]


@register(Tags.security)
def mails_have_a_sender(app_configs: object, **_: object) -> Sequence[CheckMessage]:
    try:
        validate_email(parseaddr(settings.DEFAULT_FROM_EMAIL)[1])
    except ValidationError:
        return [
            Error(
                f"EMAIL_FROM is no address ({settings.DEFAULT_FROM_EMAIL}): no mail could be written.",
                hint="Set EMAIL_FROM='Crew <no-reply@example.com>'; without it the host of PUBLIC_URL is taken.",
                id="accounts.E005",
            )
        ]
    return []


@register(Tags.security, deploy=True)
def addresses_are_public(app_configs: object, **_: object) -> Sequence[CheckMessage]:
    found: list[CheckMessage] = []
    if not settings.HTTPS:
        found.append(
            Caution(
                "PUBLIC_URL is not https: cookies and tokens travel in the clear.",
                hint="Put a TLS proxy in front and set PUBLIC_URL=https://…",
                id="accounts.W001",
            )
        )
    if settings.HTTPS and settings.TRUSTED_PROXY_COUNT == 0:
        found.append(
            Caution(
                "PUBLIC_URL is https, yet no proxy is trusted: everybody would share the proxy's network address.",
                hint="Set TRUSTED_PROXY_COUNT to the number of proxies in front of this service.",
                id="accounts.W002",
            )
        )
    if len(settings.SECRET_KEY) < 50:
        found.append(Error("SECRET_KEY is short.", hint="Use at least 50 random characters.", id="accounts.E002"))
    return found
