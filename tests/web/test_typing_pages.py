"""What people type and paste, on the pages."""

from django.test import Client

from accounts.models import User
from tests.conftest import PASSWORD, Mailbox
from tests.web.conftest import refused, signed_in, sound

STORED, SHOWN = "x@xn--bcher-kva.example", "x@bücher.example"
ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")


def test_a_person_with_a_german_domain_and_a_greek_name_does_the_main_job(page: Client, mailbox: Mailbox) -> None:
    body = {"username": "Ιωάννης", "email": STORED, "password": PASSWORD}  # what a browser makes of x@bücher.example
    html = refused(page.post("/account/signup/", {**body, "password": "short"}), "password")
    assert SHOWN in html
    assert page.post("/account/signup/", {**body, "first_name": "Ada 👩‍💻"}).status_code == 302
    html = sound(page.get("/account/confirm-email/"))
    assert SHOWN in html
    answer = page.post("/account/confirm-email/", {"code": f"\u200e{mailbox.code(STORED).translate(ARABIC)}"})
    assert answer.status_code == 302
    for path in ("/account/", "/account/email/", "/account/confirm-email/"):
        html = sound(page.get(path))
        assert SHOWN in html, path
        assert STORED not in html, path
    assert "@Ιωάννης" in sound(page.get("/account/"))
    html = sound(page.get("/account/profile/"))
    assert 'value="Ιωάννης"' in html
    assert 'value="Ada 👩‍💻"' in html
    page.post("/account/email/", {"email": "\u200bY@Bücher.example ", "password": PASSWORD})
    assert "y@bücher.example" in sound(page.get("/account/confirm-email/"))
    assert "y@bücher.example" in sound(page.get("/account/email/"))
    for login in (SHOWN, f"\u200b{STORED}", "ΙΩΆΝΝΗΣ"):
        page.post("/account/logout/")
        page.post("/account/login/", {"login": login, "password": PASSWORD})
        assert signed_in(page), ascii(login)


def test_forgot_and_sign_in_by_code_take_what_was_pasted(page: Client, alice: User, mailbox: Mailbox) -> None:
    page.post("/account/password/reset/", {"email": "\u200balice@example.com\u2060"})
    code = mailbox.code("alice@example.com")
    body = {"code": f"{code[:4]}–{code[4:]}".translate(ARABIC), "new_password": "another lagoon tractor"}
    assert page.post("/account/password/reset/done/", body).headers["Location"].endswith("/key/done/")
    page.post("/account/login/code/", {"login": "\u200balice"})
    page.post("/account/login/code/confirm/", {"code": f"\u2067{mailbox.code('alice@example.com').translate(ARABIC)}"})
    assert signed_in(page)


def test_staff_see_both_spellings_and_find_by_either(alices_page: Client, bob: User) -> None:
    User.objects.filter(id=bob.id).update(email=STORED, username_typed="Bob")
    for term in (SHOWN, STORED, "\u200bBob"):
        directory = sound(alices_page.get("/admin/directory/", {"q": term}))
        assert f"<bdi>{SHOWN}</bdi>" in directory, ascii(term)
        assert "<bdi>Bob</bdi>" in directory
        users = sound(alices_page.get("/admin/accounts/user/", {"q": term}))
        assert f"{SHOWN} ({STORED})" in users, ascii(term)
    assert f"{SHOWN} ({STORED})" in sound(alices_page.get(f"/admin/accounts/user/{bob.id}/change/"))
