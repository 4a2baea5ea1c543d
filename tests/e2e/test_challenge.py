"""A browser in a busy network solves the challenge by itself. (What the page does without JavaScript:
tests/web/test_challenge_page.py.)"""

from uuid import uuid4

from playwright.sync_api import Page, expect

from tests.conftest import PASSWORD
from tests.e2e.chromium import browser
from tests.e2e.conftest import Service

pytestmark = browser


def test_a_form_that_meets_a_challenge_goes_on_by_itself(page: Page, service: Service) -> None:
    name = f"busy.{uuid4().hex[:8]}"
    page.goto("/account/signup/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Email").fill(f"{name}@example.com")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    with service.busy_network():
        page.get_by_role("button", name="Create account").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Confirm email address", timeout=120_000)
    assert service.sql("SELECT 1 FROM accounts_user WHERE username = %s", name)
    assert service.sql("SELECT 1 FROM accounts_spentticket")
