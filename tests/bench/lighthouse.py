"""Lighthouse on the sign-in page and on the overview: `make lighthouse`. The service runs as in the image, behind nginx
with the configuration of docker-compose.yml where there is an nginx. Writes docs/bench/lighthouse.md; ends with 1 where
a page has less than 100 for accessibility or best practices, or less than 99 for performance."""

import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup()

from playwright.sync_api import sync_playwright

from project.devstack.servers import BASE, free_ports
from tests.e2e.chromium import PATH, QUIET
from tests.e2e.conftest import Service, eventually
from tests.e2e.nginx import NGINX, nginx
from tests.e2e.states import Cast

FOLDER = BASE / "tests/bench/lighthouse_npm"
LEAST = {"performance": 99, "accessibility": 100, "best-practices": 100}
OWN_FILES = ("static/css/account.css", "static/js/account.js")


@contextmanager
def running() -> Iterator[tuple[str, str]]:
    """The address of the service, and the session cookie of somebody with a picture and some devices."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        service = Service(Path(folder))
        door = None
        try:
            service.start()
            browser = playwright.chromium.launch(executable_path=PATH, args=QUIET)
            cookies = Cast(service, browser).gather().signed_in("mira")["cookies"]
            browser.close()
            url = service.url
            if NGINX:
                (port,) = free_ports(1)
                (Path(folder) / "nginx").mkdir()
                door = nginx(Path(folder) / "nginx", listen=port, web=service.port)
                url = f"http://localhost:{port}"
                eventually(lambda: service.ready(service.port))
            yield url, next(cookie["value"] for cookie in cookies if cookie["name"] == "session")
        finally:
            if door:
                door.terminate()
                door.wait(10)
            service.stop()


def measure(url: str, session: str) -> list[dict[str, Any]]:
    """Two pages, each as a phone and as a desk. Whoever is signed in would be sent on from the first."""
    pages = (("sign in", "/account/login/", ""), ("overview", "/account/", session))
    return [line for name, path, cookie in pages for line in _run(name, url + path, cookie)]


def _run(name: str, address: str, session: str) -> list[dict[str, Any]]:
    job = {
        "chromium": PATH,
        "args": [*QUIET, "--headless=new"],
        "cookie": {"name": "session" if session else "nobody", "value": session or "x"},
        "forms": ["mobile", "desktop"],
        "pages": {name: address},
    }
    done = subprocess.run(
        ["node", "run.mjs"], cwd=FOLDER, input=json.dumps(job), capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def report(found: list[dict[str, Any]]) -> str:
    sizes = {name: len(gzip.compress((BASE / name).read_bytes(), 6)) for name in OWN_FILES}
    lines = [
        "# Lighthouse",
        "",
        f"Written by `make lighthouse` with Lighthouse {found[0]['version']} in Chromium, with the slow network and "
        "processor that it gives a phone (mobile) and a desk, against the service as in the image: granian, hashed "
        "files, "
        + ("nginx with `docker/nginx.conf` in front." if NGINX else "**without** nginx, so nothing is compressed."),
        "",
        "| page | | performance | accessibility | best practices | first paint | largest paint | blocked | shift |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        scores, figures = one["scores"], one["figures"]
        lines.append(
            f"| {one['name']} | {one['form']} | {scores['performance']} | {scores['accessibility']} |"
            f" {scores['best-practices']} | {figures['first-contentful-paint']} |"
            f" {figures['largest-contentful-paint']} |"
            f" {figures['total-blocking-time']} | {figures['cumulative-layout-shift']} |"
        )
    weights = " + ".join(f"{Path(name).name} {size / 1000:.1f} kB" for name, size in sizes.items())
    lines += ["", f"The two files that pages load, gzipped: {weights} = {sum(sizes.values()) / 1000:.1f} kB.", ""]
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def main() -> int:
    if not (FOLDER / "node_modules/lighthouse").exists():
        install = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(install, cwd=FOLDER, check=True)
    with running() as (url, session):
        found = measure(url, session)
    for one in found:
        print(one["name"], one["form"], one["scores"], "; ".join(one["lost"]))
    (BASE / "docs/bench/lighthouse.md").write_text(report(found))
    short = [one for one in found if any(one["scores"][name] < least for name, least in LEAST.items())]
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
