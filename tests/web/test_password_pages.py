"""Forgotten and changed passwords in the browser."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import Challenge, Session, User
from accounts.services.account import email_requests
from tests.conftest import PASSWORD, Mailbox
from tests.web.conftest import NEW, refused, signed_in, sound

DONE = "/account/password/reset/key/done/"
CHECK = "/account/password/reset/done/"


@pytest.fixture
def ask(page: Client, alice: User, mailbox: Mailbox) -> Callable[[], tuple[str, str]]:
    """Alice forgets; the code and the link of the mail she gets."""

    def forget() -> tuple[str, str]:
        answer = page.post("/account/password/reset/", {"email": "alice"})
        assert answer.status_code == 302
        assert answer.headers["Location"] == CHECK
        email_requests.answer()
        return mailbox.code(alice.email), mailbox.link(alice.email)

    return forget


def can_sign_in(password: str) -> bool:
    client = Client(SERVER_NAME="localhost")
    return bool(client.post("/account/login/", {"login": "alice", "password": password}).status_code == 302)


def test_the_page_is_the_same_for_anybody(page: Client, alice: User) -> None:
    pages = []
    for login in ("alice", "nobod"):
        assert page.post("/account/password/reset/", {"email": login}).headers["Location"] == CHECK
        html = sound(page.get(CHECK))
        assert login in html
        pages.append([line for line in html.replace(login, "").splitlines() if "csrfmiddlewaretoken" not in line])
    assert pages[0] == pages[1]


def test_nothing_typed_is_said_beside_the_field(page: Client) -> None:
    refused(page.post("/account/password/reset/", {"email": ""}), "email")


@pytest.mark.parametrize("login", ["\x00", "a" * 5000, "{{a|b}}@x", "{% x %}", "\u202e", "@", "a@b"])
def test_strange_names_are_no_error_of_ours(page: Client, login: str) -> None:
    answer = page.post("/account/password/reset/", {"email": login})
    assert answer.status_code in {200, 302}
    email_requests.answer()


def test_too_many_mails_say_when_to_come_back(page: Client, alice: User) -> None:
    for _ in range(5):
        assert page.post("/account/password/reset/", {"email": "alice"}).status_code == 302
    answer = page.post("/account/password/reset/", {"email": "alice"})
    assert "Too many tries" in refused(answer, status=429)
    assert int(answer.headers["Retry-After"]) > 0


# --- By code ------------------------------------------------------------------------------------------------


def test_the_code_can_be_typed_on_the_page_that_says_check_your_mail(
    page: Client, alice: User, ask: Callable[[], tuple[str, str]], another_browser: Callable[[User], Client]
) -> None:
    other = another_browser(alice)
    code, link = ask()
    answer = page.post(CHECK, {"code": f"{code[:4]} {code[4:]}", "new_password": NEW})
    assert answer.status_code == 302
    assert answer.headers["Location"] == DONE
    sound(page.get(DONE))
    assert can_sign_in(NEW)
    assert not can_sign_in(PASSWORD)
    assert not signed_in(other)
    assert "no longer works" in sound(page.get(link))


def test_a_wrong_code_is_said_beside_it(page: Client, ask: Callable[[], tuple[str, str]]) -> None:
    code, _ = ask()
    html = refused(page.post(CHECK, {"code": f"{(int(code) + 1) % 10**8:08}", "new_password": NEW}), "code")
    assert NEW not in html
    refused(page.post(CHECK, {"code": ""}), "code", "new_password")
    assert can_sign_in(PASSWORD)


def test_a_weak_password_leaves_the_code_alive(page: Client, ask: Callable[[], tuple[str, str]]) -> None:
    code, _ = ask()
    for _ in range(6):
        refused(page.post(CHECK, {"code": code, "new_password": "short"}), "new_password")
    assert page.post(CHECK, {"code": code, "new_password": NEW}).status_code == 302


def test_guessing_codes_pauses(page: Client, ask: Callable[[], tuple[str, str]], limits: Any) -> None:
    ask()
    limits("code_per_ip=1/86400")
    refused(page.post(CHECK, {"code": "1", "new_password": NEW}), "code")
    answer = page.post(CHECK, {"code": "1", "new_password": NEW})
    refused(answer, status=429)
    assert answer.headers["Retry-After"]


# --- By link ------------------------------------------------------------------------------------------------


def test_the_link_sets_the_password_once(
    page: Client, alice: User, ask: Callable[[], tuple[str, str]], another_browser: Callable[[User], Client]
) -> None:
    other = another_browser(alice)
    _, link = ask()
    key = link.rstrip("/").rpartition("/")[2].partition("-")[2]
    visitor = Client(SERVER_NAME="localhost")
    answer = visitor.get(link)
    assert answer.status_code == 302
    clean = answer.headers["Location"]
    assert key not in clean
    page_answer = visitor.get(clean)
    html = sound(page_answer)
    assert key not in html
    assert 'value="alice"' in html
    assert page_answer.headers["Referrer-Policy"] in {"same-origin", "no-referrer", "strict-origin"}
    refused(visitor.post(clean, {"new_password": "short"}), "new_password")
    assert can_sign_in(PASSWORD)
    answer = visitor.post(clean, {"new_password": NEW})
    assert answer.status_code == 302
    assert answer.headers["Location"] == DONE
    assert can_sign_in(NEW)
    assert not can_sign_in(PASSWORD)
    assert not signed_in(other)
    assert not signed_in(visitor)
    for address in (clean, link):
        assert "no longer works" in sound(visitor.get(address))
    assert "no longer works" in sound(visitor.post(clean, {"new_password": "yet another tractor"}))
    assert can_sign_in(NEW)


def test_scanners_that_open_the_link_change_nothing(ask: Callable[[], tuple[str, str]]) -> None:
    _, link = ask()
    for _ in range(7):
        scanner = Client(SERVER_NAME="localhost")
        assert scanner.head(link).status_code == 302
        assert scanner.get(link, follow=True).status_code == 200
    assert Challenge.objects.get().closed_at is None
    assert can_sign_in(PASSWORD)
    visitor = Client(SERVER_NAME="localhost")
    clean = visitor.get(link).headers["Location"]
    assert visitor.post(clean, {"new_password": NEW}).status_code == 302


def test_the_clean_address_means_nothing_in_another_browser(ask: Callable[[], tuple[str, str]]) -> None:
    _, link = ask()
    clean = Client(SERVER_NAME="localhost").get(link).headers["Location"]
    stranger = Client(SERVER_NAME="localhost")
    for answer in (stranger.get(clean), stranger.head(clean, follow=True), stranger.post(clean, {"new_password": NEW})):
        assert answer.status_code == 200
    html = sound(stranger.get(clean))
    assert "Open the link again here, and allow cookies" in html
    assert "no longer works" not in html
    assert can_sign_in(PASSWORD)
    # And in the one that had it, an old key is told as such.
    own = Client(SERVER_NAME="localhost")
    own.get(link)
    assert own.post(clean, {"new_password": NEW}).status_code == 302
    assert "no longer works" in sound(own.get(clean))


@pytest.mark.parametrize(
    "key",
    ["x-y", "x-set-password", "0-0", "0" * 32 + "-" + "a" * 43, "a" * 2000 + "-b", "é-é", "%00-x", "a-%ff", "a-b/c"],
)
def test_a_forged_link_is_refused(page: Client, key: str) -> None:
    for method in (page.get, page.post):
        answer = method(f"/account/password/reset/key/{key}/")
        if answer.status_code != 404:
            assert ("Open the link again" if "set-password" in key else "no longer works") in sound(answer)


# --- Changing -----------------------------------------------------------------------------------------------


def change(page: Client, current: str = PASSWORD, new: str = NEW) -> Any:
    return page.post("/account/password/change/", {"current_password": current, "new_password": new})


def test_a_change_keeps_this_browser_and_ends_the_others(
    alices_page: Client, alice: User, another_browser: Callable[[User], Client], mailbox: Mailbox
) -> None:
    other = another_browser(alice)
    answer = change(alices_page)
    assert answer.status_code == 302
    assert "Your password has been changed" in sound(alices_page.get(answer.headers["Location"]))
    assert signed_in(alices_page)
    assert not signed_in(other)
    assert Session.objects.filter(ended_at=None).count() == 1
    assert can_sign_in(NEW)
    assert mailbox.last(alice.email)


def test_a_change_gives_this_browser_another_cookie(alices_page: Client) -> None:
    copy = Client(SERVER_NAME="localhost")
    copy.cookies["session"] = alices_page.cookies["session"].value
    assert signed_in(copy)
    assert change(alices_page).status_code == 302
    assert signed_in(alices_page)
    assert not signed_in(copy)


def test_who_has_no_password_is_led_to_the_reset(alices_page: Client, alice: User) -> None:
    """After staff have revoked it, say: the form of the change would ask for a password that there is not."""
    alice.set_unusable_password()
    alice.save()
    answer = alices_page.get("/account/password/change/", follow=True)
    assert answer.redirect_chain[-1][0] == "/account/password/reset/"
    sound(answer)


def test_a_change_asks_for_the_current_password(alices_page: Client) -> None:
    html = refused(change(alices_page, "mistaken ferry"), "current_password")
    assert "mistaken" not in html
    assert NEW not in html
    refused(change(alices_page, new="short"), "new_password")
    refused(alices_page.post("/account/password/change/", {}), "current_password", "new_password")
    assert can_sign_in(PASSWORD)


def test_guessing_the_current_password_pauses(alices_page: Client) -> None:
    for _ in range(10):
        refused(change(alices_page, "mistaken ferry"), "current_password")
    answer = change(alices_page)
    assert "Too many tries" in refused(answer, status=429)
    assert answer.headers["Retry-After"]


def test_asking_once_more_for_the_password_pauses_and_says_so(alices_page: Client) -> None:
    for _ in range(10):
        refused(alices_page.post("/account/reauthenticate/", {"password": "mistaken ferry"}), "password")
    answer = alices_page.post("/account/reauthenticate/", {"password": PASSWORD})
    assert "Too many tries" in refused(answer, status=429)


def test_a_link_of_somebody_else_signs_nobody_out_by_being_opened(
    bobs_page: Client, ask: Callable[[], tuple[str, str]]
) -> None:
    _, link = ask()
    bobs_page.get(link, follow=True)
    assert signed_in(bobs_page)
