"""What a provider says of somebody, in one form for all providers and both faces."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accounts.services.authentication.providers import Provider
from accounts.services.credentials import identifiers


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a verified ID token says (services/authentication/id_tokens.py)."""

    issuer: str
    subject: str
    client_id: str  # the one of ours that the token was made for
    issued_at: int  # seconds, as the other one
    authenticated_at: int | None  # when the person last proved who they are to the provider, if it says so
    methods: tuple[str, ...]  # its amr
    payload: Mapping[str, Any]  # all of it; what is not above may have any shape


@dataclass(frozen=True, kw_only=True)
class Assertion:
    """(issuer, subject) names somebody for good; everything else may change. Fields that the provider left out, or
    filled with something odd, are empty."""

    provider: str  # its id in PROVIDERS
    issuer: str
    subject: str
    email: str = ""  # folded
    email_verified: bool = False  # the provider has verified it
    authoritative: bool = False  # and is the one to ask about addresses of this domain
    username: str = ""
    first_name: str = ""
    last_name: str = ""

    @property
    def proves_email(self) -> bool:
        """Whether the account has this address as if it had entered our code. Otherwise it is only a claim: anybody can
        make a provider, or an account at one, that says it."""
        return bool(self.email) and self.email_verified and self.authoritative


def of_claims(provider: Provider, claims: Claims) -> Assertion:
    said = claims.payload
    email = identifiers.fold_email(_text(said.get("email")))
    if identifiers.email_problem(email):
        email = ""
    # A tenant's admin types any `email`; Microsoft says by xms_edov whether the tenant owns its domain.
    verified = said.get("xms_edov" if provider.id == "microsoft" else "email_verified")
    return Assertion(
        provider=provider.id,
        issuer=claims.issuer,
        subject=claims.subject,
        email=email,
        email_verified=bool(email) and _is_true(verified),
        authoritative=bool(email) and _is_authoritative(provider, email.rpartition("@")[2], said),
        username=_text(said.get("preferred_username")),
        first_name=_text(said.get("given_name")),
        last_name=_text(said.get("family_name")),
    )


def _is_authoritative(provider: Provider, domain: str, said: Mapping[str, Any]) -> bool:
    if domain in provider.mail_domains:
        return True
    if provider.id == "google":  # `hd` is the domain of a company whose mail is at Google
        return domain in {"gmail.com", "googlemail.com", _text(said.get("hd")).lower()}
    if provider.id == "apple":
        return domain in {"privaterelay.appleid.com", "icloud.com"}
    return provider.id == "microsoft" and _is_true(said.get("xms_edov"))


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _is_true(value: object) -> bool:
    """Apple and Microsoft write it as text or number too."""
    return value is True or str(value).lower() in {"true", "1"}
