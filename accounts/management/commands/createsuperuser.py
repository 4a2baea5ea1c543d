"""In the place of Django's command of this name, so that the account is made by the same rules as all others."""

import os
from argparse import ArgumentParser
from getpass import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.errors import AccountError, InvalidInput
from accounts.services.account import users


class Command(BaseCommand):
    help = "Creates an account with full rights. Prompts for the password, or reads DJANGO_SUPERUSER_PASSWORD."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--username", required=True)
        parser.add_argument("--email", required=True)
        parser.add_argument(
            "--noinput", action="store_true", help="only read the password from DJANGO_SUPERUSER_PASSWORD"
        )

    def handle(self, *, username: str, email: str, noinput: bool, **_: Any) -> None:
        password = os.environ.get("DJANGO_SUPERUSER_PASSWORD", "")
        if not password and not noinput:
            password = getpass("Password: ")
        try:
            user = users.make_staff(username=username, email=email, password=password)
        except InvalidInput as error:
            raise CommandError("\n".join(str(problem.message) for problem in error.errors)) from None
        except AccountError as error:
            raise CommandError(str(error.message)) from None
        self.stdout.write(f"{user.username} can sign in at /admin/.")
