"""A pause after a failure, so that no request waits in vain for a server that does not answer."""

import threading
import time


class Breaker:
    """After a failure nobody asks for `pause` seconds. Then one caller asks, and the others do once that worked."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self._closed_until: float | None = None
        self._lock = threading.Lock()

    def may_ask(self) -> bool:
        with self._lock:
            if self._closed_until is None:
                return True
            if time.monotonic() < self._closed_until:
                return False
            self._closed_until = time.monotonic() + self.pause
            return True

    def failed(self) -> None:
        with self._lock:
            self._closed_until = time.monotonic() + self.pause

    def worked(self) -> None:
        with self._lock:
            self._closed_until = None
