from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.services.staff import counts


class Command(BaseCommand):
    help = "Compares the stored user counts with the users (reads the whole table); --mend corrects them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--mend", action="store_true", help="correct the counts; safe while the service runs")

    def handle(self, *, mend: bool, **_: Any) -> None:
        faults = counts.repair() if mend else counts.check()
        for fault in sorted(faults, key=str):
            kind = f"{fault.gender}, {'active' if fault.is_active else 'switched off'}, "
            kind += "confirmed" if fault.email_verified else "not confirmed"
            self.stdout.write(f"{kind}: {abs(fault.count):,} too {'few' if fault.count > 0 else 'many'}")
        if faults and not mend:
            raise CommandError("The counts are wrong. Correct them with --mend.")
        total = sum(kind.count for kind in counts.users())
        self.stdout.write(f"{'Corrected' if faults else 'Correct'}: {total:,} users.")
