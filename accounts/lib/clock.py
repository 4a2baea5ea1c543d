"""Postgres' clock, by which things are due. Those of web and worker may differ by an hour."""

from datetime import datetime, timedelta

from django.utils import timezone

SLACK = timedelta(seconds=1)  # the same clock, read a moment later
_ahead = timedelta()  # how far Postgres is ahead of this process


def now() -> datetime:
    return timezone.now() + _ahead


def set_by(postgres: datetime, *, asked_at: datetime) -> None:
    """With each new connection, which is every ten minutes at the least. Postgres was asked at `asked_at` of our own
    clock; what a slow answer may explain is no difference."""
    global _ahead  # noqa: PLW0603 - one for the process
    least, most = postgres - timezone.now(), postgres - asked_at
    _ahead = timedelta() if least <= SLACK and most >= -SLACK else (least + most) / 2
