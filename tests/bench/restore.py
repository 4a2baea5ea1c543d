"""Production is lost and restored to a moment before: `make bench ARGS=restore`, with two hundred sessions and all the
processes of the service. Half of the sessions must live on, half must not. A rehearsal with the key of production's
bucket runs beside it first. Writes the figures to docs/bench/restore.md.

tests/outages/test_restore.py is the same in the suite, with six people and no process."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import requests

from project.devstack.servers import BASE
from tests.bench.server import OUT, PASSWORD
from tests.conftest import picture
from tests.e2e.conftest import Service, eventually
from tests.outages.restoring import Backups, Configured, blocks

T = TypeVar("T")

PHONES, BROWSERS = 40, 10  # of each kind; a browser is that of a person with a phone
PICTURES = 10
SESSIONS = PHONES + BROWSERS
KINDS = {
    "refreshed since": True,
    "idle": True,
    "of people erased since": False,
    "new since": False,
}


class Crew(Service):
    """On a Postgres that can be replaced."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.backups = Backups(folder)
        self.postgres = self.backups.production

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "DATABASE_URL": self.postgres.url}

    def address(self, database: str) -> str:
        return self.postgres.url

    def start(self) -> None:
        for server in (self.postgres, self.valkey, self.mail):
            server.start()
        self.prepare()
        self.run_all()

    def run_all(self) -> None:
        self.run_web()
        self.run_worker("worker")
        self.run_beat()
        eventually(self.ready)

    def is_lost(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        self.postgres.stop()

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        for server in (self.mail, self.valkey):
            server.stop()
        self.backups.stop()

    def work(self, code: str, **environment: str) -> str:
        return self.manage("shell", "--no-imports", "-c", f"{WORKER}\n{code}", **environment).strip()

    def until_sent(self) -> None:
        eventually(lambda: self.sql("SELECT count(*) FROM post_office_email WHERE status IN (2, 3)") == [(0,)])


# What the worker does by its schedule, with no day of grace.
WORKER = """
from datetime import timedelta
from django.utils.timezone import now
from accounts.lib.storage import bucket
from accounts.models import BucketOwner, DiscardedPicture
from accounts.services.account import deletion
from accounts.services.profile import exports, objects, picture_uploads, pictures
picture_uploads.GRACE = timedelta(minutes=-1)
DiscardedPicture.objects.update(remove_at=now())
def remove():
    return (deletion.erase_due(), pictures.remove_discarded() + picture_uploads.remove_old() + exports.remove_expired()
        + picture_uploads.remove_orphans() + pictures.remove_discarded())
def count():
    return sum(1 for _ in bucket.listing("pictures/", after="", at_most=10_000))
"""
# A copy of an earlier moment; and the same, had it been made this very moment.
REHEARSED = """
row = BucketOwner.objects.get()
print(objects.owner().name, remove(), count())
BucketOwner.objects.update(next_token=objects._read()[0])
print(objects.owner().name, remove(), count())
row.save()
"""


class Person:
    """Somebody with a phone, and some with a browser."""

    def __init__(self, service: Crew, number: int) -> None:
        self.service = service
        self.name = "p" + re.sub(r"\d", lambda digit: "ghijklmnop"[int(digit[0])], uuid4().hex[:16])
        self.email = f"{self.name}@example.com"
        answer = service.post("/signup", {"username": self.name, "email": self.email, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        self.tokens = answer.json()["tokens"]
        self.browser = self._sign_in() if number < BROWSERS else None

    def _sign_in(self) -> requests.Session:
        browser, page = requests.Session(), f"{self.service.url}/account/login/"
        browser.get(page, timeout=180)
        form = {"login": self.name, "password": PASSWORD, "csrfmiddlewaretoken": browser.cookies["csrf"]}
        assert browser.post(page, form, timeout=180).ok
        return browser

    def refresh(self) -> int:
        answer = self.service.post("/token/refresh", {"refresh_token": self.tokens["refresh_token"]})
        if answer.ok:
            self.tokens = answer.json()
        return answer.status_code

    def me(self) -> requests.Response:
        return self._ask("GET", "/me")

    def show(self, content: bytes) -> None:
        assert self._ask("PUT", "/me/picture", files={"file": ("me.png", content)}).ok

    def _ask(self, method: str, path: str, files: dict[str, tuple[str, bytes]] | None = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}
        return requests.request(method, f"{self.service.url}/api/v1{path}", headers=headers, files=files, timeout=180)

    def looks(self) -> bool:
        """Whether the browser is signed in."""
        assert self.browser is not None
        page = self.browser.get(f"{self.service.url}/account/", allow_redirects=False, timeout=180)
        assert page.status_code in {200, 302}, page.status_code
        return page.status_code == 200

    def lives(self) -> list[bool]:
        """Each session, as docs/mobile.md goes on: of an access token that is newer than its row, an app only hears
        that it is to refresh."""
        first, status = self.me(), self.refresh()
        assert status in {200, 401}, status
        assert status == 401 or first.ok or first.json()["code"] == "invalid_token", first.text
        assert self.me().status_code == status
        return [status == 200, *([self.looks()] if self.browser else [])]


def people(service: Crew) -> list[Person]:
    return [Person(service, number) for number in range(PHONES)]


def everybody(groups: dict[str, list[Person]]) -> Iterable[Person]:
    return (person for group in groups.values() for person in group)


def alive(group: list[Person]) -> int:
    return sum(sum(person.lives()) for person in group)


def numbers(said: str) -> list[int]:
    return [int(found) for found in re.findall(r"^\d+", said, re.MULTILINE)]


def timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.monotonic()
    return work(), time.monotonic() - began


def letters(service: Crew) -> Counter[str]:
    return Counter(str(letter["X-RcptTo"]).partition("@")[0] for letter in service.mail.messages())


def before(service: Crew) -> dict[str, list[Person]]:
    """Until the moment. The mail server is away, and two hours ago everybody has asked for a new password."""
    groups = {kind: people(service) for kind in list(KINDS)[:3]}
    service.until_sent()
    for number, person in enumerate(groups["refreshed since"][:PICTURES]):
        person.show(picture((320 + number, 300)))
    service.work("assert objects.may_remove()")
    service.mail.stop()
    for person in everybody(groups):
        assert service.post("/password/forgot", {"login": person.name}).status_code == 202
    asked = PHONES * 3
    eventually(lambda: service.sql("SELECT count(*) FROM post_office_email WHERE status IN (2, 3)") == [(asked,)])
    service.sql("UPDATE post_office_email SET created = created - interval '2 hours' WHERE status IN (2, 3)")
    return groups


def since(service: Crew, groups: dict[str, list[Person]]) -> None:
    """Production goes on."""
    service.mail.start()
    service.sql("UPDATE post_office_email SET scheduled_time = now() WHERE status IN (2, 3)")
    for person in groups["refreshed since"]:
        assert [person.refresh() for _ in range(3)] == [200] * 3
        assert not person.browser or person.looks()
    for number, person in enumerate(groups["refreshed since"][:PICTURES]):
        person.show(picture((420 + number, 300)))
    names = [person.name for person in groups["of people erased since"]]
    service.sql("UPDATE accounts_user SET deletes_at = now() WHERE username = ANY(%s)", names)
    groups["new since"] = people(service)
    service.until_sent()
    removed = service.work("print(remove()[1] >= 0, count())")
    assert removed == f"True {3 * PICTURES}", removed
    eventually(lambda: service.sql("SELECT count(*) FROM accounts_user WHERE username = ANY(%s)", names) == [(0,)])
    service.until_sent()
    service.work("objects.RENEWED_AFTER = timedelta(minutes=-1); assert objects.may_remove()")


def drill(service: Crew) -> list[str]:
    groups = before(service)
    backup, backing_up = timed(service.backups.back_up)
    for person in groups["refreshed since"]:
        assert person.refresh() == 200
    [[moment]] = service.sql("SELECT now()::text")
    since(service, groups)
    sent = letters(service)
    service.backups.archive()
    rehearsed = rehearse(service, service.backups.restore("rehearsal", backup, str(moment)), str(moment))
    erased = groups["of people erased since"]
    assert alive(erased) == 0
    assert alive(groups["new since"]) == SESSIONS

    service.is_lost()
    service.postgres, restoring = timed(lambda: service.backups.restore("copy", backup, str(moment)))
    service.manage("migrate", "--verbosity=0")
    said, restored = timed(lambda: as_on_page(service, 1, str(moment)))
    print(said)
    # The erased take their emails and codes with them: each person has a code of the sign-up and one for the password.
    counted = [PHONES, 0, 3 * PHONES, 6 * PHONES, PICTURES]
    assert numbers(said) == [*counted, PHONES, 0, 2 * PHONES, 4 * PHONES, PICTURES], said
    service.run_all()
    again = service.manage("restored", "--to", str(moment))
    assert numbers(again) == [0] * 5, again

    living = {kind: alive(group) for kind, group in groups.items()}
    rows = [f"| {kind} | {SESSIONS} | {SESSIONS if lives else 0} | {living[kind]} |" for kind, lives in KINDS.items()]
    print(*rows, sep="\n")
    assert living == {kind: SESSIONS if lives else 0 for kind, lives in KINDS.items()}
    assert Person(service, 0).lives() == [True, True]
    assert all(person.me().json()["picture"] is None for person in groups["refreshed since"][:PICTURES])
    service.until_sent()
    twice = letters(service) - sent
    assert sum(twice[person.name] for person in everybody(groups)) == 0, twice
    return [
        *rows,
        "",
        f"- Emails queued at that moment and sent since: {PHONES * 3}. Sent a second time: 0.",
        f"- Rehearsal with the key of production's bucket, beside it: {rehearsed}.",
        f"- Base backup {backing_up:.1f} s, restore to that moment {restoring:.1f} s, `restored` {restored:.1f} s:",
        "",
        "```",
        said.strip(),
        "```",
    ]


def as_on_page(service: Service, number: int, moment: str) -> str:
    """The commands of this block of docs/backup.md, with the settings of this service."""
    text = blocks("sh")[number].replace("2026-11-28 10:00:00+00", moment).replace("manage.py", "python manage.py")
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["sh", "-ec", text]
    done = subprocess.run(
        command, cwd=BASE, env=service.environment | path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rehearse(service: Crew, copy: Configured, moment: str) -> str:
    """First with the key of production's bucket, and a deletion that its owner has cancelled in production since; then
    as the page says."""
    copy.sql("UPDATE accounts_user SET deletes_at = now() WHERE id IN (SELECT id FROM accounts_user LIMIT 1)")
    said = service.work(REHEARSED, DATABASE_URL=copy.url)
    copy.sql("UPDATE accounts_user SET deletes_at = NULL")
    assert said == f"OTHER (0, 0) {3 * PICTURES}\nWAITING (0, 0) {3 * PICTURES}", said
    # At the address from which the bucket takes uploads, with a bucket, a Valkey and a mail server of its own.
    port = urlsplit(os.environ["PUBLIC_URL"]).port
    rehearsal = Service(service.folder / "apart", port=port, DATABASE_URL=copy.url)
    for server in (rehearsal.valkey, rehearsal.mail):
        server.start()
    try:
        password = as_on_page(rehearsal, 2, moment).rpartition(": ")[2].strip()
        rehearsal.run_web()
        eventually(rehearsal.ready)
        assert rehearsal.post("/token", {"login": "rehearsal", "password": password}).status_code == 200
    finally:
        for name in list(rehearsal.processes):
            rehearsal.kill(name)
        for server in (rehearsal.valkey, rehearsal.mail):
            server.stop()
    return "0 objects removed, 0 accounts erased"


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="restore-"))
    folder.chmod(0o711)
    service = Crew(folder / "service")
    try:
        service.start()
        lines = drill(service)
    except BaseException:
        print(f"The logs are in {folder}.")
        raise
    finally:
        service.stop()
    shutil.rmtree(folder, ignore_errors=True)
    (OUT / "restore.md").write_text("\n".join([HEAD, *lines, ""]))


HEAD = f"""# A restore to a moment

Written by `make bench ARGS=restore`: by the commands of [backup.md](../backup.md), with web, worker and beat, {PHONES}
phones and {BROWSERS} browsers of each kind, on one machine of two cores.

| sessions | | must live on | live on |
|---|---|---|---|"""
