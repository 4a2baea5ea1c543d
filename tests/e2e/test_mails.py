"""What mails leave behind once they are sent, and what a stranger can put into one: over real HTTP and SMTP."""

import re
import subprocess
from email.message import EmailMessage

import pytest

from project.devstack.servers import postgres_bin
from tests.conftest import PASSWORD
from tests.e2e.conftest import Service, eventually

NEW = "another lagoon tractor"
HOSTILE = (
    "{{ 7|add:7 }}{{a|b}}",
    "{% load i18n %}{% now 'Y' %}",
    "{# gone #}{%x%}",
    '<b>bold</b><img src="https://evil.example/x.png"><a href="https://evil.example">click</a>',
    "name\r\nBcc: eve@example.com\r\n\r\nSecond body",
)


def bodies(mail: EmailMessage) -> dict[str, str]:
    parts = {kind: mail.get_body((kind,)) for kind in ("plain", "html")}
    return {kind: str(part.get_content()) for kind, part in parts.items() if part}


def arrived(service: Service, to: str, subject: str) -> EmailMessage:
    """The newest."""

    def look() -> EmailMessage | None:
        return next((mail for mail in reversed(service.letters(to)) if re.search(subject, mail["Subject"])), None)

    return eventually(look)


def dump(service: Service) -> str:
    """The whole database as text."""
    url = service.environment["DATABASE_URL"]
    done = subprocess.run([postgres_bin() / "pg_dump", url], capture_output=True, text=True, check=True)
    return done.stdout


def test_after_sending_a_dump_holds_no_code_key_link_or_body(service: Service) -> None:
    ada = {"username": "ada.dump", "email": "ada.dump@example.com", "password": PASSWORD}
    token = service.post("/signup", ada).json()["tokens"]["access_token"]
    code = service.code(ada["email"], "onfirm")
    assert service.post("/me/email/confirm", {"code": code}, token).status_code == 200
    assert service.post("/me/email", {"email": "new.dump@example.com", "password": PASSWORD}, token).status_code == 202
    assert service.post("/password/forgot", {"login": "ada.dump"}).status_code == 202
    service.code("new.dump@example.com", "onfirm")
    code = service.code(ada["email"], "assword")
    reset = {"login": "ada.dump", "code": code, "new_password": NEW}
    assert service.post("/password/reset", reset).status_code == 204
    # A stranger claims it, which mails the owner; and one mail more waits, whose secrets nobody has used.
    service.post("/signup", {"username": "eve.dump", "email": ada["email"], "password": PASSWORD})
    service.post("/password/forgot", {"login": "ada.dump"})
    eventually(lambda: len(service.letters(ada["email"])) == 6)
    mails = [*service.letters(ada["email"]), *service.letters("new.dump@example.com")]
    eventually(lambda: not service.sql("SELECT 1 FROM post_office_email WHERE status IN (2, 3)"))

    text = dump(service)
    assert "ada.dump@example.com" in text, "it is the right database"
    secrets = set()
    for mail in mails:
        for body in bodies(mail).values():
            secrets |= set(re.findall(r"#(\d{8})\b", body))
            secrets |= set(re.findall(r"/account/(?:confirm-email|password/reset/key)/([^/\s\"]+)", body))
            lines = (re.sub(r"<[^>]*>", "", line).strip() for line in body.splitlines())
            secrets |= {line for line in lines if len(line) > 25}
    assert len([secret for secret in secrets if re.fullmatch(r"\d{8}", secret)]) == 4
    assert len([secret for secret in secrets if re.fullmatch(r"[0-9a-f]{32}-\S{43}", secret)]) == 4
    assert len(secrets) > 30
    assert [secret for secret in secrets if re.search(rf"(?<![0-9a-f]){re.escape(secret)}(?![0-9a-f])", text)] == []
    keys = [secret.partition("-")[2] for secret in secrets if re.fullmatch(r"[0-9a-f]{32}-\S{43}", secret)]
    assert [key for key in keys if key in text] == []
    # What waits in the database is also not in the broker, whose file a copy may be made of.
    kept = b"".join(path.read_bytes() for path in (service.folder / "valkey").rglob("*.aof"))
    assert [secret for secret in [*secrets, *keys] if len(secret) > 8 and secret.encode() in kept] == []


@pytest.mark.parametrize("typed", HOSTILE)
def test_what_a_stranger_types_arrives_as_plain_text(service: Service, typed: str) -> None:
    number = HOSTILE.index(typed)
    email, name = f"{{{{a|b}}}}{number}@example.com", f"typed.{'abcde'[number]}"
    body = {"username": name, "email": email, "password": PASSWORD, "device": {"name": typed}}
    assert service.post("/signup", body).status_code == 201
    first = arrived(service, email, "onfirm")
    code = str(service.code(email, "onfirm"))
    assert service.post("/email/confirm", {"email": email, "code": code, "device": {"name": typed}}).status_code == 200
    signed_in = service.post("/token", {"login": email, "password": PASSWORD, "device": {"name": f"{typed} 2"}})
    assert signed_in.status_code == 200
    session = signed_in.json()["tokens"]
    changed = {"current_password": PASSWORD, "new_password": NEW}
    assert service.post("/me/password", changed, session["access_token"]).status_code == 204
    second = arrived(service, email, "assword")
    for mail in (first, second):
        assert mail["To"] == email
        assert mail["Bcc"] is None
        assert "evil" not in str(mail["Subject"])
        found = bodies(mail)
        assert email in found["plain"]
        assert email in found["html"]
        for part in found.values():
            assert "{{ 7" not in part
            assert not re.search(r"\b14\b.*\b14\b|VariableDoesNotExist|TemplateSyntax", part)
            assert "<b>bold" not in part
            assert "https://evil" not in part
            assert "evil.example" not in part
            assert "Second body" not in part.splitlines()
    assert not service.letters("eve@example.com")


def test_what_is_typed_into_the_forgot_page_is_run_nowhere(service: Service) -> None:
    before = service.sql("SELECT count(*) FROM post_office_email")
    for typed in (*HOSTILE, "{{a|b}}@x", "{% load x %}@example.com", "a\r\nBcc: eve@example.com", "<script>@x"):
        answer = service.post("/password/forgot", {"login": typed})
        assert (answer.status_code, answer.json()["detail"][:2]) == (202, "If")
    eventually(lambda: not service.sql("SELECT 1 FROM accounts_challenge WHERE answered_at IS NULL"))
    assert service.sql("SELECT count(*) FROM post_office_email") == before
