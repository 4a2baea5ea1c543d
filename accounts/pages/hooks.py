"""What a mail service tells by webhook after it took a mail: the one place that knows django-anymail, which is
installed only where ANYMAIL_ESP names a service (docs/operating.md)."""

from importlib import import_module
from typing import Any

from anymail.signals import EventType, tracking
from django.conf import settings
from django.dispatch import receiver

from accounts.services import mail

_VIEWS = {
    "amazon_ses": "AmazonSESTrackingWebhookView",
    "mailgun": "MailgunTrackingWebhookView",
    "postmark": "PostmarkTrackingWebhookView",
}


def view() -> Any:
    module = import_module(f"anymail.webhooks.{settings.ANYMAIL_ESP}")
    return getattr(module, _VIEWS[settings.ANYMAIL_ESP]).as_view()


@receiver(tracking)
def _hear(sender: object, event: Any, esp_name: str, **_: object) -> None:
    message_id = (event.metadata or {}).get("message_id") or event.message_id or ""
    if event.event_type in {EventType.BOUNCED, EventType.REJECTED}:
        mail.came_back(message_id=message_id, to=event.recipient or "", reason=event.reject_reason or "")
    elif event.event_type == EventType.COMPLAINED:
        mail.came_back(message_id=message_id, to=event.recipient or "", reason="spam", complaint=True)
