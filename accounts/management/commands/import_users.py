import sys
import time
from argparse import ArgumentParser
from collections import Counter
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
        total, left_out = Counter[str](), Counter[str]()
        begun = time.monotonic()
        try:
            with file.open("rb") as lines:
                size = file.stat().st_size  # none of a pipe
                for report in imports.run(lines, apply=apply, caller=NOBODY):
                    refused = self._tell(report.refusals, "refused")
                    partly = self._tell(report.left_out, "left out")
                    total.update(read=report.read, made=report.made, there=report.there, refused=refused, partly=partly)
                    left_out.update(f"{problem.error.field}: {problem.error.code}" for problem in report.left_out)
                    self._progress(total["read"], lines.tell() / size if size else None, time.monotonic() - begun)
        except OSError as error:
            raise CommandError(f"{file} can't be read: {error.strerror}") from None
        self._sum_up(total, left_out, apply)

    def _tell(self, problems: list[imports.Problem], what: str) -> int:
        """The number of lines that they are about."""
        for problem in problems:
            where, error = problem.error.field or "whole line", problem.error
            self.stdout.write(f"line {problem.line}: {where}: {error.code}, {what} ({error.message})")
        return len({problem.line for problem in problems})

    def _progress(self, read: int, share: float | None, seconds: float) -> None:
        words = f"{read:,} lines, {read / seconds:,.0f} a second"
        if share is not None:
            words += f", {seconds / share - seconds:,.0f} s left"
        if sys.stdout.isatty():
            bar = "" if share is None else f"{'█' * int(30 * share):<30} "
            self.stdout.write(f"\r{bar}{words}   ", ending="\n" if share == 1 else "")
            self.stdout.flush()
        elif share == 1 or read % (10 * imports.BATCH) == 0:
            self.stdout.write(words)

    def _sum_up(self, total: Counter[str], left_out: Counter[str], apply: bool) -> None:
        made, there, refused = total["made"], total["there"], total["refused"]
        verb = "imported" if apply else "could be imported"
        self.stdout.write(f"{total['read']} lines: {made} {verb}, {there} already there, {refused} refused.")
        if left_out:
            self.stdout.write(f"From {total['partly']} of them something is left out:")
            for what, count in left_out.most_common():
                self.stdout.write(f"{count:9,}  {what}")
        if not apply:
            self.stdout.write("Nothing was written. To import the users, add --apply.")
        elif refused:
            raise CommandError("Correct the refused lines and run this again; the others are not created twice.")
