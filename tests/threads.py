"""Doing the same thing many times at once, for the drills."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db import connection

T = TypeVar("T")


def at_once(times: int, work: Callable[[], T]) -> Sequence[T | Exception]:
    """What each of `times` threads returned or raised; all of them begin together, each with its own connection."""
    return each_at_once([work] * times)


def each_at_once(works: Sequence[Callable[[], T]]) -> Sequence[T | Exception]:
    barrier = threading.Barrier(len(works))
    found: list[T | Exception] = [RuntimeError("did not end")] * len(works)

    def run(place: int, work: Callable[[], T]) -> None:
        barrier.wait()
        try:
            found[place] = work()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            found[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
