"""What a database engine must do, and which one a URL means.

`Engine` is the seam: `regkit.database` knows the engines only by it, the rules not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from regkit.database.locations import File, Server, parse_url
from regkit.errors import Invalid

__all__ = ["Engine", "choose", "parse_url"]


class Engine(Protocol):
    """One database engine.

    Attributes: `engine`, SQLAlchemy's; `path` of the database's file, if it is one; `shared`,
    whether several machines may use it; `name`, for messages, without a secret.
    """

    engine: sa.Engine
    path: Path | None
    shared: bool
    name: str

    def check(self) -> None:
        """Raise Unavailable or Invalid, with a reason for the operator, for a server of no use."""
        ...

    def begun(
        self, connection: sa.Connection, scopes: Sequence[str] | None
    ) -> AbstractContextManager[object]:
        """Begin a transaction: to read (`scopes` is None), or as the only writer in `scopes`.

        No scope at all means: the only writer. The context commits, or rolls back on any error.
        """
        ...

    def committed(self) -> None:
        """Take notice of a commit of this process."""
        ...

    def version(self) -> int:
        """See `Database.version`."""
        ...

    def fresh_version(self) -> int:
        """See `Database.fresh_version`."""
        ...

    def translated(self) -> AbstractContextManager[None]:
        """Turn what an operator can mend, or a caller wait for, into an error that says so."""
        ...

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        ...


def choose(location: File | Server) -> Engine:
    """Return the engine for `location`. Raises Invalid when its driver isn't installed."""
    if isinstance(location, File):
        from regkit.database.sqlite import SqliteEngine  # noqa: PLC0415 - only the one in use

        return SqliteEngine(location.path)
    try:
        from regkit.database.postgresql import PostgresqlEngine  # noqa: PLC0415
    except ImportError as error:
        raise Invalid(
            f"database.url: PostgreSQL needs the extra 'postgresql' ({error}): install "
            "anbox-registry[postgresql]"
        ) from None
    return PostgresqlEngine(location)
