import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.caller import NOBODY
from accounts.services.staff import imports


class Command(BaseCommand):
    help = "Imports users from another service as JSON lines (see docs/importing.md). Without --apply it only checks."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="one JSON object per line")
        parser.add_argument("--apply", action="store_true", help="write the users; without it nothing is changed")

    def handle(self, *, file: Path, apply: bool, **_: Any) -> None:
        total, refused = imports.Report(), set[int]()
        begun = time.monotonic()
        try:
            with file.open("rb") as lines:
                for report in imports.run(lines, apply=apply, caller=NOBODY):
                    total.read, total.made = total.read + report.read, total.made + report.made
                    total.there += report.there
                    for refusal in report.refusals:
                        line, error = refusal.line, refusal.error
                        refused.add(line)
                        self.stdout.write(f"line {line}: {error.field or 'whole line'}: {error.code} ({error.message})")
                    self._progress(total.read, lines.tell() / file.stat().st_size, time.monotonic() - begun)
        except OSError as error:
            raise CommandError(f"{file} can't be read: {error.strerror}") from None
        self._sum_up(total, len(refused), apply)

    def _progress(self, read: int, share: float, seconds: float) -> None:
        words = f"{read:,} lines, {read / seconds:,.0f} a second, {seconds / share - seconds:,.0f} s left"
        if sys.stdout.isatty():
            self.stdout.write(f"\r{'█' * int(30 * share):<30} {words}   ", ending="\n" if share == 1 else "")
            self.stdout.flush()
        elif share == 1 or read % (10 * imports.BATCH) == 0:
            self.stdout.write(words)

    def _sum_up(self, total: imports.Report, refused: int, apply: bool) -> None:
        made = "imported" if apply else "could be imported"
        self.stdout.write(f"{total.read} lines: {total.made} {made}, {total.there} already there, {refused} refused.")
        if not apply:
            self.stdout.write("Nothing was written. To import the users, add --apply.")
        if refused:
            raise CommandError("Correct the refused lines and run this again; the others are not created twice.")
