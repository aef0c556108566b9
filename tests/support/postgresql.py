"""A real PostgreSQL server, started by the tests themselves from Debian's package.

One server per test process, in a folder of its own; a database per test, copied from a template.
The server refuses root, so that root starts it as the package's user. Its text order is English,
not that of the characters, as on a server that somebody else has set up.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from aar.registry import Registry
from regkit.database import Database, watching

PROGRAMS = Path("/usr/lib/postgresql")
USER, PASSWORD = "aar", "s3cret:p@ss/word"
"""The password has everything that a URL must escape, and is what no log may hold."""
QUOTED = "s3cret%3Ap%40ss%2Fword"
ACCOUNT = "postgres"
START_SECONDS = 60


def programs() -> Path | None:
    """The folder of the newest server's programs; None where there is none."""
    found = sorted(PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def missing() -> str:
    """Why there can be no server here; "" where there can."""
    if programs() is None:
        return "PostgreSQL isn't installed: run tests/setup-engines.sh as root"
    return ""


class Server:
    """A PostgreSQL server on 127.0.0.1 and on a unix socket. Made by `start`, ended by `close`."""

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        found = programs()
        assert found is not None
        self._programs = found
        self.folder = Path(tempfile.mkdtemp(prefix="aar-postgresql-"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam(ACCOUNT)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._options = dict(options or {})
        self._numbers = itertools.count()
        self._templates: dict[str, str] = {}
        try:
            self._initialise()
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            **self._as,
        )
        if done.returncode:
            raise AssertionError(f"{program} failed:\n{done.stdout.decode()}\n{self.log}")

    def _initialise(self) -> None:
        # Two accounts: the tests' own by the socket, and over TCP one with a password.
        self._run(
            "initdb", "-D", str(self.folder / "data"), "-U", "tests", "-E", "UTF8", "-N",
            "--auth-local=trust", "--auth-host=scram-sha-256", "--locale=C.UTF-8",
            "--locale-provider=icu", "--icu-locale=en-US",
        )  # fmt: skip

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        """The server's first process, the leader of its group."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def start(self, port: int | None = None) -> None:
        """Start it, on a free port or again on `port`; wait until it answers."""
        self.port = port or _free_port()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "shared_buffers": "32MB",
            "autovacuum": "off",  # it would write too
            **self._options,
        }
        words = " ".join(f"-c {name}={value}" for name, value in options.items())
        self._run(
            "pg_ctl", "start", "-w", "-t", str(START_SECONDS), "-D", str(self.folder / "data"),
            "-l", str(self.folder / "log"), "-o", words,
        )  # fmt: skip
        with self.connect() as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_roles WHERE rolname = %s", (USER,)
            ).fetchone()
            if found is None:
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                        sql.Identifier(USER), sql.Literal(PASSWORD)
                    )
                )

    def stop(self, mode: str = "fast") -> None:
        """Stop it as an administrator does."""
        self._run("pg_ctl", "stop", "-w", "-m", mode, "-D", str(self.folder / "data"))

    def kill(self) -> None:
        """kill -9 the server with all its sessions, as a machine that loses power."""
        pid = self.pid
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        for process in (pid, *map(int, children)):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + START_SECONDS
        while any(Path(f"/proc/{process}").exists() for process in (pid, *children)):
            assert time.monotonic() < deadline, "the server didn't die"
            time.sleep(0.01)

    def restart(self) -> None:
        """Start it again on its port, after `stop` or `kill`."""
        deadline = time.monotonic() + START_SECONDS
        while True:  # the kernel may still hold shared memory of one that was killed
            try:
                self.start(self.port)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def close(self) -> None:
        """End it and drop its folder."""
        try:
            self.stop("immediate")
        except AssertionError:
            pass  # it doesn't run
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A session of the server's administrator."""
        return psycopg.connect(
            host=str(self.folder), port=self.port, dbname=database, user="tests", autocommit=True
        )

    def url(self, database: str) -> str:
        """The URL of a database, over TCP and with a password."""
        return f"postgresql://{USER}:{QUOTED}@127.0.0.1:{self.port}/{database}"

    def create(self, scripts: str | None = None) -> str:
        """Make a database and return its name; empty, or as Alembic's `scripts` make it."""
        template = "template0" if scripts is None else self._template(scripts)
        return self._create(f"test_{next(self._numbers)}", template)

    def drop(self, database: str) -> None:
        """Drop a database, whoever uses it."""
        with self.connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database))
            )

    def _create(self, name: str, template: str) -> str:
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(USER), sql.Identifier(template)
                )
            )
        return name

    def _template(self, scripts: str) -> str:
        name = self._templates.get(scripts)
        if name is None:
            name = f"template_{scripts.partition(':')[0]}"
            self._create(name, "template0")
            database = Database(self.url(name))
            database.migrate(scripts)
            database.close()
            self._templates[scripts] = name
        return name


class Databases:
    """The databases of one test: a URL for each path, of SQLite or of PostgreSQL.

    The same path is the same database, however often it is asked for.
    """

    def __init__(self, server: Callable[[], Server] | None) -> None:
        self._server = server
        self._made: dict[Path, str] = {}

    @property
    def shared(self) -> bool:
        """Whether it is PostgreSQL."""
        return self._server is not None

    def url(self, path: Path, scripts: str | None = None) -> str:
        """The URL of the database at `path`, whose tables are those of `scripts`, if given."""
        if self._server is None:
            return f"sqlite:///{path}"
        server = self._server()
        if path not in self._made:
            self._made[path] = server.create(scripts)
        return server.url(self._made[path])

    def open(self, path: Path, scripts: str | None = None) -> Database:
        """Open the database at `path`; with `scripts` it is migrated."""
        database = Database(self.url(path, scripts))
        if scripts is not None:
            database.migrate(scripts)
        return database

    def close(self) -> None:
        """Drop them all."""
        if self._server is not None:
            for name in self._made.values():
                self._server().drop(name)


def settled(database: Database) -> int:
    """Wait until everything that was committed so far is noticed; return the version then."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        version, since = database.version(), time.monotonic()
        while database.version() == version:
            if not database.shared or time.monotonic() - since > 2 * watching.INTERVAL:
                return version
            time.sleep(0.005)
        assert time.monotonic() < deadline, "the version doesn't stand still"


def writes(database: Database) -> int:
    """A number that changes only with what is really written in this database.

    Transaction numbers are the whole server's, which does things of its own, such as vacuuming:
    so it is the number of rows of each table, and the last transaction that left one there.
    """
    if not database.shared:
        return database.version()
    with database.read() as connection:
        return hash(
            tuple(
                tuple(
                    connection.exec_driver_sql(
                        f'SELECT count(*), coalesce(max(xmin::text::bigint), 0) FROM "{table}"'
                    ).one()
                )
                for table in sorted(sa.inspect(connection).get_table_names())
            )
        )


SQLITE = Databases(None)
"""Databases of the embedded engine."""

OpenRegistry = Callable[[Path], Registry]
"""The fixture `open_registry`."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
