"""The numbers of staff."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.errors import DirectoryClosed
from accounts.models import Event, Gender, Session, TotpAuthenticator, User
from accounts.services.sessions import sessions
from accounts.services.staff import statistics
from accounts.services.staff.statistics import Figures
from tests.conftest import make_user


def totals(figures: Figures) -> dict[str, int]:
    return {str(each.name): each.total for each in figures.days}


def test_people_are_told_by_gender_and_proof(alice: User, bob: User, carol: User) -> None:
    make_user("gone", gender=Gender.MALE, is_active=False)
    TotpAuthenticator.objects.create(user=bob, sealed_seed=b"", sealed_recovery_seed=b"")
    figures = statistics.read(viewer=alice, days=30)
    assert (figures.everybody, figures.active) == (4, 3)
    found = [[(str(name), number) for name, number in each.numbers] for each in figures.shares]
    assert found == [
        [("Female", 1), ("Male", 1), ("Prefer not to say", 1)],
        [("Confirmed", 2), ("Not confirmed", 1)],
        [("On", 1), ("Off", 3)],
    ]


def test_days_begin_with_the_oldest_and_none_is_left_out(alice: User, caller: Caller) -> None:
    sessions.begin(user=alice, kind=Session.Kind.APP, caller=caller)
    today = now()
    for days in (0, 1, 6, 7):
        Event.objects.create(kind="user.signed_up", created_at=today - timedelta(days=days))
        Event.objects.create(kind="session.ended", created_at=today - timedelta(days=days))
    figures = statistics.read(viewer=alice, days=7)
    assert totals(figures) == {"Sign-ups": 3, "Sign-ins": 1, "Failed sign-ins": 0, "Second factors set up": 0}
    sign_ups = figures.days[0].numbers
    assert [number for _day, number in sign_ups] == [1, 0, 0, 0, 0, 1, 1]
    assert sign_ups[-1][0] == today.date()


def test_sign_ins_on_new_devices_are_sign_ins(alice: User, caller: Caller) -> None:
    sessions.begin(user=alice, kind=Session.Kind.APP, caller=caller)
    sessions.begin(user=alice, kind=Session.Kind.BROWSER, caller=Caller(ip=None, known_as="a browser"))
    assert Event.objects.filter(kind="session.new_device").exists()
    assert totals(statistics.read(viewer=alice, days=7))["Sign-ins"] == 2


def test_read_refuses_bob(bob: User) -> None:
    with pytest.raises(DirectoryClosed):
        statistics.read(viewer=bob, days=30)


def test_sign_ups_are_counted_by_network_the_most_first(alice: User, bob: User, carol: User) -> None:
    def sign_up(ip: str | None, *, user: User | None = None, **before: float) -> None:
        Event.objects.create(kind="user.signed_up", user=user, ip=ip, created_at=now() - timedelta(**before))

    for address in (1, 77, 255):
        sign_up(f"192.0.2.{address}", user=carol, hours=1)
    sign_up("192.0.2.9", user=bob, days=6)
    sign_up("2001:db8:1:2::3", user=bob, hours=2)
    sign_up("2001:db8:1:ffff::4", days=2)
    for number in range(20):
        sign_up(f"10.0.{number}.1", days=3)
    sign_up("192.0.2.9", days=8)  # too long ago
    sign_up(None, hours=1)  # erased since
    Event.objects.create(kind="session.started", ip="192.0.2.1")
    found = statistics.read(viewer=alice, days=30).networks
    assert [(each.name, each.day, each.day_verified, each.week, each.week_verified) for each in found[:3]] == [
        ("192.0.2.0/24", 3, 0, 4, 1),
        ("2001:db8:1::/48", 1, 1, 2, 1),
        ("10.0.0.0/24", 0, 0, 1, 0),
    ]
    assert len(found) == 10


def test_nothing_of_it_reads_users_or_events(alice: User, django_assert_max_num_queries: object) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as queries:
        statistics.read(viewer=alice, days=365)
    asked = " ".join(query["sql"] for query in queries if "accounts_event\n" not in query["sql"])
    # The third counts rows of two-step verification, in their index; the fourth reads the newest sign-ups, in theirs.
    assert len(queries) == 4
    assert '"accounts_user"' not in asked
    assert "accounts_event " not in asked
