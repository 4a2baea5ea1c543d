"""Mails a second through the real queue and real workers, to an SMTP server that takes 20 ms for each:
`make bench ARGS="mail 10000"`. Prints how far it is, and writes a table and a plot to docs/bench/."""

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from celery import Celery

from project.devstack.servers import BASE, free_ports

OUT = BASE / "docs" / "bench"
PAUSE = 0.02  # seconds that the server takes for a mail
COLOURS = {1: "#1d569f", 2: "#b4540a"}
_FILL = """
    INSERT INTO post_office_email (from_email, "to", cc, bcc, subject, message, html_message, status, priority,
        created, last_updated, scheduled_time, number_of_retries, headers, backend_alias, message_id)
    SELECT 'no-reply@example.com', 'n' || n || '@example.com', '', '', 'Number ' || n, repeat('A line of text. ', 60),
        repeat('<p>A line of text.</p> ', 200), 2, 1 + n %% 2, now(), now(), now(), 0, '{"Auto-Submitted":
        "auto-generated"}', '', '<' || n || '@example.com>'
    FROM generate_series(1, %s) n
"""


class SlowServer:
    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.doubled = 0
        self.connections = 0
        self.controller = Controller(self, hostname="127.0.0.1", port=free_ports(1)[0])

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's word
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.connections += 1
        return responses

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        await asyncio.sleep(PAUSE)
        to = envelope.rcpt_tos[0]
        self.doubled += to in self.taken
        self.taken.add(to)
        return "250 OK"


@dataclass(frozen=True)
class Run:
    workers: int
    seconds: float
    course: list[tuple[float, int]]  # mails sent after so many seconds

    @property
    def rate(self) -> float:
        return self.course[-1][1] / self.seconds


def environment(server: SlowServer) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "EMAIL_URL": f"smtp://127.0.0.1:{server.controller.port}",
        "LOG_LEVEL": "WARNING",
    }


def sql(statement: str, *values: object) -> None:
    connection = psycopg2.connect(os.environ["DATABASE_URL"])
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
    connection.close()


def run(count: int, workers: int) -> Run:
    server = SlowServer()
    server.controller.start()
    surroundings = environment(server)
    manage = [sys.executable, "manage.py", "migrate", "--verbosity=0"]
    subprocess.run(manage, cwd=BASE, env=surroundings, check=True)
    sql("TRUNCATE post_office_email CASCADE")
    sql(_FILL, count)
    sql("ANALYZE post_office_email")
    celery = [sys.executable, "-W", "ignore", "-m", "celery", "--quiet", "-A", "project", "worker"]
    processes = [
        subprocess.Popen(
            [*celery, "--concurrency", "1", "-n", f"bench{number}@%h"],
            cwd=BASE,
            env=surroundings,
        )
        for number in range(workers)
    ]
    try:
        broker = Celery(broker=os.environ["REDIS_URL"])
        for _ in range(workers):
            broker.send_task("accounts.deliver_mail")
        return watch(server, count, workers)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)
        server.controller.stop()


def watch(server: SlowServer, count: int, workers: int) -> Run:
    while server.connections < workers:
        time.sleep(0.01)
    begun, before = time.monotonic(), len(server.taken)
    course = [(0.0, 0)]
    while len(server.taken) < count:
        time.sleep(0.25)
        seconds, sent = time.monotonic() - begun, len(server.taken) - before
        course.append((seconds, sent))
        print(f"\r{workers} at work {sent:>6} of {count}{sent / seconds:>8.1f}/s", end="", flush=True)
    print(f"   {server.connections} connections, {server.doubled} doubled", flush=True)
    return Run(workers, course[-1][0], course)


def plot(runs: list[Run]) -> str:
    """Mails sent over time: a straight line keeps its speed."""
    longest = max(run.seconds for run in runs)
    most = max(sent for run in runs for _, sent in run.course)
    lines = []
    for run in runs:
        points = " ".join(f"{60 + 480 * t / longest:.0f},{290 - 240 * n / most:.0f}" for t, n in run.course[::4])
        end = 60 + 480 * run.seconds / longest
        lines.append(
            f'<polyline points="{points} {end:.0f},50" fill="none" stroke="{COLOURS[run.workers]}" stroke-width="2"/>'
            f'<text x="{end - 6:.0f}" y="44" text-anchor="end" fill="{COLOURS[run.workers]}">{run.workers} '
            f"worker{'s' * (run.workers > 1)}: {run.rate:.0f}/s</text>"
        )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 330" font-family="system-ui" font-size="13">'
        '<rect width="640" height="330" fill="#fff"/><text x="20" y="22" font-weight="600">Mails sent over time, a '
        "server that takes 20 ms for each</text>"
        '<path d="M60 50V290H540" fill="none" stroke="#888"/>'
        f'<text x="54" y="56" text-anchor="end">{most}</text><text x="54" y="294" text-anchor="end">0</text>'
        f'<text x="540" y="310" text-anchor="end">{longest:.0f} s</text>{"".join(lines)}</svg>\n'
    )


def main(count: int = 10_000) -> None:
    runs = [run(count, workers) for workers in (1, 2)]
    OUT.mkdir(parents=True, exist_ok=True)
    Path(OUT / "mail.svg").write_text(plot(runs))
    rows = [f"| {run.workers} | {run.rate:.1f} | {run.seconds:.0f} |" for run in runs]
    (OUT / "mail.md").write_text(
        f'# Mail\n\nWritten by `make bench ARGS="mail {count}"`: {count} queued mails, an SMTP server that takes 20 ms '
        "for each (50 a second\nis the most over one connection), everything on one machine of two cores.\n\n"
        "| workers | mails a second | seconds in all |\n|---|---|---|\n" + "\n".join(rows) + "\n\n![plot](mail.svg)\n"
    )
