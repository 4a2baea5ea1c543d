"""Two-step verification and passkeys in a browser without JavaScript (with it: tests/e2e)."""

import base64
import html as entities
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.models import Passkey, Session, TotpAuthenticator, User
from accounts.services.account import email_requests
from tests.conftest import PASSWORD, Mailbox, random_ip
from tests.factors import App, Device, passkey_on, two_step_on
from tests.web.conftest import refused, signed_in, sound, words


@pytest.fixture
def app(alice: User, phone: Session, caller: Caller) -> App:
    """Alice's authenticator app: two-step verification is on."""
    return two_step_on(alice, phone, caller)


@pytest.fixture
def device(alice: User, phone: Session, caller: Caller) -> Device:
    return passkey_on(alice, phone, caller, name="Ada's iPhone")


def password(page: Client, **more: Any) -> Any:
    return page.post("/account/login/", {"login": "alice", "password": PASSWORD, **more})


def field(html: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found, name
    return entities.unescape(found[1])


def long_ago() -> None:
    Session.objects.update(authenticated_at=now() - timedelta(hours=1))


# --- Signing in ---------------------------------------------------------------------------------------------


def test_the_second_step_follows_the_password_and_leads_where_one_was_going(page: Client, app: App) -> None:
    answer = password(page, next="/account/devices/")
    assert answer.headers["Location"] == "/account/login/second-step/"
    assert not signed_in(page)
    sound(page.get("/account/login/second-step/"))
    refused(page.post("/account/login/second-step/", {"code": "x"}), "code")
    answer = page.post("/account/login/second-step/", {"code": app.code()})
    assert answer.headers["Location"] == "/account/devices/"
    assert signed_in(page)
    assert Session.objects.get(kind="browser").methods == ["pwd", "otp", "mfa"]


def test_a_recovery_code_does_as_well(page: Client, app: App) -> None:
    password(page)
    sound(page.get("/account/login/second-step/recovery/"))
    refused(page.post("/account/login/second-step/recovery/", {"code": "aaaa-bbbb-cccc"}), "code")
    page.post("/account/login/second-step/recovery/", {"code": app.recovery_codes[0]})
    assert signed_in(page)


def test_a_wrong_code_is_looked_for_in_no_email(page: Client, alices_page: Client, app: App) -> None:
    """Each page names the code that it asks for."""
    browser = Client(SERVER_NAME="localhost", REMOTE_ADDR=random_ip())
    password(browser)
    step, recovery = "/account/login/second-step/", "/account/login/second-step/recovery/"
    shows, other = "Enter the next one that your authenticator app shows.", "That recovery code is wrong"
    for path, code, said in (
        (step, "000000", shows),
        (step, "x", shows),
        (recovery, "aaaa-bbbb-cccc", other),
        (recovery, "x", other),
        (recovery, "000000", other),
    ):
        html = refused(browser.post(path, {"code": code}), "code")
        assert said in html
        assert "latest email" not in html
    TotpAuthenticator.objects.all().delete()
    state = field(sound(alices_page.get("/account/two-step/on/")), "state")
    html = refused(alices_page.post("/account/two-step/on/", {"state": state, "code": "000000"}), "code")
    assert shows in html
    assert "latest email" not in html


def test_a_code_by_mail_is_followed_by_it_too(page: Client, app: App, alice: User, mailbox: Mailbox) -> None:

    page.post("/account/login/code/", {"login": "alice"})
    email_requests.answer()
    answer = page.post("/account/login/code/confirm/", {"code": mailbox.code()})
    assert answer.headers["Location"] == "/account/login/second-step/"
    assert not signed_in(page)


def test_whoever_waits_for_the_step_may_sign_in_as_somebody_else(page: Client, app: App, bob: User) -> None:
    password(page)
    sound(page.get("/account/login/"))
    assert password(page, login="bob").headers["Location"] == "/account/"
    assert Session.objects.get(kind="browser").user == bob
    page.post("/account/logout/")
    answer = page.post("/account/login/second-step/", {"code": app.code()})
    assert answer.headers["Location"] == "/account/login/"
    assert not signed_in(page)


def test_a_step_that_took_too_long_begins_anew(page: Client, app: App) -> None:
    password(page)
    User.objects.update(password="changed meanwhile")
    answer = page.post("/account/login/second-step/", {"code": app.code()}, follow=True)
    assert answer.redirect_chain[-1][0] == "/account/login/"
    assert "took too long" in words(answer)


def test_too_many_codes_say_when_to_come_back(page: Client, app: App) -> None:
    password(page)
    for _ in range(10):
        page.post("/account/login/second-step/", {"code": app.wrong()})
    answer = page.post("/account/login/second-step/", {"code": app.code()})
    refused(answer, status=429)
    assert int(answer.headers["Retry-After"]) > 60


def passkey_answer(page: Client, device: Device, path: str = "/account/login/") -> dict[str, str]:
    html = sound(page.get(path))
    found = re.search(r'data-options="([^"]*)"', html)
    assert found
    options = json.loads(entities.unescape(found[1]))
    form = html[html.index("<passkey-form") : html.index("</passkey-form")]
    back = {"next": field(form, "next")} if 'name="next"' in form else {}
    return {"state": field(form, "state"), "credential": json.dumps(device.get(options)), **back}


def test_a_passkey_signs_in_without_a_second_step(page: Client, device: Device, app: App) -> None:
    body = passkey_answer(page, device)
    answer = page.post("/account/login/passkey/", {**body, "next": "/account/devices/"})
    assert answer.headers["Location"] == "/account/devices/"
    assert signed_in(page)
    assert "mfa" in Session.objects.get(kind="browser").methods


@pytest.mark.parametrize(
    "credential", ["", "{", "[]", "null", '"x"', '{"id": 1}', "[" * 16_000, "1" * 5000, "x" * 20_000]
)
def test_a_passkey_that_is_none_is_refused_with_words(page: Client, device: Device, credential: str) -> None:
    body = {**passkey_answer(page, device), "credential": credential, "next": "/account/devices/"}
    answer = page.post("/account/login/passkey/", body, follow=True)
    assert answer.redirect_chain[-1][0] == "/account/login/?next=%2Faccount%2Fdevices%2F"
    assert "accepted. It may have been removed" in words(answer)


def test_the_way_back_stays_on_this_site(page: Client, device: Device) -> None:
    answer = page.post("/account/login/passkey/", {**passkey_answer(page, device), "next": "https://evil.example/"})
    assert answer.headers["Location"] == "/account/"


# --- Setting up ---------------------------------------------------------------------------------------------


def test_two_step_verification_is_turned_on_and_off(alices_page: Client, alice: User) -> None:
    html = sound(alices_page.get("/account/two-step/on/"))
    secret = re.search(r'data-copy="([A-Z2-7]+)"', html)
    assert secret
    app, state = App(secret[1]), field(html, "state")
    picture = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert picture
    assert b"<svg" in base64.b64decode(picture[1])
    again = refused(alices_page.post("/account/two-step/on/", {"state": state, "code": "x"}), "code")
    assert secret[1] in again  # what was scanned already stays good
    html = sound(alices_page.post("/account/two-step/on/", {"state": state, "code": app.code()}))
    codes = re.findall(r"<li><code>([a-z2-7-]+)</code>", html)
    assert len(codes) == 10
    assert TotpAuthenticator.objects.filter(user=alice).exists()
    assert "9 recovery" not in sound(alices_page.get("/account/two-step/"))
    html = sound(alices_page.post("/account/two-step/recovery-codes/"))
    assert codes[0] not in html
    assert alices_page.post("/account/two-step/off/").headers["Location"] == "/account/two-step/"
    assert not TotpAuthenticator.objects.exists()


def test_secrets_are_in_no_cache(alices_page: Client) -> None:
    assert "no-store" in alices_page.get("/account/two-step/on/").headers["Cache-Control"]


def test_a_stale_set_up_begins_anew(alices_page: Client) -> None:
    for path in ("/account/two-step/on/", "/account/two-step/passkeys/add/"):
        html = words(
            alices_page.post(path, {"state": "x", "code": "123456", "credential": "{}", "name": ""}, follow=True)
        )
        assert "Start the set-up again." in html
        assert "Sign out" in html


def test_what_is_on_is_not_set_up_again(alices_page: Client, app: App) -> None:
    answer = alices_page.get("/account/two-step/on/", follow=True)
    assert answer.redirect_chain[-1][0] == "/account/two-step/"
    assert "is already on" in words(answer)


def test_what_is_off_is_not_turned_off(alices_page: Client) -> None:
    for path in ("/account/two-step/off/", "/account/two-step/recovery-codes/"):
        answer = alices_page.post(path, follow=True)
        assert answer.redirect_chain[-1][0] == "/account/two-step/"
        assert "is off" in words(answer)


def test_a_passkey_is_added_named_and_removed(alices_page: Client, alice: User) -> None:
    html = sound(alices_page.get("/account/two-step/passkeys/add/"))
    found = re.search(r'data-options="([^"]*)"', html)
    assert found
    credential = json.dumps(Device().create(json.loads(entities.unescape(found[1]))))
    body = {"state": field(html, "state"), "credential": credential, "name": "x" * 61}
    refused(alices_page.post("/account/two-step/passkeys/add/", body), "name")
    alices_page.post("/account/two-step/passkeys/add/", {**body, "name": "My phone"})
    made = Passkey.objects.get(user=alice)
    assert "My phone" in sound(alices_page.get("/account/two-step/"))
    path = f"/account/two-step/passkeys/{made.id}/"
    assert "My phone" in sound(alices_page.get(path))
    refused(alices_page.post(path, {"name": ""}), "name")
    alices_page.post(path, {"name": "Old phone"})
    assert Passkey.objects.get().name == "Old phone"
    assert alices_page.post(f"{path}remove/").headers["Location"] == "/account/two-step/"
    assert not Passkey.objects.exists()
    sound(alices_page.get(path), 404)


def test_bobs_pages_do_not_show_or_change_alices_passkey(bobs_page: Client, device: Device) -> None:
    path = f"/account/two-step/passkeys/{Passkey.objects.get().id}/"
    sound(bobs_page.get(path), 404)
    sound(bobs_page.post(path, {"name": "x"}), 404)
    bobs_page.post(f"{path}remove/")
    assert Passkey.objects.get().name == "Ada's iPhone"


CHANGES = ["/account/two-step/on/", "/account/two-step/off/", "/account/two-step/passkeys/add/"]


@pytest.mark.parametrize("path", CHANGES)
def test_each_change_asks_who_it_is_when_that_was_long_ago(alices_page: Client, path: str) -> None:
    long_ago()
    answer = alices_page.get(path)
    where = answer.headers["Location"]
    assert where.startswith("/account/reauthenticate/?next=")
    assert alices_page.post(path, {}).headers["Location"].startswith("/account/reauthenticate/")
    answer = alices_page.post(where, {"password": PASSWORD})
    assert answer.headers["Location"] == path
    sound(alices_page.get(path))


def test_a_passkey_says_who_it_is_too(alices_page: Client, device: Device) -> None:
    long_ago()
    body = passkey_answer(alices_page, device, "/account/reauthenticate/?next=/account/two-step/on/")
    assert alices_page.post("/account/login/passkey/", body).headers["Location"] == "/account/two-step/on/"
    sound(alices_page.get("/account/two-step/on/"))


def test_a_passkey_of_somebody_else_does_not(bobs_page: Client, device: Device) -> None:
    long_ago()
    body = passkey_answer(Client(SERVER_NAME="localhost"), device)
    answer = bobs_page.post("/account/login/passkey/", body, follow=True)
    assert answer.redirect_chain[-1][0] == "/account/reauthenticate/"
    assert bobs_page.get("/account/two-step/on/").status_code == 302


@pytest.mark.parametrize("path", ["on/", "passkeys/add/", "off/"])
def test_a_browser_from_before_does_the_step_first(
    alices_page: Client, alice: User, phone: Session, caller: Caller, path: str
) -> None:
    Session.objects.filter(kind="browser").update(authenticated_by="pwd")
    app = two_step_on(alice, phone, caller)
    where = f"/account/two-step/{path}"
    back = alices_page.get(where).headers["Location"]
    assert back.startswith("/account/login/second-step/?next=")
    answer = alices_page.post("/account/login/second-step/", {"code": app.code(), "next": where})
    assert answer.headers["Location"] == where
    assert alices_page.get(where, follow=True).status_code == 200


def test_it_leads_there_from_each_dangerous_form(
    alices_page: Client, alice: User, phone: Session, caller: Caller
) -> None:
    Session.objects.filter(kind="browser").update(authenticated_by="pwd")
    two_step_on(alice, phone, caller)
    forms = {
        "/account/password/change/": {"current_password": PASSWORD, "new_password": "another lagoon tractor"},
        "/account/email/": {"email": "new@example.com", "password": PASSWORD},
        "/account/delete/": {"password": PASSWORD},
    }
    for path, body in forms.items():
        answer = alices_page.post(path, body)
        assert answer.headers["Location"].startswith("/account/login/second-step/?next="), path
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)
    assert alice.deletes_at is None


def test_nothing_is_offered_before_the_address_is_proved(alices_page: Client) -> None:
    User.objects.update(email_verified=False)
    html = sound(alices_page.get("/account/two-step/"))
    assert "Confirm your email address first" in html
    assert "/account/two-step/on/" not in html
    answer = alices_page.get("/account/two-step/on/", follow=True)
    assert answer.redirect_chain[-1][0] == "/account/two-step/"


# --- The overview and the admin -----------------------------------------------------------------------------


def test_the_safety_check_knows_the_second_factors(alices_page: Client, alice: User, app: App) -> None:
    assert "Two-step verification is on" in sound(alices_page.get("/account/"))
    TotpAuthenticator.objects.update(recovery_used=0b11111111)
    assert "2 recovery codes left" in sound(alices_page.get("/account/"))
    TotpAuthenticator.objects.all().delete()
    assert "Password only" in sound(alices_page.get("/account/"))


def test_staff_set_a_second_factor_up_before_the_admin(alices_page: Client, alice: User) -> None:
    Session.objects.update(authenticated_by="pwd")
    answer = alices_page.get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0] == "/account/two-step/"
    assert "Staff need more than a password" in words(answer)
    html = words(alices_page.get("/account/two-step/on/"))
    secret = re.search(r'data-copy="([A-Z2-7]+)"', html)
    assert secret
    alices_page.post("/account/two-step/on/", {"state": field(html, "state"), "code": App(secret[1]).code()})
    assert alices_page.get("/admin/").status_code == 200


def test_staff_who_signed_in_before_it_was_on_do_the_step_at_the_admins_door(alices_page: Client, app: App) -> None:
    Session.objects.update(authenticated_by="pwd")
    answer = alices_page.get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0] == "/account/login/second-step/?next=%2Fadmin%2F"
    refused(alices_page.post("/account/login/second-step/", {"code": "x", "next": "/admin/"}), "code")
    answer = alices_page.post("/account/login/second-step/", {"code": app.code(), "next": "/admin/"})
    assert answer.headers["Location"] == "/admin/"
    assert alices_page.get("/admin/").status_code == 200


def test_staff_with_a_passkey_use_it_at_the_admins_door(alices_page: Client, device: Device) -> None:
    Session.objects.update(authenticated_by="pwd")
    answer = alices_page.get("/admin/", follow=True)
    where = answer.redirect_chain[-1][0]
    assert where == "/account/reauthenticate/?next=%2Fadmin%2F"
    answer = alices_page.post("/account/login/passkey/", passkey_answer(alices_page, device, where))
    assert answer.headers["Location"] == "/admin/"
    assert alices_page.get("/admin/").status_code == 200


def test_whoever_is_no_staff_gets_nowhere_with_a_second_factor(bobs_page: Client) -> None:
    Session.objects.update(authenticated_by="pwd otp mfa")
    answer = bobs_page.get("/admin/", follow=True)
    sound(answer, 403)
