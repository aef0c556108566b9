"""The database of a service: two kinds of transaction, migrations, a number that tells of commits.

No table is defined here, and nothing of one engine: what SQLite and PostgreSQL do differently is
in a module each, behind `engines.Engine`. A committed transaction survives a power cut.

The rules of the services are written for one writer at a time: they look, decide, and write. So
`write()` is the only writer of the whole database, on every engine. Where that would make writers
wait for each other who have nothing in common, `write(scope, ...)` is the only writer within its
scopes: whoever names none of them goes on, except for `write()` itself, which waits for all. An
engine that has only one writer anyway takes no notice of scopes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources

import sqlalchemy as sa

from regkit import failpoints
from regkit.database.engines import choose, parse_url
from regkit.database.sqlite import as_engine_error
from regkit.errors import Invalid

__all__ = ["Database", "as_engine_error", "parse_url"]


class Database:
    """An engine and the two kinds of transaction that the services use.

    Never wait for the network inside a transaction: other writers wait meanwhile, on SQLite under
    gevent the whole process, whose next request blocks at BEGIN IMMEDIATE.

    Attributes: `engine`, SQLAlchemy's; `path` of the file, None for a server; `shared`, whether
    several machines may use it at once; `name`, for messages, without any secret.
    """

    def __init__(self, url: str) -> None:
        """Open the database at `url`, as `parse_url` reads it; a file and its folder are created.

        Raises Invalid for a URL that can't be used. A server isn't asked for anything yet.
        """
        try:
            self._engine = choose(parse_url(url))
        except ValueError as error:
            raise Invalid(f"database.url: {error}") from None
        self.engine = self._engine.engine
        self.path = self._engine.path
        self.shared = self._engine.shared
        self.name = self._engine.name

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one consistent snapshot and never waits for writers.

        Raises Unavailable while the database can't be reached.
        """
        with (
            self._engine.translated(),
            self.engine.connect() as connection,
            self._engine.begun(connection, None),
        ):
            yield connection

    @contextmanager
    def write(self, *scopes: str) -> Iterator[sa.Connection]:
        """Give a writing connection; commits at the end, rolls back on any error.

        It is the only one within `scopes`, or at all where none is given, and sees everything
        that was committed by others before. Scopes are texts such as `repository:frogger`.
        Raises Unavailable when another writer is in the way for 30 s, or the database can't be
        reached (then it isn't known whether the transaction took place); NoSpace when the disk
        is full.
        """
        with self._engine.translated(), self.engine.connect() as connection:
            with self._engine.begun(connection, scopes):
                yield connection
                failpoints.reach("database.commit:before", as_engine_error)
            self._engine.committed()
            failpoints.reach("database.commit:after")

    def version(self) -> int:
        """Return a number that changes whenever any process has committed (some µs, no I/O wait).

        SQLite: at once. PostgreSQL: within `watching.INTERVAL` of the commit, at once for this
        process's own; while the server can't be asked it changes by itself, so that whatever is
        kept under it is looked up anew. So nothing kept under a number is older than a second.
        """
        return self._engine.version()

    def fresh_version(self) -> int:
        """Return `version` as it is now: no commit that came before the call is missing.

        PostgreSQL is asked, once for all that call meanwhile (a round trip, under half a second).
        """
        return self._engine.fresh_version()

    def migrate(self, scripts: str, check: Callable[[sa.Connection], None] | None = None) -> None:
        """Bring the schema up to date with the Alembic `scripts` (`package:folder`).

        `check` sees the database before anything is changed in it, and may raise. Safe when
        several processes start at once: the write lock is held throughout. Scripts are named
        after their revision (`0001_title.py`), so that a schema that is up to date costs one
        query and no import of Alembic. Raises Unavailable, with the reason, for a database that
        can't be reached, and Invalid for one that must not be used as it is set up.
        """
        self._engine.check()
        if check is not None:
            with self.read() as connection:
                check(connection)
        current, newest = self._revision(), _newest_revision(scripts)
        if current == newest:
            return
        if current is not None and current > newest:
            raise Invalid(
                f"{self.name} was made by a newer version of this program (schema {current}, this "
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
        """Close every connection; using it again opens it anew."""
        self._engine.close()


def _newest_revision(scripts: str) -> str:
    package, _, folder = scripts.partition(":")
    versions = resources.files(package).joinpath(folder).joinpath("versions")
    names = [entry.name for entry in versions.iterdir() if entry.name[:4].isdigit()]
    return max(names).partition("_")[0]
