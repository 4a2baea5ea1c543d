"""Tries out whether the bucket is private to strangers and open to what this service hands out."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.lib.storage import bucket, bucket_check


class Command(BaseCommand):
    help = "Checks that the bucket isn't public, and that signed addresses, uploads and CORS work."

    def handle(self, **_: Any) -> None:
        wrong = 0
        try:
            for finding in bucket_check.findings():
                self.stdout.write(f"{'ok   ' if finding.is_well else 'WRONG'}  {finding.what}")
                if not finding.is_well:
                    wrong += 1
                    self.stdout.write(f"       {finding.hint}")
        except bucket.ERRORS as error:
            raise CommandError(f"The storage can't be reached: {type(error).__name__}.") from None
        if wrong:
            raise CommandError(f"{wrong} of these checks failed.")
