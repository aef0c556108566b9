"""PostgreSQL 14 and later, by psycopg 3: one database that several machines share.

Readers get REPEATABLE READ, READ ONLY: one snapshot. Writers get READ COMMITTED behind advisory
locks (https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS): one for the
database, which a writer with scopes shares, and one per scope. They are let go of after the commit
is visible, and each statement under READ COMMITTED sees what was visible before it began, so that
the holder of the locks sees everything that former holders did.

A session keeps nothing between transactions, and no statement is prepared, so that a pooler in
transaction mode may stand in between.
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from sqlalchemy import event, exc

from regkit.database.locations import Server
from regkit.database.watching import Watch
from regkit.errors import Invalid, NoSpace, ServiceError, Unavailable

MINIMUM_VERSION = 14
LOCK_TIMEOUT_SECONDS = 30
"""How long a writer waits for others; the same as SQLite's time-out here."""
POOL, OVERFLOW, POOL_SECONDS = 5, 5, 30
"""Connections that a process keeps, and takes beyond for a while; one more asks for commits."""
RECYCLE_SECONDS = 600
IDLE_SECONDS = 1.0
"""A connection that was idle for longer is tried before it is used."""
RETRY_AFTER = 2.0
"""Seconds after which a caller may try again."""

_DEFAULTS = {
    # A server that vanished without a word is noticed within a quarter of a minute.
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "target_session_attrs": "read-write",
    "application_name": "anbox-registry",
    "client_encoding": "UTF8",
}
_STATE = (
    "SELECT current_setting('server_version_num')::int, current_setting('synchronous_commit'), "
    "current_setting('fsync'), current_setting('server_encoding')"
)
_USED = "regkit_used"
_UNSAFE = (
    "the server has synchronous_commit=off, so that it loses what it has acknowledged: set it to "
    "on for this database or role"
)


class PostgresqlEngine:
    """The database at `server`; nothing is asked before the first use."""

    shared = True

    def __init__(self, server: Server) -> None:
        self.path: Path | None = None
        self.name = f"PostgreSQL ({server})"
        self._server = server
        self.engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=lambda: _connect(server),
            use_native_hstore=False,
            pool_size=POOL,
            max_overflow=OVERFLOW,
            pool_timeout=POOL_SECONDS,
            pool_recycle=RECYCLE_SECONDS,
            pool_use_lifo=True,
        )
        event.listen(self.engine, "checkin", _note_use)  # codespell:ignore checkin
        event.listen(self.engine, "checkout", self._try_idle)
        self._watch = Watch(lambda: _Question(server))

    def check(self) -> None:
        """Raise Unavailable or Invalid, with the reason, for a server of no use."""
        try:
            with self.engine.connect():
                pass
        except exc.DBAPIError as error:
            reason = " ".join(str(error.orig).split())
            raise Unavailable(
                f"{self.name} can't be used: {reason[:500]}: check database.url and the server"
            ) from None

    @contextmanager
    def begun(self, connection: sa.Connection, scopes: Sequence[str] | None) -> Iterator[None]:
        """Begin a transaction: to read one snapshot, or to write behind the locks of `scopes`."""
        if scopes is None:
            options: dict[str, Any] = {
                "isolation_level": "REPEATABLE READ",
                "postgresql_readonly": True,
            }
        else:
            options = {"isolation_level": "READ COMMITTED"}
        connection.execution_options(**options)
        with connection.begin():
            try:
                if scopes is not None:
                    _lock(connection, scopes)
                yield
            except BaseException:
                # A greenlet that was ended while it waited for an answer leaves a connection that
                # can't even roll back.
                if not connection.invalidated and _is_waiting(connection):
                    connection.invalidate()
                raise

    def committed(self) -> None:
        """Let this process see its own commit at once."""
        self._watch.bump()

    def version(self) -> int:
        """Return the number of `watching.Watch`."""
        return self._watch.version()

    def fresh_version(self) -> int:
        """Return the same, after asking the server."""
        return self._watch.fresh()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what passes, and what an operator can mend, into an error that says so."""
        try:
            yield
        except exc.DBAPIError as error:
            if fault := _fault(error):
                raise fault from error
            raise
        except exc.TimeoutError as error:
            raise _busy() from error

    def close(self) -> None:
        """Close every connection."""
        self._watch.close()
        self.engine.dispose()

    def _try_idle(self, connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get(_USED, float("inf")) <= IDLE_SECONDS:
            return
        if _USED not in record.info:  # it has just been made
            return
        try:
            self.engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise exc.DisconnectionError from error


class _Question:
    """Asks for commits, over a connection of its own; see `watching`."""

    def __init__(self, server: Server) -> None:
        self._connection = _connect(server)
        self._connection.autocommit = True

    def __call__(self) -> str:
        row = self._connection.execute("SELECT pg_current_snapshot()::text").fetchone()
        return row[0] if row else ""

    def close(self) -> None:
        self._connection.close()


def _note_use(_connection: Any, record: Any) -> None:
    record.info[_USED] = time.monotonic()


def _connect(server: Server) -> psycopg.Connection[Any]:
    """Open a connection, and refuse a server that would lose what it has acknowledged."""
    arguments: dict[str, Any] = {**_DEFAULTS, "dbname": server.name, **dict(server.parameters)}
    arguments |= _places(server)
    if server.user is not None:
        arguments["user"] = server.user
    if server.password is not None:
        arguments["password"] = server.password
    connection = psycopg.connect(**arguments, prepare_threshold=None)
    try:
        row = connection.execute(_STATE).fetchone()
        connection.rollback()
        _check(*(row or ()))
    except BaseException:
        connection.close()
        raise
    return connection


def _check(version: int, synchronous_commit: str, fsync: str, encoding: str) -> None:
    if version < MINIMUM_VERSION * 10_000:
        raise Invalid(
            f"database.url: the server is PostgreSQL {version // 10_000}: version "
            f"{MINIMUM_VERSION} or later is needed"
        )
    if synchronous_commit == "off":
        raise Invalid(f"database.url: {_UNSAFE}")
    if fsync == "off":
        raise Invalid(
            "database.url: the server has fsync=off, so that a power cut destroys it: set it to on"
        )
    if encoding != "UTF8":
        raise Invalid(
            f"database.url: the database has the encoding {encoding}: make one with "
            "ENCODING 'UTF8' TEMPLATE template0"
        )


def _places(server: Server) -> dict[str, str]:
    """Return hosts as libpq takes them, with the addresses of names looked up here.

    libpq would look them up in C, where a name server that doesn't answer stops every greenlet.
    The names stay, since certificates are checked against them.
    """
    hosts: list[tuple[str, str, str]] = []
    for host, port in server.hosts:
        hosts.extend((host, address, str(port)) for address in _addresses(host, port))
    if not hosts:
        return {}
    names, addresses, ports = zip(*hosts, strict=True)
    places = {"host": ",".join(names), "port": ",".join(ports)}
    if any(addresses):
        places["hostaddr"] = ",".join(addresses)
    return places


def _addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a name; "" leaves it to libpq: a socket, an address, no answer."""
    if host.startswith(("/", "@")) or not host:
        return [""]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            return [""]
        return list(dict.fromkeys(str(address[4][0]) for address in found))
    return [""]


def _key(scope: str) -> int:
    """Return the number of an advisory lock; a collision only makes two scopes wait."""
    return int.from_bytes(
        hashlib.blake2b(scope.encode(), digest_size=8).digest(), "big", signed=True
    )


_WHOLE = _key("regkit")


def _lock(connection: sa.Connection, scopes: Sequence[str]) -> None:
    """Take the locks, always in the same order, with one question."""
    locks = [f"pg_advisory_xact_lock({_WHOLE})"]
    if scopes:
        keys = sorted({_key(scope) for scope in scopes} - {_WHOLE})
        locks = [f"pg_advisory_xact_lock_shared({_WHOLE})"]
        locks += [f"pg_advisory_xact_lock({key})" for key in keys]
    safe = connection.exec_driver_sql(
        f"SELECT current_setting('synchronous_commit'), "
        f"set_config('lock_timeout', '{LOCK_TIMEOUT_SECONDS}s', true), {', '.join(locks)}"
    ).scalar()
    if safe == "off":  # since this connection was made
        raise Unavailable(_UNSAFE)


def _is_waiting(connection: sa.Connection) -> bool:
    driver: Any = connection.connection.driver_connection
    return driver is not None and driver.info.transaction_status == TransactionStatus.ACTIVE


_BUSY = {"55P03", "57014", "40001", "40P01"}
"""lock_not_available, query_canceled, serialization_failure, deadlock_detected
(https://www.postgresql.org/docs/current/errcodes-appendix.html)."""
_FULL = {"53100"}
_READ_ONLY = {"25006"}
_AWAY = ("08", "57P", "28", "3D", "53")
"""Classes: connection, shutdown, authorisation, no such database, no resources."""


def _fault(error: exc.DBAPIError) -> ServiceError | None:
    state = getattr(error.orig, "sqlstate", None) or ""
    if state in _FULL:
        return NoSpace("the disk that holds the database is full: free some space")
    if state in _BUSY:
        return _busy()
    if state in _READ_ONLY:
        return _unavailable("the database takes no writes at the moment: try again")
    lost = isinstance(error.orig, psycopg.OperationalError) and not state
    if error.connection_invalidated or lost or state.startswith(_AWAY):
        return _unavailable("the database can't be reached at the moment: try again")
    if isinstance(error.orig, psycopg.DataError):
        # What the rules let through: a NUL character, a text longer than its column.
        return Invalid(f"the database can't keep this: {' '.join(str(error.orig).split())[:200]}")
    return None


def _busy() -> Unavailable:
    return _unavailable("the database is busy: try again")


def _unavailable(message: str) -> Unavailable:
    fault = Unavailable(message)
    fault.retry_after = RETRY_AFTER
    return fault
