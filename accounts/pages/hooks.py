"""A mail service's webhook, by which it reports bounces and complaints. Only this module knows django-anymail, which is
installed only where ANYMAIL_ESP names a service (docs/operating.md)."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from anymail.exceptions import AnymailError
from anymail.signals import EventType, tracking
from django.conf import settings
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest

from accounts.services import mail

log = logging.getLogger(__name__)

_VIEWS = {
    "amazon_ses": "AmazonSESTrackingWebhookView",
    "mailgun": "MailgunTrackingWebhookView",
    "postmark": "PostmarkTrackingWebhookView",
}


class _Unreadable(Exception):
    """A secret or a body that is not what the mail service documents."""


@contextmanager
def _reading() -> Iterator[None]:
    """anymail does not check bodies, so a wrong one may fail anywhere in it."""
    try:
        yield
    except (AnymailError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise _Unreadable(type(error).__name__) from error


class _Hook:
    """Put before one of anymail's views: what can't be read gets a 400 and one line in the log. A failure of ours stays
    a 500, after which mail services try again."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            answer: HttpResponse = super().post(request, *args, **kwargs)  # type: ignore[misc]
        except _Unreadable as error:
            log.warning("refused a call of the mail service: %s", error)
            return HttpResponseBadRequest()
        return answer

    def run_validators(self, request: HttpRequest) -> None:
        with _reading():
            super().run_validators(request)  # type: ignore[misc]

    def parse_events(self, request: HttpRequest) -> Sequence[Any]:
        with _reading():
            events: Sequence[Any] = super().parse_events(request)  # type: ignore[misc]
            for event in events:
                event.message_id = _text((event.metadata or {}).get("message_id") or event.message_id)
                event.recipient = _text(event.recipient)
            return events


def _text(value: object) -> str:
    if not isinstance(value, str | None):
        raise TypeError
    return value or ""


def view() -> Any:
    theirs = getattr(import_module(f"anymail.webhooks.{settings.ANYMAIL_ESP}"), _VIEWS[settings.ANYMAIL_ESP])
    ours: Any = type(theirs.__name__, (_Hook, theirs), {})
    return ours.as_view()


@receiver(tracking)
def _hear(sender: object, event: Any, esp_name: str, **_: object) -> None:
    if event.event_type in {EventType.BOUNCED, EventType.REJECTED}:
        mail.came_back(message_id=event.message_id, to=event.recipient, reason=event.reject_reason or "")
    elif event.event_type == EventType.COMPLAINED:
        mail.came_back(message_id=event.message_id, to=event.recipient, reason="spam", complaint=True)
