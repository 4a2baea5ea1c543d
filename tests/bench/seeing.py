"""What seeing costs: server CPU of `GET /api/v1/me` with access lines as JSON, and with traces, beside a server with
neither. `make bench ARGS=seeing`. In rounds that take turns, because a machine is not equally fast all the time; the
medians count."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from typing import Any

from tests.bench.server import OUT, Client, Server

ROUNDS = 9
REQUESTS = 500
BASE = "neither"
# A variant more is a line more.
VARIANTS: dict[str, dict[str, str]] = {
    BASE: {},
    "once more, to see the noise": {},
    "ACCESS_LOG=1 LOG_FORMAT=json": {"ACCESS_LOG": "1", "LOG_FORMAT": "json", "LOG_LEVEL": "INFO"},
    "traces of 1 %": {"OTEL_EXPORTER_OTLP_ENDPOINT": "{collector}"},
    "traces of every request": {"OTEL_EXPORTER_OTLP_ENDPOINT": "{collector}", "OTEL_TRACES_SAMPLER_ARG": "1"},
}


class Collector(BaseHTTPRequestHandler):
    """Takes traces and forgets them."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def main() -> None:
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    where = f"http://127.0.0.1:{collector.server_port}"
    servers: dict[str, Server] = {}
    try:
        for name, variant in VARIANTS.items():
            settings: dict[str, Any] = {key: value.format(collector=where) for key, value in variant.items()}
            servers[name] = Server(**settings)
        found = measure(servers)
    finally:
        for server in servers.values():
            server.stop()
        collector.shutdown()
    lines = [f"| {name} | {cpu:.2f} | {cpu / found[BASE]:.2f} |" for name, cpu in found.items()]
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "seeing.md").write_text(
        "# Seeing\n\nWritten by `make bench ARGS=seeing`: what `GET /api/v1/me` costs a server of two granian workers, "
        f"medians of {ROUNDS} rounds of {REQUESTS} requests that take turns.\n\n"
        "| | CPU ms a request | times |\n|---|---|---|\n" + "\n".join(lines) + "\n"
    )


def measure(servers: dict[str, Server]) -> dict[str, float]:
    """Milliseconds of CPU a request."""
    clients = {name: Client(server.port) for name, server in servers.items()}
    token = next(iter(clients.values())).sign_in()["access_token"]
    taken: dict[str, list[float]] = {name: [] for name in servers}
    for number in range(ROUNDS + 1):
        for name, server in servers.items():
            before = server.cpu()
            for _ in range(REQUESTS):
                assert clients[name].ask("GET", "/api/v1/me", token=token)[0] == 200
            if number:  # the first one warms up
                taken[name].append((server.cpu() - before) / REQUESTS * 1e3)
    for name, times in taken.items():
        print(f"{name:<34}{median(times):>8.2f} ms   {' '.join(f'{time:.2f}' for time in sorted(times))}", flush=True)
    return {name: median(times) for name, times in taken.items()}
