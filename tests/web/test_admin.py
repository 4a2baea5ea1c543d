"""The admin: what staff see of an account, how they find one, and what they do to it, after a page that asks."""

import re
from typing import Any

import pytest
from django.contrib.admin import site
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.timezone import now
from post_office.models import Email

from accounts.caller import Caller, Device
from accounts.models import ApiUse, Event, Session, Tombstone, User, uuid7
from accounts.pages.staff.admin import AT_ONCE, DEEDS
from accounts.services.account import email_requests, password_resets
from accounts.services.sessions import sessions
from tests.conftest import make_user, picture
from tests.web.conftest import signed_in, sound, upload, words

LIST = "/admin/accounts/user/"


def page_of(user: User) -> str:
    return f"{LIST}{user.id}/change/"


def press(client: Client, deed: str, *users: User, **more: str) -> Any:
    return client.post(LIST, {"action": deed, "_selected_action": [str(user.id) for user in users], **more})


@pytest.fixture
def bobs_phone(bob: User) -> Session:
    return sessions.begin(user=bob, kind=Session.Kind.APP, caller=Caller(ip="192.0.2.1", device=Device("Bob's phone")))


# --- Looking ------------------------------------------------------------------------------------------------


def test_each_list_and_the_start_page_is_dressed_and_in_the_policy(alices_page: Client, bob: User) -> None:
    paths = [reverse("admin:index"), reverse("admin:app_list", args=["accounts"])]
    paths += [reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") for model in site._registry]
    for path in paths:
        html = sound(alices_page.get(path))
        assert "css/admin.css" in html, path
        assert "Crew" in html


def test_the_page_of_a_user_has_what_belongs_to_them_in_parts(
    alices_page: Client, bobs_page: Client, bob: User, bobs_phone: Session, settings: Any
) -> None:
    form = {"username": "bob", "gender": "male", "picture": upload(picture((80, 80)))}
    assert bobs_page.post("/account/profile/", form).status_code == 302
    password_resets.request_reset(login="bob", caller=Caller(ip=None))
    email_requests.answer()
    html = sound(alices_page.get(page_of(bob)))
    for anchor in re.findall(r'<a href="#([^"]+)"', html[html.index('class="tabs"') :]):
        assert f'id="{anchor}"' in html
    assert "Bob&#x27;s phone" in html
    assert "Picture changed" in html
    assert "Choose a new Crew password" in html
    assert f'src="{settings.S3_PUBLIC_ENDPOINT_URL}/' in html


def test_no_secret_of_a_mail_is_shown_and_nothing_can_be_written(alices_page: Client, bob: User) -> None:
    password_resets.request_reset(login="bob", caller=Caller(ip=None))
    email_requests.answer()
    mail = Email.objects.get()
    code = re.search(r"#(\d{8})", mail.message)
    assert code
    for path in (f"/admin/post_office/email/{mail.id}/change/", "/admin/post_office/email/", page_of(bob)):
        html = sound(alices_page.get(path))
        assert "/password/reset/key/" not in html
        assert code[1] not in html
        assert bob.password not in html
        assert 'name="_save"' not in html
    for path in (page_of(bob), f"/admin/post_office/email/{mail.id}/change/"):
        sound(alices_page.post(path, {"is_superuser": "on", "username": "mallory"}), 403)
    bob.refresh_from_db()
    assert (bob.username, bob.is_superuser) == ("bob", False)


@pytest.mark.parametrize(
    "query",
    [
        "accounts/user/?password__startswith=argon2", "accounts/user/?first_name__icontains=a",
        "accounts/user/?sessions__ip=10.0.0.1", "accounts/session/?user__password__startswith=a",
        "accounts/event/?user__email__startswith=a", "post_office/email/?message__contains=%23",
        "post_office/email/?html_message__regex=1", "post_office/email/?headers__contains=a",
    ],
)  # fmt: skip
def test_no_address_asks_for_what_is_not_shown(alices_page: Client, query: str) -> None:
    """Letter by letter, whoever may look could read a hash or a mailed code."""
    assert alices_page.get(f"/admin/{query}").status_code in {302, 400}


def test_no_list_fails_at_an_odd_filter(alices_page: Client) -> None:
    """Nor does a regular expression run over a table: only what the filters at the side ask is asked."""
    alices_page.raise_request_exception = False
    asked = {
        "accounts/user": ["gender", "is_active", "email_verified", "deletion", "username"],
        "accounts/session": ["kind"],
        "accounts/event": ["kind"],
        "accounts/apiuse": ["version", "calls"],
        "accounts/tombstone": ["erased_on", "erased_on__year", "erased_on__month", "erased_on__day"],
        "post_office/email": ["status"],
    }
    assert set(asked) == {f"{model._meta.app_label}/{model._meta.model_name}" for model in site._registry}
    odd = ["%00", "9" * 30]
    queries = [f"accounts/user/?{name}={value}" for name in ("q", "p", "o", "all", "e") for value in odd]
    for place, names in asked.items():
        queries.append(f"{place}/?q=%00")
        for name in names:
            queries += [f"{place}/?{name}__{end}=(a" for end in ("regex", "exact__regex")]
            queries += [f"{place}/?{name}{end}={value}" for end in ("", "__exact", "__isnull") for value in odd]
        queries += [f"{place}/{value}/change/" for value in odd]
    for name in ("q", "gender", "is_active", "cursor", "days"):
        queries += [f"{place}/?{name}={value}" for place in ("directory", "statistics") for value in (*odd, "(a")]
    found = {query: alices_page.get(f"/admin/{query}").status_code for query in queries}
    assert not {query: status for query, status in found.items() if status not in {200, 302, 400, 403, 404}}
    assert not {query for query, status in found.items() if "regex=(a" in query and status != 400}
    sound(alices_page.get(f"{LIST}?gender__exact=female&is_active__exact=1"))
    sound(alices_page.get("/admin/accounts/tombstone/?erased_on__year=2026&erased_on__month=11"))


def test_a_tab_shows_the_newest_rows_and_no_more(alices_page: Client, bob: User) -> None:
    Event.objects.bulk_create([Event(user=bob, kind="picture.changed", device=f"number {n:03}") for n in range(60)])
    html = sound(alices_page.get(page_of(bob)))
    assert html.count("number 0") == 50
    assert html.index("number 059") < html.index("number 010")


def test_who_is_not_staff_is_sent_away(bobs_page: Client, page: Client, alice: User) -> None:
    assert page.get(page_of(alice), follow=True).redirect_chain[-1][0].startswith("/account/login/?next=")
    for path in (LIST, page_of(alice)):
        assert bobs_page.get(path, follow=True).status_code == 403
    press(bobs_page, "disable", alice, confirmed="1")
    assert User.objects.get(id=alice.id).is_active


# --- Finding ------------------------------------------------------------------------------------------------


def listed(client: Client, term: str, where: str = LIST) -> list[str]:
    html = sound(client.get(where, {"q": term}))
    return re.findall(r'<th class="field-shown_username"><a[^>]*>([^<]*)', html)


def test_a_user_is_found_by_id_and_by_the_beginning_of_name_or_address(alices_page: Client, bob: User) -> None:
    make_user("bobby")
    User.objects.filter(id=bob.id).update(email="robert@example.com")
    assert listed(alices_page, str(bob.id)) == listed(alices_page, bob.id.hex.upper()) == ["bob"]
    assert listed(alices_page, "BOB") == ["bobby", "bob"]
    assert listed(alices_page, "Robert@Ex") == listed(alices_page, "rober") == ["bob"]
    for nobody in ("ob", "example.com", str(uuid7()), "%", "_ob", "\\", "'"):
        assert listed(alices_page, nobody) == []
    assert len(listed(alices_page, "  ")) == 3


def test_rows_of_the_other_lists_are_found_by_whom_they_are_about(
    alices_page: Client, bob: User, bobs_phone: Session
) -> None:
    password_resets.request_reset(login="bob", caller=Caller(ip=None))
    email_requests.answer()
    for path, shown in (
        ("accounts/session", "Bob&#x27;s phone"),
        ("accounts/event", "Password reset requested"),
        ("post_office/email", "bob@example.com"),
    ):
        assert shown in words(alices_page.get(f"/admin/{path}/", {"q": "bo"}))
        assert shown not in words(alices_page.get(f"/admin/{path}/", {"q": "carol"}))


@pytest.fixture
def many(alice: User) -> None:
    with connection.cursor() as sql:
        sql.execute(
            """INSERT INTO accounts_user (id, username, username_skeleton, email, email_verified, password, first_name,
                   last_name, gender, language, picture, is_active, is_staff, is_superuser, created_at, updated_at)
               SELECT gen_random_uuid(), 'n' || n, 'n' || n, 'a' || n || '@example.com', true, '', '', '',
                   'unspecified', '', '', n % 1000 > 0, n % 5000 = 0, false, now(), now()
               FROM generate_series(1, 20000) AS n"""
        )
        sql.execute("ANALYZE accounts_user")


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    "query",
    [
        {"q": "n19999"},
        {"q": "a19999@ex"},
        {"q": "n1999"},
        {"q": "nobody-at-all"},
        {"q": "ffffffff-0000-7000-8000-000000000000"},
        {"is_staff__exact": "1"},
        {"is_active__exact": "0"},
        {"deletion": "planned"},
        {"q": "n19999", "is_active__exact": "1"},
    ],
    ids=str,
)
def test_no_search_and_no_rare_filter_walks_through_all_users(alices_page: Client, query: dict[str, str]) -> None:
    with CaptureQueriesContext(connection) as asked:
        sound(alices_page.get(LIST, query))
    plans = {}
    with connection.cursor() as sql:
        for statement in (one["sql"] for one in asked if "accounts_user" in one["sql"]):
            sql.execute(f"EXPLAIN {statement}")
            plans[statement] = "\n".join(line for (line,) in sql.fetchall())
    assert len(plans) >= 2
    for statement, plan in plans.items():
        assert "Seq Scan on accounts_user" not in plan, (statement, plan)


@pytest.mark.usefixtures("many")
def test_a_long_list_is_counted_to_its_end_and_no_further(alices_page: Client) -> None:
    html = sound(alices_page.get(LIST))
    assert "10000 users" in html
    assert listed(alices_page, "n1") == listed(alices_page, "N1")


# --- Doing --------------------------------------------------------------------------------------------------


def test_each_deed_asks_first_and_then_does_it_and_says_so(alices_page: Client, bob: User) -> None:
    for name in DEEDS:
        html = sound(press(alices_page, name, bob))
        assert "bob" in html
        assert f'value="{name}"' in html
        assert not Event.objects.filter(user=bob).exists()
    for name in DEEDS:
        answer = press(alices_page, name, bob, confirmed="1")
        assert (answer.status_code, answer.headers["Location"]) == (302, page_of(bob))
    bob.refresh_from_db()
    assert bob.is_active
    assert not bob.has_usable_password()
    assert ": done for 1 account." in words(alices_page.get(page_of(bob)))
    assert "revoke password" in sound(alices_page.get(f"{LIST}{bob.id}/history/"))


def test_a_deed_can_be_left_alone(alices_page: Client, bob: User, carol: User) -> None:
    for users, back in (((bob,), page_of(bob)), ((bob, carol), LIST)):
        html = sound(press(alices_page, "disable", *users))
        assert re.search(rf'<a class="button" href="{back}">Cancel</a>', html)


def test_pages_of_staff_speak_to_people(alices_page: Client, bob: User, bobs_phone: Session) -> None:
    """No notes for developers, no names of tables, and one form of dates."""
    Tombstone.objects.create(erased_on=now().date())
    usage = ApiUse.objects.create(day=now().date(), version="1.3.0", calls=3)
    event = Event.objects.create(user=bob, kind="login.failed")
    paths = [page_of(bob), page_of(alices_user := User.objects.get(username="alice")), LIST, "/admin/"]
    paths += [f"/admin/accounts/{name}/" for name in ("session", "event", "apiuse", "tombstone")]
    paths += [f"/admin/accounts/session/{bobs_phone.id}/change/", f"/admin/accounts/event/{event.id}/change/"]
    paths += [f"/admin/accounts/apiuse/{usage.id}/change/", "/admin/post_office/email/"]
    paths += ["/admin/directory/", "/admin/statistics/", f"{LIST}{alices_user.id}/history/"]
    notes = re.compile(r"\w+\.py\b|RFC|IANA|\bamr\b|Api use|[Tt]ombstones?<|Sessions?<|\bIp\b")
    dates = re.compile(r"\b\d{1,2}/\d{1,2}/\d{4}|\b[A-Z][a-z]{2}\. \d|[A-Z][a-z]+ \d{1,2}, \d{4}|\b(?:a\.m|p\.m)\.")
    found = {}
    for path in paths:
        text = re.sub(r"<svg.*?</svg>", "", words(alices_page.get(path)), flags=re.DOTALL)
        if wrong := notes.findall(text) + dates.findall(text):
            found[path] = wrong
    assert found == {}
    assert "Failed sign-in: wrong password" in words(alices_page.get("/admin/accounts/event/"))


def test_switching_off_ends_a_browser_at_once(alices_page: Client, bobs_page: Client, bob: User) -> None:
    press(alices_page, "disable", bob, confirmed="1")
    assert not signed_in(bobs_page)


def test_several_accounts_at_once_and_a_refusal_of_one_holds_up_no_other(
    alices_page: Client, alice: User, bob: User, carol: User
) -> None:
    answer = press(alices_page, "disable", alice, bob, carol, confirmed="1")
    assert answer.headers["Location"] == LIST
    html = words(alices_page.get(LIST))
    assert "done for 2 accounts" in html
    assert "to your own account, because it would lock you out. (alice)" in html
    assert list(User.objects.filter(is_active=True)) == [alice]


def test_no_press_acts_on_a_crowd(alices_page: Client, alice: User) -> None:
    crowd = [User(username=f"crowd{n}", username_skeleton=f"crowd{n}", email="") for n in range(AT_ONCE + 1)]
    User.objects.bulk_create(crowd)
    answer = press(alices_page, "disable", alice, confirmed="1", select_across="1")
    assert answer.status_code == 302
    assert f"Choose up to {AT_ONCE} accounts" in words(alices_page.get(LIST))
    assert not User.objects.filter(is_active=False).exists()


def test_the_page_of_a_user_offers_what_fits(alices_page: Client, alice: User, bob: User, carol: User) -> None:
    def offered(user: User) -> set[str]:
        return set(re.findall(r'name="action" value="(\w+)"', sound(alices_page.get(page_of(user)))))

    assert offered(bob) == {"disable", "revoke_password", "end_sessions"}
    assert offered(carol) == {"disable", "revoke_password", "end_sessions", "resend_confirmation"}
    User.objects.filter(id=bob.id).update(is_active=False)
    assert offered(bob) == {"enable", "revoke_password", "end_sessions"}


def test_staff_without_the_right_look_and_do_nothing(page: Client, bob: User) -> None:
    from django.contrib.auth.models import Permission

    reader = make_user("reader", is_staff=True)
    reader.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "view_event"]))
    assert page.post("/account/login/", {"login": "reader", "password": "plum tractor lagoon"}).status_code == 302
    Session.objects.filter(user=reader).update(authenticated_by="pwd otp mfa")
    html = sound(page.get(page_of(bob)))
    assert 'name="action"' not in html
    assert "<option" not in words(page.get(LIST))
    press(page, "disable", bob, confirmed="1")
    assert User.objects.get(id=bob.id).is_active
