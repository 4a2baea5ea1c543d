"""Sign-in providers as an app meets them. Whom an identity means: tests/services/test_federation.py."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils.timezone import now
from pytest_django import Settings

from accounts.caller import NOBODY, Caller
from accounts.models import Identity, Session, User
from accounts.services.account import users
from accounts.services.authentication import id_tokens, identities
from project.devstack.provider import FakeProvider
from tests.api.conftest import problem, wrong_fields
from tests.conftest import PASSWORD, Api, Mailbox
from tests.factors import id_token, two_step_on

VICTIM = {"sub": "v", "email": "victim@gmail.com", "email_verified": True, "given_name": "Vic"}
BOB = {"sub": "b", "email": "bob@example.com", "email_verified": True}
NEW = "another lagoon tractor"


def come(api: Api, given: dict[str, Any], **more: Any) -> Any:
    return api.post("/token/provider", {**given, **more}, token="")


def test_the_config_lists_what_an_app_needs_of_each(api: Api, fake: FakeProvider) -> None:
    found = {one["id"]: one for one in api.get("/config").json()["providers"]}
    assert found["google"] == {"id": "google", "name": "Fake", "native": True, "client_ids": ["web", "app"]}
    assert [name for name, one in found.items() if not one["native"]] == ["github"]


def test_an_app_begins_signs_in_and_is_signed_in(api: Api, fake: FakeProvider) -> None:
    begun = api.post("/token/provider/begin", {"provider": "google"}, token="").json()
    assert begun["expires_in"] == 600
    token = fake.token("google", VICTIM, nonce=begun["nonce"])
    given = {"provider": "google", "id_token": token, "state": begun["state"], "device": {"name": "Vic's phone"}}
    answer = come(api, given)
    assert answer.status_code == 200
    api.token = answer.json()["tokens"]["access_token"]
    assert api.get("/me").json()["email"] == "victim@gmail.com"
    assert api.get("/me/sessions").json()["sessions"][0]["name"] == "Vic's phone"
    (mine,) = api.get("/me/identities").json()["identities"]
    assert (mine["provider"], mine["name"], mine["email"]) == ("google", "Fake", "victim@gmail.com")
    assert api.get("/me/identities").json()["has_password"] is False
    problem(come(api, given), 401, "invalid_ticket")
    problem(come(api, id_token(fake, "google", VICTIM), id_token="x"), 401, "invalid_id_token")


def test_a_token_may_be_longer_than_other_secrets(api: Api, fake: FakeProvider) -> None:
    """Microsoft's name every group."""
    given = id_token(fake, "microsoft", {**VICTIM, "groups": ["g" * 36] * 250})
    assert 10_000 < len(given["id_token"]) < 16_384
    assert come(api, given).status_code == 200
    assert wrong_fields(come(api, given, id_token="x" * 16_385)) == {"id_token": "too_long"}
    said = {"sub": "ä" * 255, "preferred_username": "ö" * 500, "given_name": "ü" * 500}
    ticket = problem(come(api, id_token(fake, "google", said), create=False), 409, "identity_unknown")["ticket"]
    assert api.post("/token/provider/create", {"ticket": ticket}, token="").status_code == 201


def test_without_providers_every_way_answers_that_there_is_none(alices_api: Api, settings: Settings) -> None:
    settings.PROVIDERS = {}
    given = {"provider": "google", "id_token": "x", "state": "x"}
    for path, body in (
        ("/token/provider/begin", {"provider": "google"}),
        ("/token/provider", given),
        ("/me/identities", given),
        ("/me/reauthenticate", given),
    ):
        problem(alices_api.post(path, body), 404, "provider_unknown", "none")
    assert alices_api.get("/me/identities").json() == {"identities": [], "has_password": True}


def test_each_refusal_of_a_sign_in(
    api: Api, fake: FakeProvider, alice: User, bob: User, settings: Settings, limits: Callable[..., None]
) -> None:
    staff = {**BOB, "sub": "a", "email": alice.email}
    problem(come(api, id_token(fake, "corp", staff)), 409, "identity_taken", "none")
    fake.lie = "error"
    id_tokens._issuers.clear()
    problem(come(api, id_token(fake, "corp", BOB)), 503, "provider_unavailable", "retry")
    fake.lie = ""
    id_tokens._issuers.clear()
    assert come(api, id_token(fake, "corp", BOB)).json()["user"]["username"] == "bob"
    settings.SIGNUP_OPEN = False
    problem(come(api, id_token(fake, "google", VICTIM)), 403, "signup_closed")
    settings.SIGNUP_OPEN, settings.EMAIL_VERIFICATION = True, "mandatory"
    claims = {**VICTIM, "email_verified": False}
    assert come(api, id_token(fake, "google", claims)).status_code == 202
    problem(come(api, id_token(fake, "google", claims)), 403, "email_not_verified", "fix_input")
    users.set_active(user=bob, active=False, caller=NOBODY)
    problem(come(api, id_token(fake, "corp", BOB)), 403, "account_disabled")
    limits("login_per_ip=1/86400")
    come(api, {"provider": "corp", "id_token": "x", "state": "x"})
    problem(come(api, id_token(fake, "corp", BOB)), 429, "rate_limited", "retry")


def test_the_second_step_follows(api: Api, bobs_api: Api, bob: User, fake: FakeProvider, caller: Caller) -> None:
    app = two_step_on(bob, Session.objects.get(user=bob), caller)
    ticket = problem(come(api, id_token(fake, "corp", BOB)), 401, "mfa_required", "update_app")["ticket"]
    assert api.post("/token/mfa", {"ticket": ticket, "code": app.code()}, token="").status_code == 200


def test_an_app_asks_first_and_the_newcomer_chooses(
    api: Api, bob: User, fake: FakeProvider, settings: Settings, limits: Callable[..., None]
) -> None:
    def create(**body: Any) -> Any:
        return api.post("/token/provider/create", {"ticket": ticket, **body}, token="")

    body = problem(come(api, id_token(fake, "google", VICTIM), create=False), 409, "identity_unknown", "none")
    ticket = body["ticket"]
    assert body["suggestion"]["username"] == "victim"
    problem(create(username="bob"), 409, "username_taken", "fix_input")
    assert wrong_fields(create(username="a", email="x")) == {"username": "username_length", "email": "email_invalid"}
    provider, settings.PROVIDERS = settings.PROVIDERS, {}
    problem(create(), 404, "provider_unknown")
    settings.PROVIDERS, settings.SIGNUP_OPEN = provider, False
    problem(create(), 403, "signup_closed")
    settings.SIGNUP_OPEN = True
    answer = create(username="Vicky", device={"name": "x"})
    assert (answer.status_code, answer.json()["user"]["username_display"]) == (201, "Vicky")
    problem(create(username="again"), 401, "invalid_ticket")
    settings.EMAIL_VERIFICATION = "mandatory"
    ticket = problem(come(api, id_token(fake, "google", {"sub": "n"})), 409, "identity_unknown")["ticket"]
    assert wrong_fields(create()) == {"email": "required"}
    assert create(email="typed@example.net").status_code == 202
    limits("signup_per_ip=1/86400")
    create()
    problem(create(), 429, "rate_limited")


def test_an_owner_connects_lists_and_disconnects(
    bobs_api: Api, bob: User, alice: User, fake: FakeProvider, limits: Callable[..., None]
) -> None:
    answer = bobs_api.post("/me/identities", id_token(fake, "corp", BOB))
    assert answer.status_code == 201
    ticket = problem(come(bobs_api, id_token(fake, "google", VICTIM), create=False), 409, "identity_unknown")["ticket"]
    assert bobs_api.post("/me/identities", {"ticket": ticket}).json()["email"] == "victim@gmail.com"
    problem(bobs_api.post("/me/identities", {"ticket": ticket}), 401, "invalid_ticket")
    assert len(bobs_api.get("/me/identities").json()["identities"]) == 2
    path = f"/me/identities/{answer.json()['id']}"
    assert bobs_api("DELETE", path).status_code == 204
    problem(bobs_api("DELETE", path), 404, "identity_not_found")
    assert wrong_fields(bobs_api("DELETE", "/me/identities/x")) == {"identity_id": "not_a_uuid"}
    Identity.objects.update(user=alice)
    problem(bobs_api.post("/me/identities", id_token(fake, "google", VICTIM)), 409, "identity_taken")
    problem(bobs_api.post("/me/identities", {**id_token(fake), "id_token": "x"}), 401, "invalid_id_token")
    fake.lie = "error"
    id_tokens._issuers.clear()
    problem(bobs_api.post("/me/identities", id_token(fake)), 503, "provider_unavailable")
    problem(bobs_api.post("/me/reauthenticate", id_token(fake)), 503, "provider_unavailable")
    for number in range(identities.MAX):
        Identity.objects.create(user=bob, provider="corp", issuer="https://x.example", subject=str(number))
    fake.lie = ""
    id_tokens._issuers.clear()
    problem(bobs_api.post("/me/identities", id_token(fake)), 409, "too_many_identities", "fix_input")
    limits("login_per_ip=1/86400")
    bobs_api.post("/me/identities", id_token(fake))
    problem(bobs_api.post("/me/identities", id_token(fake)), 429, "rate_limited")


def test_an_account_without_a_password(api: Api, fake: FakeProvider, bob: User, mailbox: Mailbox) -> None:
    """Every door that asks for one takes a recent sign-in in its place, and a provider makes it recent again."""
    api.token = come(api, id_token(fake, "google", {"sub": "1"})).json()["tokens"]["access_token"]
    (mine,) = api.get("/me/identities").json()["identities"]
    problem(api("DELETE", f"/me/identities/{mine['id']}"), 409, "last_way_in")
    Session.objects.update(authenticated_at=now().replace(year=2020))
    late = {
        "POST /me/password": {"new_password": NEW},
        "POST /me/email": {"email": "new@example.net"},
        "POST /me/deletion": {},
        "POST /me/identities": id_token(fake, "corp", BOB),
        f"DELETE /me/identities/{mine['id']}": None,
    }
    for door, body in late.items():
        method, path = door.split()
        problem(api(method, path, body), 403, "recent_sign_in_needed", "reauthenticate")
    problem(api.post("/me/reauthenticate", {"password": PASSWORD}), 403, "wrong_password")
    problem(api.post("/me/reauthenticate", id_token(fake, "google", {"sub": "2"})), 401, "invalid_id_token")
    given = id_token(fake, "google", {"sub": "1"})
    assert api.post("/me/reauthenticate", given).status_code == 204
    problem(api.post("/me/reauthenticate", given), 401, "invalid_ticket")
    assert api.post("/me/email", {"email": "new@example.net"}).status_code == 202
    assert mailbox.code("new@example.net")
    assert api.post("/me/deletion").status_code == 202
    assert api.post("/me/password", {"new_password": NEW}).status_code == 204
    assert api.get("/me/identities").json()["has_password"] is True
    problem(api.post("/me/password", {"new_password": PASSWORD}), 403, "wrong_password")


@pytest.mark.parametrize("provider", ["nobody", "github"])
def test_a_provider_that_is_not_there_or_makes_no_tokens(api: Api, fake: FakeProvider, provider: str) -> None:
    problem(api.post("/token/provider/begin", {"provider": provider}, token=""), 404, "provider_unknown")
