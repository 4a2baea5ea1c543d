"""What people type and paste, at the doors of the API."""

from accounts.models import Challenge, Session, User
from tests.api.conftest import problem
from tests.conftest import PASSWORD, Api, Mailbox
from tests.factors import App

STORED, SHOWN = "x@xn--bcher-kva.example", "x@bücher.example"
ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")


def test_a_person_with_a_german_domain_and_a_greek_name_does_the_main_job(api: Api, mailbox: Mailbox) -> None:
    body = {"username": "Ιωάννης", "email": f"\u200b{SHOWN}", "password": PASSWORD}
    answer = api.post("/signup", {**body, "first_name": "علی\u200cرضا", "last_name": "\u200bශ්\u200dරී"})
    assert answer.status_code == 201
    user = answer.json()["user"]
    names = {"username": "ιωάννησ", "username_display": "Ιωάννης", "email": STORED, "email_display": SHOWN}
    names |= {"first_name": "علی\u200cرضا", "last_name": "ශ්\u200dරී"}
    assert {name: user[name] for name in names} == names
    body = {"email": SHOWN.upper(), "code": f"\u200e{mailbox.code(STORED).translate(ARABIC)}\n"}
    assert api.post("/email/confirm", body).status_code == 200
    for login in (f"\u200b{SHOWN}", STORED, "ΙΩΆΝΝΗΣ\u200e"):
        answer = api.post("/token", {"login": login, "password": PASSWORD, "device": {"name": "👨‍👩‍👧’s iPhone"}})
        assert answer.status_code == 200, ascii(login)
    assert Session.objects.latest("id").name == "👨‍👩‍👧’s iPhone"
    api.token = answer.json()["tokens"]["access_token"]
    api.post("/token/code/request", {"login": f"{SHOWN}\u200b"})
    code = mailbox.code(STORED)
    assert api.post("/token/code", {"login": SHOWN, "code": f"{code[:4]}–{code[4:]}"}).status_code == 200
    api.post("/password/forgot", {"login": SHOWN})
    body = {"login": STORED, "code": mailbox.code(STORED).translate(ARABIC), "new_password": "another lagoon tractor"}
    assert api.post("/password/reset", body, token="").status_code == 204


def test_a_change_of_address_says_both_spellings(alices_api: Api, mailbox: Mailbox) -> None:
    alices_api.post("/me/email", {"email": f"\u200b{SHOWN}", "password": PASSWORD})
    mailbox.all()
    found = alices_api.get("/me/email").json()
    assert (found["pending_email"], found["pending_email_display"]) == (STORED, SHOWN)
    code = mailbox.code(STORED).translate(ARABIC)
    answer = alices_api.post("/me/email/confirm", {"code": code})
    assert (answer.json()["email"], answer.json()["email_display"]) == (STORED, SHOWN)


def test_app_and_recovery_codes_are_taken_as_typed_and_a_wrong_count_spends_no_try(
    api: Api, alices_api: Api, alice: User
) -> None:
    setup = alices_api.post("/me/mfa/totp").json()
    app = App(setup["secret"])
    for wrong in ("", "12345", "1234567", "١٢٣٤٥"):
        body = {"state": setup["state"], "code": wrong}
        problem(alices_api.post("/me/mfa/totp/confirm", body), 400, "invalid_code")
    body = {"state": setup["state"], "code": f"\u200e{app.code().translate(ARABIC)}"}
    recovery = alices_api.post("/me/mfa/totp/confirm", body).json()["recovery_codes"]
    ticket = api.post("/token", {"login": "alice", "password": PASSWORD}, token="").json()["ticket"]
    for wrong in ["12345", "abcd–efgh–ijk"] * 6:  # more than there are tries
        problem(api.post("/token/mfa", {"ticket": ticket, "code": wrong}, token=""), 400, "invalid_code")
    body = {"ticket": ticket, "code": recovery[0].replace("-", "–").upper()}
    assert api.post("/token/mfa", body, token="").status_code == 200


def test_a_wrong_count_of_digits_leaves_the_emailed_code_alive(alices_api: Api, mailbox: Mailbox) -> None:
    alices_api.post("/me/email", {"email": "new@example.com", "password": PASSWORD})
    code = mailbox.code("new@example.com")
    for wrong in [code[:7], f"{code}0", "٤٨٢٩", "abc"] * 2:
        problem(alices_api.post("/me/email/confirm", {"code": wrong}), 400, "invalid_code")
    assert Challenge.objects.get(kind="confirm_email").attempts == 0
    assert alices_api.post("/me/email/confirm", {"code": code}).status_code == 200


def test_an_app_that_sends_back_what_it_read_changes_no_spelling(alices_api: Api) -> None:
    assert alices_api("PATCH", "/me", {"username": "Alice"}).json()["username_display"] == "Alice"
    read = alices_api.get("/me").json()
    again = alices_api("PATCH", "/me", {"username": read["username"], "first_name": "Ada"}).json()
    assert (again["username"], again["username_display"], again["first_name"]) == ("alice", "Alice", "Ada")
