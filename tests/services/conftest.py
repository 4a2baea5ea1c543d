"""What several tests of rules need beside the cast."""

import socket
import threading
from typing import Self


class Mute:
    """A server that takes every connection and never says a word: worse than one that is down."""

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.create_server(("127.0.0.1", port), backlog=100)
        self._taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._take, daemon=True)

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def _take(self) -> None:
        while True:
            try:
                self._taken.append(self._socket.accept()[0])
            except OSError:
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for one in self._taken:
            one.close()
