from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from accounts.services.sessions import signing_keys


class Command(BaseCommand):
    help = "Publishes the next signing key, which is used in ten minutes. The schedule does this automatically."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--at-once", action="store_true", help="a key was stolen: drop all others in three seconds")

    def handle(self, *, at_once: bool, **_: Any) -> None:
        try:
            key = signing_keys.rotate(at_once=at_once)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{key.kid} ({key.algorithm}) signs from {key.signs_from:%Y-%m-%d %H:%M:%S} UTC.")
