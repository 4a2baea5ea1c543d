"""System checks: what would bite an operator later, with an id and a hint. `manage.py check --deploy` runs all."""

import re
from collections.abc import Iterator
from email.utils import parseaddr

from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as Caution
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email

from accounts.lib import brand, fetching
from accounts.services.authentication import providers
from accounts.services.authentication.providers import TENANT, Provider
from accounts.services.credentials import identifiers, imported_hashes
from accounts.services.security import rate_limits


@register(Tags.security)
def limits_are_known(**_: object) -> Iterator[CheckMessage]:
    try:
        rate_limits.limits()
    except ImproperlyConfigured as error:
        yield Error(str(error), hint="The names are listed in docs/reference/limits.md.", id="accounts.E001")


@register(Tags.security)
def refused_domains_can_be_read(**_: object) -> Iterator[CheckMessage]:
    try:
        wrong = identifiers.lines_without_domain()
    except ImproperlyConfigured as error:
        yield Error(f"{error}: nobody could sign up.", hint="One domain on each line, in UTF-8.", id="accounts.E010")
    else:
        if wrong:
            lines = ", ".join(map(str, wrong[:20]))
            yield Error(
                f"REFUSED_EMAIL_DOMAINS_FILE has no domain in line {lines}: nothing is refused by it.",
                hint="One domain on each line: mailinator.com.",
                id="accounts.E014",
            )


@register(Tags.security)
def breached_passwords_are_asked_in_private(**_: object) -> Iterator[CheckMessage]:
    if settings.BREACHED_PASSWORDS_URL and not fetching.is_protected(settings.BREACHED_PASSWORDS_URL):
        yield Error(
            "BREACHED_PASSWORDS_URL is not https: anybody who listens would learn parts of new passwords' hashes.",
            hint="Use https://, or http:// for a mirror on this machine. Until then no password is looked up.",
            id="accounts.E003",
        )


@register(Tags.security)
def firebase_signer_key_can_be_read(**_: object) -> Iterator[CheckMessage]:
    if settings.FIREBASE_SIGNER_KEY and not imported_hashes.signer_key():
        yield Error(
            "FIREBASE_SIGNER_KEY is not base64: nobody who came from Firebase could sign in.",
            hint="Copy base64_signer_key of the project's password hash parameters, without quotes.",
            id="accounts.E004",
        )


SHORTEST_TOKEN = 16


@register(Tags.security)
def metrics_token_is_long(**_: object) -> Iterator[CheckMessage]:
    if 0 < len(settings.METRICS_TOKEN) < SHORTEST_TOKEN:
        yield Error(
            f"METRICS_TOKEN has fewer than {SHORTEST_TOKEN} characters: a stranger could guess it.",
            hint="Make one: openssl rand -hex 32",
            id="accounts.E013",
        )


@register(Tags.security)
def addresses_are_addresses(**_: object) -> Iterator[CheckMessage]:
    if not _is_address(parseaddr(settings.DEFAULT_FROM_EMAIL)[1]):
        yield Error(
            f"EMAIL_FROM is no address ({settings.DEFAULT_FROM_EMAIL}): no mail could be written.",
            hint="Set EMAIL_FROM='Crew <no-reply@example.com>'; without it the host of PUBLIC_URL is taken.",
            id="accounts.E005",
        )
    if settings.SUPPORT_EMAIL and not _is_address(settings.SUPPORT_EMAIL):
        yield Error(
            f"SUPPORT_EMAIL is no address ({settings.SUPPORT_EMAIL}): nobody could write to it.",
            hint="Write the address alone: help@example.com.",
            id="accounts.E008",
        )

    for contact in settings.SECURITY_CONTACT:
        if not (contact.startswith(("https://", "tel:")) or _is_address(contact.removeprefix("mailto:"))):
            yield Error(
                f"SECURITY_CONTACT is no address ({contact}): nobody could report anything there.",
                hint="Write security@example.com or https://example.com/security.",
                id="accounts.E011",
            )


def _is_address(text: str) -> bool:
    try:
        validate_email(text)
    except ValidationError:
        return False
    return True


@register(Tags.security)
def the_accent_can_be_read(**_: object) -> Iterator[CheckMessage]:
    color: str = settings.ACCENT_COLOR
    if color and not brand.is_color(color):
        yield Error(
            f"ACCENT_COLOR is no colour ({color}): pages keep our own.",
            hint="Write it as #rrggbb, such as #1d569f.",
            id="accounts.E006",
        )
    elif color and (used := brand.palette().light) != color.lower():
        yield Caution(
            f"ACCENT_COLOR {color} has too little contrast on light pages: {used} is used there.",
            hint=f"Choose a darker one, or {used} itself.",
            id="accounts.W003",
        )


@register(Tags.security)
def the_logo_is_there(**_: object) -> Iterator[CheckMessage]:
    name: str = settings.SITE_LOGO
    if name and not name.startswith(("/", "https://")) and not finders.find(name):
        yield Error(
            f"SITE_LOGO is neither https://…, /path nor a file below static/ ({name}): pages show our own mark.",
            hint="Put the file into static/ before collectstatic, or name an address.",
            id="accounts.E007",
        )


@register(Tags.security)
def providers_can_be_asked(**_: object) -> Iterator[CheckMessage]:
    for provider in providers.listed():
        for problem, hint in _problems(provider):
            yield Error(f"Nobody can sign in with {provider.id}: {problem}.", hint=hint, id="accounts.E012")
    for name in settings.PROVIDER_SETTINGS_UNREAD:
        yield Caution(
            f"{name} is set, but nothing reads it.",
            hint="docs/reference/settings.md lists the names. X is a name in PROVIDERS, in capitals.",
            id="accounts.W004",
        )


def _problems(provider: Provider) -> Iterator[tuple[str, str]]:
    name = f"PROVIDER_{provider.id.upper()}"
    if not re.fullmatch("[a-z][a-z0-9_]{0,31}", provider.id):
        yield "its name can't be part of a setting", "Use small letters, digits and _ in PROVIDERS."
    if not provider.issuer:
        yield f"{name}_ISSUER is missing", "Its discovery document has the value, as `issuer`."
    elif not fetching.is_protected(provider.issuer):
        yield f"{name}_ISSUER is not https", "Anybody on the way could sign in as everybody. Use https://."
    if not provider.client_ids:
        yield f"{name}_CLIENT_IDS is missing", "Register this service and your apps in the provider's console."
    if not provider.native:
        yield "it makes no ID tokens", "Apps need them. Take it out of PROVIDERS."
    if odd := [tenant for tenant in provider.tenants if not TENANT.fullmatch(tenant)]:
        yield f"{name}_TENANTS has {odd[0]}", "Tenants have ids such as 72f988bf-86f1-41af-91ab-2d7cd011db47."


LONGEST_SIGNATURE = 604_800  # seconds: no S3 storage takes a longer one


@register(Tags.security)
def picture_addresses_work(**_: object) -> Iterator[CheckMessage]:
    if not 1 <= settings.PICTURE_URL_LIFETIME <= LONGEST_SIGNATURE:
        yield Error(
            f"PICTURE_URL_LIFETIME is {settings.PICTURE_URL_LIFETIME}: the storage would refuse every picture.",
            hint=f"Choose 1 to {LONGEST_SIGNATURE} seconds (a week).",
            id="accounts.E009",
        )


@register(Tags.security, deploy=True)
def addresses_are_public(**_: object) -> Iterator[CheckMessage]:
    if not settings.HTTPS:
        yield Caution(
            "PUBLIC_URL is not https: cookies and tokens travel in the clear.",
            hint="Put a TLS proxy in front and set PUBLIC_URL=https://…",
            id="accounts.W001",
        )
    elif settings.TRUSTED_PROXY_COUNT == 0:
        yield Caution(
            "PUBLIC_URL is https, yet no proxy is trusted: everybody would share the proxy's network address.",
            hint="Set TRUSTED_PROXY_COUNT to the number of proxies in front of this service.",
            id="accounts.W002",
        )
    if len(settings.SECRET_KEY) < 50:
        yield Error("SECRET_KEY is short.", hint="Use at least 50 random characters.", id="accounts.E002")
