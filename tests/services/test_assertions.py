"""What a provider says of somebody, and whether it is the one to ask about an address."""

from typing import Any

from accounts.services.authentication import assertions, providers
from accounts.services.authentication.assertions import Assertion, Claims
from project.devstack.provider import PEOPLE, FakeProvider


def said(provider: str, **payload: Any) -> Assertion:
    claims = Claims(
        issuer="https://id.example",
        subject="1001",
        client_id="web",
        issued_at=1,
        authenticated_at=None,
        methods=(),
        payload=payload,
    )
    return assertions.of_claims(providers.get(provider), claims)


def test_an_address_is_proved_by_who_is_responsible_for_it_alone(fake: FakeProvider) -> None:
    true: Any = {"email_verified": True}
    rows: list[tuple[str, dict[str, Any], bool]] = [
        ("google", {"email": "ada@gmail.com", **true}, True),
        ("google", {"email": "Ada@GoogleMail.com", **true}, True),
        ("google", {"email": "ada@crew.example", "hd": "crew.example", **true}, True),
        ("google", {"email": "ada@crew.example", "hd": "Crew.Example", **true}, True),
        ("google", {"email": "ada@crew.example", **true}, False),
        ("google", {"email": "ada@crew.example", "hd": "evil.example", **true}, False),
        ("google", {"email": "ada@crew.example", "hd": ["crew.example"], **true}, False),
        ("google", {"email": "ada@gmail.com.evil.example", **true}, False),
        ("google", {"email": "ada@gmail.com@evil.example", **true}, False),
        ("google", {"email": "ada@gmail.com"}, False),
        ("google", {"email": "ada@gmail.com", "email_verified": False}, False),
        ("google", {"email": "ada@gmail.com", "email_verified": "false"}, False),
        ("google", {"email": "ada@gmail.com", "email_verified": ["true"]}, False),
        ("google", {"hd": "", **true}, False),
        ("apple", {"email": "x1@privaterelay.appleid.com", "email_verified": "true"}, True),
        ("apple", {"email": "ada@icloud.com", **true}, True),
        ("apple", {"email": "ada@gmail.com", "email_verified": "true"}, False),
        ("microsoft", {"email": "ada@crew.example", "xms_edov": True}, True),
        ("microsoft", {"email": "ada@crew.example", "xms_edov": "1"}, True),
        ("microsoft", {"email": "ada@crew.example", "xms_edov": 1}, True),
        ("microsoft", {"email": "ada@crew.example", "xms_edov": False}, False),
        ("microsoft", {"email": "ada@crew.example", **true}, False),  # what a tenant's admin may type
        ("github", {"email": "ada@github.com", **true}, False),
        ("corp", {"email": "ada@example.com", **true}, True),
        ("corp", {"email": "ada@EXAMPLE.com", **true}, True),
        ("corp", {"email": "ada@\uff45xample.com", **true}, True),  # the address is folded before anybody compares
        ("corp", {"email": "ada@example.com", "email_verified": False}, False),
        ("corp", {"email": "ada@sub.example.com", **true}, False),
        ("corp", {"email": "ada@gmail.com", "hd": "gmail.com", "xms_edov": True, **true}, False),
    ]
    assert [row for row in rows if said(row[0], **row[1]).proves_email is not row[2]] == []


def test_what_is_odd_is_left_out(fake: FakeProvider) -> None:
    nothing = Assertion(provider="corp", issuer="https://id.example", subject="1001")
    odds: list[Any] = [{}, [], 7, True, None, "", " \n"]
    for odd in [*odds, "ada@", "@example.com", "a b@example.com", "a@example.com\nBcc: x@y.z"]:
        assert said("corp", email=odd, email_verified=True) == nothing, odd
    for odd in odds:
        assert said("corp", preferred_username=odd, given_name=odd, family_name=odd) == nothing, odd
    ada = said("corp", **next(iter(PEOPLE.values())))
    assert (ada.email, ada.username, ada.first_name, ada.last_name) == ("ada@gmail.com", "ada", "Ada", "Lovelace")
