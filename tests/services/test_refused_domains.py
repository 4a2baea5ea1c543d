"""Domains that no new address may have (REFUSED_EMAIL_DOMAINS_FILE)."""

from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

from accounts.caller import NOBODY, Caller
from accounts.models import User
from accounts.services.account import password_resets, users
from accounts.services.authentication import sign_in
from accounts.services.credentials import identifiers
from accounts.services.staff import imports
from tests.conftest import PASSWORD, make_user

LIST = """
# Throw-away addresses
mailinator.com
  *.Trash-Mail.com   # with a comment
.dots.example.
b\u00fccher.example
xn--fiq228c.example
@at.example
*.star.example
"""


@pytest.fixture
def listed(refused_domains: Path) -> None:
    refused_domains.write_text(f"first.example{LIST}", encoding="utf-8-sig")  # as Windows saves it


def is_refused(email: str) -> bool:
    found = identifiers.new_email_problem(identifiers.fold_email(email))
    return found is not None and found.code == "email_refused"


def test_without_a_file_no_domain_is_refused() -> None:
    assert identifiers.refused_domains() == frozenset()
    assert not is_refused("x@mailinator.com")


def test_domains_and_their_subdomains_are_refused_in_any_spelling(listed: None) -> None:
    refused = (
        "x@mailinator.com", " X@MAILINATOR.COM", "x@a.b.mailinator.com", "x@trash-mail.com", "x@sub.trash-mail.com",
        "x@dots.example", "x@b\u00fccher.example", "x@B\u00dcCHER.example", "x@xn--bcher-kva.example",
        "x@\u4e2d\u6587.example", "x@first.example", "x@at.example", "x@a.at.example", "x@star.example",
    )  # fmt: skip
    taken = ("x@example.com", "x@notmailinator.com", "x@mailinator.com.example", "mailinator.com@example.com", "x@com")
    assert [email for email in refused if not is_refused(email)] == []
    assert [email for email in taken if is_refused(email)] == []


def test_an_address_that_an_account_has_keeps_working(listed: None, db: None, caller: Caller) -> None:
    user = make_user("dora")
    User.objects.filter(id=user.id).update(email="dora@mailinator.com")
    assert sign_in.check(login="dora@mailinator.com", password=PASSWORD, caller=caller) == user
    password_resets.request_reset(login="dora@mailinator.com", caller=caller)


def test_operators_may_import_and_enter_any(listed: None, db: None) -> None:
    line = b'{"username": "dora", "email": "dora@mailinator.com", "email_verified": true}'
    [report] = imports.run([line], apply=True, caller=NOBODY)
    assert (report.made, report.refusals) == (1, [])
    made = users.make_staff(username="boss", email="boss@mailinator.com", password=PASSWORD)
    assert made.email == "boss@mailinator.com"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_an_error_at_the_start(refused_domains: Path, content: bytes | None) -> None:
    if content:
        refused_domains.write_bytes(content)
    [message] = [one for one in run_checks(tags=["security"]) if one.id == "accounts.E010"]
    assert "REFUSED_EMAIL_DOMAINS_FILE" in message.msg
    assert message.hint
    with pytest.raises(ImproperlyConfigured):
        identifiers.refused_domains()


def test_a_line_that_is_no_domain_is_an_error_with_its_number(refused_domains: Path) -> None:
    wrong = ("somebody@mailinator.com", "a b", "https://mailinator.com/", "||mailinator.com^", "a,b", "@", "*.")
    refused_domains.write_text("\n".join(("good.example", "xyz", "# comment", "", *wrong)))
    [message] = [one for one in run_checks(tags=["security"]) if str(one.id).startswith("accounts.E01")]
    assert (message.id, "line 5, 6, 7, 8, 9, 10, 11:" in message.msg) == ("accounts.E014", True)
    assert identifiers.refused_domains() == {"good.example", "xyz"}  # the others still work
