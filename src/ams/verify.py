"""What the management service's rows say about its files, and whether they agree.

Reading the blobs themselves, moving the damaged aside and bringing them back is
`regkit.upkeep`'s business; here is what they are there for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import sqlalchemy as sa

from ams import schema
from ams.catalogue import store
from regkit.database import Database
from regkit.oci.digest import Digest
from regkit.oci.names import repository_of
from regkit.upkeep.rows import database_faults
from regkit.upkeep.scrub import User, Wanted

PAGE = 1000


class ServiceBooks:
    """The management service as `regkit.upkeep.scrub` asks of it (`Books`).

    A blob has no state here: what isn't in the store is missing.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def amount(self) -> int:
        """Return the size of all wanted blobs together, in bytes."""
        sizes = _sizes().subquery()
        with self._database.read() as connection:
            total = sa.select(sa.func.coalesce(sa.func.sum(sizes.c.size), 0))
            return int(connection.execute(total).scalar_one())

    def wanted(self) -> Iterator[Wanted]:
        """Go over the files of all versions, each content once, by digest."""
        last = ""
        while True:
            page = _sizes().where(schema.version_file.c.digest > last).limit(PAGE)
            with self._database.read() as connection:
                rows = connection.execute(page).all()
            for row in rows:
                yield Wanted(Digest.parse(row.digest), row.size)
            if len(rows) < PAGE:
                return
            last = rows[-1].digest

    def unwanted(self, digests: Sequence[Digest]) -> list[Digest]:
        """Return those that no version refers to and no running create or import claims."""
        with self._database.read() as connection:
            candidates = store.unused(connection, digests)
        if not candidates:
            return []
        with self._database.write() as connection:
            return store.unused(connection, candidates)

    def note(self, digest: Digest, act: Callable[[], bool], *, sound: bool, why: str) -> bool:
        """Do `act` while no version comes or goes."""
        file = schema.version_file
        query = sa.select(file.c.digest).where(file.c.digest == str(digest)).limit(1)
        with self._database.write() as connection:
            if connection.execute(query).first() is None or not act():
                return False
        return True

    def users(self, digest: Digest) -> list[User]:
        """Return the versions that have a file with this content."""
        application, file = schema.application, schema.version_file
        query = (
            sa.select(application.c.name, application.c.origin, file.c.number)
            .join(application, application.c.id == file.c.application_id)
            .where(file.c.digest == str(digest))
            .distinct()
            .order_by(application.c.name, file.c.number)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [
            User(
                f"{row.name} {row.number}" + (" (imported)" if row.origin == "registry" else ""),
                place=repository_of(row.name),
            )
            for row in rows
        ]

    def faults(self) -> list[str]:
        """Return what SQLite itself finds wrong, and versions whose manifest is damaged."""
        application, version = schema.application, schema.version
        query = sa.select(
            application.c.name, version.c.number, version.c.digest, version.c.oci_manifest
        ).join(application, application.c.id == version.c.application_id)
        with self._database.read() as connection:
            if found := list(database_faults(connection)):
                return found  # whatever else is read from it would mean nothing
            rows = connection.execution_options(yield_per=100).execute(query)
            return [
                f"the manifest of version {row.number} of {row.name} is damaged"
                for row in rows
                if str(Digest.of(row.oci_manifest)) != row.digest
            ]

    def dangling(self) -> list[str]:
        """Return nothing: rows refer to what is theirs only."""
        return []


def _sizes() -> sa.Select:
    file = schema.version_file
    return (
        sa.select(file.c.digest, sa.func.max(file.c.size).label("size"))
        .group_by(file.c.digest)
        .order_by(file.c.digest)
    )
