"""Passwords that attackers try first, and some that are hard to guess."""

import gzip
import random
from pathlib import Path

from django.contrib.auth import password_validation

# Each was accepted once.
TRIED_FIRST = (
    "aaaaaaaaaaaa", " " * 12, "123456789012", "passwordpassword", "qwertyuiopasdfgh", "iloveyou1234", "Password123!",
    "password1234", "P@ssw0rd1234", "Liverpool2024!", "december2026!!", "1qaz2wsx3edc4rfv", "abcabcabcabc",
    "ghjatccbjyfk", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
)  # fmt: skip
WORDS = """password iloveyou qwerty welcome letmein dragon monkey football baseball superman princess sunshine master
    michael chelsea arsenal charlie summer winter january germany jesus starwars pokemon admin changeme secret freedom
    jessica thomas internet samsung mustang""".split()  # noqa: SIM905 - a list of 33 lines
ENDINGS = ("123", "1234", "123456", "12345678", "1!", "123!", "2024", "2025!", "@2026", "69", "007", "1990", "#1", "!!")
NOUNS = """apple banana river mountain castle dragon guitar piano window garden forest ocean desert island bridge tower
    rocket planet silver golden purple orange yellow tiger rabbit turtle penguin elephant dolphin whale eagle falcon
    pencil paper candle mirror blanket pillow basket hammer ladder bottle coffee butter cheese pepper tomato carrot
    potato onion lemon cherry violin trumpet thunder saddle anchor harbor compass magnet velvet cotton leather marble
    copper plum tractor lagoon haus brücke pomme maison árbol""".split()  # noqa: SIM905 - a list of 80 lines


def common() -> list[str]:
    """300 of twelve letters and more: what Django lists, words with an ending and words twice."""
    listed = Path(password_validation.__file__).with_name("common-passwords.txt.gz")
    leaked = [word for word in gzip.decompress(listed.read_bytes()).decode().split("\n") if len(word) >= 12]
    ended = [word.capitalize() + ending for word in WORDS for ending in ENDINGS] + [word * 2 for word in WORDS]
    chance = random.Random(7)
    made = chance.sample([word for word in ended if len(word) >= 12], 160)
    return chance.sample(leaked, 140) + made


def random_words() -> list[str]:
    """300 of three random words."""
    chance = random.Random(7)
    made = (chance.choice(("", " ", "-", ".")).join(chance.sample(NOUNS, 3)) for _ in range(1000))
    return [password for password in made if len(password) >= 12][:300]
