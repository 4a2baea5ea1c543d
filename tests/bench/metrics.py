"""What it costs to be watched: `make bench ARGS=metrics`. Two services beside each other, one with METRICS_TOKEN, are
asked in turn for GET /me; then come scrapes, when each label that there can be was seen and the tables are large.

Prints what it finds and writes it to docs/bench/metrics.md."""

import os
import time
from collections.abc import Sequence
from contextlib import closing
from statistics import median, quantiles

import psycopg2

from tests.bench.server import OUT, Client, Server

ROUNDS, REQUESTS = 21, 700
TOKEN = "a-token-for-the-bench"
MANY = 1_000_000  # users, and as many emails, requests for one and events
ENDINGS = ("200", "400", "401", "404", "422", "429", "503")  # of a request: more than any operation has
FILL = """
    SET session_replication_role = replica;
    INSERT INTO accounts_user (id, password, is_superuser, username, username_skeleton, email, email_verified,
        first_name, last_name, gender, picture, is_active, is_staff, created_at, updated_at)
    SELECT uuidv7(), '!', false, 'u' || n, 'u' || n, 'u' || n || '@example.com', true,
        '', '', 'female', '', true, false, now() - n * interval '1 s', now() FROM generate_series(1, %(many)s) AS n;
    INSERT INTO post_office_email (from_email, "to", cc, bcc, subject, message, html_message, status, priority, created,
        last_updated, scheduled_time, number_of_retries, backend_alias)
    SELECT 'a@example.com', 'b@example.com', '', '', '', '', '', 0, 1, now(), now(), now(), 0, ''
        FROM generate_series(1, %(many)s);
    INSERT INTO accounts_challenge (id, kind, login, email, attempts, created_at, answered_at, device)
    SELECT uuidv7(), 'sign_in', '', '', 0, now(), now(), '' FROM generate_series(1, %(many)s);
    INSERT INTO accounts_event (id, kind, created_at, device, data)
    SELECT uuidv7(), 'session.started', now(), '', '{}' FROM generate_series(1, %(many)s);
    INSERT INTO accounts_eventcount (day, kind, count)
    SELECT (now() - n * interval '1 day')::date, 'kind.' || kind, 1
        FROM generate_series(0, 3650) AS n, generate_series(1, 45) AS kind;
    ANALYZE;
"""


class Asked:
    def __init__(self, token: str) -> None:
        self.server = Server(METRICS_TOKEN=token)
        self.client = Client(self.server.port)
        self.token = self.client.sign_in()["access_token"]
        self.cpu: list[float] = []  # milliseconds a request, of each round

    def me(self) -> None:
        before = self.server.cpu()
        for _ in range(REQUESTS):
            assert self.client.ask("GET", "/api/v1/me", token=self.token)[0] == 200
        self.cpu.append((self.server.cpu() - before) / REQUESTS * 1e3)

    def scrapes(self, pause: float) -> tuple[float, int]:
        """The median in ms, and the length of what was told."""
        times, length = [], 0
        for _ in range(9):
            time.sleep(pause)
            client = Client(self.server.port)  # one that was kept would be closed meanwhile
            begun = time.perf_counter()
            status, text = client.ask("GET", "/metrics", token=TOKEN)
            times.append((time.perf_counter() - begun) * 1e3)
            assert status == 200
            length = len(text)
        return median(times), length


def fill() -> None:
    with closing(psycopg2.connect(os.environ["DATABASE_URL"])) as connection, connection.cursor() as cursor:
        cursor.execute(FILL, {"many": MANY})
        connection.commit()


def see_every_label(folder: str) -> None:
    """In the place of two more processes: every operation and page with each ending."""
    import django

    django.setup()
    from pathlib import Path

    from django.urls import get_resolver

    from accounts.lib import metrics
    from api.v1 import api

    document = api.get_openapi_schema()
    operations = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    names = [name for name in get_resolver().reverse_dict if isinstance(name, str)]
    metrics.start(Path(folder))
    for face, found in (("api", operations), ("page", names)):
        for name in found:
            for status in ENDINGS:
                metrics.observe(metrics.HTTP, 0.03, face, name, status)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    off, on = Asked(""), Asked(TOKEN)
    try:
        for number in range(ROUNDS):
            for each in (off, on) if number % 2 else (on, off):
                each.me()
        print(f"GET /me: {median(off.cpu):.3f} ms, watched {median(on.cpu):.3f} ms", flush=True)
        ratios = [with_it / without for with_it, without in zip(on.cpu, off.cpu, strict=True)]
        few = on.scrapes(0)
        print(few, "filling the tables ...", flush=True)
        fill()
        large = on.scrapes(5.2)  # each reads Postgres anew
        see_every_label(f"/tmp/user-service-metrics-{on.server.process.pid}")  # noqa: S108 - where the service has it
        many = on.scrapes(0)
    finally:
        off.server.stop()
        on.server.stop()
    write(
        off.cpu,
        on.cpu,
        ratios,
        {"what was read is kept": few, "read anew": large, "kept, and every label there can be": many},
    )


def write(
    off: Sequence[float], on: Sequence[float], ratios: Sequence[float], scrapes: dict[str, tuple[float, int]]
) -> None:
    low, middle, high = quantiles(ratios)
    lines = [
        "# Metrics\n",
        f"Written by `make bench ARGS=metrics`: {ROUNDS} rounds of {REQUESTS} requests, each service in turn.\n",
        "| GET /me, CPU of all its processes | ms |\n|---|---|",
        f"| without METRICS_TOKEN | {median(off):.3f} |",
        f"| with it | {median(on):.3f} |\n",
        f"With it / without, in each round: {middle:.3f} in the middle, half of them from {low:.3f} to {high:.3f}.\n",
        f"| a scrape, with {MANY:,} users, emails, requests and events | ms | bytes |\n|---|---|---|",
        *(f"| {name} | {time:.1f} | {length:,} |" for name, (time, length) in scrapes.items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    (OUT / "metrics.md").write_text(text)
