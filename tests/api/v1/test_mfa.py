"""Second factors and passkeys, for an app."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.models import Passkey, Session, TotpAuthenticator, User
from accounts.services.account import email_requests, users
from accounts.services.security import tickets
from accounts.services.sessions import sessions
from tests.api.conftest import Crowd, problem, wrong_fields
from tests.conftest import PASSWORD, Api, Mailbox, random_ip
from tests.factors import App, Device, passkey_on, two_step_on


@pytest.fixture
def where() -> Caller:
    return Caller(ip=random_ip(), user_agent="Crew/1.0")


@pytest.fixture
def row(bobs_api: Api) -> Session:
    """The session of Bob's app."""
    return Session.objects.get(user__username="bob")


@pytest.fixture
def app(bob: User, row: Session, where: Caller) -> App:
    """Bob's authenticator app: two-step verification is on."""
    return two_step_on(bob, row, where)


def long_ago() -> None:
    Session.objects.update(authenticated_at=now() - timedelta(hours=1))


def ask_for_ticket(api: Api) -> str:
    answer = api.post("/token", {"login": "bob", "password": PASSWORD}, token="")
    return str(problem(answer, 401, "mfa_required", "update_app")["ticket"])


# --- Signing in ---------------------------------------------------------------------------------------------


def test_an_app_signs_in_in_two_steps(api: Api, app: App) -> None:
    ticket = ask_for_ticket(api)
    problem(api.post("/token/mfa", {"ticket": ticket, "code": "x"}), 400, "invalid_code", "fix_input")
    assert wrong_code(api.post("/token/mfa", {"ticket": ticket, "code": "000000"})) == "totp_code_wrong"
    assert wrong_code(api.post("/token/mfa", {"ticket": ticket, "code": "abcd-efgh-ijkl"})) == "recovery_code_wrong"
    answer = api.post("/token/mfa", {"ticket": ticket, "code": app.code(), "device": {"name": "Bob's phone"}})
    assert answer.status_code == 200
    assert answer.json()["user"]["username"] == "bob"
    assert Session.objects.filter(name="Bob's phone").exists()
    again = api.post("/token/mfa", {"ticket": ticket, "code": app.recovery_codes[0]})
    problem(again, 401, "invalid_ticket", "sign_in")


def test_a_recovery_code_is_taken_in_the_same_field(api: Api, app: App) -> None:
    assert api.post("/token/mfa", {"ticket": ask_for_ticket(api), "code": app.recovery_codes[0]}).status_code == 200


def test_a_mailed_code_is_followed_by_the_second_step_too(api: Api, app: App, mailbox: Mailbox) -> None:
    api.post("/token/code/request", {"login": "bob"})
    email_requests.answer()
    answer = api.post("/token/code", {"login": "bob", "code": mailbox.code()})
    ticket = problem(answer, 401, "mfa_required")["ticket"]
    assert api.post("/token/mfa", {"ticket": ticket, "code": app.code()}).status_code == 200


def test_confirming_an_address_by_code_is_followed_by_it_too(
    api: Api, app: App, bobs_api: Api, mailbox: Mailbox
) -> None:
    bobs_api.post("/me/email", {"email": "new@example.com", "password": PASSWORD})
    answer = api.post("/email/confirm", {"key": mailbox.key("new@example.com")}, token="")
    problem(answer, 401, "mfa_required")


def test_too_many_wrong_codes_pause_it(api: Api, app: App) -> None:
    ticket = ask_for_ticket(api)
    for _ in range(10):
        problem(api.post("/token/mfa", {"ticket": ticket, "code": app.wrong()}), 400, "invalid_code")
    problem(api.post("/token/mfa", {"ticket": ticket, "code": app.code()}), 429, "rate_limited", "retry")


def test_a_disabled_account_is_told_so(api: Api, app: App, bob: User, where: Caller) -> None:
    ticket = ask_for_ticket(api)
    users.set_active(user=bob, active=False, caller=where)
    problem(api.post("/token/mfa", {"ticket": ticket, "code": app.code()}), 403, "account_disabled")


def wrong_code(answer: Any) -> str:
    """Of which kind the wrong code is. The old code of the refusal stays, the words are its own."""
    body = problem(answer, 400, "invalid_code", "fix_input")
    assert "email" not in body["detail"].lower()
    (error,) = body["errors"]
    assert (error["field"], error["detail"]) == ("code", body["detail"])
    return str(error["code"])


def test_each_kind_of_code_has_words_of_its_own(api: Api, app: App, bobs_api: Api, alices_api: Api) -> None:
    """At every door that takes one. Only an emailed code is looked for in an email."""
    setup = alices_api.post("/me/mfa/totp").json()
    confirm = {"state": setup["state"], "code": "000000"}
    assert wrong_code(alices_api.post("/me/mfa/totp/confirm", confirm)) == "totp_code_wrong"
    Session.objects.filter(user__username="bob").update(authenticated_by="pwd")
    for code, kind in (("0000", "totp_code_wrong"), ("abcdefghijk", "recovery_code_wrong")):
        assert wrong_code(bobs_api.post("/me/reauthenticate", {"password": PASSWORD, "code": code})) == kind
    emailed = problem(bobs_api.post("/me/email/confirm", {"code": "00000000"}), 400, "invalid_code")
    assert "email" in emailed["detail"]
    assert emailed["errors"] == [{"field": "code", "code": "invalid_code", "detail": emailed["detail"]}]


def passkey_sign_in(api: Api, device: Device) -> Any:
    begun = api.post("/token/passkey/begin", token="")
    assert begun.status_code == 200
    assert begun.json()["options"]["userVerification"] == "required"
    body = {"state": begun.json()["state"], "credential": device.get(begun.json()["options"])}
    return api.post("/token/passkey/finish", body, token="")


def test_an_app_signs_in_with_a_passkey(api: Api, bob: User, row: Session, where: Caller, app: App) -> None:
    device = passkey_on(bob, row, where)
    answer = passkey_sign_in(api, device)
    assert answer.status_code == 200
    assert answer.json()["user"]["username"] == "bob"
    problem(passkey_sign_in(api, Device()), 401, "invalid_passkey", "sign_in")
    users.set_active(user=bob, active=False, caller=where)
    problem(passkey_sign_in(api, device), 403, "account_disabled")


def test_tries_with_passkeys_are_limited(api: Api, limits: Callable[..., None]) -> None:
    limits("login_per_ip=1/60")
    problem(passkey_sign_in(api, Device()), 401, "invalid_passkey")
    problem(passkey_sign_in(api, Device()), 429, "rate_limited", "retry")


# --- Setting up ---------------------------------------------------------------------------------------------


def test_two_step_verification_is_turned_on_and_off(bobs_api: Api) -> None:
    assert bobs_api.get("/me/mfa").json() == {"two_step_since": None, "recovery_codes_left": 0, "passkeys": []}
    setup = bobs_api.post("/me/mfa/totp").json()
    app = App(setup["secret"])
    problem(bobs_api.post("/me/mfa/totp/confirm", {"state": "x", "code": app.code()}), 409, "setup_expired", "none")
    body = {"state": setup["state"], "code": "x"}
    problem(bobs_api.post("/me/mfa/totp/confirm", body), 400, "invalid_code", "fix_input")
    other = bobs_api.post("/me/mfa/totp").json()
    codes = bobs_api.post("/me/mfa/totp/confirm", {**body, "code": app.code()}).json()["recovery_codes"]
    assert len(codes) == 10
    assert bobs_api.get("/me/mfa").json()["recovery_codes_left"] == 10
    problem(bobs_api.post("/me/mfa/totp"), 409, "two_step_is_on")
    body = {"state": other["state"], "code": App(other["secret"]).code()}
    problem(bobs_api.post("/me/mfa/totp/confirm", body), 409, "two_step_is_on")
    new = bobs_api.post("/me/mfa/recovery-codes").json()["recovery_codes"]
    assert not set(new) & set(codes)
    assert bobs_api("DELETE", "/me/mfa/totp").status_code == 204
    problem(bobs_api("DELETE", "/me/mfa/totp"), 409, "two_step_is_off")
    problem(bobs_api.post("/me/mfa/recovery-codes"), 409, "two_step_is_off")


def test_a_set_up_that_took_too_long_signs_nobody_out(
    bobs_api: Api, alices_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run out, of another device, or used: it begins again, and the device stays signed in."""
    setup, begun = bobs_api.post("/me/mfa/totp").json(), bobs_api.post("/me/mfa/passkeys/begin").json()
    confirm = {"state": setup["state"], "code": App(setup["secret"]).code()}
    add = {"state": begun["state"], "credential": Device().create(begun["options"])}
    asked = {"/me/mfa/totp/confirm": confirm, "/me/mfa/passkeys": add}
    answers = [alices_api.post(path, body) for path, body in asked.items()]
    with monkeypatch.context() as later:
        later.setattr(tickets, "now", lambda: now() + timedelta(minutes=31))
        answers += [bobs_api.post(path, body) for path, body in asked.items()]
    for path, body in asked.items():
        assert bobs_api.post(path, body).status_code in {200, 201}
        answers.append(bobs_api.post(path, body))
    for answer in answers:
        found = problem(answer, 409, "setup_expired", "none")
        assert found["detail"] == "That took too long, or was already done. Start the set-up again."
    assert bobs_api.get("/me").status_code == 200


def test_guessing_at_the_first_code_is_limited(bobs_api: Api) -> None:
    setup = bobs_api.post("/me/mfa/totp").json()
    app = App(setup["secret"])
    for _ in range(10):
        bobs_api.post("/me/mfa/totp/confirm", {"state": setup["state"], "code": app.wrong()})
    body = {"state": setup["state"], "code": app.code()}
    problem(bobs_api.post("/me/mfa/totp/confirm", body), 429, "rate_limited")


def test_passkeys_are_added_named_and_removed(bobs_api: Api, bob: User) -> None:
    begun = bobs_api.post("/me/mfa/passkeys/begin").json()
    credential = Device().create(begun["options"])
    problem(bobs_api.post("/me/mfa/passkeys", {"state": "x", "credential": credential}), 409, "setup_expired", "none")
    body = {"state": begun["state"], "credential": credential, "name": "x" * 61}
    assert wrong_fields(bobs_api.post("/me/mfa/passkeys", body)) == {"name": "passkey_name_too_long"}
    made = bobs_api.post("/me/mfa/passkeys", {**body, "name": "Bob's phone"})
    assert made.status_code == 201
    assert bobs_api.get("/me/mfa").json()["passkeys"] == [made.json()]
    path = f"/me/mfa/passkeys/{made.json()['id']}"
    assert bobs_api("PATCH", path, {"name": "Old phone"}).json()["name"] == "Old phone"
    assert bobs_api("DELETE", path).status_code == 204
    problem(bobs_api("DELETE", path), 404, "passkey_not_found")
    problem(bobs_api("PATCH", path, {"name": "x"}), 404, "passkey_not_found")
    assert wrong_fields(bobs_api("DELETE", "/me/mfa/passkeys/1")) == {"passkey_id": "not_a_uuid"}


def test_an_account_has_so_many_passkeys(bobs_api: Api, bob: User) -> None:
    begun = bobs_api.post("/me/mfa/passkeys/begin").json()
    Passkey.objects.bulk_create(
        Passkey(user=bob, credential_id=bytes([n]), credential=b"", synced=True, name="x") for n in range(20)
    )
    body = {"state": begun["state"], "credential": Device().create(begun["options"])}
    problem(bobs_api.post("/me/mfa/passkeys", body), 409, "too_many_passkeys", "fix_input")


def test_no_more_than_that_are_begun(bobs_api: Api, bob: User, row: Session, where: Caller) -> None:
    for _ in range(20):
        passkey_on(bob, row, where)
    problem(bobs_api.post("/me/mfa/passkeys/begin"), 409, "too_many_passkeys")


def test_the_last_way_in_stays(bobs_api: Api, bob: User, row: Session, where: Caller) -> None:
    passkey_on(bob, row, where)
    bob.set_unusable_password()
    bob.email_verified = False
    bob.save()
    problem(bobs_api("DELETE", f"/me/mfa/passkeys/{Passkey.objects.get().id}"), 409, "last_way_in")


CHANGES = [
    ("POST", "/me/mfa/totp"), ("DELETE", "/me/mfa/totp"), ("POST", "/me/mfa/recovery-codes"),
    ("POST", "/me/mfa/passkeys/begin"), ("DELETE", f"/me/mfa/passkeys/{uuid4()}"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_each_change_needs_the_password_or_a_recent_sign_in(method: str, path: str, bobs_api: Api) -> None:
    long_ago()
    problem(bobs_api(method, path), 403, "recent_sign_in_needed", "reauthenticate")
    assert bobs_api.post("/me/reauthenticate", {"password": PASSWORD}).status_code == 204
    assert bobs_api(method, path).status_code != 403
    assert not TotpAuthenticator.objects.exists()


def test_a_wrong_password_does_not_count(bobs_api: Api, crowd: Crowd) -> None:
    long_ago()
    for _ in range(10):
        problem(bobs_api.post("/me/reauthenticate", {"password": "wrong"}), 403, "wrong_password", "fix_input")
    problem(bobs_api.post("/me/mfa/totp"), 403, "recent_sign_in_needed")
    problem(bobs_api.post("/me/reauthenticate", {"password": PASSWORD}), 429, "rate_limited")


def test_a_device_from_before_it_was_on_does_the_step(bobs_api: Api, bob: User, where: Caller) -> None:
    app = two_step_on(bob, sessions.begin(user=bob, kind=Session.Kind.APP, caller=where), where)
    problem(bobs_api("DELETE", "/me/mfa/totp"), 401, "mfa_required")
    problem(bobs_api.post("/me/reauthenticate", {"password": PASSWORD}), 401, "mfa_required")
    body = {"password": PASSWORD, "code": app.code()}
    assert bobs_api.post("/me/reauthenticate", body).status_code == 204
    assert bobs_api("DELETE", "/me/mfa/totp").status_code == 204


def test_an_address_that_is_not_proved_comes_first(bobs_api: Api) -> None:
    setup = bobs_api.post("/me/mfa/totp").json()
    begun = bobs_api.post("/me/mfa/passkeys/begin").json()
    User.objects.update(email_verified=False)
    for path in ("/me/mfa/totp", "/me/mfa/passkeys/begin"):
        problem(bobs_api.post(path), 403, "email_not_verified")
    body = {"state": setup["state"], "code": App(setup["secret"]).code()}
    problem(bobs_api.post("/me/mfa/totp/confirm", body), 403, "email_not_verified")
    body = {"state": begun["state"], "credential": Device().create(begun["options"])}
    problem(bobs_api.post("/me/mfa/passkeys", body), 403, "email_not_verified")


def test_a_crowd_of_hashes_is_told_to_wait(bobs_api: Api, crowd: Crowd) -> None:
    crowd.come()
    problem(bobs_api.post("/me/reauthenticate", {"password": PASSWORD}), 503, "overloaded", "retry")


def test_who_is_not_signed_in_sees_and_changes_nothing(api: Api) -> None:
    bodies: list[tuple[str, str, Any]] = [
        ("GET", "/me/mfa", None),
        ("POST", "/me/reauthenticate", {"password": PASSWORD}),
        ("POST", "/me/mfa/totp/confirm", {"state": "x", "code": "x"}),
        ("POST", "/me/mfa/passkeys", {"state": "x", "credential": {}}),
        ("PATCH", f"/me/mfa/passkeys/{uuid4()}", {"name": "x"}),
        *((method, path, None) for method, path in CHANGES),
    ]
    for method, path, body in bodies:
        problem(api(method, path, body), 401, "invalid_token")


def test_alice_does_not_see_what_bob_has(alices_api: Api, bob: User, where: Caller) -> None:
    row = sessions.begin(user=bob, kind=Session.Kind.APP, caller=where)
    passkey_on(bob, row, where)
    assert alices_api.get("/me/mfa").json()["passkeys"] == []
    problem(alices_api("DELETE", f"/me/mfa/passkeys/{Passkey.objects.get().id}"), 404, "passkey_not_found")
