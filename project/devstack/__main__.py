"""Real servers from wheels (PostgreSQL, Valkey, SeaweedFS, a mail inbox), so that Python and make are all anyone needs.

    python -m project.devstack run                    servers, web, worker and beat; data stays in .data/
    python -m project.devstack test [PYTEST ARGS]     pytest on fresh servers, thrown away afterwards
    python -m project.devstack shell COMMAND...       any command on the servers of `run`, started when they are not up
    python -m project.devstack fresh COMMAND...       any command on fresh servers, thrown away afterwards

A server is not started when the environment already names one: DATABASE_URL, REDIS_URL, S3_ENDPOINT_URL, EMAIL_URL.
Commands get these names and whatever else of the settings was missing. They also get INBOX_URL (the web inbox) and
INBOX_IMAP_URL, from which `received()` reads the mails. `shell` beside a `run` gets the settings that `run` was given
too; what its own terminal has goes first. EMBEDDED_DATA names another folder than .data/.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from xml.etree import ElementTree as ET

from project.devstack.running import run
from project.devstack.servers import BASE, DATA, Refused, say
from project.devstack.stack import AlreadyRunning, fresh_stack, kept_stack


def fresh(command: list[str]) -> int:
    with fresh_stack() as stack:
        return stack.call(*command)


def shell(command: list[str]) -> int:
    try:
        with kept_stack() as stack:
            return stack.call(*command)
    except AlreadyRunning:
        running = DATA / "running.json"
        if not running.exists():
            raise Refused("The stack is just starting or stopping: try again in a moment.") from None
        os.environ.update(json.loads(running.read_text()) | os.environ)
        os.execvp(command[0], command)  # noqa: S606 - what the person at the terminal asked for


# The settings are said aloud, because importing this package names those of production.
PYTEST = [sys.executable, "-m", "pytest", "--ds=tests.settings"]
# Each folder is looked at in one lane; what is in none of these makes a lane of its own. A lane costs twenty seconds of
# a processor before its first test, so there are no more than keep two of them busy.
LANES = (["tests/e2e", "tests/drills"],)
MAIN = ["tests/services", "tests/smoke", "tests/stack"]


def test() -> int:
    """The whole suite in lanes, each on servers of its own. One is shown as it goes, what the others say at the end."""
    began = time.monotonic()
    rest = ["tests", *(f"--ignore={path}" for lane in (MAIN, *LANES) for path in lane)]
    lanes = {" ".join(lane): lane for lane in (MAIN, *LANES)} | {"the rest": rest}
    with tempfile.TemporaryDirectory() as folder:
        reports = {name: Path(folder) / f"{number}.xml" for number, name in enumerate(lanes)}
        commands = {name: [*PYTEST, *paths, f"--junitxml={reports[name]}"] for name, paths in lanes.items()}
        main, *others = commands
        with contextlib.ExitStack() as closing:
            running = {name: closing.enter_context(_lane(name, commands[name])) for name in others}
            codes = {main: fresh(commands[main]), **{name: lane.wait() for name, lane in running.items()}}
        say("\n".join(closing_words(reports, codes, time.monotonic() - began)))
    return max(codes.values())


@contextlib.contextmanager
def _lane(name: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "project.devstack", "fresh", *command],
            cwd=BASE,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            said.seek(0)
            say(f"\n{name}:\n{said.read().decode(errors='replace')}")


def closing_words(reports: Mapping[str, Path], codes: Mapping[str, int], seconds: float) -> list[str]:
    """The ten slowest tests of all lanes, a line for each lane, and all of it in the form of pytest's own last line."""
    cases, lines = [], []
    for name, report in reports.items():
        if not report.exists():
            lines.append(f"{name}: ended with {codes[name]} before its report")
            continue
        suite = ET.parse(report).getroot()[0]  # noqa: S314 - our own pytest has just written it
        found = list(suite.iter("testcase"))
        cases += found
        lines.append(f"{name}: {_counts(found)} in {_seconds(suite):.0f} s, exit code {codes[name]}")
    slowest = sorted(cases, key=_seconds, reverse=True)[:10]
    return [
        "\nThe ten slowest tests:",
        *(f"{_seconds(case):7.1f} s  {case.attrib['classname']}::{case.attrib['name']}" for case in slowest),
        "",
        *lines,
        f"=== {_counts(cases)} in {seconds:.2f}s ===",
    ]


def _seconds(part: ET.Element) -> float:
    return float(part.attrib["time"])


def _counts(cases: list[ET.Element]) -> str:
    outcomes = {"failure": "failed", "error": "errors", "skipped": "skipped"}
    found = Counter(outcomes.get(case[0].tag, "passed") if len(case) else "passed" for case in cases)
    return ", ".join(f"{found[word]} {word}" for word in ("failed", "passed", "skipped", "errors") if found[word])


def dispatch(arguments: list[str]) -> int:
    match arguments:
        case ["run"]:
            return run()
        case ["test"]:
            return test()
        case ["test", *options]:
            return fresh([*PYTEST, *options])
        case ["fresh", _, *_]:
            return fresh(arguments[1:])
        case ["shell", _, *_]:
            return shell(arguments[1:])
        case _:
            say(__doc__ or "")
            return 2


def main() -> int:
    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    try:
        return dispatch(sys.argv[1:])
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
