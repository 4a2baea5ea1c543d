"""The decoder of pictures without its cost: asked once for each file (tests/conftest.py), or started once for many
files where a test is about the decoder."""

import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

from django.conf import settings

from accounts.lib.images import decoding
from accounts.services.profile import pictures

# --- Once for each file -------------------------------------------------------------------------------------

decode_in_process = pictures._decode


@lru_cache(maxsize=100)
def _decoded(content: bytes, most_pixels: int) -> bytes:
    return decode_in_process(content)


def decoded_once(content: bytes) -> bytes:
    """What the decoder's process says, which is the same for the same file (test_pictures.py), and is asked once."""
    return _decoded(content, settings.PICTURE_MAX_PIXELS)


# --- One start for all files --------------------------------------------------------------------------------

_FORKS = """
import os, runpy, struct, sys
main = runpy.run_path({path!r}, run_name="decoding")["main"]
main.__globals__["Image"].init()
for line in sys.stdin:
    most_pixels, sizes, file = line.rstrip("\\n").split(" ", 2)
    main.__globals__["SIZES"] = tuple(map(int, sizes.split(",")))
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(file, os.O_RDONLY), 0)
        os.dup2(writing, 1)
        os.closerange(3, 20)
        sys.stdin, sys.stdout = open(0), open(1, "w")
        try:
            main(most_pixels=int(most_pixels))
            sys.stdout.flush()
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as said:
        answer = said.read()
    _, status, usage = os.wait4(child, 0)
    sys.stdout.buffer.write(struct.pack(">IiI", len(answer), status, usage.ru_maxrss) + answer)
    sys.stdout.buffer.flush()
"""


class Answer(NamedTuple):
    said: bytes
    status: int
    megabytes: float  # the most that the process was in memory with


@contextmanager
def one_decoder() -> Iterator[Callable[..., Answer]]:
    """The decoder's program, which forks for each file: as in `pictures.encode`, every file has a confined process of
    its own, but none waits for Python and Pillow to start."""
    command = [sys.executable, "-I", "-c", _FORKS.format(path=decoding.__file__)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=pictures._ENVIRONMENT) as process,
        NamedTemporaryFile() as file,
    ):
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def decode(content: bytes, *sizes: int) -> Answer:
            Path(file.name).write_bytes(content)
            wanted = ",".join(map(str, sizes or pictures.SIZES))
            stdin.write(f"{settings.PICTURE_MAX_PIXELS} {wanted} {file.name}\n".encode())
            stdin.flush()
            length, status, kilobytes = struct.unpack(">IiI", stdout.read(12))
            return Answer(stdout.read(length), status, kilobytes / 1024)

        yield decode
