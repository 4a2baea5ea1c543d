"""Requests for an email: to reset a password, to sign in by a code, to confirm an address, to tell of a new device.

The request itself is one small write, the same for any name (challenges.ask)."""

from celery import shared_task

from accounts.models import Challenge
from accounts.services.account import email_addresses, password_resets, sign_in_codes, signup
from accounts.services.credentials import challenges
from accounts.services.sessions import sessions

_ANSWERS = {
    Challenge.Kind.RESET_PASSWORD: password_resets.answer,
    Challenge.Kind.SIGN_IN: sign_in_codes.answer,
    Challenge.Kind.CONFIRM_EMAIL: email_addresses.answer,
    Challenge.Kind.SIGN_UP: signup.answer,
    Challenge.Kind.NEW_DEVICE: sessions.answer,
}


@shared_task(name="accounts.answer_requests")
def answer() -> int:
    """In the worker: email each person whom a waiting request means. The number of requests."""
    return challenges.answer_asked(lambda request: _ANSWERS[Challenge.Kind(request.kind)](request))
