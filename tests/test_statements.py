"""What each operation and page costs Postgres: statements, and transactions. A change that asks for more is red here.

Counted by Django, through both faces, without BEGIN, COMMIT and savepoints. What a process keeps (signing keys,
connections, templates) is warm, as in production."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.caller import Caller, Device
from accounts.lib import rows
from accounts.models import Event, Session, User
from accounts.services.credentials import identifiers
from accounts.services.sessions import sessions, signing_keys
from project.devstack.provider import FakeProvider
from tests.conftest import PASSWORD, Api, make_user, random_ip
from tests.factors import id_token

PHONE = {"name": "Ada's iPhone", "platform": "iOS 20", "app_version": "1.0"}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CONTROL = re.compile(r"BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE")

Work = Callable[[], Any]


class House:
    """One person with a phone and a browser, and what can be asked."""

    def __init__(self, fake: FakeProvider) -> None:
        self.fake = fake
        self.user = make_user("ada", first_name="Ada")
        self.phone = Api()
        where = Caller(ip=random_ip(), device=Device(**PHONE))
        tokens = sessions.tokens(sessions.begin(user=self.user, kind=Session.Kind.APP, caller=where))
        self.phone.token, self.refresh_token = tokens.access_token, tokens.refresh_token
        self.my("GET", "/me")()  # notes the token's first use
        self.browser = self.fresh_browser()
        self.ok(self.browser.post("/account/login/", {"login": "ada", "password": PASSWORD}), 302)
        self.page("/account/")()
        self.count = 0

    @staticmethod
    def ok(answer: Any, status: int) -> Any:
        assert answer.status_code == status, (answer.status_code, answer.content[:500])
        return answer

    def fresh_browser(self) -> Client:
        return Client(SERVER_NAME="localhost", REMOTE_ADDR=random_ip(), HTTP_USER_AGENT=FIREFOX)

    def post(self, path: str, status: int, **body: Any) -> Work:
        return lambda: self.ok(Api().post(path, body, token=""), status)

    def keyed(self, path: str, status: int, **body: Any) -> Work:
        key = {"HTTP_IDEMPOTENCY_KEY": str(uuid4())}
        return lambda: self.ok(Api().post(path, body, token="", **key), status)

    def sign_in(self, login: str, password: str = PASSWORD, device: str = PHONE["name"], status: int = 200) -> Work:
        return self.post("/token", status, login=login, password=password, device={**PHONE, "name": device})

    def my(self, method: str, path: str, status: int = 200, body: Any = None) -> Work:
        return lambda: self.ok(self.phone(method, path, body), status)

    def refresh(self) -> None:
        answer = self.ok(Api().post("/token/refresh", {"refresh_token": self.refresh_token}), 200)
        self.refresh_token = answer.json()["refresh_token"]

    def sign_up(self, path: str, status: int) -> Work:
        def work() -> None:
            self.count += 1
            body = {"username": f"new{self.count}", "email": f"new{self.count}@example.com", "password": PASSWORD}
            if path.startswith("/account"):
                self.ok(self.fresh_browser().post(path, body), status)
            else:
                self.ok(Api().post(path, {**body, "device": PHONE}), status)

        return work

    def by_provider(self, person: dict[str, Any]) -> Work:
        return lambda: self.ok(Api().post("/token/provider", id_token(self.fake, "google", person), token=""), 200)

    def page(self, path: str, browser: Client | None = None) -> Work:
        return lambda: self.ok((browser or self.browser).get(path), 200)

    def form(self, path: str, **body: Any) -> Work:
        return lambda: self.ok(self.fresh_browser().post(path, body), 302)


def table(house: House) -> Iterator[tuple[str, Work, int, int]]:
    """Each operation or page: its name, what to do, its statements and its transactions."""
    yield "signIn", house.sign_in("ada"), 5, 1
    yield "signIn by address", house.sign_in("ada@example.com"), 5, 1
    yield "signIn on a new device", house.sign_in("ada", device="Ada's iPad"), 6, 1
    yield "signIn, wrong password", house.sign_in("ada", "wrong", status=401), 3, 1
    yield "signIn, unknown name", house.sign_in("nobody", "wrong", status=401), 3, 1
    yield "signIn, wrong password for an address", house.sign_in("ada@example.com", "wrong", status=401), 3, 1
    yield "signIn, unknown address", house.sign_in("nobody@example.com", "wrong", status=401), 3, 1
    yield "signUp", house.sign_up("/signup", 201), 7, 1
    yield "beginProviderSignIn", house.post("/token/provider/begin", 200, provider="google"), 0, 0
    ada = {"sub": "1", "email": "new@gmail.com", "email_verified": True}
    yield "signInByProvider, somebody new", house.by_provider(ada), 19, 4
    yield "signInByProvider", house.by_provider(ada), 6, 2
    yield "listIdentities", house.my("GET", "/me/identities"), 3, 0
    yield "refreshTokens", house.refresh, 2, 0
    yield "getProfile", house.my("GET", "/me"), 1, 0
    yield "updateProfile", house.my("PATCH", "/me", body={"first_name": "Adele"}), 5, 1
    yield "getMyEmail", house.my("GET", "/me/email"), 2, 0
    yield "listSessions", house.my("GET", "/me/sessions"), 2, 0
    yield "listEvents", house.my("GET", "/me/events"), 2, 0
    yield "getMfa", house.my("GET", "/me/mfa"), 3, 0
    yield "listUsers", house.my("GET", "/users"), 3, 0
    yield "getUser", house.my("GET", f"/users/{house.user.id}"), 2, 0
    yield "getUsers", house.my("GET", f"/users/by-ids?ids={house.user.id}"), 2, 0
    yield "getConfig", house.my("GET", "/config"), 0, 0
    for who in ("ada", "nobody", "ada@example.com", "nobody@example.com"):
        yield f"requestPasswordReset for {who}", house.post("/password/forgot", 202, login=who), 3, 0
        yield f"requestSignInCode for {who}", house.post("/token/code/request", 202, login=who), 3, 0
    yield "requestPasswordReset with an Idempotency-Key", house.keyed("/password/forgot", 202, login="ada"), 6, 1
    yield "resendConfirmation", house.post("/email/resend", 202, email="ada@example.com"), 1, 0
    yield "the sign-in page", house.page("/account/login/", house.fresh_browser()), 0, 0
    yield "the sign-up page", house.page("/account/signup/", house.fresh_browser()), 0, 0
    yield "signing in", house.form("/account/login/", login="ada", password=PASSWORD), 7, 1
    yield "signing up", house.sign_up("/account/signup/", 302), 9, 2
    yield "asking for a reset", house.form("/account/password/reset/", email="ada"), 3, 0
    yield "the overview", house.page("/account/"), 4, 0
    yield "the profile", house.page("/account/profile/"), 2, 0
    yield "the devices", house.page("/account/devices/"), 3, 0
    yield "the activity", house.page("/account/activity/"), 3, 0
    yield "second factors", house.page("/account/two-step/"), 4, 0
    yield "the data", house.page("/account/data/"), 3, 0
    yield "the email address", house.page("/account/email/"), 3, 0
    yield "signing out", lambda: house.ok(house.browser.post("/account/logout/"), 302), 7, 1
    yield "signOut", lambda: house.ok(Api().post("/token/revoke", {"refresh_token": house.refresh_token}), 204), 3, 1


def cost(work: Work) -> tuple[int, int, list[str]]:
    with CaptureQueriesContext(connection) as seen:
        work()
    said = [query["sql"] for query in seen.captured_queries]
    statements = [" ".join(sql.split())[:100] for sql in said if not CONTROL.match(sql)]
    return len(statements), said.count("BEGIN"), statements


@pytest.mark.django_db(transaction=True)
def test_no_operation_and_no_page_asks_more_of_postgres_than_it_did(
    fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "FRESH", 3600.0)
    house, found = House(fake), []
    for name, work, statements, transactions in table(house):
        many, begun, said = cost(work)
        if (many, begun) != (statements, transactions):
            found.append(
                (f"{name}: {many} statements and {begun} transactions, not {statements} and {transactions}", said)
            )
    assert not found, found


# --- What is written in SQL is what the models would do -------------------------------------------------------


def test_a_session_that_began_is_the_row_that_it_says_it_is(alice: User, caller: Caller) -> None:
    for methods in (("pwd",), ("otp", "mfa")):
        begun = sessions.begin(user=alice, kind=Session.Kind.APP, caller=caller, methods=methods)
        stored = Session.objects.get(id=begun.id)
        assert all(getattr(stored, name) == getattr(begun, name) for name in rows.names(Session))
        event = Event.objects.filter(session=begun).get()
        assert (event.kind, event.user, event.ip, event.data) == ("session.started", alice, caller.ip, {})
        assert event.device == caller.label


def test_a_login_means_whom_the_models_say(alice: User, bob: User, carol: User) -> None:
    several = [make_user(f"claims{letter}", verified=False) for letter in "abc"]
    User.objects.filter(id__in=[user.id for user in several]).update(email="shared@example.com")
    User.objects.filter(id=bob.id).update(email="shared@example.com")
    for email in ("shared@example.com", alice.email, carol.email, "nobody@example.com"):
        claims = list(User.objects.claiming(email))
        want = (claims[0] if claims else None, claims[-1] if len(claims) > 1 else None)
        assert identifiers.candidates(email) == want
        assert identifiers.find(email) == want[0]
    for name in ("alice", "Carol", "nobody"):
        assert identifiers.candidates(name) == (User.objects.filter(username=name.lower()).first(),)
    [found] = identifiers.candidates("alice")
    assert found is not None
    assert all(getattr(found, name) == getattr(alice, name) for name in rows.names(User))
