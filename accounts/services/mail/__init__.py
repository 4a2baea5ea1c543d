"""Emails: written here, kept as rows of django-post-office in the transaction of the change, sent by the worker."""

from accounts.services.mail.delivery import deliver, deliver_mail
from accounts.services.mail.messages import CODES, URGENT, Message, frame, language_of, render, send
from accounts.services.mail.queue import drop_queued, export, forget, prune
from accounts.services.mail.server import check_server, hang_up
from accounts.services.mail.status import Delivery, came_back, delay, delivery_of, minutes_late, oldest

__all__ = [
    "CODES",
    "URGENT",
    "Delivery",
    "Message",
    "came_back",
    "check_server",
    "delay",
    "deliver",
    "deliver_mail",
    "delivery_of",
    "drop_queued",
    "export",
    "forget",
    "frame",
    "hang_up",
    "language_of",
    "minutes_late",
    "oldest",
    "prune",
    "render",
    "send",
]
