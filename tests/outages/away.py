"""A service whose Postgres a drill may take away: its own, behind a relay that can swallow and cut."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from project.devstack.servers import Postgres, free_ports
from tests.e2e.conftest import Service, eventually

# Seconds for an answer while Postgres or the storage hangs: DRILL_ALONE=1 asks for what is promised. Beside the other
# lanes of the suite the machine itself may be late; an answer that waits for the server does not come at all.
BOUND = 5.0 if "DRILL_ALONE" in os.environ else 60.0


class Relay:
    """To a server, and back. `swallow` makes a network that takes everything and brings nothing; what is lost so
    ends its connection. `on_question` sees what is sent to the server, and on which connection; where it says True,
    that is cut in place of the answer."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.on_question: Callable[[object, bytes], bool] = lambda *_: False
        self._flows = threading.Event()
        self._flows.set()
        self._server = socket.create_server(("127.0.0.1", free_ports(1)[0]), backlog=100)
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def swallow(self) -> bool:
        return not self._flows.is_set()

    @swallow.setter
    def swallow(self, value: bool) -> None:
        self._flows.clear() if value else self._flows.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            if self.swallow:
                self._flows.wait()
                return
            with socket.create_connection(("127.0.0.1", self.target)) as server:
                doomed = threading.Event()
                back = threading.Thread(target=self._pass, args=(server, client, doomed), daemon=True)
                back.start()
                self._pass(client, server, doomed, asks=True)
                back.join()

    def _pass(self, source: socket.socket, target: socket.socket, doomed: threading.Event, asks: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.swallow:
                    break
                if asks and self.on_question(doomed, data):
                    doomed.set()
                elif not asks and doomed.is_set():
                    break
                target.sendall(data)
        self._flows.wait()
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._flows.set()


class Away(Service):
    """Of the two hosts in its DATABASE_URL nobody ever answers at the first."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.postgres = Postgres(folder / "postgres", keep=True)

    @property
    def environment(self) -> dict[str, str]:
        parts = urlsplit(self.postgres.url)
        hosts = f"127.0.0.1:9,127.0.0.1:{self.relay.port}"
        url = f"postgres://{parts.username}:{parts.password}@{hosts}/postgres"
        return {**super().environment, "DATABASE_URL": url, "S3_ENDPOINT_URL": f"http://127.0.0.1:{self.s3.port}"}

    def address(self, database: str) -> str:
        return self.postgres.url

    def start(self) -> None:
        for server in (self.postgres, self.valkey, self.mail):
            server.start()
        self.relay = Relay(self.postgres.port)
        self.s3 = Relay(urlsplit(os.environ["S3_ENDPOINT_URL"]).port or 80)
        self.prepare()
        self.run_web()
        # A lease of more than an hour: what waits for its end does not come.
        self.run_worker("worker", EMAIL_TIMEOUT="600")
        self.run_beat()
        eventually(self.ready)

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        for server in (self.relay, self.s3):
            server.close()
        for each in (self.mail, self.valkey, self.postgres):
            each.stop()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Every process of Postgres, as on a machine that stands still: its kernel still takes what is sent."""
        main = self.postgres._process
        assert main is not None
        parent = psutil.Process(main.process.pid)  # type: ignore[union-attr]
        family = [parent, *parent.children(recursive=True)]
        for each in family:
            each.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for each in family:
                each.send_signal(signal.SIGCONT)
