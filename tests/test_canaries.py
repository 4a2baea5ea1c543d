"""Nothing private in a line of the log, as text or as JSON, nor in a span or a metric: addresses, keys of links,
tokens, codes, passwords and their hashes. Through every operation and every page, where they work, refuse and fail."""

import io
import json
import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.handlers.base import BaseHandler
from django.db import transaction
from django.test import Client
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from post_office.models import STATUS, Email
from pytest_django import Settings

from accounts import tasks
from accounts.caller import Caller
from accounts.lib import metrics
from accounts.models import User
from accounts.services import mail
from accounts.services.account import deletion, email_requests, lifecycle, password_resets
from accounts.services.credentials import challenges
from project.devstack.provider import FakeProvider
from project.logs import Formatter, JsonFormatter, Outages
from tests.api.conftest import contract
from tests.conftest import Api, Mailbox, random_ip
from tests.factors import id_token
from tests.museum.exchange import PUBLIC_URL, Walk
from tests.museum.tour import PASSWORD, tour
from tests.services.test_mail import PostBox
from tests.traces import recorded
from tests.web.test_headers import ADDRESSES, ask

BIRD = "canarybird"
ADDRESS = f"{BIRD}@example.com"
KEY = f"{'0' * 32}-{BIRD}"


class Seen:
    """Whatever leaves this process for others to read."""

    def __init__(self, spans: InMemorySpanExporter) -> None:
        self.spans = spans
        self.lines = {kind: io.StringIO() for kind in (Formatter, JsonFormatter)}
        self.handlers = []
        for kind, stream in self.lines.items():
            handler = logging.StreamHandler(stream)
            handler.setFormatter(kind())
            handler.addFilter(Outages())
            self.handlers.append(handler)

    def everything(self) -> Iterator[str]:
        for stream in self.lines.values():
            yield from stream.getvalue().splitlines()
        for span in self.spans.get_finished_spans():
            events = [(event.name, event.attributes) for event in span.events]
            yield f"{span.name} {dict(span.attributes or {})} {events} {span.status.description}"
        yield from metrics.text(()).decode().splitlines()

    def having(self, secrets: Iterable[str]) -> list[str]:
        # A code of digits may by chance be a part of a longer number.
        words = "|".join(rf"(?<![0-9a-f]){re.escape(secret)}(?![0-9a-f])" for secret in secrets)
        return [line for line in self.everything() if re.search(words, line, re.IGNORECASE)]

    def operations(self) -> set[str]:
        lines = map(json.loads, self.lines[JsonFormatter].getvalue().splitlines())
        return {line["operation"] for line in lines if line["logger"] == "accounts.access"}

    def messages(self) -> str:
        return "\n".join(json.loads(line)["message"] for line in self.lines[JsonFormatter].getvalue().splitlines())


@pytest.fixture
def seen(settings: Settings, watched: None) -> Iterator[Seen]:
    settings.ACCESS_LOG = True
    root = logging.getLogger()
    with recorded(settings) as spans:
        found = Seen(spans)
        level = root.level
        root.setLevel(logging.INFO)
        root.handlers += found.handlers
        yield found
        root.setLevel(level)
        root.handlers = [handler for handler in root.handlers if handler not in found.handlers]


# What the walk keeps that is no secret.
OPEN = {"session", "identity", "tablet", "ada", "upload", "passkey", "etag"}


def by_provider(api: Api, fake: FakeProvider) -> set[str]:
    """A newcomer, another identity of theirs, and its end."""
    ada, other = ({"sub": sub, "email": f"{BIRD}@gmail.com", "email_verified": True} for sub in ("1", "2"))
    given = {**id_token(fake, "google", ada), "create": False}
    ticket = api.post("/token/provider", given).json()["ticket"]
    api.token = api.post("/token/provider/create", {"ticket": ticket}).json()["tokens"]["access_token"]
    linked = id_token(fake, "google", other)
    identity = api.post("/me/identities", linked).json()["id"]
    assert api.get("/me/identities").status_code == 200
    assert api("DELETE", f"/me/identities/{identity}").status_code == 204
    begun = api.post("/token/provider/begin", {"provider": "google"}).json()
    return {given["id_token"], linked["id_token"], given["state"], ticket, begun["nonce"], begun["state"], BIRD}


def test_none_where_every_operation_works(
    seen: Seen, db: None, settings: Settings, mailbox: Mailbox, fake: FakeProvider
) -> None:
    settings.PUBLIC_URL = PUBLIC_URL
    walk = Walk(Api(), mailbox)
    secrets = {PASSWORD, "@example.", r"argon2"}
    for step in tour():
        walk.take(step)
        secrets |= {value for name, value in walk.kept.items() if name not in OPEN and isinstance(value, str)}
    secrets |= by_provider(Api(), fake)
    mail.deliver()
    mail.hang_up()
    assert len(secrets) > 30
    operations = {operation["operationId"] for operation in contract().operations.values()}
    assert operations - seen.operations() == set()
    assert operations - set(re.findall(r'operation="(\w+)"', metrics.text(()).decode())) == set()
    assert len(seen.spans.get_finished_spans()) > 500
    assert seen.having(secrets) == []


FORM = {
    **dict.fromkeys(("login", "email", "q", "next", "name", "first_name", "state", "credential", "key"), ADDRESS),
    **dict.fromkeys(("password", "current_password", "new_password", "password1", "about"), f"{BIRD} tractor"),
    **dict.fromkeys(("code", "username", "ticket", "refresh_token"), BIRD),
}
HEADERS: dict[str, Any] = {
    f"HTTP_{name}": f"{BIRD};a=1,b"
    for name in (
        "USER_AGENT", "REFERER", "ACCEPT_LANGUAGE", "IDEMPOTENCY_KEY", "IF_MATCH", "IF_NONE_MATCH", "X_APP_VERSION",
        "TRACEPARENT", "TRACESTATE", "BAGGAGE", "COOKIE", "ORIGIN",
    )
}  # fmt: skip


def typed(address: str) -> str:
    """With the key of a link, or an address, in each segment that takes text, and something in the query string."""
    path = re.sub(r"(reset/key/x-|confirm-email/|undo/)x/", rf"\g<1>{KEY}/", address)
    path = re.sub(r"(?<=/)x(?=/|$)", ADDRESS, path)
    return f"{path}?q={ADDRESS}&key={BIRD}"


# What no route has, in a path that one has almost, and in each segment of it.
UNKNOWN = [
    path
    for route in sorted({path for _, path in contract().operations} | {re.sub(r"\?.*", "", a) for a in ADDRESSES})
    for path in (f"{route.rstrip('/')}/{ADDRESS}", f"{route.rstrip('/')}/{KEY}/", re.sub(r"\{\w+\}", ADDRESS, route))
]


def test_none_where_every_address_is_sent_them(seen: Seen, alices_page: Client, alices_api: Api) -> None:
    for address in ADDRESSES:
        if "logout" not in address:
            ask(alices_page, alices_api, typed(address))
        stranger = Client(SERVER_NAME="localhost", REMOTE_ADDR=random_ip(), raise_request_exception=False)
        stranger.post(typed(address), FORM | {"picture": SimpleUploadedFile(f"{BIRD}.png", b"x")}, **HEADERS)
    for method, path in contract().operations:
        where = re.sub(r"\{\w+\}", "00000000-0000-7000-8000-000000000000", path)
        for body in ("{" + BIRD, json.dumps({BIRD: ADDRESS}), json.dumps(FORM), json.dumps([BIRD])):
            extra = {**HEADERS, "HTTP_AUTHORIZATION": f"Bearer {alices_api.token}"}
            alices_api.client.generic(method, f"{where}?cursor={BIRD}", body, "application/json", **extra)
        alices_api.client.generic(method, re.sub(r"\{\w+\}", ADDRESS, path), **HEADERS)
    assert seen.having([BIRD, alices_api.token]) == []


def test_none_where_no_route_or_no_form_is_right(seen: Seen, settings: Settings, db: None) -> None:
    settings.DEBUG = True
    strict = Client(SERVER_NAME="localhost", enforce_csrf_checks=True, raise_request_exception=False)
    for address in UNKNOWN:
        strict.get(address)
    for address in ADDRESSES:
        strict.post(typed(address), FORM, HTTP_REFERER=f"https://localhost/{BIRD}", secure=True)
        strict.post(typed(address), FORM, HTTP_ORIGIN=f"https://{BIRD}.example")
    for host in (f"{ADDRESS}", f"{BIRD}/x", f"{BIRD}?token", f"[{BIRD}]"):
        strict.get(f"/account/{ADDRESS}/", HTTP_HOST=host)
    said = "\n".join(seen.everything())
    assert said.count("code=csrf_failed reason='Origin checking failed'") > 90
    assert said.count("code=wrong_host reason='not in ALLOWED_HOSTS (said once a minute)' host=?") == 1
    assert seen.having([BIRD]) == []


def test_django_writes_nothing_beside_our_own_handlers() -> None:
    """Its own handler says each line once more while DEBUG is on, with the whole path."""
    assert logging.getLogger("django").handlers == []


def refuse_the_row(*_: object, **__: object) -> Any:
    """As Postgres refuses one: the whole row is in its answer."""
    with transaction.atomic():
        User.objects.filter(email=ADDRESS).update(username=None)


@pytest.fixture
def somebody(alice: User) -> User:
    alice.email, alice.password = ADDRESS, f"argon2${BIRD}"
    alice.save()
    return alice


def test_none_where_every_address_fails(seen: Seen, somebody: User, monkeypatch: pytest.MonkeyPatch) -> None:
    page, api = Client(SERVER_NAME="localhost", raise_request_exception=False), Api()
    with monkeypatch.context() as broken:
        broken.setattr(BaseHandler, "make_view_atomic", lambda *_: refuse_the_row)
        statuses = {ask(page, api, typed(address)).status_code for address in ADDRESSES}
    assert statuses == {500}
    assert seen.messages().count("failed operation=account_confirm_email") == 1
    assert seen.having([BIRD]) == []


def test_none_where_tasks_and_emails_fail(
    seen: Seen,
    somebody: User,
    caller: Caller,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    password_resets.request_reset(login=ADDRESS, caller=caller)
    challenges.answer_asked(refuse_the_row)
    with monkeypatch.context() as broken:
        broken.setattr(lifecycle, "erase", refuse_the_row)
        User.objects.update(deletes_at="2026-01-01T00:00:00Z")
        deletion.erase_due.apply()
        broken.setattr(email_requests, "answer", refuse_the_row)
        assert tasks.poll.apply().failed()
    box = PostBox()
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", box.port
    caplog.set_level(logging.CRITICAL, logger="mail.log")  # the server's own
    box.start()
    try:
        for refusal, headers in ((451, None), (550, None), (250, {"X-A": f"a\r\nBcc: {ADDRESS}"})):
            box.at_rcpt[BIRD] = f"{refusal} {ADDRESS}"
            queued = {"from_email": "a@example.com", "to": [ADDRESS], "status": STATUS.queued}
            Email.objects.create(**queued, subject=BIRD, message=BIRD, headers=headers)
            mail.deliver()
    finally:
        mail.hang_up()
        box.stop()
    said = seen.messages()
    for failure in (
        "could not be answered", "could not be erased", "Task accounts.sweep", "waits", "is given up", "can't be made",
    ):  # fmt: skip
        assert failure in said
    assert seen.having([BIRD]) == []
