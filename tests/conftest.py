"""The cast and the two faces. Everything real: Postgres, Valkey, S3 and SMTP are those that `make test` starts."""

import gc
import io
import json
import os
import random
import re
import sys
import types
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import botocore.loaders
import botocore.session
import pytest
from django.core.handlers.base import BaseHandler
from django.db import connection
from django.http import HttpRequest
from django.test import Client, TransactionTestCase, client
from django.test.client import ClientHandler
from django.urls import clear_url_caches, include, path
from django.utils import translation
from django_guid import clear_guid
from PIL import Image
from post_office.models import Email
from pytest_django import DjangoDbBlocker, Settings

from accounts.caller import Caller, Device
from accounts.lib import breached_passwords, jobs, metrics
from accounts.models import Gender, Session, User
from accounts.services.account import email_requests
from accounts.services.authentication import id_tokens
from accounts.services.credentials import hashing, identifiers
from accounts.services.profile import objects, pictures
from accounts.services.sessions import access_tokens, sessions, signing_keys
from accounts.services.sessions.sessions import Tokens
from api import errors
from api.parser import StrictParser
from api.v1.responses import VersionedAPI
from project.devstack.provider import FakeProvider
from project.wsgi import ApiMiddleware
from tests.pictures import decoded_once

if TYPE_CHECKING:
    from tests.e2e.conftest import Service

PASSWORD = "plum tractor lagoon"

# A token that is renewed stays in the bucket when the test's transaction has taken the row back (test_objects.py).
RENEWED_AFTER, objects.RENEWED_AFTER = objects.RENEWED_AFTER, timedelta(days=1)


def pytest_collection_finish() -> None:
    """What was imported stays to the end: each full collection of garbage would go through all of it in vain."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000)


# Each thread and each storage of a test has a client of its own, for which half a megabyte of JSON would be read anew.
botocore.session.create_loader = cache(botocore.loaders.create_loader)

# Nothing here reads `response.context`, for which each part of each page would be copied.
client.store_rendered_templates = lambda *_, **__: None  # type: ignore[attr-defined]


def _empty_tables(_: TransactionTestCase) -> None:
    """After a test with transactions of its own. Django's way is to truncate forty tables and to make the permissions
    anew: half a second. Here the rows that the test left are deleted."""
    with connection.cursor() as cursor:
        tables = set(connection.introspection.django_table_names(only_existing=True, include_views=False)) - KEPT
        cursor.execute(" UNION ALL ".join(f"(SELECT '{table}' FROM {table} LIMIT 1)" for table in sorted(tables)))  # noqa: S608
        # Foreign keys are looked at when the transaction ends. Users before their counts, which a trigger keeps.
        if used := sorted(name for (name,) in cursor.fetchall()):
            cursor.execute("".join(f"DELETE FROM {table};" for table in used))  # noqa: S608


# The same before every test, as migrations and the start of the run left them.
KEPT = {"django_content_type", "auth_permission", "accounts_bucketowner"}
TransactionTestCase._fixture_teardown = _empty_tables  # type: ignore[attr-defined]


def random_ip() -> str:
    return ".".join(["10", *(str(random.randrange(256)) for _ in range(3))])


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The database of the tests owns the bucket, so that a test that is rolled back takes nothing over. At the end
    nothing is connected to it: a thread may be, and Postgres would not drop it."""
    with django_db_blocker.unblock():
        objects.take()
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture(autouse=True)
def _forget() -> None:
    """What a process remembers between requests must not leak from test to test."""
    signing_keys.forget()
    access_tokens._verify.cache_clear()
    translation.deactivate()  # a page in another language leaves it to the next one in its thread
    breached_passwords._breaker.worked()
    jobs._sends.clear()
    clear_guid()
    translation.deactivate()


@pytest.fixture(autouse=True)
def decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests send the same few pictures, and are about what comes after the decoder."""
    monkeypatch.setattr(pictures, "_decode", decoded_once)


@pytest.fixture
def refused_domains(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """A file for domains that no new address may have."""
    file = tmp_path / "domains.txt"
    settings.REFUSED_EMAIL_DOMAINS_FILE = str(file)
    identifiers.refused_domains.cache_clear()
    yield file
    identifiers.refused_domains.cache_clear()


@pytest.fixture
def caller() -> Caller:
    """A phone at an address of its own, so that no test uses up another's tries."""
    return Caller(ip=random_ip(), user_agent="Crew/1.0 CFNetwork", device=Device("Ada's iPhone", "iOS 20", "1.0"))


def make_user(username: str, *, verified: bool = True, **fields: Any) -> User:
    return User.objects.create(
        username=username,
        username_skeleton=identifiers.skeleton(username),
        email=f"{username}@example.com",
        email_verified=verified,
        password=hashing.hashed(PASSWORD),
        **fields,
    )


@pytest.fixture
def alice(db: None) -> User:
    """Staff, with a proved address."""
    return make_user("alice", is_staff=True, is_superuser=True, gender=Gender.FEMALE, first_name="Alice")


@pytest.fixture
def bob(db: None) -> User:
    """Somebody with a proved address, who may do nothing to Alice."""
    return make_user("bob", gender=Gender.MALE)


@pytest.fixture
def carol(db: None) -> User:
    """Somebody who never proved her address."""
    return make_user("carol", verified=False)


@pytest.fixture
def phone(alice: User, caller: Caller) -> Session:
    """Alice's phone, signed in."""
    return sessions.begin(user=alice, kind=Session.Kind.APP, caller=caller)


@pytest.fixture
def tokens(phone: Session) -> Tokens:
    return sessions.tokens(phone)


@pytest.fixture
def fake(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    """Every kind of provider that people may sign in with; "corp" is one that nobody knows."""
    for limit in ("TIME", "ALL_TIME"):  # on a busy machine a good server may be late
        monkeypatch.setattr(id_tokens, limit, 300.0)
    id_tokens._issuers.clear()
    with FakeProvider() as made:
        settings.PROVIDERS = {kind: made.settings(kind) for kind in ("google", "apple", "microsoft", "github")}
        settings.PROVIDERS["corp"] = made.settings("oidc", mail_domains=("example.com",))
        yield made


# --- The API ------------------------------------------------------------------------------------------------


class ApiHandler(ApiMiddleware, ClientHandler, BaseHandler):
    """The API's own chain of middleware, as in project/wsgi.py."""


class Api:
    """A mobile app: JSON in and out under /api/v1."""

    def __init__(self) -> None:
        self.client = Client(SERVER_NAME="localhost", raise_request_exception=False)
        self.client.handler = ApiHandler()
        self.ip = random_ip()
        self.token = ""

    def __call__(self, method: str, path: str, body: Any = None, *, token: str | None = None, **extra: Any) -> Any:
        bearer = self.token if token is None else token
        if bearer:
            extra["HTTP_AUTHORIZATION"] = f"Bearer {bearer}"
        if body is not None and "content_type" not in extra:
            extra["content_type"] = "application/json"
            body = body if isinstance(body, str | bytes) else json.dumps(body)
        extra.setdefault("REMOTE_ADDR", self.ip)
        return self.client.generic(method, path if path.startswith("/.") else f"/api/v1{path}", body or b"", **extra)

    def get(self, path: str, **extra: Any) -> Any:
        return self("GET", path, **extra)

    def post(self, path: str, body: Any = None, **extra: Any) -> Any:
        return self("POST", path, {} if body is None else body, **extra)

    def upload(self, content: bytes, name: str = "me.png", content_type: str = "image/png", **extra: Any) -> Any:
        boundary = "frontier"
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            f"Content-Type: {content_type}\r\n\r\n"
        )
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        extra.setdefault("content_type", f"multipart/form-data; boundary={boundary}")
        return self("PUT", "/me/picture", body, **extra)


@pytest.fixture
def api(db: None) -> Api:
    return Api()


@pytest.fixture
def alices_api(api: Api, tokens: Tokens) -> Api:
    api.token = tokens.access_token
    return api


@pytest.fixture
def v2(settings: Settings) -> Iterator[None]:
    """A second version of the API beside the first."""
    api = VersionedAPI(title="Two", version="2.0.0", urls_namespace="v2-drill", parser=StrictParser())
    errors.install(api)

    @api.get("/hello", operation_id="hello")
    def hello(request: HttpRequest) -> dict[str, Any]:
        return {"version": 2}

    urls = types.ModuleType("tests.two_versions")
    urls.urlpatterns = [path("api/v2/", api.urls), path("", include("project.urls"))]  # type: ignore[attr-defined]
    sys.modules[urls.__name__] = urls
    settings.ROOT_URLCONF = urls.__name__
    clear_url_caches()
    yield
    del sys.modules[urls.__name__]
    clear_url_caches()


# --- Pages --------------------------------------------------------------------------------------------------


@pytest.fixture
def page(db: None) -> Client:
    """A browser without JavaScript."""
    return Client(SERVER_NAME="localhost", REMOTE_ADDR=random_ip())


@pytest.fixture
def alices_page(page: Client, alice: User) -> Client:
    """Alice's browser, signed in by two factors, as staff must be for the admin."""
    answer = page.post("/account/login/", {"login": "alice", "password": PASSWORD})
    assert answer.status_code == 302, answer.content
    Session.objects.filter(user=alice).update(authenticated_by="pwd otp mfa")
    return page


# --- Metrics ------------------------------------------------------------------------------------------------

METRICS_TOKEN = "a-token-for-prometheus-alone"


@pytest.fixture
def watched(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A web process that counts. Faces load their middleware at their first request."""
    from prometheus_client import values

    from project import metrics as door

    settings.METRICS_TOKEN = METRICS_TOKEN
    monkeypatch.setattr(metrics, "folder", lambda: tmp_path)
    monkeypatch.setattr(door, "_read", None)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    door.start()
    yield
    metrics._made.clear()
    values.ValueClass.close_all_files()


# --- The running service -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Service"]:
    """One for the browser tests and the fault tests together: to start it takes longer than most of them."""
    from tests.e2e.conftest import Service

    # At the stack's own address, which the bucket knows as that of the pages.
    made = Service(tmp_path_factory.mktemp("service"), port=urlsplit(os.environ["PUBLIC_URL"]).port)
    try:
        made.start()
        yield made
    finally:
        made.stop()


# --- Mail and pictures --------------------------------------------------------------------------------------


class Mailbox:
    """The mails that were queued in this test, the newest last, those that the worker writes among them."""

    def all(self, to: str | None = None) -> list[Email]:
        email_requests.answer()
        found = list(Email.objects.order_by("id"))
        return [mail for mail in found if to is None or to in mail.to]

    def last(self, to: str | None = None) -> Email:
        found = self.all(to)
        assert found, f"no mail to {to or 'anybody'}"
        return found[-1]

    def code(self, to: str | None = None) -> str:
        found = re.search(r"#(\d{8})\s*$", self.last(to).message)
        assert found, self.last(to).message
        return found[1]

    def link(self, to: str | None = None) -> str:
        """The path of the link."""
        found = re.search(r"https?://[^/\s]+(/account/\S+-\S+/)", self.last(to).message)
        assert found, self.last(to).message
        return found[1]

    def key(self, to: str | None = None) -> str:
        return self.link(to).rstrip("/").rpartition("/")[2]


@pytest.fixture
def mailbox(db: None) -> Mailbox:
    return Mailbox()


@cache
def picture(size: tuple[int, int] = (600, 400), kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert(mode).save(file, kind, **options)
    return file.getvalue()
