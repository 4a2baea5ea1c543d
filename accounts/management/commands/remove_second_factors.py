"""For somebody who has lost phone and recovery codes, when an operator is sure who it is."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.caller import Caller
from accounts.services.authentication import totp
from accounts.services.credentials import identifiers


class Command(BaseCommand):
    help = "Removes an account's passkeys and two-step verification, and emails its owner."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")

    def handle(self, *, username: str, **_: Any) -> None:
        user = identifiers.find(username)
        if user is None:
            raise CommandError("Account not found.")
        count = totp.remove_all(user=user, caller=Caller(ip=None, known_as="an operator's terminal"))
        self.stdout.write(f"{user.username}: {count} removed.")
