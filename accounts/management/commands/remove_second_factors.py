"""For somebody who has lost phone and recovery codes, when an operator is sure who it is."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.origin import Origin
from accounts.services import login as logins
from accounts.services import two_step


class Command(BaseCommand):
    help = "Removes an account's passkeys and two-step verification, and emails its owner."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")

    def handle(self, *, username: str, **_: Any) -> None:
        user = logins.find(username)
        if user is None:
            raise CommandError("Account not found.")
        count = two_step.remove_all(user=user, origin=Origin(ip=None, known_as="an operator's terminal"))
        self.stdout.write(f"{user.username}: {count} removed.")
