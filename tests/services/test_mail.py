"""Mails: queued with the change, delivered once, kept when a server is away, never read as a template."""

import html
import json
import logging
import os
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import EmailMessage as ReceivedMessage
from email.mime.image import MIMEImage
from email.parser import BytesParser
from itertools import pairwise, product
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SMTPSession
from celery import Celery, Task
from django.core.mail import EmailMessage, EmailMultiAlternatives, get_connection, send_mail
from django.db import connection, transaction
from django.utils.timezone import now
from post_office.models import PRIORITY, STATUS, Email, EmailTemplate, Log
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from accounts.caller import Caller, Device
from accounts.lib import jobs, leases
from accounts.models import Challenge, User
from accounts.services import mail
from accounts.services.account import email_requests, password_resets
from accounts.services.mail import Message, delivery, messages, server, status
from accounts.services.mail.queue import add
from project.devstack.servers import Mail, Valkey, free_ports, received
from tests.conftest import Mailbox, make_user
from tests.services.conftest import Mute
from tests.threads import at_once

CONTEXT: dict[Message, dict[str, Any]] = {
    Message.CONFIRM_EMAIL: {"code": "01234567", "link": "http://localhost/account/confirm-email/a-b/"},
    Message.SIGN_UP: {"code": "01234567"},
    Message.RESET_PASSWORD: {"code": "01234567", "link": "http://localhost/account/password/reset/key/a-b/"},
    Message.PASSWORD_REVOKED: {"code": "01234567", "link": "http://localhost/account/password/reset/key/a-b/"},
    Message.ADDRESS_TAKEN: {"other": "mallory"},
    Message.EMAIL_CHANGED: {
        "email": "new@example.com",
        "link": "http://localhost/account/email/undo/a-b/",
        "days": 7,
    },
    Message.SIGN_IN: {"code": "01234567"},
    Message.DELETION_PLANNED: {
        "erased_at": datetime(2026, 12, 7, 9, 30, tzinfo=UTC),
        "link": "http://localhost/account/delete/undo/a-b/",
    },
    Message.FACTOR_ADDED: {"factor": "two_step"},
    Message.FACTOR_REMOVED: {"factor": "two_step"},
    Message.IDENTITY_LINKED: {"other": "Google"},
    Message.IDENTITY_UNLINKED: {"other": "Google"},
    Message.RECOVERY_CODE_USED: {"left": 7},
    Message.EXPORT_READY: {"link": "http://localhost/account/data/", "days": 7},
}


class Clock:
    """The time that the rules see: it stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.by = now(), timedelta()
        for module in (leases, delivery, messages, server, status):
            monkeypatch.setattr(module, "now", self)
        monkeypatch.setattr("accounts.services.mail.queue.now", self)

    def __call__(self) -> datetime:
        return self.began + self.by

    def forward(self, **delta: float) -> None:
        self.by += timedelta(**delta)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class PostBox:
    """A real SMTP server that answers as it is told, for a recipient's name before the @."""

    def __init__(self) -> None:
        self.at_mail = "250 OK"
        self.at_rcpt: dict[str, str] = {}
        self.at_data: dict[str, str] = {}
        self.tried: list[str] = []
        self.got: list[ReceivedMessage] = []
        self.connections = 0
        self.mails_a_connection = 10**9
        self.mails: Counter[SMTPSession] = Counter()
        self._controller = Controller(self, hostname="127.0.0.1", port=free_ports(1)[0])

    @property
    def port(self) -> int:
        port: int = self._controller.port
        return port

    @property
    def recipients(self) -> list[str]:
        return [str(message["X-To"]) for message in self.got]

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's word
        self, server: SMTP, session: SMTPSession, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.connections += 1
        return responses

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: SMTPSession, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.at_mail.startswith("2"):
            envelope.mail_from = address
        return self.at_mail

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: SMTPSession, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.tried.append(address)
        self.mails[session] += 1
        if self.mails[session] > self.mails_a_connection:
            return "421 enough for one connection"
        answer = self.at_rcpt.get(address.partition("@")[0], "250 OK")
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: SMTPSession, envelope: Envelope) -> str:  # noqa: N802
        answer = self.at_data.get(envelope.rcpt_tos[0].partition("@")[0], "250 OK")
        if answer.startswith("2"):
            assert isinstance(envelope.content, bytes)
            message = BytesParser(policy=policy.default).parsebytes(envelope.content)
            assert isinstance(message, ReceivedMessage)
            message["X-To"] = envelope.rcpt_tos[0]
            self.got.append(message)
        return answer


@pytest.fixture
def post_box(settings: Settings) -> Iterator[PostBox]:
    box = PostBox()
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", box.port
    box.start()
    yield box
    if box._controller.server:
        box.stop()


@pytest.fixture(autouse=True)
def _as_after_a_start() -> Iterator[None]:
    jobs.broker.worked()
    yield
    mail.hang_up()


def deliver_and_hang_up() -> int:
    """For a thread, whose connection ends with it."""
    try:
        return mail.deliver()
    finally:
        mail.hang_up()


def unique(name: str = "ada") -> str:
    """An address that no earlier run has in the inbox."""
    return f"{name}{uuid4().hex[:12]}@example.com"


def queue(to: str = "ada@example.com", *, priority: int = PRIORITY.medium, expires_at: datetime | None = None) -> Email:
    message = EmailMessage("Subject", "Body", "Crew <no-reply@example.com>", [to])
    return add(message, priority=priority, expires_at=expires_at)


def fresh(row: Email) -> Email:
    found = Email.objects.get(id=row.id)
    assert isinstance(found, Email)
    return found


def is_blank(row: Email) -> bool:
    found = fresh(row)
    return (found.message, found.html_message, found.context) == ("", "", None)


def inbox(to: str) -> list[ReceivedMessage]:
    return received(os.environ["INBOX_IMAP_URL"], to=to)


def text_of(message: ReceivedMessage, kind: str = "plain") -> str:
    part = message.get_body((kind,))
    assert part is not None
    content: str = part.get_content()
    # Without the word joiners that keep a username from becoming a link.
    return content.replace("\r\n", "\n").replace("\N{WORD JOINER}", "")


# --- Queueing -----------------------------------------------------------------------------------------------


def test_a_mail_waits_with_its_change(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    with transaction.atomic():
        mail.send(Message.PASSWORD_CHANGED, user=alice, caller=caller)
    row = mailbox.last("alice@example.com")
    assert (row.status, row.priority, row.number_of_retries) == (STATUS.queued, PRIORITY.medium, 0)
    assert row.template is None
    assert row.context is None


def test_a_mail_goes_with_the_change_that_is_rolled_back(alice: User, caller: Caller) -> None:
    with transaction.atomic():
        mail.send(Message.PASSWORD_CHANGED, user=alice, caller=caller)
        transaction.set_rollback(True)
    assert not Email.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_worker_does_not_see_a_mail_before_its_commit(caller: Caller, post_box: PostBox) -> None:
    alice = make_user("alice")
    with transaction.atomic():
        mail.send(Message.PASSWORD_CHANGED, user=alice, caller=caller)
        assert list(at_once(1, deliver_and_hang_up)) == [0]
    assert list(at_once(1, deliver_and_hang_up)) == [1]


def test_who_has_no_address_gets_no_mail(alice: User, caller: Caller) -> None:
    alice.email = ""
    mail.send(Message.PASSWORD_CHANGED, user=alice, caller=caller)
    assert not Email.objects.exists()
    mail.send(Message.PASSWORD_CHANGED, user=alice, caller=caller, to="old@example.com")
    assert Email.objects.get().to == ["old@example.com"]


def test_codes_go_before_notices_and_older_before_newer(alice: User, caller: Caller, post_box: PostBox) -> None:
    for message, to in (
        (Message.PASSWORD_CHANGED, "notice1@example.com"),
        (Message.EMAIL_CHANGED, "notice2@example.com"),
        (Message.RESET_PASSWORD, "code1@example.com"),
        (Message.CONFIRM_EMAIL, "code2@example.com"),
    ):
        mail.send(message, user=alice, caller=caller, to=to, context=CONTEXT.get(message))
    assert mail.deliver() == 4
    assert post_box.recipients == [f"{name}@example.com" for name in ("code1", "code2", "notice1", "notice2")]
    assert post_box.connections == 1


def test_what_django_or_a_library_sends_is_queued_too(db: None, settings: Settings, post_box: PostBox) -> None:
    settings.EMAIL_BACKEND = "accounts.services.mail.queue.QueueBackend"
    assert send_mail("Hello\nworld", "{{ 7|add:7 }} body", None, ["one@example.com"]) == 1
    both = EmailMultiAlternatives("Two", "text", "a@example.com", ["to@example.com"], cc=["cc@example.com"])
    both.attach_alternative("<p>{% now 'Y' %}</p>", "text/html")
    assert get_connection().send_messages([both]) == 1
    assert post_box.got == []
    assert mail.deliver() == 2
    assert text_of(post_box.got[0]) == "{{ 7|add:7 }} body\n"
    assert post_box.got[0]["Subject"] == "Hello world"
    assert "{% now 'Y' %}" in text_of(post_box.got[1], "html")
    assert sorted(post_box.tried) == ["cc@example.com", "one@example.com", "to@example.com"]


def test_html_alone_attachments_and_a_reply_address_are_kept(db: None, settings: Settings, post_box: PostBox) -> None:
    settings.EMAIL_BACKEND = "accounts.services.mail.queue.QueueBackend"
    html = EmailMessage("One", "<p>{{ 7|add:7 }}</p>", "a@example.com", ["one@example.com"], reply_to=["r@example.com"])
    html.content_subtype = "html"
    files = EmailMultiAlternatives("Two", "text", "a@example.com", ["two@example.com"])
    files.attach_alternative("<p>page</p>", "text/html")
    files.attach("data.bin", b"\x00\xff", "application/octet-stream")
    files.attach("words.txt", "Grüße {{ 7|add:7 }}", "text/plain")
    assert get_connection().send_messages([html, files]) == 2
    assert mail.deliver() == 2
    first, second = post_box.got
    assert (first.get_content_type(), first.get_content().strip()) == ("text/html", "<p>{{ 7|add:7 }}</p>")
    assert first["Reply-To"] == "r@example.com"
    assert (text_of(second), text_of(second, "html")) == ("text", "<p>page</p>")
    assert {part.get_filename(): part.get_content() for part in second.iter_attachments()} == {
        "data.bin": b"\x00\xff",
        "words.txt": "Grüße {{ 7|add:7 }}",
    }
    assert all(is_blank(row) for row in Email.objects.all())


def test_what_a_row_has_no_place_for_is_refused_loudly(db: None, settings: Settings) -> None:
    settings.EMAIL_BACKEND = "accounts.services.mail.queue.QueueBackend"
    invited = EmailMultiAlternatives("Come", "text", "a@example.com", ["to@example.com"])
    invited.attach_alternative("BEGIN:VCALENDAR", "text/calendar")
    with pytest.raises(ValueError, match="one HTML part"):
        get_connection().send_messages([invited])
    pictured = EmailMessage("See", "text", "a@example.com", ["to@example.com"])
    pictured.attach(MIMEImage(b"GIF89a", "gif"))
    with pytest.raises(TypeError, match="attachment"):
        get_connection().send_messages([pictured])
    assert not Email.objects.exists()


def test_a_row_is_no_template_even_where_post_office_would_render_one(db: None, post_box: PostBox) -> None:
    row = queue()
    template = EmailTemplate.objects.create(name="t", subject="{{ word }}", content="{{ word }}")
    Email.objects.filter(id=row.id).update(template=template, context={"word": "rendered"})
    assert mail.deliver() == 1
    assert (post_box.got[0]["Subject"], text_of(post_box.got[0])) == ("Subject", "Body\n")
    assert is_blank(row)


def test_an_email_that_an_earlier_version_queued_or_had_claimed_is_sent(db: None, post_box: PostBox) -> None:
    """As SQL, in the columns that version 1.2 wrote."""
    insert = """
        INSERT INTO post_office_email (from_email, "to", cc, bcc, subject, message, html_message, status, priority,
            created, last_updated, scheduled_time, expires_at, number_of_retries, headers, context, backend_alias,
            message_id)
        VALUES ('a@example.com', %s, '', '', 'Your code', 'code {{ 1 }}', '<p>code {{ 1 }}</p>', %s, 2, now(), now(),
            now() - interval '1 second', now() + interval '1 hour', 0, '{"Auto-Submitted": "auto-generated"}', NULL, '',
            '<1@example.com>')
    """
    with connection.cursor() as cursor:
        for to, status_before in (("queued@example.com", 2), ("claimed@example.com", 3)):
            cursor.execute(insert, [to, status_before])
    assert mail.deliver() == 2
    assert post_box.recipients == ["queued@example.com", "claimed@example.com"]
    (got, _) = post_box.got
    assert (text_of(got), text_of(got, "html")) == ("code {{ 1 }}", "<p>code {{ 1 }}</p>")
    assert (got["Message-ID"], got["Auto-Submitted"], got["Expires"]) == ("<1@example.com>", "auto-generated", None)
    assert all(is_blank(row) for row in Email.objects.all())


# --- What arrives -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", Message)
def test_each_mail_arrives_in_the_inbox_with_both_parts_and_is_blanked(
    message: Message, alice: User, caller: Caller, settings: Settings
) -> None:
    to = unique()
    mail.send(
        message, user=alice, caller=caller, to=to, context=CONTEXT.get(message), expires_at=now() + timedelta(hours=1)
    )
    row = Email.objects.get()
    assert mail.deliver_mail() == 1
    (got,) = inbox(to)
    assert got["To"] == to
    assert got["From"] == settings.DEFAULT_FROM_EMAIL
    assert settings.SITE_NAME in got["Subject"]
    assert "\n" not in got["Subject"]
    assert got["Auto-Submitted"] == "auto-generated"
    assert got["Message-ID"] == row.message_id
    assert got["Date"] == row.headers["Date"]
    assert [part.get_content_type() for part in got.iter_parts()] == ["text/plain", "text/html"]
    for kind in ("plain", "html"):
        text = text_of(got, kind)
        assert "alice" in text
        assert to in text
        assert not re.search(r"\{[{%#]|[%#}]\}", re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL))
    if message in mail.CODES:
        assert text_of(got).rstrip().endswith("#01234567")
    if link := CONTEXT.get(message, {}).get("link"):
        assert link in text_of(got)
        assert link in text_of(got, "html")
    assert fresh(row).status == STATUS.sent
    assert is_blank(row)


TYPED = (
    "{{ 7|add:7 }}",
    "{% now 'Y' %}",
    "{{ user.password }}",
    "{{a|b}}",
    "{%x%}",
    "O'Brien & <b>Söhne</b>",
    "a\r\nBcc: eve@example.com",
)


def test_what_people_typed_arrives_as_they_typed_it_and_is_no_template(alice: User, post_box: PostBox) -> None:
    """A name of a device, a user, another account: everything that a stranger can put into a mail."""
    offenders = []
    for message, typed in product(Message, TYPED):
        alice.username = alice.first_name = typed
        mail.send(
            message,
            user=alice,
            caller=Caller(ip="10.0.0.1", device=Device(typed)),
            to="to@example.com",
            context={**CONTEXT.get(message, {}), "other": typed, "factor": "passkey"},
        )
        assert mail.deliver() == 1
        got = post_box.got.pop()
        page = text_of(got, "html")
        shown = typed in page or "'" in typed or "\n" in typed
        if typed.replace("\r\n", "\n") not in text_of(got) or "Bcc" in got or "<b>Söhne" in page or not shown:
            offenders.append((message, typed, text_of(got)))
    assert offenders == []
    assert set(post_box.tried) == {"to@example.com"}


@pytest.mark.parametrize(
    ("first_name", "greeted"),
    [
        ("Ada", "Ada"),
        ("Jean-Luc O'Neil", "Jean-Luc O'Neil"),
        ("अनिल", "अनिल"),
        ("一郎", "一郎"),
        ("", "alice"),
        ("...", "alice"),
        ("https://evil.example", "https evil example"),
        ("evil.example", "evil example"),
        ("Call 0800 123456", "alice"),
        ("a" * 41, "alice"),
    ],
)
def test_a_mail_greets_by_first_name_unless_that_is_a_strangers_message(
    first_name: str, greeted: str, alice: User, caller: Caller
) -> None:
    alice.first_name = first_name
    row = mail.send(Message.CONFIRM_EMAIL, user=alice, caller=caller, context=CONTEXT[Message.CONFIRM_EMAIL])
    assert row is not None
    assert row.message.startswith(f"Hi {greeted},\n\n")
    assert f">Hi {greeted}," in html.unescape(row.html_message)


@pytest.mark.parametrize("message", Message)
def test_the_sentence_of_a_mail_stands_in_both_parts_and_is_what_an_inbox_shows_first(
    message: Message, alice: User, caller: Caller
) -> None:
    row = mail.send(message, user=alice, caller=caller, to="to@example.com", context=CONTEXT.get(message))
    assert row is not None
    sentence = row.message.split("\n\n")[1]
    page = html.unescape(row.html_message.partition("<body")[2])
    assert re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.partition(">")[2])).strip().startswith(sentence)
    assert page.count(sentence) == 2


@pytest.mark.parametrize("local", ["{{a|b}}", "{%x%}", "{{user.password}}", "o'brien", "#{x}", "%s"])
def test_an_address_that_looks_like_a_template_gets_its_mail(local: str, alice: User, caller: Caller) -> None:
    host = f"h{uuid4().hex[:10]}.example.com"
    to = f"{local}@{host}"
    mail.send(Message.CONFIRM_EMAIL, user=alice, caller=caller, to=to, context=CONTEXT[Message.CONFIRM_EMAIL])
    assert mail.deliver() == 1
    (got,) = inbox(to)
    assert got["To"].addresses[0].addr_spec == to
    assert to in text_of(got)


def test_a_site_name_with_a_comma_and_umlauts_is_one_sender(
    alice: User, caller: Caller, settings: Settings, post_box: PostBox
) -> None:
    settings.SITE_NAME = "Müller, Söhne & Co"
    settings.DEFAULT_FROM_EMAIL = '"Müller, Söhne & Co" <no-reply@example.com>'
    mail.send(Message.PASSWORD_CHANGED, user=alice, caller=caller)
    assert mail.deliver() == 1
    (sender,) = post_box.got[0]["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Müller, Söhne & Co", "no-reply@example.com")
    assert "Müller, Söhne & Co" in post_box.got[0]["Subject"]


# --- Servers that are away ----------------------------------------------------------------------------------


def test_while_smtp_is_down_nothing_is_lost_and_afterwards_nothing_is_doubled(
    db: None, settings: Settings, tmp_path: Path, clock: Clock
) -> None:
    with Mail(tmp_path / "mail") as server:
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        server.stop()
        rows = [queue(f"ada{number}@example.com") for number in range(3)]
        assert mail.deliver() == 0
        # One knock is enough.
        assert [fresh(row).status for row in rows] == [STATUS.requeued, STATUS.queued, STATUS.queued]
        for _ in range(delivery.MAX_TRIES * 3):  # however long it takes, it is no mail's fault
            clock.forward(minutes=1)
            assert mail.deliver() == 0
        assert {fresh(row).status for row in rows} <= {STATUS.queued, STATUS.requeued}
        assert {fresh(row).number_of_retries for row in rows} == {0}
        assert not any(is_blank(row) for row in rows)
        server.start()
        clock.forward(seconds=13)
        assert mail.deliver() == 3
        assert mail.deliver() == 0
        assert Counter(str(message["Message-ID"]) for message in server.messages()) == dict.fromkeys(
            (row.message_id for row in rows), 1
        )
    assert all(fresh(row).status == STATUS.sent and is_blank(row) for row in rows)


def test_a_mute_smtp_server_is_given_up_on_after_the_time_out(db: None, settings: Settings) -> None:
    settings.EMAIL_TIMEOUT = 0.3
    with Mute() as mute:
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", mute.port
        row = queue()
        assert mail.deliver() == 0
    row = fresh(row)
    assert (row.status, row.number_of_retries) == (STATUS.requeued, 0)
    assert row.scheduled_time > now()


def test_pauses_grow_up_to_hours_and_after_about_a_day_it_is_over(
    db: None, settings: Settings, clock: Clock, post_box: PostBox
) -> None:
    post_box.at_rcpt["ada"] = "451 later"
    row, pauses = queue(), list[float]()
    for _ in range(delivery.MAX_TRIES - 1):
        mail.deliver()
        waiting = fresh(row)
        assert waiting.status == STATUS.requeued
        pauses.append((waiting.scheduled_time - clock()).total_seconds())
        clock.forward(seconds=pauses[-1] - 1)
        assert len(post_box.tried) == len(pauses)
        mail.deliver()
        assert len(post_box.tried) == len(pauses), "not before its time"
        clock.forward(seconds=2)
    mail.deliver()
    assert fresh(row).status == STATUS.failed
    assert is_blank(row)
    assert len(post_box.tried) == delivery.MAX_TRIES
    assert 4 <= pauses[0] <= 8
    assert all(later > earlier for earlier, later in pairwise(pauses[:10]))
    assert max(pauses) <= 3 * 3600 * 1.2
    assert 6 * 3600 < clock.by.total_seconds() < 48 * 3600
    assert Log.objects.filter(email=row).count() == delivery.MAX_TRIES


@pytest.mark.parametrize("at", ["rcpt", "data"])
@pytest.mark.parametrize("code", ["550", "552 5.2.2", "554 5.7.1"])
def test_a_refusal_for_good_ends_this_mail_and_not_those_behind_it(
    db: None, post_box: PostBox, at: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    getattr(post_box, f"at_{at}")["gone"] = f"{code} no such person gone@example.com"
    rows = [queue(f"{name}@example.com") for name in ("one", "gone", "two")]
    with caplog.at_level(logging.WARNING):
        mail.deliver()
    assert [fresh(row).status for row in rows] == [STATUS.sent, STATUS.failed, STATUS.sent]
    assert all(is_blank(row) for row in rows)
    assert post_box.recipients == ["one@example.com", "two@example.com"]
    (entry,) = Log.objects.all()
    assert (entry.email_id, entry.status) == (rows[1].id, STATUS.failed)
    assert "gone@" not in caplog.text + entry.message
    kind = {"rcpt": "SMTPRecipientsRefused", "data": "SMTPDataError"}[at]
    assert f"email {rows[1].id} is given up: {kind} {code}\n" in caplog.text
    assert entry.message == code
    assert mail.deliver() == 0
    assert post_box.tried.count("gone@example.com") == 1


@pytest.mark.parametrize("at", ["rcpt", "data"])
def test_a_refusal_for_now_makes_this_mail_wait_and_not_those_behind_it(
    db: None, post_box: PostBox, clock: Clock, at: str
) -> None:
    getattr(post_box, f"at_{at}")["full"] = "451 try again later"
    rows = [queue(f"{name}@example.com") for name in ("one", "full", "two")]
    mail.deliver()
    assert [fresh(row).status for row in rows] == [STATUS.sent, STATUS.requeued, STATUS.sent]
    assert not is_blank(rows[1])
    getattr(post_box, f"at_{at}").clear()
    assert mail.deliver() == 0
    clock.forward(seconds=10)
    assert mail.deliver() == 1
    assert post_box.recipients == ["one@example.com", "two@example.com", "full@example.com"]
    assert is_blank(rows[1])


def test_a_mail_that_cannot_be_written_holds_up_none_behind_it(
    db: None, post_box: PostBox, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = queue(), queue("good@example.com")
    Email.objects.filter(id=bad.id).update(headers={"X-Bad": "a\r\nBcc: eve@example.com"})
    with caplog.at_level(logging.ERROR):
        mail.deliver()
    assert fresh(bad).status == STATUS.failed
    assert is_blank(bad)
    assert fresh(good).status == STATUS.sent
    assert post_box.recipients == ["good@example.com"]


def test_a_server_that_went_away_between_two_mails_is_called_again(db: None, post_box: PostBox) -> None:
    post_box.at_data["first"] = "421 shutting down"
    first, second = queue("first@example.com"), queue("second@example.com")
    mail.deliver()
    mail.deliver()
    assert fresh(first).status == STATUS.requeued
    assert fresh(second).status == STATUS.sent
    assert post_box.recipients == ["second@example.com"]


def test_a_server_that_takes_few_mails_over_one_connection_gets_them_over_several(
    db: None, post_box: PostBox, clock: Clock
) -> None:
    post_box.mails_a_connection = 3
    rows = [queue(f"n{number}@example.com") for number in range(10)]
    assert mail.deliver() == 10
    assert post_box.recipients == [f"n{number}@example.com" for number in range(10)]
    assert post_box.connections == 4
    assert {fresh(row).number_of_retries for row in rows} == {0}
    assert not Log.objects.exists()


def test_a_connection_is_kept_for_the_mails_of_the_next_seconds_and_no_longer(
    db: None, post_box: PostBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        queue()
        assert mail.deliver() == 1
    assert mail.check_server()
    queue()
    assert mail.deliver() == 1
    assert post_box.connections == 1
    monkeypatch.setattr(server, "KEPT_OPEN", 0.0)
    queue()
    assert mail.deliver() == 1
    assert post_box.connections == 2


def test_a_kept_connection_that_is_gone_costs_a_mail_nothing(db: None, post_box: PostBox) -> None:
    queue()
    assert mail.deliver() == 1
    assert server._line.backend is not None
    assert server._line.backend.connection is not None
    assert server._line.backend.connection.sock is not None
    server._line.backend.connection.sock.shutdown(socket.SHUT_RDWR)
    row = queue()
    assert mail.deliver() == 1
    assert fresh(row).number_of_retries == 0
    assert post_box.connections == 2
    server._line.backend.connection.sock.shutdown(socket.SHUT_RDWR)
    assert mail.check_server(), "nor is the server taken to be away"


def test_after_its_turn_the_sender_stands_in_line_again(
    db: None,
    post_box: PostBox,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """Else whoever forgot a password waits until every notice has left."""
    for _ in range(3):
        queue()
    notified: list[str] = []
    monkeypatch.setattr(jobs, "_notify", lambda task: notified.append(task.name))
    monkeypatch.setattr(delivery, "TURN", 1e-9)
    with django_capture_on_commit_callbacks(execute=True):
        mail.deliver_mail()
    assert notified == ["accounts.deliver_mail"]
    monkeypatch.setattr(delivery, "TURN", 60.0)
    with django_capture_on_commit_callbacks(execute=True):
        assert mail.deliver_mail() == 3
    assert notified == ["accounts.deliver_mail"]


def test_a_mail_that_ends_each_connection_waits_longer_each_time_and_the_others_go(
    db: None, post_box: PostBox, clock: Clock
) -> None:
    post_box.at_data["poison"] = "421 what is this"
    queue("one@example.com")
    poison = queue("poison@example.com")
    queue("two@example.com")
    assert mail.deliver() == 1
    assert mail.deliver() == 1
    assert post_box.recipients == ["one@example.com", "two@example.com"]
    assert fresh(poison).number_of_retries == 1
    clock.forward(seconds=10)
    assert mail.deliver() == 0
    assert fresh(poison).number_of_retries == 2


@pytest.mark.parametrize("answer", ["451 not now", "550 we do not know you", "421 closing"])
def test_a_server_that_will_not_have_us_is_no_mails_fault(
    db: None, post_box: PostBox, clock: Clock, answer: str
) -> None:
    post_box.at_mail = answer
    rows = [queue(), queue("bob@example.com")]
    for _ in range(delivery.MAX_TRIES + 1):
        assert mail.deliver() == 0
        clock.forward(seconds=13)
    assert {fresh(row).number_of_retries for row in rows} == {0}
    post_box.at_mail = "250 OK"
    assert mail.deliver() == 2


def test_a_mail_that_is_refused_for_good_came_back(db: None, post_box: PostBox) -> None:
    post_box.at_rcpt["gone"] = "550 no such person"
    gone, there = queue("gone@example.com"), queue("there@example.com")
    assert (mail.delivery_of(gone), mail.delivery_of(there)) == ("queued", "queued")
    assert mail.deliver() == 1
    assert (mail.delivery_of(fresh(gone)), mail.delivery_of(fresh(there))) == ("bounced", "sent")


# --- How late mail is ---------------------------------------------------------------------------------------


def test_mail_is_late_since_the_server_went_away_and_until_it_is_back(
    db: None, settings: Settings, post_box: PostBox, clock: Clock
) -> None:
    assert mail.check_server()
    assert mail.delay() == timedelta()
    post_box.stop()
    assert not mail.check_server()
    clock.forward(seconds=25)
    assert mail.delay() == timedelta(), "not worth a word yet"
    clock.forward(seconds=45)
    assert mail.delay() == timedelta(seconds=70)
    assert not mail.check_server()
    assert mail.delay() == timedelta(seconds=70)
    settings.EMAIL_PORT = free_ports(1)[0]
    post_box._controller = Controller(post_box, hostname="127.0.0.1", port=settings.EMAIL_PORT)
    post_box.start()
    assert mail.check_server()
    assert mail.delay() == timedelta()
    assert post_box.got == []


@pytest.mark.parametrize("by", ["a mail", "the check"])
def test_a_server_that_will_not_have_us_is_away(db: None, post_box: PostBox, clock: Clock, by: str) -> None:
    post_box.at_mail = "550 we do not know you"
    if by == "a mail":
        queue(expires_at=now() + timedelta(hours=1))
        mail.deliver()
    else:
        mail.check_server()
    clock.forward(minutes=2)
    assert mail.delay() == timedelta(minutes=2)
    post_box.at_mail = "250 OK"
    queue()
    assert mail.deliver() >= 1
    assert mail.delay() == timedelta()


def test_one_mail_that_waits_makes_no_difference_to_what_anybody_is_told(
    db: None, post_box: PostBox, clock: Clock
) -> None:
    """Else whoever asks for somebody's reset mail would see whether there is one."""
    post_box.at_rcpt["alice"] = "451 full"
    queue("alice@example.com", priority=PRIORITY.high, expires_at=now() + timedelta(hours=1))
    assert mail.deliver() == 0
    clock.forward(minutes=5)
    assert mail.delay() == timedelta()


def test_a_crowd_of_codes_that_waits_is_told_and_notices_are_not(db: None, clock: Clock) -> None:
    for _ in range(status.CROWD):
        queue(expires_at=now() + timedelta(hours=1))
    clock.forward(minutes=5)
    assert mail.delay() == timedelta()
    for _ in range(status.CROWD):
        queue(priority=PRIORITY.high, expires_at=now() + timedelta(hours=1))
    Email.objects.update(created=clock.began)
    assert mail.delay() == timedelta(minutes=5)


def test_a_request_that_no_worker_answers_is_told_for_any_name(alice: User, caller: Caller, clock: Clock) -> None:
    for login in ("alice", "nobody.here"):
        password_resets.request_reset(login=login, caller=caller)
        Challenge.objects.asked().update(created_at=clock.began)
        clock.forward(minutes=2)
        assert mail.delay() == timedelta(minutes=2)
        clock.by = timedelta()
        email_requests.answer()
        Email.objects.all().delete()
        clock.forward(minutes=2)
        assert mail.delay() == timedelta()
        clock.by = timedelta()


# --- Leases -------------------------------------------------------------------------------------------------


def test_a_row_that_somebody_has_is_not_taken_before_the_lease_is_over(
    db: None, post_box: PostBox, clock: Clock, settings: Settings
) -> None:
    row = queue()
    dead = delivery._claim()
    assert dead is not None
    assert dead.id == row.id
    assert mail.deliver() == 0
    clock.forward(seconds=settings.EMAIL_TIMEOUT * 8 - 1)
    assert mail.deliver() == 0
    clock.forward(seconds=2)
    assert mail.deliver() == 1
    assert post_box.recipients == ["ada@example.com"]


@pytest.mark.parametrize("ends", ["sent", "failed", "later"])
def test_a_sender_that_wakes_up_late_changes_nothing_of_the_next_ones(
    db: None, clock: Clock, settings: Settings, ends: str
) -> None:
    queue()
    late = delivery._claim()
    clock.forward(seconds=settings.EMAIL_TIMEOUT * 8 + 1)
    mine = delivery._claim()
    assert late is not None
    assert mine is not None
    if ends == "later":
        delivery._try_later(late, OSError())
    else:
        delivery._finish(late, STATUS.sent if ends == "sent" else STATUS.failed)
    row = fresh(mine)
    assert (row.status, row.scheduled_time, row.message) == (STATUS.requeued, mine.scheduled_time, "Body")


@pytest.mark.django_db(transaction=True)
def test_three_senders_send_many_mails_once_each(post_box: PostBox) -> None:
    Email.objects.bulk_create(
        Email(
            from_email="a@example.com",
            to=[f"n{number}@example.com"],
            subject="s",
            message="m",
            status=STATUS.queued,
            priority=PRIORITY.medium,
            scheduled_time=now(),
            message_id=f"<{number}@example.com>",
        )
        for number in range(150)
    )
    found = at_once(3, deliver_and_hang_up)
    assert sum(one for one in found if isinstance(one, int)) == 150, found
    assert Counter(post_box.recipients) == {f"n{number}@example.com": 1 for number in range(150)}
    assert not Email.objects.exclude(status=STATUS.sent).exists()
    assert all(isinstance(one, int) and one > 5 for one in found), "all three had their share"


# --- Too late, and pruning ----------------------------------------------------------------------------------


def test_a_mail_whose_code_has_run_out_is_not_sent_and_is_blanked(db: None, post_box: PostBox, clock: Clock) -> None:
    late = queue(expires_at=now() + timedelta(minutes=10))
    queue("good@example.com")
    clock.forward(minutes=11)
    assert mail.deliver() == 1
    assert post_box.recipients == ["good@example.com"]
    assert not is_blank(late)
    mail.prune()
    assert fresh(late).status == STATUS.failed
    assert is_blank(late)


def test_prune_leaves_what_can_still_be_sent_or_is_being_sent(db: None) -> None:
    waiting, sending = queue(expires_at=now() + timedelta(hours=2)), queue()
    Email.objects.filter(id=waiting.id).update(scheduled_time=now() + timedelta(hours=1))
    claimed = delivery._claim()
    assert claimed is not None
    assert claimed.id == sending.id
    Email.objects.filter(id=sending.id).update(expires_at=now())
    assert mail.prune() == 0
    assert fresh(waiting).message == fresh(sending).message == "Body"


def test_records_of_old_mails_are_forgotten(db: None, clock: Clock, settings: Settings) -> None:
    old = queue()
    Log.objects.create(email=old, status=STATUS.failed, message="", exception_type="")
    Email.objects.update(created=now() - settings.MAIL_RETENTION + timedelta(hours=1))
    young = queue()
    assert mail.prune() == 0
    clock.forward(hours=2)
    assert mail.prune() > 0
    assert list(Email.objects.all()) == [young]
    assert not Log.objects.exists()


# --- Notifying the worker -----------------------------------------------------------------------------------


def task_at(url: str, settings: Settings) -> "Task[[], None]":
    """A task whose broker is at this address, with the patience of a web process."""
    app = Celery("drill", broker=url, set_as_current=False)
    app.config_from_object("django.conf:settings", namespace="CELERY")

    @app.task(name="drill.work", shared=False)
    def work() -> None:
        """Nobody runs it."""

    return work


def messages_at(url: str) -> list[dict[str, Any]]:
    import redis

    with redis.Redis.from_url(url) as client:
        return [json.loads(message) for message in cast("list[bytes]", client.lrange("celery", 0, -1))]


def test_the_worker_is_notified_after_the_commit_and_not_without_one(
    db: None, settings: Settings, tmp_path: Path, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with Valkey(tmp_path / "valkey") as valkey:
        settings.CELERY_BROKER_URL = valkey.url
        task = task_at(valkey.url, settings)
        with django_capture_on_commit_callbacks(execute=True):
            jobs.enqueue(task)
            assert messages_at(valkey.url) == []
        (message,) = messages_at(valkey.url)
        expires = datetime.fromisoformat(message["headers"]["expires"])
        assert expires - now() < timedelta(seconds=jobs.EXPIRES)  # else a day's notifications would wait
        with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
            jobs.enqueue(task)
            transaction.set_rollback(True)
        assert messages_at(valkey.url) == [message]


def test_a_crowd_of_work_notifies_the_worker_at_once_and_once_more(
    db: None,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    monkeypatch.setattr(jobs, "WINDOW", 3600.0)
    with Valkey(tmp_path / "valkey") as valkey:
        settings.CELERY_BROKER_URL = valkey.url
        task = task_at(valkey.url, settings)
        before = set(threading.enumerate())
        for _ in range(20):
            with django_capture_on_commit_callbacks(execute=True):
                jobs.enqueue(task)
            assert len(messages_at(valkey.url)) == 1
        [timer] = (each for each in threading.enumerate() if isinstance(each, threading.Timer) and each not in before)
        timer.cancel()
        timer.function(*timer.args)
        assert len(messages_at(valkey.url)) == 2


@pytest.mark.parametrize("how", ["down", "mute", "stopped after it was known"])
def test_a_broker_that_does_not_answer_costs_no_error_and_is_left_alone_for_a_while(
    settings: Settings, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert settings.CELERY_BROKER_TRANSPORT_OPTIONS == {
        "max_retries": 0,
        "socket_connect_timeout": 0.3,
        "socket_timeout": 0.3,
    }
    with Valkey(tmp_path / "valkey") as valkey, Mute() as mute:
        settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{mute.port}/0" if how == "mute" else valkey.url
        task = task_at(settings.CELERY_BROKER_URL, settings)
        if how.startswith("stopped"):
            jobs._notify(task)
            assert len(messages_at(valkey.url)) == 1
        valkey.stop()
        with caplog.at_level(logging.WARNING):
            jobs._notify(task)
            assert "it will poll" in caplog.text
            for _ in range(50):
                jobs._notify(task)
        assert caplog.text.count("it will poll") == 1


def test_a_broker_that_is_back_is_notified_again(settings: Settings, tmp_path: Path) -> None:
    with Valkey(tmp_path / "valkey") as valkey:
        settings.CELERY_BROKER_URL = valkey.url
        task = task_at(valkey.url, settings)
        jobs._notify(task)
        valkey.stop()
        jobs._notify(task)
        valkey.start()
        jobs._notify(task)
        assert messages_at(valkey.url) == []  # still pausing; polling does the work meanwhile
        jobs.broker.pause = 0.0
        jobs.broker.failed()
        jobs.broker.pause = 5.0
        jobs._notify(task)
        assert len(messages_at(valkey.url)) == 1
        jobs._notify(task)
        assert len(messages_at(valkey.url)) == 2, "no pause any more"


def test_a_queued_email_notifies_the_worker(
    alice: User,
    caller: Caller,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notified: list[str] = []
    monkeypatch.setattr(jobs, "_notify", lambda task: notified.append(task.name))
    with django_capture_on_commit_callbacks(execute=True):
        mail.send(Message.PASSWORD_CHANGED, user=alice, caller=caller)
    assert notified == ["accounts.deliver_mail"]
