from typing import Any

from django.core.management.base import BaseCommand

from accounts.services import mail
from accounts.services.account import email_requests


class Command(BaseCommand):
    help = "Sends all emails that are due, without the broker or a worker (for cron, or while they are down)."

    def handle(self, **_: Any) -> None:
        email_requests.answer()
        mail.check_server()
        self.stdout.write(f"{mail.deliver()} sent")
        mail.hang_up()
