"""Django's backend for Postgres, which notices a server that has died or hangs.

**Died.** Django asks `SELECT 1` before the first statement of a request. Here it looks at the socket instead: an idle
connection has nothing to read, unless its end. Nothing is ever sent twice.

**Hangs** (frozen, or behind a network that swallows everything). A connection attempt is bounded by `connect_timeout`.
For a statement there is no such bound: it may be long on purpose (a migration, an export, a wait for a lock). So one
thread for each database looks at statements that take longer than PATIENCE, and asks the same server for an answer
over a new connection. If none comes, it shuts down the sockets of all connections to that server, and each thread that
waits gets an OperationalError. Until a server answers again, requests are refused at once and nobody waits. A commit
that waits for a synchronous standby which is away is ended too.

The usual ways don't do: a frozen server's kernel still acknowledges everything (`tcp_user_timeout`), its own timers
stand still (`statement_timeout`), and a psycopg2 wait callback with a deadline blocked the whole process."""

import contextlib
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import psycopg2
from django.db.backends.postgresql import base
from django.db.utils import DEFAULT_DB_ALIAS
from django.utils import timezone
from psycopg2 import extensions

from accounts.lib import clock

PATIENCE = 1.0  # seconds that a statement may take before we ask whether the server is still there
PATIENCE_WITH_STANDBY = 3.0  # seconds that a commit may wait for a synchronous standby
TICK = 0.25  # seconds between two looks

Host = tuple[str, str]  # its name and port


class Connection(extensions.connection):
    """Knows since when somebody waits for it, and how to end that."""

    asked_at: float | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.host = self.info.host, str(self.info.port)  # which of several
        # Of our own: libpq may close its descriptor at any time, and then another socket gets the same number.
        self._socket = socket.socket(fileno=os.dup(self.fileno()))
        weakref.finalize(self, self._socket.close)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def has_ended(self) -> bool:
        """At rest, whatever is there to read is the end of the connection, or why it ends."""
        return bool(self.closed or self._poll.poll(0))

    def waits_for(self, at: float) -> float:
        """How many seconds somebody has waited for an answer."""
        asked_at = self.asked_at  # from another thread
        return 0.0 if asked_at is None else at - asked_at

    def cut(self) -> None:
        """From any thread."""
        with contextlib.suppress(OSError):  # closed meanwhile
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        super().close()
        self._socket.close()

    def commit(self) -> None:
        with _Waiting(self):
            super().commit()

    def rollback(self) -> None:
        with _Waiting(self):
            super().rollback()


class _Waiting:
    """For the time that a statement takes. Its error keeps the first line only: below it Postgres repeats the row that
    it refused, or the statement with what was typed. Its own log has them."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __enter__(self) -> None:
        self.connection.asked_at = time.monotonic()

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self.connection.asked_at = None
        if isinstance(error, psycopg2.Error):
            error.args = (str(error).partition("\n")[0],)


class Cursor(extensions.cursor):
    def execute(self, *arguments: Any) -> None:
        with _Waiting(self.connection):
            super().execute(*arguments)

    def executemany(self, *arguments: Any) -> None:
        with _Waiting(self.connection):
            super().executemany(*arguments)

    def fetchmany(self, *arguments: Any) -> Any:
        with _Waiting(self.connection):  # a server-side cursor asks for more
            return super().fetchmany(*arguments)


class Watch:
    """The thread that looks after the connections to one database, and what it knows of its servers."""

    def __init__(self) -> None:
        self.is_away = False
        self._lock = threading.Lock()
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._parameters: dict[str, Any] = {}
        self._last: Host | None = None  # of several hosts, the one that answered last

    def connect(self, parameters: dict[str, Any], connect: Callable[[dict[str, Any]], Connection]) -> Connection:
        """To the first of the hosts that will have us. libpq would not try the next one where a proxy is in front
        of a server that is away: it takes the connection and closes it."""
        with self._lock:
            self._parameters = parameters
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look_after, name="watch over Postgres", daemon=True)
                self._thread.start()
        failure = psycopg2.OperationalError("no server of this database answers")
        began = time.monotonic()
        for host in () if self.is_away else self._hosts():
            try:
                connection = connect({**parameters, **_names(host)})
            except psycopg2.OperationalError as error:
                failure = error
            else:
                self._last = host
                with self._lock:
                    self._connections.add(connection)
                return connection
        if time.monotonic() - began > PATIENCE:
            self.is_away = True
        raise failure

    def _open(self) -> Sequence[Connection]:
        with self._lock:
            return [each for each in self._connections if not each.closed]

    def _hosts(self) -> Sequence[Host]:
        """libpq's two lists, divided by commas. The one that answered last comes first."""
        hosts = str(self._parameters.get("host", "")).split(",")
        ports = str(self._parameters.get("port", "")).split(",")
        found = list(zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=True))
        return sorted(found, key=lambda host: host != self._last)

    def _look_after(self) -> None:
        answered_at: dict[Host, float] = {}
        while True:
            time.sleep(TICK)
            if self.is_away:
                self._look_for_a_server()
                continue
            at = time.monotonic()
            for host in {each.host for each in self._open() if each.waits_for(at) > PATIENCE}:
                if at - answered_at.get(host, 0.0) > PATIENCE:
                    self._ask(host, target_session_attrs="any")
                    answered_at[host] = time.monotonic()

    def _look_for_a_server(self) -> None:
        for host in self._hosts():
            if self._ask(host):
                self._last = host
                self.is_away = False
                return

    def _ask(self, host: Host, **parameters: str) -> bool:
        """Whether this server works. If it says nothing at all in time, not even that it takes no more connections,
        nobody waits for it any longer."""
        began = time.monotonic()
        late = [each.info.backend_pid for each in self._open() if each.waits_for(began) > PATIENCE_WITH_STANDBY]
        alone = self._look_at({**self._parameters, **_names(host), **parameters}, late)
        if alone:
            # Or it is the leader no more and has not heard of it: another that takes writes is tried first.
            self._last = next((other for other in self._hosts() if other != host), host)
        elif alone is None and time.monotonic() - began > PATIENCE:
            self.is_away = True
        else:
            return alone is not None
        for each in self._open():
            if each.host == host:
                each.cut()
        return False

    def _look_at(self, parameters: dict[str, Any], late: Sequence[int]) -> bool | None:
        """None if the server does not work, else whether one of these waits for its standby."""
        try:
            connection = psycopg2.connect(**parameters)
        except psycopg2.Error:
            return None
        # A pooler takes any connection, and the statement then waits for the server behind it.
        cut = threading.Timer(float(parameters.get("connect_timeout", PATIENCE)), connection.cut)
        cut.start()
        try:
            with connection.cursor() as cursor:
                cursor.execute(_WAITS_FOR_STANDBY, [list(late)])
                return bool(cursor.fetchone()[0])
        except psycopg2.Error:
            return None
        finally:
            cut.cancel()
            connection.close()


# Itself, or behind a lock of one that does: that of another process, or of a connection that we have cut.
_WAITS_FOR_STANDBY = """
    SELECT EXISTS (SELECT FROM unnest(%s::int[]) AS late, pg_stat_activity AS other WHERE other.wait_event = 'SyncRep'
        AND (other.pid = late OR other.pid = ANY(pg_blocking_pids(late))))
"""


def _names(host: Host) -> dict[str, str]:
    return dict(zip(("host", "port"), host, strict=True)) if host[0] else {}


_watches: dict[str, Watch] = {}  # by the alias of the database
os.register_at_fork(after_in_child=_watches.clear)


class DatabaseWrapper(base.DatabaseWrapper):
    def get_connection_params(self) -> dict[str, Any]:
        parameters: dict[str, Any] = super().get_connection_params()
        return {**parameters, "connection_factory": Connection, "cursor_factory": Cursor}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        return _watches.setdefault(self.alias, Watch()).connect(conn_params, super().get_new_connection)

    def init_connection_state(self) -> None:
        super().init_connection_state()
        if self.alias == DEFAULT_DB_ALIAS:
            with self.connection.cursor() as cursor:
                asked_at = timezone.now()
                cursor.execute("SELECT clock_timestamp()")
                clock.set_by(cursor.fetchone()[0], asked_at=asked_at)

    def is_usable(self) -> bool:
        """Asked before the first statement of a request, and after an error."""
        return self.connection is not None and not self.connection.has_ended()
