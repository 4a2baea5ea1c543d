"""Production is lost, and restored to a moment before by the commands of docs/backup.md: a base backup, the archive,
and `manage.py restored`. Beside it a rehearsal, to which somebody gave the key of production's bucket.

Each person is named after what they do since then."""

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from project.devstack.servers import BASE, Postgres, postgres_bin, without_root
from tests.conftest import PASSWORD, picture
from tests.e2e.conftest import Service, eventually

log = logging.getLogger(__name__)
PAGE = (BASE / "docs/backup.md").read_text()


def blocks(kind: str) -> list[str]:
    """Of this kind, in their order."""
    return re.findall(rf"^ *```{kind}\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)


class Configured(Postgres):
    """With lines of the page at the end of its configuration; over a copy of a backup, if there is one."""

    def __init__(self, folder: Path, lines: str, *, backup: Path | None = None, like: Postgres | None = None) -> None:
        folder.mkdir()
        if like is not None:  # the password is among the data
            shutil.copy(like.folder / "secret", folder / "secret")
        super().__init__(folder)
        if backup is not None:
            shutil.copytree(backup, self.cluster)
            (self.cluster / "recovery.signal").touch()
        else:
            self.prepare()
        with (self.cluster / "postgresql.conf").open("a") as file:
            file.write(lines)


class Crew(Service):
    """Web on a Postgres that can be replaced. What a worker does, it does when it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.backup = folder / "backup"
        (self.backup / "archive").mkdir(parents=True)
        self.restored: list[Postgres] = []
        self.postgres: Postgres = Configured(folder / "production", self.of_page(blocks("ini")[0]))

    def of_page(self, text: str, moment: str = "") -> str:
        return text.replace("/backup/", f"{self.backup}/").replace("2026-11-28 10:00:00+00", moment)

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "DATABASE_URL": self.postgres.url}

    def address(self, database: str) -> str:
        return self.postgres.url

    def start(self) -> None:
        for server in (self.postgres, self.valkey, self.mail):
            server.start()
        self.prepare()
        self.run_web()
        eventually(self.ready)

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        for server in (self.mail, self.valkey, self.postgres, *self.restored):
            server.stop()

    def back_up(self) -> Path:
        """As the page says, each night."""
        url = urlsplit(self.postgres.url)
        login = {"PGHOST": str(url.hostname), "PGPORT": str(url.port), "PGUSER": str(url.username)}
        path = {"PATH": f"{postgres_bin()}:{os.environ['PATH']}", "PGPASSWORD": str(url.password)}
        command = [*without_root(self.backup), "sh", "-ec", self.of_page(blocks("sh")[0])]
        subprocess.run(command, env={**os.environ, **login, **path}, check=True)
        [made] = (self.backup / "base").iterdir()
        return made

    def restore(self, name: str, backup: Path, moment: str) -> Postgres:
        """Another Postgres, of that moment."""
        lines = self.of_page(blocks("ini")[1], moment)
        made = Configured(self.folder / name, lines, backup=backup, like=self.postgres)
        self.restored.append(made)
        made.start()
        eventually(lambda: self.sql_of(made, "SELECT pg_is_in_recovery()") == [(False,)])
        return made

    def sql_of(self, postgres: Postgres, statement: str, *values: object) -> list[tuple[object, ...]]:
        before, self.postgres = self.postgres, postgres
        try:
            return self.sql(statement, *values)
        finally:
            self.postgres = before

    def archive(self) -> None:
        """Everything until now."""
        [[file]] = self.sql("SELECT pg_walfile_name(pg_current_wal_lsn()) FROM (SELECT txid_current()) AS something")
        self.sql("SELECT pg_switch_wal()")
        archived = self.backup / "archive" / str(file)
        eventually(archived.exists)

    def work(self, code: str, **environment: str) -> str:
        return self.manage("shell", "--no-imports", "-c", f"{WORKER}\n{code}", **environment)


# What the worker does by its schedule. Orphans have no day of grace.
WORKER = """
from datetime import timedelta
from accounts.lib.storage import bucket
from accounts.services import mail
from accounts.services.account import deletion, email_requests
from accounts.services.profile import exports, objects, picture_uploads, pictures
picture_uploads.GRACE = timedelta(minutes=-1)
def remove():
    return (deletion.erase_due(), pictures.remove_discarded() + picture_uploads.remove_old() + exports.remove_expired()
        + picture_uploads.remove_orphans() + pictures.remove_discarded())
def count():
    return sum(1 for _ in bucket.listing("pictures/", after="", at_most=10_000))
"""


# What the page says of `manage.py restored`: looked at, done, and looked at again.
RESTORED = """
from django.core.management import call_command
for options in ((), ("--take-bucket", "--yes"), ()):
    call_command("restored", "--to", "{moment}", *options)
mail.deliver()
print(remove()[0], "due")
"""
# A copy of an hour ago; and the same, had it been made this very moment.
REHEARSED = """
from accounts.models import BucketOwner
print(objects.owner().name, remove(), count())
BucketOwner.objects.update(next_token=objects._read()[0])
print(objects.owner().name, remove(), count())
"""


class Person:
    def __init__(self, service: Crew, name: str) -> None:
        self.service, self.name, self.email = service, name, f"{name}@example.com"
        answer = service.post("/signup", {"username": name, "email": self.email, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        self.tokens = answer.json()["tokens"]

    def refresh(self) -> int:
        answer = self.service.post("/token/refresh", {"refresh_token": self.tokens["refresh_token"]})
        if answer.ok:
            self.tokens = answer.json()
        return answer.status_code

    def show(self, content: bytes) -> None:
        answer = requests.put(
            f"{self.service.url}/api/v1/me/picture",
            files={"file": ("me.png", content)},
            headers={"Authorization": f"Bearer {self.tokens['access_token']}"},
            timeout=180,
        )
        assert answer.ok, answer.text

    def me(self) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}
        return requests.get(f"{self.service.url}/api/v1/me", headers=headers, timeout=180)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Crew]:
    made = Crew(tmp_path / "crew")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_a_restore_signs_nobody_out_brings_nobody_back_and_takes_no_picture(service: Crew) -> None:
    refreshed, idle, erased, kept, shown = (
        Person(service, f"{name}.restore") for name in ("refreshed", "idle", "erased", "kept", "shown")
    )
    assert refreshed.refresh() == 200
    shown.show(picture((350, 300)))
    service.work("email_requests.answer(); assert objects.may_remove()")
    # The mail server was away for two hours, and a deletion is near.
    service.sql("UPDATE post_office_email SET created = created - interval '2 hours'")
    service.sql("UPDATE accounts_user SET deletes_at = now() + interval '1 hour' WHERE username = %s", kept.name)
    backup = service.back_up()
    [[moment]] = service.sql("SELECT now()::text")

    # --- Production goes on ---
    assert [refreshed.refresh() for _ in range(3)] == [200] * 3
    new = Person(service, "new.restore")
    service.sql("UPDATE accounts_user SET deletes_at = now() WHERE username = %s", erased.name)
    service.sql("UPDATE accounts_user SET deletes_at = NULL WHERE username = %s", kept.name)
    shown.show(picture((360, 300)))
    an_hour_later = "objects.RENEWED_AFTER = timedelta(minutes=-1)"
    assert service.work(f"{an_hour_later}; mail.deliver(); print(remove(), count())") == "(1, 1) 3\n"
    letters = {person.email: len(service.letters(person.email)) for person in (refreshed, idle, kept, shown)}
    assert set(letters.values()) == {1}
    service.archive()

    # --- A rehearsal beside it, with the key of its bucket. The day of the cancelled deletion comes there ---
    copy = service.restore("copy", backup, str(moment))
    service.sql_of(copy, "UPDATE accounts_user SET deletes_at = now() WHERE username = %s", kept.name)
    assert service.work(REHEARSED, DATABASE_URL=copy.url) == "OTHER (0, 0) 3\nWAITING (0, 0) 3\n"

    # --- Production is lost ---
    service.kill("web")
    service.postgres.stop()
    service.postgres = copy
    said = service.work(RESTORED.format(moment=moment))
    log.info("%s", said)
    # One erased, one who kept the account, emails and codes of five people and then of four, one picture.
    assert re.findall(r"^\d+", said, re.MULTILINE) == [*"11551", *"11441", *"00000", "0"]
    service.run_web()
    eventually(service.ready)

    assert [person.refresh() for person in (refreshed, idle, kept, shown)] == [200] * 4
    assert [person.refresh() for person in (erased, new)] == [401] * 2
    assert [person.me().status_code for person in (refreshed, idle, kept, shown, erased, new)] == [200] * 4 + [401] * 2
    assert shown.me().json()["picture"] is None
    assert {email: len(service.letters(email)) for email in letters} == letters
