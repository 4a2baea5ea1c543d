"""In the place of Django's command of this name, which would leave every device signed in and tell nobody."""

import os
from argparse import ArgumentParser
from getpass import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.caller import Caller
from accounts.errors import InvalidInput
from accounts.services.account import passwords
from accounts.services.credentials import identifiers


class Command(BaseCommand):
    help = "Sets an account's password. Prompts for it, or reads DJANGO_SUPERUSER_PASSWORD."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")

    def handle(self, *, username: str, **_: Any) -> None:
        user = identifiers.find(username)
        if user is None:
            raise CommandError("Account not found.")
        new_password = os.environ.get("DJANGO_SUPERUSER_PASSWORD") or getpass("New password: ")
        try:
            terminal = Caller(ip=None, known_as="an operator's terminal")
            passwords.change_by_operator(user=user, new_password=new_password, caller=terminal)
        except InvalidInput as error:
            raise CommandError("\n".join(str(problem.message) for problem in error.errors)) from None
        self.stdout.write(f"{user.username} has a new password and is signed out everywhere.")
