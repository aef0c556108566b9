"""The database of a service: one engine, transactions, migrations.

The embedded engine is SQLite in WAL mode with `synchronous=FULL`: a committed transaction
survives a power cut. No table is defined here.

Every write transaction begins with BEGIN IMMEDIATE. With a plain BEGIN, several processes that
first read and then write meet SQLITE_BUSY that no time-out can heal, since SQLite refuses to
upgrade a stale snapshot (https://www.sqlite.org/isolation.html).
"""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import make_url

from regkit import failpoints
from regkit.errors import Invalid, NoSpace, ServiceError, Unavailable

BUSY_TIMEOUT_MS = 30_000
_IMMEDIATE = "regkit_immediate"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Database:
    """An engine and the two kinds of transaction that the services use.

    Never wait for the network inside a transaction: under gevent another request of the same
    process would then block the whole process at BEGIN IMMEDIATE.
    """

    def __init__(self, url: str) -> None:
        """Open the database at `url` (`sqlite:///<path>`); the file and its folder are created.

        Raises Invalid for a URL that can't be used.
        """
        try:
            parsed = parse_url(url)
        except ValueError as error:
            raise Invalid(f"database.url: {error}") from None
        self.path = Path(parsed.database or "")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.engine = sa.create_engine(
            parsed.set(drivername="sqlite+pysqlite"),
            isolation_level=None,
            connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
            pool_size=20,
            max_overflow=20,
        )
        event.listen(self.engine, "connect", _prepare_connection)
        event.listen(self.engine, "begin", _begin)
        self._watch: sqlite3.Connection | None = None
        self._watch_lock = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one consistent snapshot and never waits for writers."""
        with _translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Give the only writing connection; commits at the end, rolls back on any error.

        Raises Unavailable when another writer holds the database for 30 s, NoSpace when the disk
        is full.
        """
        with _translated(), self.engine.connect() as connection:
            connection.execution_options(**{_IMMEDIATE: True})
            with connection.begin():
                yield connection
                failpoints.reach("database.commit:before", as_engine_error)
            failpoints.reach("database.commit:after")

    def version(self) -> int:
        """Return a number that changes whenever any process has committed (about 2 µs).

        It is `PRAGMA data_version` of a connection that never writes, so that our own commits
        change it too (https://www.sqlite.org/pragma.html#pragma_data_version).
        """
        with self._watch_lock:
            if self._watch is None:
                self._watch = sqlite3.connect(
                    self.path, check_same_thread=False, isolation_level=None
                )
            return self._watch.execute("PRAGMA data_version").fetchone()[0]

    def migrate(self, scripts: str) -> None:
        """Bring the schema up to date with the Alembic `scripts` (`package:folder`).

        Safe when several processes start at once: the write lock is held throughout. Scripts are
        named after their revision (`0001_title.py`), so that a schema that is up to date costs
        one query and no import of Alembic.
        """
        current, newest = self._revision(), _newest_revision(scripts)
        if current == newest:
            return
        if current is not None and current > newest:
            raise Invalid(
                f"{self.path} was made by a newer version of this program (schema {current}, this "
                f"one knows {newest}): install that version, or restore a backup"
            )
        import alembic.command  # noqa: PLC0415 - 0.2 s that every command would pay
        import alembic.config  # noqa: PLC0415

        config = alembic.config.Config()
        config.set_main_option("script_location", scripts)
        config.set_main_option("path_separator", "os")
        with self.write() as connection:
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")

    def _revision(self) -> str | None:
        with self.read() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()

    def close(self) -> None:
        """Close every connection."""
        with self._watch_lock:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
        self.engine.dispose()


def parse_url(text: str) -> sa.URL:
    """Read a database's URL. Raises ValueError for one that can't be used; nothing is opened."""
    try:
        parsed = make_url(text)
        engine = parsed.get_backend_name()
    except exc.ArgumentError:
        raise ValueError("this is not a URL: write it like sqlite:////path/to/file.db") from None
    if engine != "sqlite" or not parsed.database:
        raise ValueError(
            f"the engine {engine[:40]!r} is not supported: use sqlite:////path/to/file.db"
        )
    return parsed


def _newest_revision(scripts: str) -> str:
    package, _, folder = scripts.partition(":")
    versions = resources.files(package).joinpath(folder).joinpath("versions")
    names = [entry.name for entry in versions.iterdir() if entry.name[:4].isdigit()]
    return max(names).partition("_")[0]


def _prepare_connection(connection: sqlite3.Connection, _record: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get(_IMMEDIATE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def as_engine_error(error: OSError) -> Exception:
    """Return what SQLite makes of an OSError (https://www.sqlite.org/rescode.html)."""
    text = "database or disk is full" if error.errno in _FULL else "disk I/O error"
    return exc.OperationalError("COMMIT", None, sqlite3.OperationalError(text))


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what an operator can mend into an error that says so."""
    try:
        yield
    except exc.OperationalError as error:
        text = str(error.orig)
        if "full" in text:
            raise NoSpace("the disk that holds the database is full: free some space") from error
        if "locked" in text or "busy" in text:
            raise Unavailable("the database is busy: try again") from error
        if "readonly" in text or "unable to open" in text:
            raise Unavailable(
                f"the database can't be opened ({text}): check the owner of the state directory"
            ) from error
        raise
    except exc.DatabaseError as error:
        if "malformed" in str(error.orig) or "not a database" in str(error.orig):
            raise ServiceError(
                f"the database is damaged ({error.orig}): stop the service and restore a backup"
            ) from error
        raise
