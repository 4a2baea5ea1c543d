"""Refusals that several operations share, and that no other test meets at each of them."""

from collections.abc import Callable
from typing import Any

from accounts.caller import Caller
from accounts.models import Session, User
from accounts.services.profile import pictures
from tests.api.conftest import problem
from tests.conftest import PASSWORD, Api, picture
from tests.factors import Device, passkey_on, two_step_on

DANGEROUS: dict[str, dict[str, Any] | None] = {
    "POST /me/password": {"current_password": PASSWORD, "new_password": "another lagoon tractor"},
    "POST /me/email": {"email": "bob2@example.com", "password": PASSWORD},
    "POST /me/deletion": {"password": PASSWORD},
    "PATCH /me": {"username": "robert"},
    "POST /me/mfa/totp": None,
    "POST /me/mfa/recovery-codes": None,
    "POST /me/mfa/passkeys/begin": None,
    "DELETE /me/mfa/passkeys/00000000-0000-7000-8000-000000000000": None,
    "POST /me/identities": {"provider": "google", "id_token": "x", "state": "x"},
    "DELETE /me/identities/00000000-0000-7000-8000-000000000000": None,
}


def test_a_device_without_the_second_factor_is_asked_for_it(
    bobs_api: Api, bob: User, caller: Caller, another_app: Callable[[User], Api]
) -> None:
    own = Session.objects.get(user=bob)
    before = another_app(bob)
    two_step_on(bob, own, caller)
    found = {}
    for asked, body in DANGEROUS.items():
        method, path = asked.split()
        found[asked] = before(method, path, body).json()["code"]
    assert found == dict.fromkeys(DANGEROUS, "mfa_required")
    problem(before.post("/me/reauthenticate", {"password": PASSWORD, "code": "x"}), 400, "invalid_code")


def test_an_address_that_must_be_verified_is_asked_for_after_the_second_factor_too(
    api: Api, bobs_api: Api, bob: User, caller: Caller, settings: Any
) -> None:
    session = Session.objects.get(user=bob)
    app, device = two_step_on(bob, session, caller), passkey_on(bob, session, caller)
    answer = api.post("/token", {"login": "bob", "password": PASSWORD}, token="")
    ticket = problem(answer, 401, "mfa_required")["ticket"]
    settings.EMAIL_VERIFICATION = "mandatory"
    User.objects.filter(id=bob.id).update(email_verified=False)
    answer = api.post("/token/mfa", {"ticket": ticket, "code": app.code()}, token="")
    problem(answer, 403, "email_not_verified", "fix_input")
    begun = api("POST", "/token/passkey/begin", token="").json()
    body = {"state": begun["state"], "credential": device.get(begun["options"])}
    problem(api.post("/token/passkey/finish", body, token=""), 403, "email_not_verified", "fix_input")


def test_a_passkey_of_another_page_is_not_added(bobs_api: Api) -> None:
    begun = bobs_api("POST", "/me/mfa/passkeys/begin").json()
    foreign = Device(origin="https://evil.example").create(begun["options"])
    answer = bobs_api.post("/me/mfa/passkeys", {"state": begun["state"], "credential": foreign})
    problem(answer, 401, "invalid_passkey")


def test_too_many_pictures_at_once_are_told_to_wait(alices_api: Api) -> None:
    with pictures._in_line, pictures._in_line, pictures._in_line:
        problem(alices_api.upload(picture()), 503, "overloaded", "retry")
