"""Each page, for a visitor and for somebody who is signed in."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.forms import Form
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from accounts.errors import FIELD_ERRORS
from accounts.models import Session, User
from accounts.pages import forms
from accounts.pages.urls import urlpatterns
from tests.conftest import Api, Mailbox, random_ip
from tests.web.conftest import refused, sound

# What a GET answers: a page (200), a way elsewhere (302), or nothing but POST (405).
VISITOR: dict[str, int | str] = {
    "account_login": 200,
    "account_signup": 200,
    "account_reset_password": 200,
    "account_reset_password_from_key_done": 200,
    "account_inactive": 200,
    "account_reset_password_done": "account_reset_password",
    "account_logout": "account_login",
    "account_request_login_code": 200,
    "account_confirm_login_code": "account_request_login_code",
    "second_step": "account_login",
    "recovery_code": "account_login",
    "passkey_sign_in": 405,
    "email_confirm": "account_login",
    "email_resend": 405,
    "language": 405,
    "password_hint": 405,
    "mail_list": 404,
}
FOR_MEMBERS: dict[str, int | str] = {
    "overview": 200,
    "profile": 200,
    "picture_upload_begin": 405,
    "account_email": 200,
    "email_cancel": 405,
    "account_change_password": 200,
    "session_list": 200,
    "two_step": 200,
    "two_step_turn_on": 200,
    "two_step_turn_off": 200,
    "recovery_codes": 405,
    "passkey_add": 200,
    "activity": 200,
    "account_reauthenticate": 200,
    "session_end_others": 405,
    "data": 200,
    "export_request": 405,
    "export_download": "data",
    "deletion_request": 200,
    "deletion_cancel": 405,
}
MEMBER: dict[str, int | str] = {
    **FOR_MEMBERS,
    "email_confirm": 200,
    "account_logout": 200,
    "account_reset_password": 200,
    "account_reset_password_from_key_done": 200,
    "account_inactive": 200,
    "account_login": "overview",
    "account_request_login_code": "overview",
    "account_confirm_login_code": "overview",
    "second_step": 200,
    "recovery_code": 200,
    "passkey_sign_in": 405,
    "account_reset_password_done": "account_reset_password",
    "email_resend": 405,
    "language": 405,
    "password_hint": 405,
}
WITH_ARGUMENTS = {
    "brand_stylesheet",
    "mail_html",
    "email_undo",
    "deletion_undo",
    "account_confirm_email",
    "account_reset_password_from_key",
    "session_end",
    "passkey",
    "passkey_remove",
    "picture_upload_complete",
    "picture_upload_state",
}
SAME = {"account_email_verification_sent", "account_set_password", "account_signup"}


def test_this_list_names_every_page() -> None:
    names = {pattern.name for pattern in urlpatterns}
    assert names == {*VISITOR, *FOR_MEMBERS, *WITH_ARGUMENTS, *SAME}


def expect(answer: Any, expected: int | str) -> None:
    if isinstance(expected, str):
        assert answer.status_code == 302
        assert answer.headers["Location"].partition("?")[0] == reverse(expected)
    elif expected == 405:
        sound(answer, 405)
        assert answer.headers["Allow"] == "POST"
    else:
        sound(answer, expected)


@pytest.mark.parametrize("name", VISITOR)
def test_a_page_for_a_visitor(page: Client, name: str) -> None:
    expect(page.get(reverse(name)), VISITOR[name])


@pytest.mark.parametrize("name", FOR_MEMBERS)
def test_a_page_for_members_asks_a_visitor_to_sign_in_and_leads_back(page: Client, name: str) -> None:
    answer = page.get(reverse(name))
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"{reverse('account_login')}?next={quote(reverse(name))}"


def signed_out(page: Client, name: str, referer: str | None) -> str:
    """Where a form is sent on to whose sender is not signed in any more."""
    answer = page.post(reverse(name), headers={"referer": referer} if referer else {})
    assert answer.status_code == 302
    return str(answer.headers["Location"])


@pytest.mark.parametrize("name", ["session_end_others", "recovery_codes", "export_request", "profile"])
def test_a_form_of_who_was_signed_out_leads_back_to_the_page_it_stood_on(page: Client, name: str) -> None:
    came_from = "http://localhost/account/activity/?before=1&x=%2F"
    assert signed_out(page, name, came_from) == f"/account/login/?next={quote('/account/activity/?before=1&x=%2F')}"


@pytest.mark.parametrize(
    "referer",
    [None, "http://evil.example/account/data/", "http://localhost//evil.example/", "http://localhost", "x", "//[",
     "http://localhost/\\evil.example", "http://localhost@evil.example/", "http://localhost:99/account/data/"],
)  # fmt: skip
def test_a_form_of_who_was_signed_out_leads_nowhere_else(page: Client, referer: str | None) -> None:
    assert signed_out(page, "session_end_others", referer) == "/account/login/?next=/account/devices/end-others/"


def test_a_form_of_staff_who_were_signed_out_leads_back_to_the_page_it_stood_on(page: Client) -> None:
    where = signed_out(page, "staff_directory_export", "http://localhost/admin/directory/?q=a")
    assert where == "/admin/login/?next=/admin/directory/%3Fq%3Da"


def test_an_address_for_forms_alone_says_so_to_a_browser_and_keeps_its_headers(alices_page: Client) -> None:
    answer = alices_page.get("/account/data/export/", headers={"accept-language": "de"})
    assert "There's nothing to see here" in sound(alices_page.get("/account/data/export/"), 405)
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert 'lang="de"' in sound(answer, 405)
    assert alices_page.get("/account/data/export/", headers={"accept": "application/json"}).content == b""


@pytest.mark.parametrize("name", MEMBER)
def test_a_page_for_a_member(alices_page: Client, name: str) -> None:
    expect(alices_page.get(reverse(name)), MEMBER[name])


@pytest.mark.parametrize("name", ["overview", "profile", "account_email", "email_confirm", "session_list", "activity"])
def test_a_page_for_a_member_whose_address_is_not_proved_or_lapsed(alices_page: Client, name: str) -> None:
    User.objects.update(email_verified=False)
    sound(alices_page.get(reverse(name)))
    User.objects.update(email="")
    answer = alices_page.get(reverse(name), follow=True)
    sound(answer)


def test_what_a_person_typed_is_shown_and_never_run(alices_page: Client) -> None:
    User.objects.update(first_name="{{x}}", last_name='"><script>alert(1)</script>', username="alice")
    for name in ("overview", "profile", "session_list"):
        html = alices_page.get(reverse(name)).content.decode()
        assert "<script>alert" not in html


def test_a_page_that_is_not_there(page: Client, alices_page: Client) -> None:
    for path in ("/nothing", "/account/nothing/", "/account/devices/x/end/", "/account/%00", "/%ff"):
        html = sound(page.get(path), 404)
        assert "Traceback" not in html


def test_a_page_that_fails_says_so_and_tells_nothing(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.conf import settings

    monkeypatch.setitem(settings.ACCOUNT_FORMS, "login", "accounts.pages.forms.NothingNobodyForesaw")
    page.raise_request_exception = False
    html = sound(page.get("/account/login/"), 500)
    assert "NobodyForesaw" not in html
    assert "Traceback" not in html


def test_the_page_of_a_failure_needs_neither_request_nor_database() -> None:
    from django.template.loader import render_to_string

    for name in ("400", "403", "404", "405", "500", "503", "429", "403_csrf"):
        assert "<h1" in render_to_string(f"{name}.html")


def test_the_root_and_the_well_known_address_lead_to_pages(page: Client) -> None:
    assert page.get("/").headers["Location"] == "/account/"
    # As a browser asks, and as one that first wants to know whether this server answers 200 to anything.
    for method in (page.get, page.head):
        answer = method("/.well-known/change-password")
        assert (answer.status_code, answer.headers["Location"]) == (302, "/account/password/change/")


def test_no_dot_of_a_page_can_dangle_at_the_end_of_a_line() -> None:
    """The stylesheet puts them between facts (.facts). Emails have no such rules."""
    pages = [path for path in (settings.BASE_DIR / "templates").rglob("*.html") if "mail" not in path.parts]
    dotted = [path.name for path in pages if "·" in path.read_text()]
    assert dotted == []
    assert sum('facts"' in path.read_text() for path in pages) > 4


def test_a_page_is_answered_in_any_language(page: Client) -> None:
    for language in ("de", "ar", "xx", "*", "a" * 5000, ",;q=", "en;q=zero"):
        sound(page.get("/account/login/", headers={"accept-language": language}))


def test_every_field_has_its_label_and_is_filled_in_by_managers(page: Client) -> None:
    expected = {
        "account_login": {"login": "username", "password": "current-password"},
        "account_signup": {
            "username": "username",
            "email": "email",
            "password": "new-password",
            "first_name": "given-name",
            "last_name": "family-name",
        },
        "account_reset_password": {"email": "username"},
    }
    for name, fields in expected.items():
        html = page.get(reverse(name)).content.decode()
        for field, autocomplete in fields.items():
            assert f'for="id_{field}"' in html
            found = re.search(rf'<input[^>]*name="{field}"[^>]*>', html)
            assert found
            assert re.search(rf'autocomplete="{autocomplete}[" ]', found[0]), found[0]
            assert "maxlength" not in found[0]


def test_every_form_with_a_password_says_to_a_manager_whose_it_is(alices_page: Client, mailbox: Mailbox) -> None:
    visitor = Client(SERVER_NAME="localhost", REMOTE_ADDR=random_ip())
    visitor.post("/account/password/reset/", {"email": "alice"})
    link = visitor.get(mailbox.link("alice@example.com")).headers["Location"]
    Session.objects.update(authenticated_at=now() - timedelta(hours=1))  # so that deleting asks for it
    found: list[str] = []
    for page, path in (
        *((visitor, reverse(name)) for name, answer in VISITOR.items() if answer == 200),
        *((visitor, path) for path in (link, "/account/password/reset/done/")),
        *((alices_page, reverse(name)) for name, answer in FOR_MEMBERS.items() if answer == 200),
    ):
        html = page.get(path).content.decode()
        forms = re.findall(r"<form\b.*?</form>", html, re.DOTALL)
        secret = [form for form in forms if re.search(r'autocomplete="(current|new)-password"', form)]
        assert all(len(re.findall(r'autocomplete="username[" ]', form)) == 1 for form in secret), path
        found += [path] if secret else []
    assert len(found) == 8, found


def test_a_summary_never_says_the_same_sentence_twice() -> None:
    """What is missing is named: each form, with nothing in it."""
    wrong = {}
    for form in empty_forms():
        said = [words for errors in form.errors.values() for words in errors]
        if len(set(said)) < len(said) or FIELD_ERRORS["required"] in said:
            wrong[type(form).__name__] = said
    assert wrong == {}


def empty_forms() -> Iterator[Any]:
    needs: dict[str, dict[str, Any]] = {
        "ChangePasswordForm": {"user": None, "request": None},
        "DeleteAccountForm": {"needs_password": True},
        "ProfileForm": {"user": User()},
    }
    for name, kind in vars(forms).items():
        ours = isinstance(kind, type) and issubclass(kind, Form) and kind.__module__ == forms.__name__
        if ours and name != "ResetKeyForm":  # checks the parts of a link, and is never shown
            yield kind({}, **needs.get(name, {}))


def test_a_form_that_a_script_fills_in_says_what_is_missing(alices_page: Client) -> None:
    for body in ({"name": ""}, {"state": "x"}, {"credential": "{}"}):
        html = refused(alices_page.post("/account/two-step/passkeys/add/", body))
        assert "This field is required" not in html


def test_a_form_with_a_picture_can_carry_it(alices_page: Client) -> None:
    for html in (Client(SERVER_NAME="localhost").get("/account/signup/"), alices_page.get("/account/profile/")):
        (form,) = re.findall(r"<form[^>]*multipart/form-data[^>]*>", html.content.decode())
        assert 'method="post"' in form


def test_an_unknown_well_known_address_is_not_found(api: Api) -> None:
    answer = api.client.get("/.well-known/nothing")
    assert answer.status_code == 404
    assert not answer.cookies


def test_the_admin_is_dressed_by_the_same_door(page: Client, bobs_page: Client, alices_page: Client) -> None:
    answer = Client(SERVER_NAME="localhost").get("/admin/")
    assert answer.status_code == 302
    answer = Client(SERVER_NAME="localhost").get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0].startswith("/account/login/")
    assert bobs_page.get("/admin/").status_code in {302, 403}
    assert bobs_page.get("/admin/accounts/user/").status_code in {302, 403}
    assert alices_page.get("/admin/").status_code == 200
    assert alices_page.get("/admin/login/").headers["Location"] == "/admin/"
