from typing import Any

from django.core.management.base import BaseCommand

from accounts.services.account import email_addresses, password_resets
from accounts.services.mail import mail


class Command(BaseCommand):
    help = "Sends all emails that are due, without the broker or a worker (for cron, or while they are down)."

    def handle(self, **_: Any) -> None:
        password_resets.answer_requests()
        email_addresses.answer_requests()
        mail.check_server()
        self.stdout.write(f"{mail.deliver()} sent")
        mail.hang_up()
