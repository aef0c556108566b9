"""A service's state as backup and restore see it. What the rows mean, the services tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from regkit.blobs import BlobStore
from regkit.database.locations import File, parse_url
from regkit.errors import Invalid
from regkit.oci.digest import Digest
from regkit.upkeep.scrub import Wanted

AFTERWARDS = "see 'docs/how-to/use-postgresql.md' for what to do after a restore"


def database_file(url: str, afterwards: str = AFTERWARDS) -> Path:
    """Return the file of a database.

    Raises Invalid for one that a server keeps; `afterwards` says what else belongs to its backup.
    """
    location = parse_url(url)
    if not isinstance(location, File):
        raise Invalid(
            f"the database is {location}, which has its own backups: use pg_dump or point-in-time "
            f"recovery; {afterwards}"
        )
    return location.path


@dataclass(frozen=True)
class Adoption:
    """A restored database that becomes the service's: what the service must see to.

    `new` is the restored one, inside its writing transaction; `old` the one that it replaces, None
    where there is none that can be read. `lost`: blobs that the backup hasn't. `made`: when the
    backup was made.
    """

    new: sa.Connection
    old: sa.Connection | None
    lost: Sequence[Digest]
    made: datetime
    now: datetime


@dataclass(frozen=True)
class State:
    """Where a service keeps what, and what only it knows about it.

    `configuration` and `keys` are paths below `home`. `wanted` gives the blobs that the rows refer
    to; `contents` says in words what a database holds, "" for nothing; `adopt` carries over what
    must outlive a restore, and returns remarks for the operator.
    """

    service: str
    home: Path
    database: Path
    scripts: str
    configuration: Path
    keys: tuple[Path, ...]
    blobs: BlobStore
    trust: sa.Table
    wanted: Callable[[sa.Connection], Iterator[Wanted]]
    contents: Callable[[sa.Connection], str]
    adopt: Callable[[Adoption], list[str]]
