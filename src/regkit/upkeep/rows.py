"""What the engine itself finds wrong with a database. It knows no table."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

MAX_FAULTS = 100


def database_faults(connection: sa.Connection) -> Iterator[str]:
    """Yield what `integrity_check` and `foreign_key_check` find (https://sqlite.org/pragma.html).

    PostgreSQL has checksums of its own, and never lets a reference dangle.
    """
    if connection.dialect.name != "sqlite":
        return
    for row in connection.exec_driver_sql(f"PRAGMA integrity_check({MAX_FAULTS})"):
        if row[0] != "ok":
            yield f"the database: {row[0]}"
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield f"the database: row {row[1]} of {row[0]} refers to nothing in {row[2]}"
