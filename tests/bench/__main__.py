"""Requests a second, latency and server CPU a request, over real HTTP on this machine: `make bench`.
Whether time tells who has an account: `make bench ARGS=timing` (timing.py).
Mails a second: `make bench ARGS=mail` (tests/bench/mail.py).
Ten million people: `make bench ARGS=scale` (tests/bench/scale.py).
A failover of Postgres: `make bench ARGS=failover` (tests/bench/failover.py).
What it costs to be watched: `make bench ARGS=metrics` (metrics.py).
What lines of the log and traces cost: `make bench ARGS=seeing` (seeing.py).
A new version beside the one before, and back: `make bench ARGS=rollout` (tests/bench/rollout.py).
A restored backup with 200 sessions: `make bench ARGS=restore` (tests/bench/restore.py).
Beside djoser, ninja-jwt, allauth headless and fastapi-users: `make bench ARGS=peers` (peers.py).

Prints a table and writes it, with a plot, to docs/bench/. Figures of one run compare with each other; figures of two
machines do not."""

import json
import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from tests.bench import failover, mail, metrics, peers, restore, rollout, scale, seeing, timing
from tests.bench.server import OUT, Client, Server

SECONDS = 4.0
CLIENTS = 4


@dataclass(frozen=True)
class Figure:
    name: str
    rate: float  # requests a second
    p50: float  # milliseconds
    p99: float
    cpu: float  # milliseconds of server CPU a request


def measure(name: str, server: Server, make: Callable[[], Callable[[], int]]) -> Figure:
    """`make` gives each client the thing it does over and over, which returns a status."""
    works = [make() for _ in range(CLIENTS)]
    for work in works:
        work()
    times: list[float] = []
    failed: list[int] = []
    end = time.monotonic() + SECONDS

    def run(work: Callable[[], int]) -> None:
        while time.monotonic() < end:
            begun = time.perf_counter()
            status = work()
            times.append(time.perf_counter() - begun)
            if status >= 400:
                failed.append(status)

    before, begun = server.cpu(), time.monotonic()
    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, cpu = time.monotonic() - begun, server.cpu() - before
    assert not failed, (name, failed[:3])
    cuts = quantiles(times, n=100)
    figure = Figure(name, len(times) / seconds, cuts[49] * 1e3, cuts[98] * 1e3, cpu / len(times) * 1e3)
    print(f"{name:<22}{figure.rate:>9.0f}/s{figure.p50:>9.2f}{figure.p99:>9.2f}{figure.cpu:>12.2f}", flush=True)
    return figure


def works(port: int) -> dict[str, Callable[[], Callable[[], int]]]:
    def me() -> Callable[[], int]:
        client = Client(port)
        token = client.sign_in()["access_token"]
        return lambda: client.ask("GET", "/api/v1/me", token=token)[0]

    def refresh() -> Callable[[], int]:
        client = Client(port)
        token = [client.sign_in()["refresh_token"]]

        def once() -> int:
            status, body = client.ask("POST", "/api/v1/token/refresh", {"refresh_token": token[0]})
            token[0] = json.loads(body).get("refresh_token", "")
            return status

        return once

    def sign_in() -> Callable[[], int]:
        client = Client(port)
        return lambda: 200 if client.sign_in() else 500

    def users() -> Callable[[], int]:
        client = Client(port)
        token = client.sign_in()["access_token"]
        return lambda: client.ask("GET", "/api/v1/users", token=token)[0]

    def live() -> Callable[[], int]:
        client = Client(port)
        return lambda: client.ask("GET", "/livez")[0]

    return {
        "GET /livez": live,
        "GET /me": me,
        "POST /token/refresh": refresh,
        "GET /users": users,
        "POST /token": sign_in,
    }


def plot(figures: list[Figure]) -> str:
    """Bars of server CPU a request, on a scale by powers of ten."""
    rows = []
    for place, figure in enumerate(figures):
        y = 40 + place * 34
        width = 60 * max(0.2, 2 + math.log10(figure.cpu))
        rows.append(
            f'<text x="170" y="{y + 15}" text-anchor="end">{figure.name}</text>'
            f'<rect x="180" y="{y}" width="{width:.0f}" height="20" rx="3" fill="#1d569f"/>'
            f'<text x="{188 + width:.0f}" y="{y + 15}">{figure.cpu:.2f} ms · {figure.rate:.0f}/s</text>'
        )
    height = 50 + len(figures) * 34
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" font-family="system-ui" font-size="13">'
        f'<rect width="640" height="{height}" fill="#fff"/><text x="20" y="24" font-weight="600">Server CPU a request '
        f"(each 60 px are ten times more)</text>{''.join(rows)}</svg>\n"
    )


def main() -> None:
    server = Server()
    try:
        print(f"{'':<22}{'rate':>11}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms/req':>12}")
        figures = [measure(name, server, make) for name, make in works(server.port).items()]
    finally:
        server.stop()
    OUT.mkdir(parents=True, exist_ok=True)
    Path(OUT / "requests.svg").write_text(plot(figures))
    lines = [f"| {f.name} | {f.rate:.0f} | {f.p50:.2f} | {f.p99:.2f} | {f.cpu:.2f} |" for f in figures]
    (OUT / "requests.md").write_text(
        "# Requests\n\nWritten by `make bench`: two granian workers and the load on one machine of two cores.\n\n"
        "| | a second | p50 ms | p99 ms | server CPU ms |\n|---|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n\n![plot](requests.svg)\n"
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["timing"]:
            timing.main()
        case ["mail", *count]:
            mail.main(*(int(number) for number in count))
        case ["failover"]:
            failover.main()
        case ["metrics"]:
            metrics.main()
        case ["restore"]:
            restore.main()
        case ["rollout", *commit]:
            rollout.main(*commit)
        case ["peers"]:
            peers.main()
        case ["seeing"]:
            seeing.main()
        case ["scale", *people]:
            scale.main(*(int(number) for number in people))
        case _:
            main()
