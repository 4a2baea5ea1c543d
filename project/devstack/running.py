"""`make run`: servers, web, worker and beat under one roof."""

import multiprocessing
import os
import re
import shlex
import signal
import sys
import time
from typing import Any

import honcho.manager

from project.devstack.servers import BASE, HOST, MARK, SIGN_IN, Refused, answers, options, say
from project.devstack.stack import Stack, kept_stack


def run() -> int:
    with kept_stack() as stack:
        stack.prepare(*([str(SIGN_IN)] if stack.is_ours("DATABASE_URL") else []))
        processes = Processes()
        # Only now: multiprocessing's own helper, which is there from here on, ends by itself.
        os.environ[MARK] = stack.environment[MARK]
        for name, arguments in commands(stack).items():
            command = f"exec {shlex.join([sys.executable, *arguments])}"
            # Of the two others only what is wrong, unless they are asked for more.
            environment = stack.environment if name == "web" else {"LOG_LEVEL": "WARNING", **stack.environment}
            processes.add_process(name, command, env=environment, cwd=str(BASE))
        summary = multiprocessing.Process(target=_announce, args=(stack.environment, stack.web_port), daemon=True)
        summary.start()
        processes.loop()
        signal.alarm(0)
        if processes.first_to_end is not None:
            raise Refused(f"Stopped everything, because {processes.first_to_end} ended; its last lines stand above.")
        return 0 if processes.returncode == 128 + signal.SIGINT else int(processes.returncode)


def commands(stack: Stack) -> dict[str, list[str]]:
    celery = ["-W", "ignore:You're running the worker with superuser", "-m", "celery", "--quiet", "--app", "project"]
    granian = {
        "interface": "wsgi",
        "host": HOST,
        "port": stack.web_port,
        "workers": 1,
        "blocking-threads": 4,
        "workers-kill-timeout": 3,
        "static-path-route": "/static",
        "static-path-mount": stack.environment["STATIC_ROOT"],
        "log-level": "warning",
    }
    schedule = f"--schedule={stack.folder / 'beat'}"
    return {
        "web": ["-m", "granian", "--no-ws", *options(granian), "project.wsgi:application"],
        "worker": [*celery, "worker", "--concurrency=2"],
        "beat": [*celery, "beat", "--pidfile=", schedule],
    }


class Processes(honcho.manager.Manager):
    """Web, worker and beat under one roof: when one ends, all end."""

    def __init__(self) -> None:
        # Started anew and not forked, honcho's helpers carry the mark (run), and a later run can sweep them.
        multiprocessing.set_start_method("spawn", force=True)
        super().__init__()
        self.first_to_end: str | None = None
        self._write = self._printer.write
        self._printer.write = self._notice

    def _notice(self, message: Any) -> None:
        ended = re.match(r"(\w+) stopped", message.data) if message.name == honcho.manager.SYSTEM_PRINTER_NAME else None
        if ended and not self._terminating:
            self.first_to_end = ended[1]
        self._write(message)

    def terminate(self) -> None:
        # Left to itself honcho waits for ever when none of them obeys.
        signal.signal(signal.SIGALRM, lambda *_: self.kill())
        signal.alarm(6)
        super().terminate()


def _announce(environment: dict[str, str], web_port: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    deadline = time.monotonic() + 60
    while not answers(f"http://{HOST}:{web_port}/readyz"):
        if time.monotonic() > deadline:
            say("The web process is not ready after a minute (/readyz does not answer 200); stopping.")
            os.kill(os.getppid(), signal.SIGTERM)
            return
        time.sleep(0.1)
    pages = environment["PUBLIC_URL"]
    rows = {
        "Pages": f"{pages}/account/",
        "Admin": f"{pages}/admin/",
        "API docs": f"{pages}/api/v1/docs",
        "Inbox": environment.get("INBOX_URL", "(your own mail server)"),
    }
    lines = [f"  {name:<10} {value}" for name, value in rows.items()]
    if SIGN_IN.exists():
        lines += ["", f"  {SIGN_IN.read_text().splitlines()[-1]}"]
    say("\n".join(["", *lines, "", "  Ctrl-C stops everything.", ""]))
