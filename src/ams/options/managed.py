"""The managed layer: options that an owner, such as Juju, has taken charge of.

An owner states everything that it wants, and the layer holds who owns what, so that an owner needs
no memory, and undoes exactly what it did. What was set by hand stays below, and comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from aar_interface import Certificate
from ams import schema
from regkit import trust
from regkit.errors import Conflict

TABLE = schema.managed_option


@dataclass(frozen=True)
class Managed:
    """What one owner manages: options by name, as text, and trusted certificates."""

    config: Mapping[str, str]
    certificates: tuple[Certificate, ...] = ()


@dataclass(frozen=True)
class Applied:
    """What applying has changed: names of options, in their order, and rows of the trust store.

    An option counts as changed when what the owner says of it did, be it in force before or not.
    """

    changed: tuple[str, ...]
    certificates: trust.Applied


def of(connection: sa.Connection, owner: str) -> dict[str, str]:
    """Return the stored texts of what `owner` manages."""
    rows = connection.execute(sa.select(TABLE.c.name, TABLE.c.value).where(TABLE.c.owner == owner))
    return {row.name: row.value for row in rows}


def replace(connection: sa.Connection, owner: str, wanted: Mapping[str, str]) -> set[str]:
    """Make what `owner` manages exactly `wanted` (stored texts); return the names that changed.

    Raises Conflict for a name that another owner manages.
    """
    for name in wanted:
        require_free(connection, name, owner)
    before = of(connection, owner)
    changed = {name for name in {*before, *wanted} if before.get(name) != wanted.get(name)}
    for name in changed:
        connection.execute(TABLE.delete().where(TABLE.c.name == name))
        if name in wanted:
            row = {"name": name, "value": wanted[name], "owner": owner}
            connection.execute(TABLE.insert().values(row))
    return changed


def require_free(connection: sa.Connection, name: str, owner: str | None = None) -> None:
    """Raise Conflict when somebody else than `owner` manages the option."""
    found = connection.execute(sa.select(TABLE.c.owner).where(TABLE.c.name == name)).scalar()
    if found is not None and found != owner:
        raise Conflict(
            f"{name} is managed by {found}: change it there, or have {found} leave it alone "
            "('amc config show --origin' tells who manages what)"
        )
