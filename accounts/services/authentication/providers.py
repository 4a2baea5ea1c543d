"""The providers that people may sign in with: PROVIDERS in the environment, and nothing in the database."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings

from accounts.errors import ProviderUnknown

# What is known of some; of any other the environment says it. Microsoft's issuer is a template: each tenant is one.
KNOWN = {
    "google": {"name": "Google", "issuer": "https://accounts.google.com"},
    "apple": {"name": "Apple", "issuer": "https://appleid.apple.com"},
    "microsoft": {"name": "Microsoft", "issuer": "https://login.microsoftonline.com/{tenantid}/v2.0"},
    "github": {"name": "GitHub", "issuer": "https://github.com"},
}

TENANT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One provider as it is configured: the fields are the names of PROVIDER_X_… in small letters."""

    id: str
    name: str
    issuer: str
    client_ids: tuple[str, ...] = ()  # its ID tokens must be made for these
    mail_domains: tuple[str, ...] = ()  # of addresses that it vouches for
    signup: bool = True
    mfa: bool = False  # its second factor counts as ours
    internal: bool = False  # it may have a private address
    tenants: tuple[str, ...] = ()  # Microsoft: those whose people may come. Empty: all

    @property
    def native(self) -> bool:
        """Whether apps can sign in with its ID tokens: GitHub makes none."""
        return self.id != "github"


def listed() -> Iterator[Provider]:
    for id_, given in settings.PROVIDERS.items():
        known = KNOWN.get(id_, {"name": id_.capitalize(), "issuer": ""})
        yield Provider(id=id_, **{**known, **{name: value for name, value in given.items() if value != ""}})


def get(id_: str) -> Provider:
    """Raises ProviderUnknown."""
    for provider in listed():
        if provider.id == id_:
            return provider
    raise ProviderUnknown
