"""The pages of staff beside the admin: the directory, its copy, and the statistics."""

import re

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from accounts.models import Event, Session, User
from accounts.pages.staff import charts
from accounts.services.staff import directory
from tests.conftest import PASSWORD, make_user, random_ip
from tests.web.conftest import sound, words

PAGES = ["/admin/directory/", "/admin/statistics/"]


def with_rights(*names: str) -> Client:
    """Somebody of the staff who may do this and nothing else."""
    clerk = make_user("clerk", is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=names))
    page = Client(SERVER_NAME="localhost", REMOTE_ADDR=random_ip())
    assert page.post("/account/login/", {"login": "clerk", "password": PASSWORD}).status_code == 302
    Session.objects.filter(user=clerk).update(authenticated_by="pwd otp mfa")
    return page


def test_the_admin_leads_to_both(alices_page: Client) -> None:
    html = words(alices_page.get("/admin/"))
    for path in PAGES:
        assert f'href="{path}"' in html
        sound(alices_page.get(path))


@pytest.mark.parametrize("path", [*PAGES, "/admin/directory/export/"])
def test_bob_and_strangers_are_sent_away(bobs_page: Client, page: Client, path: str) -> None:
    for client in (bobs_page, Client(SERVER_NAME="localhost")):
        for answer in (client.get(path), client.post(path)):
            assert answer.status_code == 302
            assert answer.headers["Location"].startswith("/admin/login/")


def test_staff_see_only_what_they_have_the_right_to(alice: User) -> None:
    clerk = with_rights("view_user")
    assert clerk.get("/admin/directory/").status_code == 200
    assert "Download" not in words(clerk.get("/admin/directory/"))
    assert clerk.post("/admin/directory/export/").status_code == 403
    assert clerk.get("/admin/statistics/").status_code == 403
    assert "/admin/statistics/" not in words(clerk.get("/admin/"))
    assert not Event.objects.filter(kind="directory.exported").exists()


def test_a_filter_that_nobody_offers_opens_nothing(db: None) -> None:
    clerk = with_rights("view_usercount")
    assert clerk.get("/admin/directory/?gender=nobody").status_code == 403
    assert clerk.post("/admin/directory/export/", {"gender": "nobody"}).status_code == 403


def test_a_search_shows_who_was_found_and_keeps_what_was_typed(alices_page: Client) -> None:
    make_user("dora", first_name="<b>Dora</b>", verified=False)
    html = sound(alices_page.get("/admin/directory/?q=dora&email_verified=0"))
    assert "&lt;b&gt;Dora&lt;/b&gt;" in html
    assert "(Not confirmed)" in html
    assert 'value="dora"' in html
    assert "alice@example.com" not in html
    assert "No users found" in sound(alices_page.get("/admin/directory/?q=dora&email_verified=1"))


def test_the_pages_of_the_list_follow_each_other(alices_page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "PAGE", 2)
    for name in ("dora", "eve", "frida"):
        make_user(name)
    met: list[str] = []
    path = "/admin/directory/?gender=unspecified"
    for _ in range(2):
        html = sound(alices_page.get(path))
        met += re.findall(r"<th scope=\"row\">.*?<bdi>(\w+)", html)
        following = re.search(r'href="(\?[^"]+)" rel="next"', html)
        path = "/admin/directory/" + following[1].replace("&amp;", "&") if following else ""
    assert met == ["frida", "eve", "dora"]
    assert not path


def test_a_forged_cursor_and_a_wrong_filter_are_no_error_of_ours(alices_page: Client) -> None:
    assert "No users found" not in sound(alices_page.get("/admin/directory/?cursor=AAAA"))
    assert "Select a valid choice" in sound(alices_page.get("/admin/directory/?gender=many"))
    sound(alices_page.get("/admin/directory/?q=%00"))
    sound(alices_page.get(f"/admin/directory/?q={'a' * 300}"))


def test_the_copy_streams_what_the_search_meant(alices_page: Client) -> None:
    make_user("dora", first_name="=1+1")
    answer = alices_page.post("/admin/directory/export/", {"q": "dora"})
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="users-[\d-]+\.csv"', answer.headers["Content-Disposition"])
    assert "no-store" in answer.headers["Cache-Control"]
    lines = answer.getvalue().decode("utf-8-sig").splitlines()
    assert len(lines) == 2
    assert ",'=1+1," in lines[1]
    assert Event.objects.filter(kind="directory.exported", user__username="alice").count() == 1


def test_a_copy_is_asked_for_by_post(alices_page: Client) -> None:
    assert alices_page.get("/admin/directory/export/").status_code == 405
    assert not Event.objects.filter(kind="directory.exported").exists()


@pytest.mark.parametrize("days", ["30", "90", "365", "31", "x", ""])
def test_statistics_are_drawn_and_told_in_tables(alices_page: Client, days: str) -> None:
    html = sound(alices_page.get(f"/admin/statistics/?days={days}"))
    shown = int(days) if days in {"90", "365"} else 30
    assert html.count('class="staff-bar"') == 4 * shown + 7
    assert html.count("<desc") == html.count('role="img"') == 4
    assert 'aria-current="page"' in html
    assert "<strong>1</strong> active user" in html


def test_numbers_in_drawings_are_written_for_machines(alices_page: Client) -> None:
    html = words(alices_page.get("/admin/statistics/", HTTP_ACCEPT_LANGUAGE="de"))
    assert "Statistik" in html
    for value in re.findall(r'\s(?:x|y|width|height|d)="([^"]*)"', html):
        assert "," not in value


@pytest.mark.parametrize(
    ("most", "top"), [(0, 2), (1, 2), (2, 2), (3, 4), (5, 10), (11, 20), (39, 40), (41, 100), (99_999, 100_000)]
)
def test_a_chart_ends_at_a_round_number(most: int, top: int) -> None:
    assert charts.ceiling(most) == top
