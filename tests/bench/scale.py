"""Ten million people: how the table grows, and whether anything gets slower by it. `make bench ARGS=scale`, or with
other numbers of people: `make bench ARGS="scale 10000 1000000"`. Ten million want 20 GB of disk and half an hour.

Each size has a database of its own, filled by COPY (the indexes are built after it, as after any bulk load), with a
session for every tenth. Then all of them are asked in turn, so that whatever else the machine does meets all alike.
Prints what it finds and writes it, with plots, to docs/bench/."""

import io
import itertools
import math
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from uuid import UUID

import django
import psycopg2

from tests.bench.server import OUT, Client, Server

SIZES = (10_000, 1_000_000, 10_000_000)
BATCH = 20_000
DAYS = 400  # in which they signed up
GENDERS = ("female", "male", "unspecified")
FIRST = ("Ada", "Adam", "Carla", "David", "Dina", "Emil", "Grace", "Hanna", "Ines", "Jonas", "Karim", "Mira", "Omar")
LAST = ("Lindqvist", "Moreau", "Haddad", "Schmidt", "Okafor", "Tanaka", "Silva", "Novak", "Rossi", "Larsen")
COLUMNS = (
    "id", "password", "is_superuser", "username", "username_skeleton", "email", "email_verified", "first_name",
    "last_name", "gender", "picture", "is_active", "is_staff", "created_at", "updated_at",
)  # fmt: skip


def address(people: int) -> str:
    """Of the database of this size."""
    return f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/scale_{people}"


@contextmanager
def cursor(url: str) -> Iterator["psycopg2.extensions.cursor"]:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as made:
            yield made


def number(sql: "psycopg2.extensions.cursor", statement: str) -> int:
    sql.execute(statement)
    return int(sql.fetchone()[0])


class Progress:
    def __init__(self, what: str, total: int, done: int = 0) -> None:
        self.what, self.total, self.there, self.begun = what, total, done, time.monotonic()

    def show(self, done: int) -> None:
        rate = (done - self.there) / max(time.monotonic() - self.begun, 0.001)
        words = (
            f"{self.what}: {done:,} of {self.total:,}, {rate:,.0f} a second, {(self.total - done) / rate:,.0f} s left"
        )
        if sys.stdout.isatty():
            bar = "█" * (30 * done // self.total)
            print(f"\r{bar:<30} {words}   ", end="\n" if done == self.total else "", flush=True)
        elif done == self.total or done // BATCH % 25 == 0:
            print(words, flush=True)


# --- Filling ------------------------------------------------------------------------------------------------


def uuid7(at: datetime, place: int) -> UUID:
    chance = random.getrandbits(36) << 26 | place
    return UUID(int=int(at.timestamp() * 1000) << 80 | 0x7 << 76 | 0x2 << 62 | chance)


def letters(place: int) -> str:
    """Scattered like names are, and each only once."""
    place = place * 7_919_319 % 26**5
    return "".join(chr(ord("a") + place // 26**power % 26) for power in range(4, -1, -1))


def rows(first: int, last: int, password: str, since: datetime, most: int) -> str:
    chance = random.Random(first)
    lines = []
    for place in range(first, last):
        at = since + timedelta(days=DAYS) * (place / most)
        name = chance.choice(FIRST)
        username = f"{name.lower()}.{letters(place)}"
        proved, active = "t" if chance.random() < 0.8 else "f", "f" if chance.random() < 0.01 else "t"
        values = (
            str(uuid7(at, place)), password, "f", username, username, f"{username}@example.com", proved, name,
            chance.choice(LAST), chance.choice(GENDERS), "", active, "f", at.isoformat(), at.isoformat(),
        )  # fmt: skip
        lines.append("\t".join(values))
    return "\n".join(lines) + "\n"


_SESSIONS = """
    INSERT INTO accounts_session (id, user_id, kind, name, platform, app_version, ip, created_at, last_used_at,
        authenticated_at, expires_at, generation, earlier_used_at)
    SELECT gen_random_uuid(), id, 'app', 'Somebody''s phone', 'iOS 20', '1.4.0', '192.0.2.1', now(), now(), now(),
        now() + interval '30 days', 1, '{}' FROM accounts_user
    WHERE hashtext(id::text) % 10 = 0 AND NOT EXISTS (SELECT FROM accounts_session WHERE user_id = accounts_user.id)
"""


def fill(people: int) -> None:
    with cursor(address(people)) as sql:
        there = number(sql, "SELECT count(*) FROM accounts_user WHERE username LIKE '%.%'")
        if there >= people:
            return
        sql.execute("SELECT password FROM accounts_user WHERE username = 'alice'")
        password = sql.fetchone()[0]
        since = datetime.now(UTC) - timedelta(days=DAYS + 1)
        rebuild = dropped_indexes(sql)
        progress = Progress("people", people, there)
        for first in range(there, people, BATCH):
            last = min(first + BATCH, people)
            file = io.StringIO(rows(first, last, password, since, people))
            sql.copy_expert(f"COPY accounts_user ({', '.join(COLUMNS)}) FROM STDIN", file)
            progress.show(last)
        sql.execute("SET maintenance_work_mem = '1GB'")
        for place, statement in enumerate(rebuild, 1):
            print(f"index {place} of {len(rebuild)}", flush=True)
            sql.execute(statement)
        sql.execute(_SESSIONS)
        for table in ("accounts_user", "accounts_session", "accounts_usercount"):
            sql.execute(f"VACUUM ANALYZE {table}")


def dropped_indexes(sql: "psycopg2.extensions.cursor") -> Sequence[str]:
    """All but the primary key's; the statements that make them again."""
    sql.execute(
        "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), c.conname, pg_get_constraintdef(c.oid)"
        " FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype = 'u'"
        " WHERE i.indrelid = 'accounts_user'::regclass AND NOT i.indisprimary"
    )
    rebuild = []
    for index, definition, constraint, text in sql.fetchall():
        if constraint:
            sql.execute(f'ALTER TABLE accounts_user DROP CONSTRAINT "{constraint}"')
            rebuild.append(f'ALTER TABLE accounts_user ADD CONSTRAINT "{constraint}" {text}')
        else:
            sql.execute(f"DROP INDEX {index}")
            rebuild.append(definition)
    return rebuild


# --- Asking -------------------------------------------------------------------------------------------------

ROUNDS = 10


@dataclass
class Size:
    people: int
    server: Server
    table: int = 0  # bytes
    indexes: int = 0
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # {what: milliseconds}
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # {what: ms of the web processes in all}

    def fast(self, name: str) -> float:
        """The fastest tenth: what it takes. The median says what it took beside whatever else the machine did."""
        return sorted(self.times[name])[len(self.times[name]) // 10]

    def cpu_each(self, name: str) -> float:
        return self.cpu[name] / len(self.times[name])

    def ask(self, name: str, work: Callable[[], object], times: int) -> None:
        before = self.server.cpu()
        for _ in range(times):
            begun = time.perf_counter()
            work()
            self.times[name].append((time.perf_counter() - begun) * 1000)
        self.cpu[name] += (self.server.cpu() - before) * 1000


Asked = dict[str, tuple[Callable[[], object], int]]  # {what: (it, how often in a round)}


def of_service(size: Size) -> Asked:
    from accounts.services.security import cursors

    client = Client(size.server.port)
    with cursor(address(size.people)) as sql:
        share = min(100, 5_000_000 / size.people)  # percent of the table's pages
        sql.execute("SELECT username FROM accounts_user TABLESAMPLE SYSTEM (%s) WHERE is_active", [share])
        people = [row[0] for row in sql.fetchall()]
        sql.execute("SELECT id FROM accounts_user WHERE is_active ORDER BY id DESC OFFSET 51 LIMIT 1")
        last = cursors.write("users", UUID(str(sql.fetchone()[0])))
        sql.execute("SELECT id FROM accounts_user WHERE is_active ORDER BY id OFFSET %s LIMIT 1", [size.people // 2])
        middle = cursors.write("users", UUID(str(sql.fetchone()[0])))
    random.shuffle(people)
    signed_in = itertools.cycle(people)
    tokens = [client.sign_in(next(signed_in))["access_token"] for _ in range(20)]

    def get(path: str) -> Callable[[], None]:
        def work() -> None:
            status, body = client.ask("GET", path, token=random.choice(tokens))
            assert status == 200, body

        return work

    return {
        "GET /users, first page": (get("/api/v1/users"), 50),
        "GET /users, middle page": (get(f"/api/v1/users?cursor={middle}"), 50),
        "GET /users, last page": (get(f"/api/v1/users?cursor={last}"), 50),
        "GET /users, 1,000 ids": (get("/api/v1/users?limit=1000"), 30),
        "GET /me": (get("/api/v1/me"), 50),
        "POST /token (sign-in)": (lambda: client.sign_in(next(signed_in)), 15),
    }


def of_rules(size: Size) -> Asked:
    """What has no answer of its own over HTTP: in this process."""
    from django.db.models import Count

    from accounts.errors import SearchTooBroad
    from accounts.models import User
    from accounts.services.staff import counts, directory, statistics
    from accounts.services.staff.directory import Filters

    turn_to(size)
    alice = User.objects.get(username="alice")
    somebody = User.objects.filter(username__contains=".").order_by("-id").first()
    assert somebody is not None
    word = somebody.username.partition(".")[2]

    def search(text: str) -> Callable[[], object]:
        def work() -> object:
            try:
                return directory.search(viewer=alice, text=text, filters=Filters())
            except SearchTooBroad:
                return None

        return work

    return {
        "the counts": (counts.active_by_gender, 40),
        "the same by count(*)": (
            lambda: list(User.objects.active().order_by().values_list("gender").annotate(Count("id"))),
            1,
        ),
        "statistics page's numbers": (lambda: statistics.read(viewer=alice, days=365), 10),
        "staff: newest page": (lambda: directory.search(viewer=alice, filters=Filters()), 10),
        "staff: search, one username": (search(somebody.username), 10),
        "staff: search, part of a name": (search(word), 10),
        "staff: search, a name of many": (search("lindqvist"), 2),
        "staff: search, misspelt": (search(f"{somebody.first_name[:-1]}x.{word}"), 1),
    }


def turn_to(size: Size) -> None:
    """This process asks the database of this size from now on."""
    from django.db import connection

    connection.close()
    connection.settings_dict["NAME"] = address(size.people).rpartition("/")[2]
    connection.ensure_connection()


def ask(sizes: Sequence[Size]) -> tuple[list[str], list[str]]:
    """The names of what the service and what the rules were asked."""
    service, rules = [of_service(size) for size in sizes], [of_rules(size) for size in sizes]
    for count in range(ROUNDS + 1):
        for place, size in enumerate(sizes):
            turn_to(size)
            for name, (work, times) in {**service[place], **rules[place]}.items():
                size.ask(name, work, times)
            if count == 0:  # only to get warm
                size.times.clear()
                size.cpu.clear()
        print(f"round {count} of {ROUNDS}", flush=True)
    for size in sizes:
        for name in size.times:
            show(size, name)
    return list(service[0]), list(rules[0])


def show(size: Size, name: str) -> None:
    times = size.times[name]
    print(
        f"{size.people:>12,}  {name:<32}{median(times):>10.2f} ms{size.fast(name):>10.2f} ms (fastest tenth)",
        flush=True,
    )


# --- What a row costs ---------------------------------------------------------------------------------------

ROWS = 100_000
_MORE = {
    "a session": (
        "accounts_session",
        """INSERT INTO accounts_session (id, user_id, kind, name, platform, app_version, ip, created_at, last_used_at,
        authenticated_at, expires_at, generation, earlier_used_at)
        SELECT gen_random_uuid(), u.id, 'app', 'Somebody''s phone', 'iOS 20', '1.4.0', '192.0.2.1', now(), now(), now(),
        now(), 1, '{}' FROM generate_series(1, %s), (SELECT id FROM accounts_user LIMIT 1) u""",
    ),
    "an event": (
        "accounts_event",
        """INSERT INTO accounts_event (id, user_id, kind, created_at, ip, device, data)
        SELECT gen_random_uuid(), u.id, 'session.started', now(), '192.0.2.1', 'Firefox on Linux', '{}'
        FROM generate_series(1, %s), (SELECT id FROM accounts_user LIMIT 1) u""",
    ),
    "a mail, once it is sent": (
        "post_office_email",
        """INSERT INTO post_office_email (from_email, "to", cc, bcc, subject, message, html_message, status, priority,
        created, last_updated, number_of_retries, headers, backend_alias, message_id)
        SELECT 'Crew <no-reply@example.com>', 'somebody' || n || '@example.com', '', '', 'Confirm your email address',
        '', '', 0, 2, now(), now(), 0, '{"Auto-Submitted": "auto-generated"}', '', '<' || n || '@example.com>'
        FROM generate_series(1, %s) n""",
    ),
    "a code or link": (
        "accounts_challenge",
        """INSERT INTO accounts_challenge (id, kind, login, user_id, email, code_mac, key_mac, attempts, created_at,
        answered_at, ip, device) SELECT gen_random_uuid(), 'confirm_email', '', u.id, 'somebody@example.com',
        decode(repeat('ab', 32), 'hex'), decode(repeat('ab', 32), 'hex'), 0, now(), now(), '192.0.2.1',
        'Firefox on Linux' FROM generate_series(1, %s), (SELECT id FROM accounts_user LIMIT 1) u""",
    ),
}
_REFRESH = """UPDATE accounts_session SET generation = generation + 1, generation_used_at = NULL, last_used_at = now(),
    earlier_used_at = ARRAY[now()] WHERE id = ANY(%s::uuid[])"""


def bytes_of_rows(people: int) -> dict[str, float]:
    found = {}
    with cursor(address(people)) as sql:
        for name, (table, statement) in _MORE.items():
            sql.execute(f"VACUUM {table}")
            before = number(sql, f"SELECT pg_total_relation_size('{table}')")
            sql.execute(statement, [ROWS])
            found[name] = (number(sql, f"SELECT pg_total_relation_size('{table}')") - before) / ROWS
        sql.execute("SELECT array_agg(id::text) FROM (SELECT id FROM accounts_session LIMIT 1000) s")
        some = sql.fetchone()[0]
        before = number(sql, "SELECT pg_total_relation_size('accounts_session')")
        for _ in range(100):
            sql.execute(_REFRESH, [some])
        found["a refresh"] = (number(sql, "SELECT pg_total_relation_size('accounts_session')") - before) / 100_000
    for name, size in found.items():
        print(f"{name:<32}{size:>8.0f} bytes", flush=True)
    return found


def pruned(size: Size) -> float:
    """Events that are forgotten a second."""
    from accounts.services.security import audit

    turn_to(size)
    with cursor(address(size.people)) as sql:
        sql.execute("UPDATE accounts_event SET created_at = created_at - interval '1000 days'")
    begun = time.monotonic()
    rate = audit.prune() / (time.monotonic() - begun)
    print(f"{rate:,.0f} events a second are forgotten", flush=True)
    return rate


# --- Writing it down ----------------------------------------------------------------------------------------

COLOURS = ("#1d569f", "#b4540a", "#2b7a4b", "#8a2f8f", "#7a6a00", "#5c5c5c")
FLAT = (
    "GET /users, first page", "GET /users, last page", "the counts", "GET /me", "POST /token (sign-in)",
    "the same by count(*)",
)  # fmt: skip


def plot(sizes: Sequence[Size]) -> str:
    """Left: time against people, both by powers of ten. Right: bytes against people."""

    def x(people: int, left: int) -> float:
        return left + 250 * math.log10(people / sizes[0].people) / math.log10(sizes[-1].people / sizes[0].people)

    def y(milliseconds: float) -> float:
        return 300 - 48 * (math.log10(max(milliseconds, 0.01)) + 2)

    parts = [f'<text x="60" y="{y(10.0**power) + 4:.0f}" text-anchor="end">{10.0**power:g} ms</text>'
             f'<path d="M66 {y(10.0**power):.0f}H330" stroke="#ddd"/>' for power in range(-2, 4)]  # fmt: skip
    for place, (name, colour) in enumerate(zip(FLAT, COLOURS, strict=True)):
        points = [(x(size.people, 72), y(size.fast(name))) for size in sizes]
        parts.append(
            f'<path d="M{"L".join(f"{a:.0f} {b:.0f}" for a, b in points)}" fill="none" stroke="{colour}"/>'
            + "".join(f'<circle cx="{a:.0f}" cy="{b:.0f}" r="3" fill="{colour}"/>' for a, b in points)
            + f'<text x="{72 + 250 * (place % 2)}" y="{350 + place // 2 * 18}" fill="{colour}">{name}</text>'
        )
    top = max(size.table + size.indexes for size in sizes)
    for size in sizes:
        a = x(size.people, 480)
        indexes, table = 240 * size.indexes / top, 240 * size.table / top
        parts.append(
            f'<path d="M{a:.0f} 300v-{table:.1f}" stroke-width="44" stroke="{COLOURS[0]}"/>'
            f'<path d="M{a:.0f} {300 - table:.1f}v-{indexes:.1f}" stroke-width="44" stroke="{COLOURS[1]}"/>'
            f'<text x="{a:.0f}" y="{292 - table - indexes:.0f}" text-anchor="middle">'
            f"{(size.table + size.indexes) / 1e6:,.0f} MB</text>"
        )
    for left in (72, 480):
        parts += [
            f'<text x="{x(size.people, left):.0f}" y="318" text-anchor="middle">{size.people:,}</text>'
            for size in sizes
        ]
    parts.append(f'<text x="480" y="350" fill="{COLOURS[0]}">the table of users</text>')
    parts.append(f'<text x="620" y="350" fill="{COLOURS[1]}">its indexes</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 400" font-family="system-ui" font-size="12">'
        '<rect width="800" height="400" fill="#fff"/><text x="20" y="24" font-weight="600">Time of an answer '
        '(the fastest tenth)</text><text x="440" y="24" font-weight="600">What they take on disk</text>'
        + "".join(parts)
        + "</svg>\n"
    )


def table(sizes: Sequence[Size], cells: Callable[[Size, str], str], names: Sequence[str]) -> str:
    head = "| | " + " | ".join(f"{size.people:,}" for size in sizes) + " |\n|---|" + "---|" * len(sizes) + "\n"
    return head + "\n".join(f"| {name} | " + " | ".join(cells(size, name) for size in sizes) + " |" for name in names)


def write(
    sizes: Sequence[Size], asked: Sequence[str], rules: Sequence[str], per_row: dict[str, float], prune: float
) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "scale.svg").write_text(plot(sizes))
    grown: dict[str, Callable[[Size], str]] = {
        "table, MB": lambda size: f"{size.table / 1e6:,.0f}",
        "indexes, MB": lambda size: f"{size.indexes / 1e6:,.0f}",
        "bytes a user": lambda size: f"{(size.table + size.indexes) / size.people:,.0f}",
    }

    def time_and_cpu(size: Size, name: str) -> str:
        return f"{size.fast(name):.2f} ({median(size.times[name]):.2f}; {size.cpu_each(name):.2f})"

    def time_alone(size: Size, name: str) -> str:
        return f"{size.fast(name):.2f} ({median(size.times[name]):.2f})"

    (OUT / "scale.md").write_text(
        "# Scale\n\nWritten by `make bench ARGS=scale`: two granian workers, Postgres with its own small defaults and "
        "the load on one machine\nof two cores. What it means stands in [scale.md](../scale.md).\n\n"
        "One request after the other over HTTP, in ms: the fastest tenth (in brackets the median; the web processes' "
        "CPU).\n\n"
        + table(sizes, time_and_cpu, asked)
        + "\n\nA rule's own time, in ms: the fastest tenth (in brackets the median).\n\n"
        + table(sizes, time_alone, rules)
        + "\n\nGrowth:\n\n"
        + table(sizes, lambda size, name: grown[name](size), list(grown))
        + "\n\n| a row, with its indexes | bytes |\n|---|---|\n"
        + "\n".join(f"| {name} | {size:.0f} |" for name, size in per_row.items())
        + f"\n\nThe hourly clean-up forgets {prune:,.0f} events a second.\n\n![plot](scale.svg)\n"
    )


def main(*wanted: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()
    sizes: list[Size] = []
    try:
        for people in wanted or SIZES:
            with cursor(os.environ["DATABASE_URL"]) as sql, suppress(psycopg2.errors.DuplicateDatabase):
                sql.execute(f"CREATE DATABASE scale_{people}")
            sizes.append(Size(people, Server(DATABASE_URL=address(people))))
            fill(people)
            with cursor(address(people)) as sql:
                sizes[-1].table = number(sql, "SELECT pg_table_size('accounts_user')")
                sizes[-1].indexes = number(sql, "SELECT pg_indexes_size('accounts_user')")
            megabytes = [round(size / 1e6) for size in (sizes[-1].table, sizes[-1].indexes)]
            print(f"{people:>12,}  {megabytes[0]:,} MB, and {megabytes[1]:,} MB of indexes", flush=True)
        asked, rules = ask(sizes)
        write(sizes, asked, rules, bytes_of_rows(sizes[0].people), pruned(sizes[0]))
    finally:
        for size in sizes:
            size.server.stop()
