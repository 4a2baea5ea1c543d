"""Postgres' clock, by which things are due. Those of web and worker may differ by an hour."""

from datetime import datetime, timedelta

from django.utils import timezone

SLACK = timedelta(seconds=1)  # the same clock, read a moment later
_ahead = timedelta()  # how far Postgres is ahead of this process


def now() -> datetime:
    return timezone.now() + _ahead


def set_by(postgres: datetime) -> None:
    """With each new connection, which is every ten minutes at the least."""
    global _ahead  # noqa: PLW0603 - one for the process
    difference = postgres - timezone.now()
    _ahead = difference if abs(difference) > SLACK else timedelta()
