"""The pages of somebody who is signed in: profile, address, devices."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from django.utils.timezone import now
from post_office.models import STATUS, Email, RecipientDeliveryStatus

from accounts.caller import Caller
from accounts.models import Event, MailOutage, Session, User
from accounts.services.sessions import sessions
from tests.conftest import PASSWORD, Api, Mailbox, picture
from tests.web.conftest import refused, signed_in, sound, upload

PROFILE = {"username": "alice", "first_name": "Alice", "last_name": "", "gender": "female"}


def save(page: Client, **changes: Any) -> Any:
    return page.post("/account/profile/", {**PROFILE, **changes})


def test_the_profile_is_saved(alices_page: Client, alice: User) -> None:
    answer = save(alices_page, first_name="Ada", last_name="Lind", gender="unspecified", username="Ada.L")
    assert answer.status_code == 302
    html = sound(alices_page.get("/account/profile/"))
    assert "Your profile has been saved." in html
    assert 'value="Lind"' in html
    alice.refresh_from_db()
    assert (alice.username, alice.first_name, alice.last_name, alice.gender) == ("ada.l", "Ada", "Lind", "unspecified")


def test_the_profile_says_what_others_can_see(alices_page: Client, settings: Any) -> None:
    """As `getUser` shows it (tests/api/v1/test_users.py)."""
    said = {}
    for access, names in (("signed_in", False), ("signed_in", True), ("staff", False), ("staff", True)):
        settings.DIRECTORY_ACCESS, settings.DIRECTORY_NAMES = access, names
        html = sound(alices_page.get("/account/profile/"))
        said[access, names] = html.partition('<p class="lead">')[2].partition("</p>")[0]
    assert said == {
        (
            "signed_in",
            False,
        ): "Other people can see your username and picture. Apps you sign in to can see all of this.",
        ("signed_in", True): (
            "Other people can see your username, name and picture. Apps you sign in to can see all of this."
        ),
        ("staff", False): "Apps you sign in to can see this. Other people can&#x27;t.",
        ("staff", True): "Apps you sign in to can see this. Other people can&#x27;t.",
    }


def test_what_is_wrong_in_the_profile_is_said_beside_it(alices_page: Client, bob: User) -> None:
    html = refused(save(alices_page, username="b0b", last_name="Lind"), "username")
    assert 'value="b0b"' in html
    assert 'value="Lind"' in html
    refused(save(alices_page, first_name="<", last_name="a" * 81), "first_name", "last_name")
    refused(save(alices_page, gender="x"), "gender")
    refused(save(alices_page, username=""), "username")
    assert User.objects.get(first_name="Alice").last_name == ""


def test_language_and_time_zone_are_chosen_on_the_profile(alices_page: Client, alice: User) -> None:
    html = sound(alices_page.get("/account/profile/"))
    assert '<option value="en" selected>English</option>' in html
    assert '<optgroup label="Europe">' in html
    assert '<option value="" selected>Default (UTC)</option>' in html
    answer = save(alices_page, language="de", time_zone="Europe/Berlin")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/account/profile/"
    alice.refresh_from_db()
    assert (alice.language, alice.time_zone) == ("de", "Europe/Berlin")
    html = sound(alices_page.get("/account/profile/"))
    assert '<html lang="de"' in html
    assert "Dein Profil wurde gespeichert." in html
    assert '<option value="Europe/Berlin" selected>Berlin</option>' in html


def test_a_page_in_another_language_than_that_of_the_mails_stays_in_it(alices_page: Client) -> None:
    User.objects.update(language="en")
    answer = alices_page.post(
        "/account/profile/", {**PROFILE, "language": "en", "time_zone": ""}, headers={"accept-language": "fr"}
    )
    assert settings.LANGUAGE_COOKIE_NAME not in answer.cookies
    assert '<html lang="fr"' in sound(alices_page.get("/account/profile/", headers={"accept-language": "fr"}))


def test_a_page_from_before_these_fields_changes_neither(alices_page: Client, alice: User) -> None:
    User.objects.update(language="fr", time_zone="Asia/Tokyo")
    assert save(alices_page, first_name="Ada").status_code == 302
    alice.refresh_from_db()
    assert (alice.first_name, alice.language, alice.time_zone) == ("Ada", "fr", "Asia/Tokyo")


def test_a_zone_that_is_on_no_list_of_cities_stays_chosen(alices_page: Client) -> None:
    User.objects.update(time_zone="Etc/GMT-3")
    assert '<option value="Etc/GMT-3" selected>Etc/GMT-3</option>' in sound(alices_page.get("/account/profile/"))


def test_a_language_or_zone_that_nobody_knows_is_said_beside_it(alices_page: Client) -> None:
    refused(save(alices_page, language="xx", time_zone="Europe/Nowhere"), "language", "time_zone")


def test_times_are_told_in_the_zone_that_was_chosen(alices_page: Client, phone: Session) -> None:
    at = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)
    Session.objects.filter(id=phone.id).update(last_used_at=at)
    Event.objects.update(created_at=at)
    for zone, told, written in (
        ("", "3 May 2026, 12:00 UTC", "2026-05-03T12:00:00+00:00"),
        ("Asia/Tokyo", "3 May 2026, 21:00 (Asia/Tokyo)", "2026-05-03T21:00:00+09:00"),
    ):
        User.objects.update(time_zone=zone)
        for path in ("devices", "activity"):
            assert f'<time datetime="{written}" title="{told}">' in sound(alices_page.get(f"/account/{path}/"))


def test_the_zone_of_one_reader_is_not_that_of_the_next(alices_page: Client, page: Client) -> None:
    User.objects.update(time_zone="Asia/Tokyo")
    alices_page.get("/account/devices/")
    assert str(timezone.get_current_timezone()) == "UTC"


def test_a_pending_change_of_address_is_cancelled(alices_page: Client, bobs_page: Client, mailbox: Mailbox) -> None:
    for page in (alices_page, bobs_page):
        assert "Cancel the change" not in sound(page.get("/account/email/"))
        page.post("/account/email/", {"email": "new@example.com", "password": PASSWORD})
        assert "new@example.com" in sound(page.get("/account/confirm-email/"))
    code = mailbox.code("new@example.com")
    html = sound(alices_page.get("/account/email/"))
    assert "Cancel the change" in html
    html = sound(alices_page.post("/account/email/cancel/", follow=True))
    assert "The change is cancelled. You keep your address." in html
    assert "new@example.com" not in html
    assert "new@example.com" not in sound(alices_page.get("/account/confirm-email/"))
    refused(alices_page.post("/account/confirm-email/", {"code": code}), status=200)
    assert "new@example.com" in sound(bobs_page.get("/account/email/"))
    assert sound(alices_page.post("/account/email/cancel/", follow=True))


def test_a_third_username_within_thirty_days_is_refused_beside_the_field_and_says_when(
    alices_page: Client, alice: User
) -> None:
    assert "You can change it twice every 30 days." in sound(alices_page.get("/account/profile/"))
    for name in ("alicia", "lissy"):
        assert save(alices_page, username=name).status_code == 302
    answer = save(alices_page, username="ally", last_name="Lind")
    html = refused(answer, "username", status=429)
    day = f"{now() + timedelta(days=30):%-d %B %Y}"
    assert f"You can change it again on {day}" in html
    assert 'value="Lind"' in html
    assert int(answer.headers["Retry-After"]) > 29 * 86400
    alice.refresh_from_db()
    assert (alice.username, alice.last_name) == ("lissy", "")


def test_a_picture_is_set_and_removed(alices_page: Client, alice: User) -> None:
    assert save(alices_page, picture=upload()).status_code == 302
    alice.refresh_from_db()
    assert alice.picture
    assert alice.picture in sound(alices_page.get("/account/profile/"))
    assert save(alices_page).status_code == 302
    assert User.objects.get(id=alice.id).picture == alice.picture
    assert save(alices_page, remove_picture="on").status_code == 302
    assert not User.objects.get(id=alice.id).picture


def test_a_file_that_is_no_picture_is_said_beside_it(alices_page: Client, alice: User) -> None:
    refused(save(alices_page, picture=upload(b"no picture")), "picture")
    refused(save(alices_page, picture=upload(b"")), "picture")
    assert not User.objects.get(id=alice.id).picture


# --- The address --------------------------------------------------------------------------------------------


def test_another_address_takes_effect_with_its_code(alices_page: Client, alice: User, mailbox: Mailbox) -> None:
    answer = alices_page.post("/account/email/", {"email": " New@Example.com ", "password": PASSWORD})
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/account/confirm-email/"
    assert "ew@" in sound(alices_page.get("/account/confirm-email/"))
    assert User.objects.get(id=alice.id).email == "alice@example.com"
    refused(alices_page.post("/account/confirm-email/", {"code": "abc"}), "code")
    answer = alices_page.post("/account/confirm-email/", {"code": mailbox.code("new@example.com")})
    assert answer.status_code == 302
    alice.refresh_from_db()
    assert (alice.email, alice.email_verified) == ("new@example.com", True)
    assert mailbox.all("alice@example.com")


def test_another_address_takes_effect_by_its_link(alices_page: Client, alice: User, mailbox: Mailbox) -> None:
    alices_page.post("/account/email/", {"email": "new@example.com", "password": PASSWORD})
    link = mailbox.link("new@example.com")
    sound(alices_page.get(link))
    assert User.objects.get(id=alice.id).email == "alice@example.com"
    assert alices_page.post(link).status_code == 302
    assert User.objects.get(id=alice.id).email == "new@example.com"


def test_another_mail_to_the_new_address_can_be_asked_for(alices_page: Client, mailbox: Mailbox) -> None:
    alices_page.post("/account/email/", {"email": "New@example.com", "password": PASSWORD})
    assert alices_page.post("/account/confirm-email/again/").status_code == 302
    assert len(mailbox.all("new@example.com")) == 2


def test_another_address_asks_for_the_password(alices_page: Client, mailbox: Mailbox) -> None:
    html = refused(
        alices_page.post("/account/email/", {"email": "new@example.com", "password": "mistaken ferry"}), "password"
    )
    assert 'value="new@example.com"' in html
    refused(alices_page.post("/account/email/", {"email": "nowhere", "password": PASSWORD}), "email")
    refused(alices_page.post("/account/email/", {"email": "alice@example.com", "password": PASSWORD}), "email")
    refused(alices_page.post("/account/email/", {"email": ""}), "email", "password")
    assert not mailbox.all()


# --- Devices ------------------------------------------------------------------------------------------------


def current(page: Client) -> Session:
    found: Session = page.get("/account/devices/").wsgi_request.user_session  # type: ignore[attr-defined]
    return found


def test_browsers_and_apps_stand_in_one_list(
    alices_page: Client, alice: User, phone: Session, another_browser: Callable[[User], Client]
) -> None:
    another_browser(alice)
    html = sound(alices_page.get("/account/devices/"))
    assert "Ada&#x27;s iPhone" in html
    assert "Firefox" in html
    assert html.count("This device") == 1
    assert f"/account/devices/{current(alices_page).id}/end/" not in html


def test_another_browser_is_really_signed_out(
    alices_page: Client, alice: User, another_browser: Callable[[User], Client]
) -> None:
    other = another_browser(alice)
    row = current(other)
    answer = alices_page.post(f"/account/devices/{row.id}/end/", follow=True)
    assert "That device has been signed out." in sound(answer)
    assert not signed_in(other)
    assert signed_in(alices_page)
    assert "find that device." in sound(alices_page.post(f"/account/devices/{row.id}/end/", follow=True))


def test_an_app_is_really_signed_out(alices_page: Client, phone: Session, tokens: Any) -> None:
    app = Api()
    assert app.get("/me", token=tokens.access_token).status_code == 200
    assert alices_page.post(f"/account/devices/{phone.id}/end/").status_code == 302
    assert app.get("/me", token=tokens.access_token).json()["code"] == "session_revoked"


def test_all_others_are_signed_out_and_this_browser_stays(
    alices_page: Client, alice: User, phone: Session, another_browser: Callable[[User], Client]
) -> None:
    other = another_browser(alice)
    assert "All your other devices have been signed out." in sound(
        alices_page.post("/account/devices/end-others/", follow=True)
    )
    assert signed_in(alices_page)
    assert not signed_in(other)
    assert Session.objects.filter(ended_at=None).count() == 1


def test_nobody_ends_a_device_of_somebody_else(alices_page: Client, bobs_page: Client) -> None:
    row = current(alices_page)
    assert "find that device." in sound(bobs_page.post(f"/account/devices/{row.id}/end/", follow=True))
    bobs_page.post("/account/devices/end-others/")
    assert signed_in(alices_page)


def test_looking_ends_no_device(alices_page: Client, phone: Session) -> None:
    for path in (f"/account/devices/{phone.id}/end/", "/account/devices/end-others/"):
        assert alices_page.get(path).status_code == 405
    assert Session.objects.filter(ended_at=None).count() == 2


def test_a_device_that_never_was_is_said(alices_page: Client) -> None:
    assert "find that device." in sound(alices_page.post(f"/account/devices/{uuid4()}/end/", follow=True))


def test_a_browser_that_an_app_ends_is_signed_out(alices_page: Client, tokens: Any) -> None:
    row = current(alices_page)
    app = Api()
    app.token = tokens.access_token
    assert str(row.id) in app.get("/me/sessions").content.decode()
    assert app("DELETE", f"/me/sessions/{row.id}").status_code == 204
    assert not signed_in(alices_page)


def test_a_password_that_an_app_changes_signs_the_browser_out(alices_page: Client, tokens: Any) -> None:
    app = Api()
    app.token = tokens.access_token
    body = {"current_password": PASSWORD, "new_password": "another lagoon tractor"}
    assert app.post("/me/password", body).status_code == 204
    assert not signed_in(alices_page)


def test_a_row_that_ran_out_signs_the_browser_out(alices_page: Client, alice: User, caller: Caller) -> None:
    sessions.end_others(user=alice, keep=None, caller=caller)
    assert not signed_in(alices_page)


# --- Once more the password ---------------------------------------------------------------------------------


def test_the_password_is_asked_once_more(alices_page: Client) -> None:
    refused(alices_page.post("/account/reauthenticate/", {"password": "mistaken ferry"}), "password")
    answer = alices_page.post(
        "/account/reauthenticate/?next=/account/profile/", {"password": PASSWORD, "next": "/account/profile/"}
    )
    assert answer.status_code == 302
    answer = alices_page.post("/account/reauthenticate/", {"password": PASSWORD, "next": "https://evil.example/"})
    assert answer.status_code == 302
    assert "evil" not in answer.headers["Location"]


@pytest.mark.parametrize("path", ["/account/", "/account/profile/", "/account/devices/"])
def test_a_personal_page_is_kept_by_nobody(alices_page: Client, path: str) -> None:
    assert "no-store" in alices_page.get(path).headers["Cache-Control"]


def test_a_bad_picture_saves_nothing_else_of_the_form(alices_page: Client, alice: User) -> None:
    form = {"username": "alice", "first_name": "Changed", "last_name": "", "gender": "male"}
    file = SimpleUploadedFile("me.png", b"no picture", content_type="image/png")
    answer = alices_page.post("/account/profile/", {**form, "picture": file})
    assert answer.status_code == 200
    alice.refresh_from_db()
    assert (alice.first_name, alice.gender) == ("Alice", "female")
    good = SimpleUploadedFile("me.png", picture(), content_type="image/png")
    answer = alices_page.post("/account/profile/", {**form, "username": "x", "picture": good})
    assert answer.status_code == 200
    alice.refresh_from_db()
    assert alice.picture == ""


# --- What became of the mail --------------------------------------------------------------------------------

BOUNCED = RecipientDeliveryStatus.HARD_BOUNCED


@pytest.mark.parametrize(
    ("changes", "said_there", "said_here"),
    [
        ({}, "An email is on its way to", "The email with the code is on its way."),
        ({"status": STATUS.sent}, "ve sent an email to", "Enter the code we emailed you."),
        ({"status": STATUS.failed, "recipient_delivery_status": BOUNCED}, "Check the address", "Check the address"),
        ({"status": STATUS.failed}, "No email is on its way to", "no email is on its way"),
    ],
)
@pytest.mark.parametrize("wanted", ["new@example.com", "bob@example.com"])
def test_the_pages_say_what_became_of_the_mail(
    alices_page: Client, bob: User, wanted: str, changes: dict[str, Any], said_there: str, said_here: str
) -> None:
    alices_page.post("/account/email/", {"email": wanted.upper(), "password": PASSWORD})
    Email.objects.update(**changes)
    assert said_there in sound(alices_page.get("/account/confirm-email/"))
    html = sound(alices_page.get("/account/email/"))
    assert said_here in html
    assert wanted in html


def test_another_browser_confirms_the_address_that_was_asked_for(
    alices_page: Client, alice: User, another_browser: Callable[[User], Client], mailbox: Mailbox
) -> None:
    alices_page.post("/account/email/", {"email": "new@example.com", "password": PASSWORD})
    other = another_browser(alice)
    assert "new@example.com" in sound(other.get("/account/confirm-email/"))
    assert other.post("/account/confirm-email/again/").status_code == 302
    assert len(mailbox.all("new@example.com")) == 2


def test_a_page_that_asks_to_wait_says_how_late_mail_is(page: Client, alices_page: Client) -> None:
    alices_page.post("/account/email/", {"email": "new@example.com", "password": PASSWORD})
    assert "late right now" not in sound(alices_page.get("/account/confirm-email/"))
    MailOutage.objects.create(began_at=now() - timedelta(seconds=150))
    assert "Emails are about 3 minutes late right now." in sound(alices_page.get("/account/confirm-email/"))
    Email.objects.update(status=STATUS.sent)
    assert "late right now" not in sound(alices_page.get("/account/confirm-email/"))
    page.post("/account/password/reset/", {"email": "nobody.here"})
    assert "Emails are about 3 minutes late right now." in sound(page.get("/account/password/reset/done/"))
