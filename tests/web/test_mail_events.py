"""What mail services tell by webhook, through django-anymail, with the payloads that they document."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.test import Client
from django.urls import Resolver404, clear_url_caches, include, path, resolve
from post_office.models import PRIORITY, STATUS, Email, Log
from pytest_django import Settings

from accounts.services import mail
from accounts.services.mail import delivery
from accounts.services.mail.queue import add
from project.devstack.servers import BASE

SECRET = "hook:plum-tractor"
SIGNING_KEY = "mailguns-own-key"
TO = "ada@example.com"


@pytest.fixture
def sent(db: None) -> Email:
    """A mail that the mail service took."""
    row = add(EmailMessage("Subject", "Body", "crew@example.com", [TO]), priority=PRIORITY.high)
    Email.objects.filter(id=row.id).update(status=STATUS.sent)
    return row


@pytest.fixture
def told(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """A mail service that calls our webhook."""
    import project.urls  # noqa: F401 - as they are without one, whoever is the first to ask for them

    settings.ANYMAIL = {"WEBHOOK_SECRET": SECRET, "MAILGUN_WEBHOOK_SIGNING_KEY": SIGNING_KEY}
    urls = types.ModuleType("tests.with_hook")
    sys.modules[urls.__name__] = urls

    def tell(esp: str, body: Any, secret: str = SECRET) -> int:
        """`body` as JSON, or as it is."""
        from accounts.pages import hooks

        settings.ANYMAIL_ESP = esp
        urls.urlpatterns = [path("hooks/mail/", hooks.view()), path("", include("project.urls"))]  # type: ignore[attr-defined]
        settings.ROOT_URLCONF = urls.__name__
        clear_url_caches()
        basic = base64.b64encode(secret.encode()).decode()
        answer = Client(SERVER_NAME="localhost", raise_request_exception=False).post(
            "/hooks/mail/",
            body if isinstance(body, bytes) else json.dumps(body),
            content_type="application/json",
            HTTP_AUTHORIZATION=f"Basic {basic}",
            **{
                f"HTTP_X_AMZ_SNS_MESSAGE_{name}": body.get(key, "")
                for name, key in (("ID", "MessageId"), ("TYPE", "Type"))
                if isinstance(body, dict)
            },
        )
        return int(answer.status_code)

    yield tell
    del sys.modules[urls.__name__]
    clear_url_caches()


def postmark(message_id: str, to: str = TO, kind: str = "HardBounce") -> Any:
    return {
        "RecordType": kind if kind in {"SpamComplaint", "Delivery"} else "Bounce",
        "ID": 42,
        "Type": kind,
        "MessageID": "00000000-0000-0000-0000-000000000000",
        "Metadata": {"message_id": message_id},
        "Email": to,
        "BouncedAt": "2026-11-23T10:00:00Z",
    }


def mailgun(message_id: str) -> Any:
    signed = hmac.new(SIGNING_KEY.encode(), b"1763892000token", hashlib.sha256).hexdigest()
    return {
        "signature": {"timestamp": "1763892000", "token": "token", "signature": signed},
        "event-data": {
            "event": "failed",
            "severity": "permanent",
            "reason": "bounce",
            "id": "x",
            "timestamp": 1763892000.1,
            "recipient": TO,
            "message": {"headers": {"message-id": message_id.strip("<>")}},
            "delivery-status": {"code": 550, "message": "no such user"},
            "user-variables": {},
        },
    }


def amazon_ses(message_id: str) -> Any:
    headers = [{"name": "X-Metadata", "value": json.dumps({"message_id": message_id})}]
    bounced = {
        "eventType": "Bounce",
        "bounce": {
            "bounceType": "Permanent",
            "bounceSubType": "General",
            "bouncedRecipients": [{"emailAddress": TO, "action": "failed", "status": "5.1.1"}],
            "timestamp": "2026-11-23T10:00:00Z",
        },
        "mail": {"messageId": "0102", "timestamp": "2026-11-23T10:00:00Z", "headers": headers, "destination": [TO]},
    }
    return {"Type": "Notification", "MessageId": "1", "TopicArn": "arn:x", "Message": json.dumps(bounced),
            "Timestamp": "2026-11-23T10:00:00.000Z"}  # fmt: skip


@pytest.mark.parametrize("service", [postmark, mailgun, amazon_ses])
def test_a_mail_that_came_back_later_is_known_by_our_message_id(
    service: Callable[[str], Any], sent: Email, told: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    assert mail.delivery_of(Email.objects.get(id=sent.id)) == "sent"
    assert told(service.__name__, service(sent.message_id)) == 200
    assert mail.delivery_of(Email.objects.get(id=sent.id)) == "bounced"
    assert Log.objects.filter(email=sent).count() == 1
    assert TO not in caplog.text


def test_a_mail_that_is_called_unwanted_came_back_too(sent: Email, told: Callable[..., int]) -> None:
    assert told("postmark", postmark(sent.message_id, kind="SpamComplaint")) == 200
    assert mail.delivery_of(Email.objects.get(id=sent.id)) == "bounced"


@pytest.mark.parametrize("secret", ["hook:wrong", "x:y", ":"])
def test_nobody_else_may_tell(secret: str, sent: Email, told: Callable[..., int]) -> None:
    assert told("postmark", postmark(sent.message_id), secret) == 400
    assert mail.delivery_of(Email.objects.get(id=sent.id)) == "sent"


def test_what_cannot_be_read_is_refused_with_one_line(
    sent: Email, told: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    def odd(**changes: Any) -> Any:
        return postmark(sent.message_id) | changes

    def sns(**changes: Any) -> Any:
        return amazon_ses(sent.message_id) | changes

    anything: list[Any] = [[], None, 7, "x", [[]], b"", b"{", b"\xff", b"[" * 60_000, {"signature": None}, {"Type": []}]
    metadata: list[Any] = [[], "x", 7, None, {"message_id": ["x"]}, {"message_id": {}}]
    bodies: list[tuple[str, Any]] = [
        *((esp, body) for esp in ("postmark", "mailgun", "amazon_ses") for body in anything),
        *(("postmark", odd(Metadata=one)) for one in metadata),
        *(("postmark", odd(**{name: []})) for name in ("Email", "BouncedAt", "RecordType", "Type")),
        *(("amazon_ses", sns(Message=one)) for one in ("[]", "null", None, '{"eventType": "Bounce"}', '{"mail": []}')),
    ]
    wrong = []
    for esp, body in bodies:
        caplog.clear()
        status = told(esp, body)
        lines = [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"]
        if status not in {200, 400} or (status == 400 and len(lines) != 1):
            wrong.append((esp, body if len(str(body)) < 200 else "long", status, lines))
        assert mail.delivery_of(Email.objects.get(id=sent.id)) == "sent"
    assert not wrong


def test_a_mail_of_somebody_else_or_of_nobody_changes_nothing(sent: Email, told: Callable[..., int]) -> None:
    for message_id, to in (
        (sent.message_id, "eve@example.com"),
        ("<nonsense@x>", TO),
        ("", TO),
        ("\x00", TO),
        ("ffffffff-ffff-7fff-bfff-ffffffffffff@x", TO),
    ):
        assert told("postmark", postmark(message_id, to)) == 200
    assert told("postmark", postmark(sent.message_id, kind="Delivery")) == 200
    assert mail.delivery_of(Email.objects.get(id=sent.id)) == "sent"


def test_the_service_is_given_our_message_id_where_it_keeps_its_own(sent: Email, settings: Settings) -> None:
    def headers(esp: str) -> dict[str, str]:
        settings.ANYMAIL_ESP = esp
        email = Email.objects.get(id=sent.id)
        return dict(delivery._message(email).message().items())

    assert headers("postmark")["X-PM-Metadata-message_id"] == sent.message_id
    assert json.loads(headers("amazon_ses")["X-Metadata"]) == {"message_id": sent.message_id}
    for esp in ("", "mailgun"):
        assert not {name for name in headers(esp) if name.startswith("X-")}


def test_the_hook_is_there_only_where_it_is_asked_for_and_never_without_a_secret() -> None:
    ask = (
        "import django; django.setup(); from django.urls import resolve; "
        "print(resolve('/hooks/mail/').func.view_class.__name__)"
    )

    def found(**environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", ask], cwd=BASE, capture_output=True, text=True, check=False,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "project.settings", **environment},
        )  # fmt: skip
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    with pytest.raises(Resolver404):
        resolve("/hooks/mail/")
    assert found(ANYMAIL_ESP="postmark", ANYMAIL_WEBHOOK_SECRET=SECRET) == "PostmarkTrackingWebhookView"
    assert "ANYMAIL_WEBHOOK_SECRET" in found(ANYMAIL_ESP="postmark")
    assert "ANYMAIL_MAILGUN_SIGNING_KEY" in found(ANYMAIL_ESP="mailgun", ANYMAIL_WEBHOOK_SECRET=SECRET)
