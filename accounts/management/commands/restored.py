"""The last step of a restore, before the service starts: docs/backup.md."""

import time
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_datetime

from accounts.lib.clock import now
from accounts.lib.storage import bucket
from accounts.services.account import restoring
from accounts.services.profile import objects

EVERY = 5.0  # seconds between two lines about one step


def _moment(text: str) -> datetime:
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise ArgumentTypeError("write it like 2026-11-28T10:00:00Z")
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if found > now():
        raise ArgumentTypeError("that is in the future")
    return found


class Command(BaseCommand):
    help = "Brings a restored database up to what the bucket and the mail server know. Without --yes it only counts."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--to", type=_moment, help="the moment that the database went back to, such as 2026-11-28T10:00:00Z"
        )
        parser.add_argument("--take-bucket", action="store_true", help="only this database removes objects from now on")
        parser.add_argument("--yes", action="store_true", help="do it; without it nothing is changed")

    def handle(self, *, to: datetime | None, take_bucket: bool, yes: bool, **_: Any) -> None:
        if to is None and not take_bucket:
            raise CommandError("Say which moment the database went back to: --to 2026-11-28T10:00:00Z.")
        try:
            for words, step in restoring.STEPS.items() if to else ():
                assert to is not None
                self._run(words, step, to, yes)
            self._bucket(take_bucket, yes)
        except bucket.ERRORS as error:
            raise CommandError(f"The storage can't be reached: {type(error).__name__}. Run this again.") from None
        if not yes:
            self.stdout.write("Nothing was changed. To do it, add --yes.")

    def _run(self, words: str, step: restoring.Step, to: datetime, yes: bool) -> None:
        count, said_at = 0, time.monotonic()
        for one in step(to, yes):
            count += one
            if time.monotonic() - said_at > EVERY:
                self.stdout.write(f"{count:,} so far: {words}")
                said_at = time.monotonic()
        self.stdout.write(f"{count:,} {words}{': done' if yes and count else ''}")

    def _bucket(self, take: bool, yes: bool) -> None:
        if take and yes:
            objects.take()
        elif take:
            self.stdout.write("The bucket would be taken over by this database.")
            return
        found = objects.owner()
        self.stdout.write(f"The bucket: {found.value}.")
        if found is objects.Owner.OTHER:
            self.stdout.write("If this database takes the place of that one, add --take-bucket.")
