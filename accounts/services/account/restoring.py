"""After Postgres went back to an earlier moment: a restored backup forgets what was done since, others do not.

The bucket knows who was erased and which pictures are gone. The mail server has sent what is queued here once more.
Nobody knows which codes were used since, and who changed their mind about deleting their account."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from accounts.caller import Caller
from accounts.lib.clock import now
from accounts.models import User
from accounts.services import mail
from accounts.services.account import deletion
from accounts.services.credentials import challenges
from accounts.services.profile import pictures

OPERATOR = Caller(ip=None, known_as="an operator's terminal")
SENT_AFTER = timedelta(hours=1)  # far longer than an email waits
# An erasure is noted before it is committed, by a clock that may be another than the operator's.
NOTED_BEFORE = timedelta(hours=1)

# Each does its work while it is iterated over, and yields a count for each piece; without `apply` it only counts.
Step = Callable[[datetime, bool], Iterator[int]]


def erase_again(moment: datetime, apply: bool) -> Iterator[int]:
    """Who was erased since is there again, and signed in."""
    if notes := deletion.noted_since(moment - NOTED_BEFORE):
        for user_id in User.objects.values_list("id", flat=True).iterator(chunk_size=10_000):
            if deletion.is_noted(user_id, notes):
                if apply:
                    deletion.erase_again(user_id)
                yield 1


def plan_again(moment: datetime, apply: bool) -> Iterator[int]:
    """Who kept their account since would be erased: the grace period of each begins again, and each is told."""
    notes = deletion.noted_since(moment - NOTED_BEFORE)
    planned = User.objects.filter(deletes_at__lte=moment + settings.DELETION_GRACE)
    for user_id in list(planned.values_list("id", flat=True)):
        if not deletion.is_noted(user_id, notes):
            if apply:
                with transaction.atomic():
                    for user in planned.lock().filter(id=user_id):
                        deletion.plan_locked(user, caller=OPERATOR)
            yield 1


def drop_emails(moment: datetime, apply: bool) -> Iterator[int]:
    """Those that were queued at that moment went out since, and would again. Younger ones may be waiting still."""
    yield mail.drop_queued(min(moment, now() - SENT_AFTER), apply=apply)


def close_challenges(moment: datetime, apply: bool) -> Iterator[int]:
    """A code works once. Links that undo something stay: what they undo may be there again."""
    yield challenges.close_before(moment, answered=now() - SENT_AFTER, apply=apply)


def forget_lost_pictures(_: datetime, apply: bool) -> Iterator[int]:
    """Who changed a picture since has the earlier one again, whose objects were removed."""
    for key in pictures.lost():
        if apply:
            pictures.forget_lost(key)
        yield 1


STEPS: dict[str, Step] = {
    "accounts that were erased since, to be erased again": erase_again,
    "planned deletions, to begin their grace period again": plan_again,
    "queued emails that were sent since, to be dropped": drop_emails,
    "open codes, links and requests, to be closed": close_challenges,
    "pictures whose objects are gone, to be taken from profiles": forget_lost_pictures,
}
