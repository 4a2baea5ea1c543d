"""Real servers from wheels (PostgreSQL, Valkey, SeaweedFS, a mail inbox), so that Python and make are all anyone needs.

    python -m project.devstack run                    servers, web, worker and beat; data stays in .data/
    python -m project.devstack test [PYTEST ARGS]     pytest on fresh servers, thrown away afterwards
    python -m project.devstack shell COMMAND...       any command on the servers of `run`, started when they are not up
    python -m project.devstack fresh COMMAND...       any command on fresh servers, thrown away afterwards

A server is not started when the environment already names one: DATABASE_URL, REDIS_URL, S3_ENDPOINT_URL, EMAIL_URL.
Commands get these names and whatever else of the settings was missing. They also get INBOX_URL (the web inbox) and
INBOX_IMAP_URL, from which `received()` reads the mails. EMBEDDED_DATA names another folder than .data/.

A test that must take a server away starts its own, on ports of its own:

    with Valkey(tmp_path / "valkey") as valkey:
        ...  # use valkey.url
        valkey.stop()
        ...  # nobody answers at valkey.url
        valkey.start()  # same address, same data
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from types import FrameType

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
# Tests with servers of their own mostly wait for them, while the others compute.
LANES = (["tests/drills"], ["tests/e2e", "tests/smoke", "tests/stack"])


def test() -> int:
    """The whole suite in three lanes, each on servers of its own. What the others say is shown at the end."""
    with contextlib.ExitStack() as closing:
        others = [closing.enter_context(_lane(folders)) for folders in LANES]
        code = fresh([*PYTEST, *(f"--ignore={folder}" for folders in LANES for folder in folders)])
        return max(code, *(other.wait() for other in others))


@contextlib.contextmanager
def _lane(folders: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "project.devstack", "fresh", *PYTEST, *folders]
        process = subprocess.Popen(command, cwd=BASE, stdout=said, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            said.seek(0)
            say(f"\n{', '.join(folders)}:\n{said.read().decode(errors='replace')}")


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
