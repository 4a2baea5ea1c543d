import re

from django.test import Client

from accounts.caller import Caller
from accounts.models import User
from accounts.services.security import audit


def test_the_page_shows_what_happened_and_marks_what_stands_out(alices_page: Client, alice: User, bob: User) -> None:
    audit.record(audit.Kind.LOGIN_FAILED, user=alice, caller=Caller(ip="192.0.2.1", known_as="<b>Phone</b>"))
    audit.record(audit.Kind.LOGIN_FAILED, user=bob, caller=Caller(ip="192.0.2.99"))
    text = alices_page.get("/account/activity/").content.decode()
    assert "Failed sign-in: wrong password" in text
    assert "&lt;b&gt;Phone" in text
    assert "192.0.2.99" not in text
    assert 'class="mark warn"' in text


def test_older_lines_are_a_page_away_and_a_forged_cursor_leads_to_the_first(alices_page: Client, alice: User) -> None:
    for number in range(60):
        audit.record(audit.Kind.PROFILE_CHANGED, user=alice, caller=Caller(ip=f"192.0.2.{number}"))
    first = alices_page.get("/account/activity/")
    (link,) = re.findall(r'href="(\?cursor=[^"]+)"', first.content.decode())
    older = alices_page.get(f"/account/activity/{link}")
    assert "192.0.2.0<" in older.content.decode()
    assert "192.0.2.0<" not in first.content.decode()
    assert alices_page.get("/account/activity/", {"cursor": "forged"}).status_code == 302
