"""Can anybody tell by the time of an answer who has an account? `make bench ARGS=timing`.

Each question is asked in turn for somebody and for nobody, each time for another, over one connection with nothing
else going on. Prints the medians and how far apart chance alone would put them (the spread of the difference when
the two are mixed at random), and fails where they are further apart than that and than MATTERS."""

import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from uuid import uuid4

import psycopg2

from tests.bench.server import OUT, PASSWORD, Client, Server

TIMES = 200
SHUFFLES = 2000
# Milliseconds. Some answers for somebody read a row more, a tenth of a millisecond on a quiet machine. With a network's
# jitter of 1 ms it would take a thousand answers to see that; the limits give twenty a day for a name.
MATTERS = 0.25
# Where one thing is asked of somebody and of nobody: the body of each.
Question = tuple[str, Callable[[str], dict[str, str]]]
QUESTIONS: dict[str, Question] = {
    "sign in, wrong password": ("/token", lambda name: {"login": name, "password": "wrong"}),
    "sign in by address": ("/token", lambda name: {"login": f"{name}@example.com", "password": "wrong"}),
    "sign up with the address": (
        "/signup",
        lambda name: {"username": f"n{uuid4().hex[:20]}", "email": f"{name}@example.com", "password": PASSWORD},
    ),
    "forgot the password": ("/password/forgot", lambda name: {"login": name}),
    "send the mail again": ("/email/resend", lambda name: {"email": f"{name}@example.com"}),
    "confirm, wrong code": ("/email/confirm", lambda name: {"email": f"{name}@example.com", "code": "00000000"}),
    "reset, wrong code": (
        "/password/reset",
        lambda name: {"login": name, "code": "00000000", "new_password": PASSWORD},
    ),
    "ask for a code to sign in": ("/token/code/request", lambda name: {"login": name}),
    "sign in, wrong code": ("/token/code", lambda name: {"login": name, "code": "00000000"}),
}


@dataclass(frozen=True)
class Finding:
    name: str
    somebody: list[float]  # milliseconds
    nobody: list[float]

    @property
    def apart(self) -> float:
        return median(self.somebody) - median(self.nobody)

    @property
    def noise(self) -> float:
        """What the difference of the medians stays within, 997 times in 1,000, where chance alone decides."""
        mixed = self.somebody + self.nobody
        half, found = len(self.somebody), []
        for _ in range(SHUFFLES):
            random.shuffle(mixed)
            found.append(abs(median(mixed[:half]) - median(mixed[half:])))
        return sorted(found)[int(SHUFFLES * 0.997)]


def ask(client: Client, name: str, question: Question, people: list[str]) -> Finding:
    path, body = question
    first = True
    times: dict[bool, list[float]] = {True: [], False: []}
    statuses: dict[bool, set[int]] = {True: set(), False: set()}
    for number in range(TIMES * 2 + 20):
        if number % 2 == 0:
            first = random.random() < 0.5  # so that neither always comes after the other
        known = first == (number % 2 == 0)
        who = people[number // 2 % len(people)] if known else f"nobody{uuid4().hex[:12]}"
        begun = perf_counter()
        status, _ = client.ask("POST", f"/api/v1{path}", body(who))
        taken = (perf_counter() - begun) * 1e3
        statuses[known].add(status)
        if number >= 20:  # the first ones warm up
            times[known].append(taken)
    assert statuses[True] == statuses[False], (name, statuses)
    return Finding(name, times[True], times[False])


def main() -> None:
    server = Server(people=TIMES + 10)
    try:
        client = Client(server.port)
        people = usernames()
        print(f"{'':<28}{'somebody':>10}{'nobody':>10}{'apart':>9}{'noise':>9}   ms, medians of {TIMES}")
        findings = []
        for name, question in QUESTIONS.items():
            finding = ask(client, name, question, people)
            findings.append((finding, finding.noise))
            tell(*findings[-1])
    finally:
        server.stop()
    (OUT / "timing.svg").write_text(plot([finding for finding, _ in findings]))
    lines = [
        f"| {f.name} | {median(f.somebody):.2f} | {median(f.nobody):.2f} | {f.apart:+.2f} | {noise:.2f} |"
        for f, noise in findings
    ]
    (OUT / "timing.md").write_text(
        "# Who has an account, told by time\n\nWritten by `make bench ARGS=timing`: medians of "
        f"{TIMES} answers each, in ms, asked in turn. Noise is what chance alone puts between two such medians; up to "
        f"{MATTERS} ms are let pass (tests/bench/timing.py says why).\n\n"
        "| | somebody | nobody | apart | noise |\n|---|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n\n![plot](timing.svg)\n"
    )
    if any(tells(finding, noise) for finding, noise in findings):
        sys.exit("Some answers tell by their time who has an account.")


def usernames() -> list[str]:
    with psycopg2.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT username FROM accounts_user ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


def tells(finding: Finding, noise: float) -> bool:
    return abs(finding.apart) > max(noise, MATTERS)


def tell(finding: Finding, noise: float) -> None:
    medians = f"{median(finding.somebody):>10.2f}{median(finding.nobody):>10.2f}"
    told = "  <- TOLD" if tells(finding, noise) else ""
    print(f"{finding.name:<28}{medians}{finding.apart:>+9.2f}{noise:>9.2f}{told}", flush=True)


def plot(findings: list[Finding]) -> str:
    """Each answer a dot, somebody above the line and nobody below it, from the fastest to the 99th percentile."""
    rows = []
    for place, finding in enumerate(findings):
        y = 58 + place * 52
        everything = sorted(finding.somebody + finding.nobody)
        low, high = everything[0], everything[int(len(everything) * 0.99)]
        rows.append(f'<text x="190" y="{y + 4}" text-anchor="end">{finding.name}</text>')
        rows.append(f'<text x="640" y="{y + 4}">{low:.1f} to {high:.1f} ms</text>')
        for times, colour, side in ((finding.somebody, "#1d569f", -1), (finding.nobody, "#b4540a", 1)):
            for number, taken in enumerate(times):
                x = 200 + 430 * min(1, (taken - low) / (high - low))
                rows.append(f'<circle cx="{x:.0f}" cy="{y + side * (4 + number % 5 * 3)}" r="1.4" fill="{colour}"/>')
            x = 200 + 430 * (median(times) - low) / (high - low)
            rows.append(f'<path d="M{x:.0f} {y} v{side * 20}" stroke="{colour}" stroke-width="2.5"/>')
    height = 70 + len(findings) * 52
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" font-family="system-ui" font-size="13">'
        f'<rect width="760" height="{height}" fill="#fff"/><text x="20" y="24" font-weight="600">Time of each answer: '
        '<tspan fill="#1d569f">somebody</tspan> and <tspan fill="#b4540a">nobody</tspan>; bars are medians</text>'
        f"{''.join(rows)}</svg>\n"
    )
