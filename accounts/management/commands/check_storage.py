"""Tries out whether the bucket is private to strangers and open to what this service hands out."""

from itertools import chain
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.lib.storage import bucket, bucket_check
from accounts.services.profile import objects


def _owner() -> bucket_check.Finding:
    found = objects.owner()
    if found is objects.Owner.OTHER:
        return bucket_check.Finding(objects.Owner.THIS.value, f"No: {found.value}.")
    return bucket_check.Finding(found.value)


class Command(BaseCommand):
    help = "Checks that the bucket isn't public, and that signed addresses, uploads and CORS work."

    def handle(self, **_: Any) -> None:
        wrong = 0
        try:
            for finding in chain(bucket_check.findings(), [_owner()]):
                self.stdout.write(f"{'ok   ' if finding.is_well else 'WRONG'}  {finding.what}")
                if not finding.is_well:
                    wrong += 1
                    self.stdout.write(f"       {finding.hint}")
        except bucket.ERRORS as error:
            raise CommandError(f"The storage can't be reached: {type(error).__name__}.") from None
        if wrong:
            raise CommandError(f"{wrong} of these checks failed.")
