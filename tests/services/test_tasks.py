"""The names under which the worker is asked, by this version, by the one before, and by the schedule."""

import re
from pathlib import Path

from accounts.services.account import email_requests
from project.celery import app
from tests.conftest import Mailbox

# All of version 1.2. A task that was queued before an upgrade must be found after it.
OF_EARLIER_VERSIONS = {
    "accounts.answer_resend_requests",
    "accounts.answer_reset_requests",
    "accounts.answer_sign_in_requests",
    "accounts.check_mail_server",
    "accounts.deliver_mail",
    "accounts.erase_due_accounts",
    "accounts.keep_signing_keys",
    "accounts.make_exports",
    "accounts.prune",
    "accounts.publish_upload",
    "accounts.remove_discarded_pictures",
    "accounts.remove_expired_exports",
    "accounts.remove_orphans",
    "accounts.remove_uploads",
    "accounts.sweep",
    "accounts.sweep_uploads",
}


def known() -> set[str]:
    app.loader.import_default_modules()
    return {name for name in app.tasks if name.startswith("accounts.")}


def test_the_worker_knows_every_name_of_an_earlier_version_and_of_the_schedule() -> None:
    scheduled = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert (OF_EARLIER_VERSIONS | scheduled) - known() == set()


def test_the_worker_knows_every_name_that_a_rule_enqueues() -> None:
    source = "\n".join(path.read_text() for path in Path("accounts").rglob("*.py"))
    names = set(re.findall(r'jobs\.enqueue\("([^"]+)"\)', source))
    assert names == {"accounts.answer_requests"}
    assert names <= known()


def test_the_three_earlier_names_of_the_task_that_answers_requests_do_its_work(db: None, mailbox: Mailbox) -> None:
    known()
    for kind in ("reset", "resend", "sign_in"):
        assert app.tasks[f"accounts.answer_{kind}_requests"].run is email_requests.answer.run
