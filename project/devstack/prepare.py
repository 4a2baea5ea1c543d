"""What a service needs before it starts, in one process: each start of Django costs more than most of this.

python -m project.devstack.prepare          the tables of the database, and the static files
python -m project.devstack.prepare FILE     and people to try it with, where there is nobody; FILE then says how to
                                            sign in
"""

import os
import sys
from pathlib import Path

import django
from django.core.management import CommandError, call_command


def prepare(sign_in: str | None = None) -> None:
    call_command("migrate", verbosity=0, skip_checks=False)
    call_command("collectstatic", interactive=False, verbosity=0)
    if sign_in is None:
        return
    from accounts.models import User  # noqa: PLC0415 - models come after Django's set-up

    if not User.objects.exists():
        with Path(sign_in).open("w") as file:
            call_command("seed", stdout=file)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()
    try:
        prepare(*sys.argv[1:])
    except CommandError as error:
        sys.exit(f"{type(error).__name__}: {error}")
