"""Production is lost, and restored to a moment before by the commands of docs/backup.md: a base backup, the archive,
and `manage.py restored`. Beside it a rehearsal, to which somebody gave the key of production's bucket.

Each person is named after what they do since then. The rules run here, in this process, on one Postgres after the
other; `make bench ARGS=restore` is the same with the processes of a service and two hundred sessions."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.models import QuerySet
from django.utils.timezone import now
from post_office.models import Email
from pytest_django import DjangoDbBlocker, Settings

from accounts.lib.storage import bucket
from accounts.models import BucketOwner, User
from accounts.services import mail
from accounts.services.account import deletion, email_requests
from accounts.services.profile import exports, objects, picture_uploads, pictures
from project.devstack.servers import Postgres, received
from tests.conftest import PASSWORD, Api, picture
from tests.e2e.conftest import new_bucket
from tests.outages.restoring import Backups

log = logging.getLogger(__name__)


@contextmanager
def on(postgres: Postgres) -> Iterator[None]:
    """The service has this Postgres."""
    url, before = urlsplit(postgres.url), connections["default"]
    made = connections["default"] = before.copy()
    address = {"HOST": url.hostname, "PORT": url.port, "USER": url.username, "PASSWORD": url.password}
    made.settings_dict |= {**address, "NAME": url.path[1:]}
    try:
        yield
    finally:
        made.close()
        connections["default"] = before


@pytest.fixture
def backups(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, django_db_blocker: DjangoDbBlocker
) -> Iterator[Backups]:
    """Of a service with a bucket of its own, where orphans have no day of grace and a token is always due."""
    monkeypatch.setattr(picture_uploads, "GRACE", timedelta(minutes=-1))
    monkeypatch.setattr(objects, "RENEWED_AFTER", timedelta(minutes=-1))
    name = {"bucket_name": new_bucket()}
    settings.STORAGES = {
        storage: {**options, "OPTIONS": {**options.get("OPTIONS", {}), **name}} if storage != "staticfiles" else options
        for storage, options in settings.STORAGES.items()
    }
    made = Backups(tmp_path)
    with django_db_blocker.unblock():
        try:
            made.production.start()
            yield made
        finally:
            mail.hang_up()
            made.stop()


class Person:
    def __init__(self, name: str) -> None:
        self.name, self.email, self.api = f"{name}.restore", f"{name}.restore@example.com", Api()
        answer = self.api.post("/signup", {"username": self.name, "email": self.email, "password": PASSWORD})
        assert answer.status_code == 201, answer.content
        self._keep(answer.json()["tokens"])

    def _keep(self, tokens: dict[str, str]) -> None:
        self.api.token, self.refresh_token = tokens["access_token"], tokens["refresh_token"]

    @property
    def row(self) -> QuerySet[User]:
        return User.objects.filter(username=self.name)

    def refresh(self) -> int:
        answer = self.api.post("/token/refresh", {"refresh_token": self.refresh_token}, token="")
        if answer.status_code == 200:
            self._keep(answer.json())
        return int(answer.status_code)

    def show(self, content: bytes) -> None:
        assert self.api.upload(content).status_code == 200

    def me(self) -> tuple[int, object]:
        answer = self.api.get("/me")
        return answer.status_code, answer.json().get("picture")


def remove() -> tuple[int, int]:
    """What the worker does by its schedule: how many accounts it erased, and objects it removed."""
    erased = deletion.erase_due()
    removed = pictures.remove_discarded() + picture_uploads.remove_old() + exports.remove_expired()
    return erased, removed + picture_uploads.remove_orphans() + pictures.remove_discarded()


def count() -> int:
    return sum(1 for _ in bucket.listing("pictures/", after="", at_most=10_000))


def letters(*people: Person) -> list[int]:
    inbox = os.environ["INBOX_IMAP_URL"]
    return [len(received(inbox, to=person.email)) for person in people]


def test_a_restore_signs_nobody_out_brings_nobody_back_and_takes_no_picture(
    backups: Backups, capsys: pytest.CaptureFixture[str]
) -> None:
    with on(backups.production):
        call_command("migrate", verbosity=0)
        refreshed, idle, erased, kept, shown = map(Person, ("refreshed", "idle", "erased", "kept", "shown"))
        assert refreshed.refresh() == 200
        shown.show(picture((350, 300)))
        email_requests.answer()
        assert objects.may_remove()
        # The mail server was away for two hours, and a deletion is near.
        Email.objects.update(created=now() - timedelta(hours=2))
        kept.row.update(deletes_at=now() + timedelta(hours=1))
        backup = backups.back_up()
        [[moment]] = backups.production.sql("SELECT now()::text")

        # --- Production goes on ---
        assert [refreshed.refresh() for _ in range(3)] == [200] * 3
        new = Person("new")
        erased.row.update(deletes_at=now())
        kept.row.update(deletes_at=None)
        shown.show(picture((360, 300)))
        mail.deliver()
        assert (remove(), count()) == ((1, 1), 3)
        living = (refreshed, idle, kept, shown)
        assert letters(*living) == [1] * 4
        backups.archive()

    # --- A rehearsal beside it, with the key of its bucket. The day of the cancelled deletion comes there ---
    copy = backups.restore("copy", backup, str(moment))
    with on(copy):
        kept.row.update(deletes_at=now())
        assert (objects.owner(), remove(), count()) == (objects.Owner.OTHER, (0, 0), 3)
        # The same, had the copy been made this very moment.
        [owner] = BucketOwner.objects.all()
        said = objects._read()
        assert said
        BucketOwner.objects.update(next_token=said[0])
        assert (objects.owner(), remove(), count()) == (objects.Owner.WAITING, (0, 0), 3)
        owner.save()

    # --- Production is lost ---
    backups.production.stop()
    with on(copy):
        capsys.readouterr()
        for options in ((), ("--take-bucket", "--yes"), ()):
            call_command("restored", "--to", str(moment), *options)
        out = capsys.readouterr().out
        log.info("%s", out)
        # One erased, one who kept the account, emails and codes of five people and then of four, one picture.
        assert re.findall(r"^\d+", out, re.MULTILINE) == [*"11551", *"11441", *"00000"]
        mail.deliver()
        assert remove()[0] == 0

        assert [person.refresh() for person in living] == [200] * 4
        assert [person.refresh() for person in (erased, new)] == [401] * 2
        assert [person.me()[0] for person in (*living, erased, new)] == [200] * 4 + [401] * 2
        assert shown.me() == (200, None)
        assert letters(*living) == [1] * 4
