"""What is measured, as it runs for people, and who asks it."""

import http.client
import json
import os
import subprocess
import sys
import time

import psutil

from project.devstack.servers import BASE, free_ports

PASSWORD = "plum tractor lagoon"
OUT = BASE / "docs" / "bench"
PER_ADDRESS = (
    "login_per_ip",
    "signup_per_ip",
    "refresh_per_ip",
    "mail_per_ip",
    "code_per_ip",
    "signup_challenge_per_ip",
    "mail_challenge_per_ip",
)


class Server:
    """granian as in the image, with two workers."""

    def __init__(self, *, people: int = 0, **settings: str) -> None:
        self.port = free_ports(1)[0]
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PASSWORD_HASH_CONCURRENCY": "1",
            "RATE_LIMITS": ",".join(f"{name}=100000000/60" for name in PER_ADDRESS),
            "LOG_LEVEL": "WARNING",
            **settings,
        }
        for command in (["migrate", "--verbosity=0"], ["seed", "--count", str(people)]):
            manage = [sys.executable, "manage.py", *command]
            subprocess.run(manage, cwd=BASE, env=environment, check=True, stdout=subprocess.DEVNULL)
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.port),
                "--no-ws", "--workers", "2", "--blocking-threads", "4", "--log-level", "warning",
                "project.wsgi:application",
            ],
            cwd=BASE, env=environment, stderr=subprocess.DEVNULL if "ACCESS_LOG" in settings else None,
        )  # fmt: skip
        while not self.ready():
            time.sleep(0.1)

    def ready(self) -> bool:
        try:
            return Client(self.port).ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def cpu(self) -> float:
        """Seconds of CPU that the server and its workers have used."""
        parent = psutil.Process(self.process.pid)
        return sum(sum(each.cpu_times()[:2]) for each in [parent, *parent.children(recursive=True)])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


class Client:
    """One kept-open connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, method: str, path: str, body: object = None, token: str = "") -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self.connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def sign_in(self, login: str = "alice") -> dict[str, str]:
        status, body = self.ask("POST", "/api/v1/token", {"login": login, "password": PASSWORD})
        assert status == 200, body
        tokens: dict[str, str] = json.loads(body)["tokens"]
        return tokens
