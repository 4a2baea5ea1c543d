"""What an operator watches: the one list. GET /metrics (project/metrics.py), docs/reference/metrics.md, the alerts and
the dashboard in docs/ops/ (project/alerts.py) are made of it.

Where METRICS_TOKEN is not set, nothing starts this, prometheus-client is not imported, and nothing is counted."""

import fcntl
import json
import logging
import os
import re
import shutil
import stat
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from accounts.lib import sealing

log = logging.getLogger(__name__)


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, eq=False)
class Metric:
    """`labels` hold words of ours from a list that ends: never a user, an address or a path. Where there are `buckets`,
    or it is `counted`, the web processes count it; all others are read from Postgres when somebody asks."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    counted: bool = False


HTTP = Metric(
    "us_http_seconds",
    Kind.HISTOGRAM,
    "Seconds until a request was answered.",
    ("face", "operation", "status"),
    (0.025, 0.1, 0.25, 0.5, 1.0, 2.5),  # each is a series for each operation
)
HASH_WAIT = Metric(
    "us_hash_wait_seconds",
    Kind.HISTOGRAM,
    "Seconds that a password waited for a place to be hashed.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
REFUSED = Metric("us_refused_total", Kind.COUNTER, "Refusals, by the code of the error.", ("code",), counted=True)
FALLBACK_LIMITS = Metric(
    "us_fallback_limits_total",
    Kind.COUNTER,
    "Tries that a web process counted alone, because Valkey was away.",
    counted=True,
)
REPLICA_AWAY = Metric(
    "us_replica_away_total",
    Kind.COUNTER,
    "Reads that the primary had to answer, because the replica was away.",
    counted=True,
)
DB_UP = Metric("us_db_up", Kind.GAUGE, "1 if Postgres answered. If not, what is read there is missing.")
DB_CONNECTIONS = Metric("us_db_connections", Kind.GAUGE, "Connections to the Postgres server, from anybody.")
DB_MAX_CONNECTIONS = Metric("us_db_max_connections", Kind.GAUGE, "Its `max_connections`.")
MAIL_OLDEST = Metric(
    "us_mail_oldest_seconds",
    Kind.GAUGE,
    "How long the oldest email, or request for one, has waited. One that the mail server put off is left out.",
)
MAIL_SENT = Metric("us_mail_sent_total", Kind.COUNTER, "Emails that the mail server took.")
MAIL_FAILED = Metric("us_mail_failed_total", Kind.COUNTER, "Emails that were given up.")
MAIL_PUT_OFF = Metric(
    "us_mail_put_off_total", Kind.COUNTER, "Emails that the mail server had put off for more than five minutes."
)
BEAT_SEEN = Metric("us_beat_seen_timestamp_seconds", Kind.GAUGE, "When beat last asked for work.")
WORKER_SEEN = Metric("us_worker_seen_timestamp_seconds", Kind.GAUGE, "When a worker last did what beat asks for.")
EVENTS = Metric(
    "us_events_total", Kind.COUNTER, "Events of the security log, from 0 each day (UTC), by kind.", ("kind",)
)
SIGN_UPS = Metric("us_sign_ups_total", Kind.COUNTER, "Accounts made by sign-up, from 0 each day (UTC).")
CONFIRMATIONS = Metric("us_confirmations_total", Kind.COUNTER, "Addresses confirmed, from 0 each day (UTC).")
SIGNING_KEY_AGE = Metric("us_signing_key_age_seconds", Kind.GAUGE, "How long the current key has signed.")
SIGNING_KEY_MAX_AGE = Metric("us_signing_key_max_age_seconds", Kind.GAUGE, "`SIGNING_KEY_DAYS`, in seconds.")
NEXT_KEY = Metric("us_next_key_published", Kind.GAUGE, "1 from the day before a new key signs until it does.")
ERASURES_OVERDUE = Metric(
    "us_erasures_overdue", Kind.GAUGE, "Accounts whose erasure is more than an hour late (at most 1,000 are counted)."
)
BUILD = Metric("us_build_info", Kind.GAUGE, "1, with the version of this process (`SERVICE_VERSION`).", ("version",))

METRICS = (
    HTTP, REFUSED, HASH_WAIT, MAIL_OLDEST, MAIL_SENT, MAIL_FAILED, MAIL_PUT_OFF, BEAT_SEEN, WORKER_SEEN, EVENTS,
    SIGN_UPS, CONFIRMATIONS, SIGNING_KEY_AGE, SIGNING_KEY_MAX_AGE, NEXT_KEY, ERASURES_OVERDUE, FALLBACK_LIMITS,
    REPLICA_AWAY, DB_UP, DB_CONNECTIONS, DB_MAX_CONNECTIONS, BUILD,
)  # fmt: skip

Reading = tuple[Metric, tuple[str, ...], float]  # what was read of a metric: its labels and its value

# --- Counting -----------------------------------------------------------------------------------------------

_made: dict[Metric, Any] = {}


def add(metric: Metric, *labels: str) -> None:
    """Counts one more."""
    if made := _made.get(metric):
        (made.labels(*labels) if labels else made).inc()


def observe(metric: Metric, seconds: float, *labels: str) -> None:
    if made := _made.get(metric):
        (made.labels(*labels) if labels else made).observe(seconds)


# --- Several processes --------------------------------------------------------------------------------------
# Each web process counts in files of its own, and whichever is asked adds up all of them. They belong to a place and
# not to a process: one that is started in the place of another goes on counting where that one ended. So nothing
# falls when a process is killed, and there are never more files than processes at the same time.

PREFIX = "user-service-metrics-"


class _Place:
    """The first place of this folder that no other process has. The kernel frees it when the process ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid = 0

    def __call__(self) -> int:
        if self._pid != os.getpid():  # the first time, and after a fork
            self._pid, self._number = os.getpid(), self._take()
        return self._number

    def _take(self) -> int:
        for number in count():
            lock = os.open(self._folder / f"{number}.lock", os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # kept open to the end
            except BlockingIOError:
                os.close(lock)
            else:
                break
        return number


_NAME = re.compile(rf"{PREFIX}([0-9]{{1,9}})-")


def folder() -> Path:
    """That of the processes of this parent, in memory where the temporary folder is. Those of parents that are gone are
    removed. Only who has SECRET_KEY can tell its name, so no stranger on this machine takes it first."""
    base, parent = Path(tempfile.gettempdir()), str(os.getppid())
    mine = base / f"{PREFIX}{parent}-{sealing.mac('metrics folder', parent.encode()).hex()[:24]}"
    for other in base.glob(f"{PREFIX}*"):
        named = _NAME.match(other.name)
        if named and other != mine and _is_ours(other) and not _is_alive(int(named[1])):
            shutil.rmtree(other, ignore_errors=True)
    with suppress(FileExistsError):
        mine.mkdir(mode=0o700)
    if _is_ours(mine):
        return mine
    log.warning("%s is somebody else's: this process counts alone", mine)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))


def _is_ours(path: Path) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:  # another process has just removed it
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def start(path: Path, codes: Iterable[str] = ()) -> None:
    """From now on this process counts, in that folder. `codes` are the refusals that there can be: Prometheus sees no
    increase in a number that appears."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(path)
    from prometheus_client import Counter, Histogram, values  # noqa: PLC0415 - only where it is wanted

    values.ValueClass = values.MultiProcessValue(_Place(path))  # type: ignore[no-untyped-call]
    for metric in METRICS:
        if metric.buckets:
            _made[metric] = Histogram(metric.name, "", metric.labels, buckets=metric.buckets, registry=None)
        elif metric.counted:
            _made[metric] = Counter(metric.name, "", metric.labels, registry=None)
    for code in codes:
        _made[REFUSED].labels(code)


def text(readings: Iterable[Reading]) -> bytes:
    """What all processes of this folder have counted, and what was read, as Prometheus wants it. The library's own way
    takes five times as long."""
    from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415 - as above

    found: dict[tuple[str, str, str, str], float] = defaultdict(float)
    for path in sorted(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("*.db")):
        for key, value, _, _ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
            found[_parts(key)] += value
    lines: dict[str, list[str]] = defaultdict(list)
    below: dict[tuple[str, str], float] = defaultdict(float)
    for (metric, name, labels, bound), value in found.items():
        if not bound:
            lines[metric].append(_line(name, labels, value))
            continue
        # In each file the buckets of a histogram stand in their order.
        below[metric, labels] += value
        lines[metric].append(_line(name, f'{labels},le="{bound}"'.lstrip(","), below[metric, labels]))
        if bound == "+Inf":
            lines[metric].append(_line(f"{metric}_count", labels, below[metric, labels]))
    for each, its, value in readings:
        lines[each.name].append(_line(each.name, _labels(zip(each.labels, its, strict=True)), value))
    return "".join(
        f"# HELP {each.name} {each.about}\n# TYPE {each.name} {each.kind}\n{''.join(lines[each.name])}"
        for each in METRICS
        if each.name in lines
    ).encode()


@cache
def _parts(key: str) -> tuple[str, str, str, str]:
    """Of a key in the library's files: the metric, the name of the number, its labels, and of a bucket its bound."""
    metric, name, labels, _ = json.loads(key)
    bound = labels.pop("le", "")
    return name if name.endswith("_total") else metric, name, _labels(labels.items()), bound


def _labels(pairs: Iterable[tuple[str, str]]) -> str:
    return ",".join(f"{label}={json.dumps(value, ensure_ascii=False)}" for label, value in pairs)


def _line(name: str, labels: str, value: float) -> str:
    return f"{name}{{{labels}}} {float(value)}\n" if labels else f"{name} {float(value)}\n"
