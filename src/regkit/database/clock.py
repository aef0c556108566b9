"""The database's own clock, the only one that several machines have in common."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Double
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement


class seconds(FunctionElement[float]):  # noqa: N801 - an SQL function, written like the others
    """The time now, in seconds since 1970, as the database has it; not that of the transaction."""

    type = Double()
    inherit_cache = True
    name = "seconds"


@compiles(seconds, "sqlite")
def _sqlite(_element: Any, _compiler: Any, **_more: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(seconds, "postgresql")
def _postgresql(_element: Any, _compiler: Any, **_more: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
