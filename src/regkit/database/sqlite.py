"""SQLite: one file, one machine, the embedded default.

WAL with `synchronous=FULL`. Every write transaction begins with BEGIN IMMEDIATE. With a plain
BEGIN, several processes that first read and then write meet SQLITE_BUSY that no time-out can heal,
since SQLite refuses to upgrade a stale snapshot (https://www.sqlite.org/isolation.html). So there
is only one writer, and scopes mean nothing here.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from regkit.errors import NoSpace, ServiceError, Unavailable

BUSY_TIMEOUT_MS = 30_000
_IMMEDIATE = "regkit_immediate"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class SqliteEngine:
    """The database in the file `path`; it and its folder are created."""

    shared = False

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self._file = path
        self.name = str(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.engine = sa.create_engine(
            sa.URL.create("sqlite+pysqlite", database=str(path)),
            isolation_level=None,
            connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
            pool_size=20,
            max_overflow=20,
        )
        event.listen(self.engine, "connect", _prepare_connection)
        event.listen(self.engine, "begin", _begin)
        self._watch: sqlite3.Connection | None = None
        self._watch_lock = threading.Lock()

    def check(self) -> None:
        """Do nothing: the first query tells."""

    @contextmanager
    def begun(self, connection: sa.Connection, scopes: Sequence[str] | None) -> Iterator[None]:
        """Begin a transaction, to write unless `scopes` is None."""
        if scopes is not None:
            connection.execution_options(**{_IMMEDIATE: True})
        with connection.begin():
            yield

    def committed(self) -> None:
        """Do nothing: `version` sees it."""

    def version(self) -> int:
        """Return `PRAGMA data_version` of a connection that never writes.

        So that our own commits change it too (https://www.sqlite.org/pragma.html). About 2 µs.
        """
        with self._watch_lock:
            if self._watch is None:
                self._watch = sqlite3.connect(
                    self._file, check_same_thread=False, isolation_level=None
                )
            return self._watch.execute("PRAGMA data_version").fetchone()[0]

    def fresh_version(self) -> int:
        """Return the same: it is never late."""
        return self.version()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what an operator can mend into an error that says so."""
        try:
            yield
        except exc.OperationalError as error:
            text = str(error.orig)
            if "full" in text:
                raise NoSpace(
                    "the disk that holds the database is full: free some space"
                ) from error
            if "locked" in text or "busy" in text:
                raise Unavailable("the database is busy: try again") from error
            if "readonly" in text or "unable to open" in text:
                raise Unavailable(
                    f"the database can't be opened ({text}): check the owner of the state "
                    "directory"
                ) from error
            raise
        except exc.DatabaseError as error:
            if "malformed" in str(error.orig) or "not a database" in str(error.orig):
                raise ServiceError(
                    f"the database is damaged ({error.orig}): stop the service and restore a "
                    "backup"
                ) from error
            raise

    def close(self) -> None:
        """Close every connection."""
        with self._watch_lock:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
        self.engine.dispose()


def as_engine_error(error: OSError) -> Exception:
    """Return what SQLite makes of an OSError (https://www.sqlite.org/rescode.html)."""
    text = "database or disk is full" if error.errno in _FULL else "disk I/O error"
    return exc.OperationalError("COMMIT", None, sqlite3.OperationalError(text))


def _prepare_connection(connection: sqlite3.Connection, _record: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get(_IMMEDIATE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
