"""People to try the service with. A second run adds nobody twice."""

import io
import sys
import time
from argparse import ArgumentParser
from random import Random
from typing import Any

from django.core.management.base import BaseCommand
from PIL import Image, ImageDraw

from accounts.caller import NOBODY
from accounts.models import Gender, User
from accounts.services.credentials import hashing, identifiers
from accounts.services.profile import pictures

PASSWORD = "plum tractor lagoon"  # noqa: S105 - for trying out; printed by `make run`
CAST = (
    {"username": "alice", "first_name": "Alice", "last_name": "Ahlgren", "gender": Gender.FEMALE, "is_staff": True},
    {"username": "bob", "first_name": "Bob", "last_name": "Brandt", "gender": Gender.MALE, "is_staff": False},
)
FIRST = {
    Gender.FEMALE: ("Ada", "Carla", "Dina", "Eva", "Grace", "Hanna", "Ines", "Klara", "Mira", "Nora", "Rosa", "Zoe"),
    Gender.MALE: ("Adam", "Ben", "Carl", "David", "Emil", "Felix", "Hugo", "Jonas", "Karim", "Leo", "Omar", "Tom"),
}
LAST = ("Lindqvist", "Moreau", "Haddad", "Schmidt", "Okafor", "Tanaka", "Silva", "Novak", "Rossi", "Larsen")


class Command(BaseCommand):
    help = "Creates alice (staff) and bob, and --count others, all with pictures."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--count", type=int, default=0, help="how many users besides alice and bob")

    def handle(self, *, count: int, **_: Any) -> None:
        password = hashing.hashed(PASSWORD)  # one hash for all: 1,000 would take half a minute
        people = [*CAST, *(_person(number) for number in range(1, count + 1))]
        portraits = [pictures.encode(_portrait(number)) for number in range(min(24, len(people)))]
        begun = time.monotonic()
        for done, person in enumerate(people, 1):
            _store(person, password, portraits[done % len(portraits)])
            self._progress(done, len(people), time.monotonic() - begun)
        self.stdout.write(f"Sign in as alice (staff) or bob with the password: {PASSWORD}")

    def _progress(self, done: int, total: int, seconds: float) -> None:
        if sys.stdout.isatty():
            left = seconds / done * (total - done)
            bar = "█" * (30 * done // total)
            self.stdout.write(f"\r{bar:<30} {done}/{total}  {left:3.0f} s left ", ending="\n" if done == total else "")
            self.stdout.flush()
        elif done == total or done % 100 == 0:
            self.stdout.write(f"{done}/{total}")


def _store(person: dict[str, Any], password: str, portrait: pictures.Encoded) -> None:
    name = person["username"]
    derived = {
        "username_skeleton": identifiers.skeleton(name),
        "email": f"{name}@example.com",
        "email_verified": True,
        "is_superuser": person["is_staff"],
        "password": password,
    }
    user, _made = User.objects.get_or_create(username=name, defaults=person | derived)
    if not user.picture:
        pictures.publish_first(user, portrait, NOBODY)


def _person(number: int) -> dict[str, Any]:
    chance = Random(number)  # noqa: S311 - the same people every time
    gender = chance.choice([Gender.FEMALE, Gender.MALE, Gender.UNSPECIFIED])
    first = chance.choice(FIRST.get(gender) or FIRST[Gender.FEMALE] + FIRST[Gender.MALE])
    # Letters and not digits: "ada10" and "adalo" would look alike.
    letters = "".join(chr(ord("a") + number // 26**place % 26) for place in (2, 1, 0))
    name = {"username": f"{first.lower()}.{letters}", "first_name": first, "last_name": chance.choice(LAST)}
    return {**name, "gender": gender, "is_staff": False}


def _portrait(number: int) -> io.BytesIO:
    """A plain face, in different colours for each number."""
    chance = Random(number)  # noqa: S311
    hue = [chance.randrange(60, 200) for _ in range(9)]
    image = Image.new("RGB", (512, 512), (hue[0], hue[1], hue[2]))
    draw = ImageDraw.Draw(image)
    draw.ellipse((56, 330, 456, 760), fill=(hue[3] // 2, hue[4] // 2, hue[5] // 2))
    draw.ellipse((146, 110, 366, 370), fill=(236, 188, 150))
    draw.pieslice((136, 90, 376, 330), 180, 360, fill=(hue[6] // 3, hue[7] // 4, hue[8] // 5))
    file = io.BytesIO()
    image.save(file, "PNG")
    file.seek(0)
    return file
