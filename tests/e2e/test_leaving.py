"""Leaving, in a real browser with real workers: a copy of the data, a deletion that the mail's link takes back, and one
that comes to its end."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Browser, Page, expect

from project.devstack.servers import BASE
from tests.conftest import PASSWORD
from tests.e2e.chromium import browser, press, sign_in
from tests.e2e.conftest import Service, eventually

pytestmark = browser


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def window(request: pytest.FixtureRequest, chromium: Browser, service: Service) -> Iterator[Page]:
    context = chromium.new_context(java_script_enabled=request.param, base_url=service.url)
    page = context.new_page()
    page.set_default_timeout(8000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert said == []


def erase(service: Service) -> None:
    """What the schedule does every ten minutes."""
    subprocess.run(
        [sys.executable, "-m", "celery", "-A", "project", "call", "accounts.erase_due_accounts"],
        cwd=BASE, env=service.environment, check=True, capture_output=True,
    )  # fmt: skip


def kept(service: Service) -> str:
    """The whole database and the whole of Valkey, as one text."""
    tables = service.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [row for (table,) in tables for row in service.sql(f'SELECT t::text FROM "{table}" t')]  # noqa: S608 - of the catalogue
    client = redis.Redis.from_url(service.valkey.url)
    keys = [(key, client.dump(key)) for key in client.scan_iter()]
    return f"{rows} {keys}".lower()


def test_a_copy_a_change_of_mind_and_the_end(
    window: Page, service: Service, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    page = window
    name = "zenobia" if "with JavaScript" in request.node.name else "palmyra"  # one name rests after the other
    address = f"{name}@example.com"
    body = {"username": name, "email": address, "password": PASSWORD, "first_name": "Quillfeather"}
    token = service.post("/signup", body).json()["tokens"]["access_token"]
    assert service.post("/me/email/confirm", {"code": service.code(address, "onfirm")}, token).ok

    sign_in(page, name, PASSWORD)
    page.get_by_role("link", name="Data", exact=True).click()
    press(page, "Request a copy")
    expect(page.get_by_role("main")).to_contain_text("preparing your copy")
    assert "/account/data/" in service.text(address, "data is ready")
    if "without JavaScript" in request.node.name:  # else the page asks by itself
        page.get_by_role("link", name="Check again").click()
    with page.expect_download(timeout=60_000) as waiting:
        page.get_by_role("link", name="Download").click(timeout=60_000)
    waiting.value.save_as(tmp_path / "copy.zip")
    with zipfile.ZipFile(tmp_path / "copy.zip") as copy:
        assert json.loads(copy.read("profile.json"))["first_name"] == "Quillfeather"

    def ask() -> None:
        page.goto("/account/delete/")
        press(page, "Delete account")
        expect(page.get_by_role("main")).to_contain_text("will be deleted on")

    ask()
    page.goto(service.link(address, "will be deleted"))
    press(page, "Keep my account")
    expect(page.get_by_role("heading", level=1)).to_have_text("We've kept your account")
    assert "be deleted, and nothing was lost" in service.text(address, "kept your")
    page.goto("/account/")
    expect(page.get_by_role("main")).not_to_contain_text("will be deleted on")

    ask()
    assert name in kept(service)
    service.sql("UPDATE accounts_user SET deletes_at = now() WHERE username = %s", name)
    erase(service)
    assert "has been deleted" in service.text(address, "is deleted")
    eventually(
        lambda: (
            not service.sql("SELECT 1 FROM post_office_email WHERE %s = ANY(string_to_array(\"to\", ', '))", address)
        )
    )
    eventually(lambda: not service.sql("SELECT 1 FROM accounts_export WHERE user_id IS NULL"))
    text = kept(service)
    assert name not in text
    assert "quillfeather" not in text
    page.goto("/account/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    sign_in(page, name, PASSWORD)
    expect(page.get_by_role("main")).to_contain_text("don't match")
