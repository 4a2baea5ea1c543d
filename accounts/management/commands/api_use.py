from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from accounts.services.staff import usage


class Command(BaseCommand):
    help = "Shows how often each API version was called, by X-App-Version."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, default=30)

    def handle(self, *, days: int, **_: Any) -> None:
        self.stdout.write(f"{'version':<10}{'app version':<34}{'calls':>14}")
        for row in usage.by_version(days=days):
            self.stdout.write(f"{row['version']:<10}{row['app_version'] or 'unknown':<34}{row['calls']:>14,}")
