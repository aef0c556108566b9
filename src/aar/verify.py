"""What the registry's rows say about its blobs, and whether they agree with each other.

Reading the blobs themselves, moving the damaged aside and bringing them back is
`regkit.upkeep`'s business; here is what they are there for, and who can push them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from aar import audit, manifests, schema
from aar.audit import Record
from regkit.database import Database
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from regkit.oci.names import application_of, repository_of
from regkit.upkeep.rows import database_faults
from regkit.upkeep.scrub import User, Wanted

PAGE = 1000
MAX_FAULTS = 1000
"""More rows that are wrong say no more."""


class RegistryBooks:
    """The registry as `regkit.upkeep.scrub` asks of it (`Books`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def amount(self) -> int:
        """Return the size of all blobs together, in bytes."""
        blob = schema.blob
        query = sa.select(sa.func.coalesce(sa.func.sum(blob.c.size), 0)).where(_kept())
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def wanted(self) -> Iterator[Wanted]:
        """Go over the blobs that aren't being deleted, by digest."""
        blob, last = schema.blob, ""
        query = sa.select(blob.c.digest, blob.c.size, blob.c.state).where(_kept())
        while True:
            page = query.where(blob.c.digest > last).order_by(blob.c.digest).limit(PAGE)
            with self._database.read() as connection:
                rows = connection.execute(page).all()
            for row in rows:
                sound = row.state != schema.DAMAGED
                yield Wanted(Digest.parse(row.digest), row.size, sound)
            if len(rows) < PAGE:
                return
            last = rows[-1].digest

    def unwanted(self, digests: Sequence[Digest]) -> list[Digest]:
        """Return those without a row."""
        blob = schema.blob
        query = sa.select(blob.c.digest).where(blob.c.digest.in_([str(d) for d in digests]))
        with self._database.read() as connection:
            known = set(connection.execute(query).scalars())
        if all(str(digest) in known for digest in digests):
            return []
        # Only inside the write lock is it certain that no upload is just committing one.
        with self._database.write() as connection:
            known = set(connection.execute(query).scalars())
        return [digest for digest in digests if str(digest) not in known]

    def note(self, digest: Digest, act: Callable[[], bool], *, sound: bool, why: str) -> bool:
        """Set a blob's state, together with what was done about it."""
        blob = schema.blob
        state = schema.PRESENT if sound else schema.DAMAGED
        with self._database.write() as connection:
            here = sa.and_(blob.c.digest == str(digest), _kept())
            former = connection.execute(sa.select(blob.c.state).where(here)).scalar()
            if former is None or not act():
                return False
            connection.execute(blob.update().where(here).values(state=state))
            if former != state or why:
                action = "blob-restored" if sound else "blob-damaged"
                audit.append(connection, [Record(action, str(digest), detail={"why": why})])
        return True

    def users(self, digest: Digest) -> list[User]:
        """Return the versions, and the manifests that are none, which need a blob."""
        link, reference = schema.repository_blob, schema.reference
        links = sa.select(link.c.repository).where(link.c.digest == str(digest))
        needing = sa.select(reference.c.repository, reference.c.manifest).where(
            reference.c.digest == str(digest), reference.c.repository.in_(links)
        )
        with self._database.read() as connection:
            rows = connection.execute(needing).all()
            users = [
                user for row in rows for user in _users(connection, row.repository, row.manifest)
            ]
            if not users:
                found = connection.execute(links).scalars()
                users = [User(f"an upload to {name}", place=name) for name in found]
        return sorted(users, key=lambda user: user.name)

    def faults(self) -> list[str]:
        """Return what is wrong in the rows, and what SQLite itself finds wrong."""
        with self._database.read() as connection:
            if found := list(database_faults(connection)):
                return found  # whatever else is read from it would mean nothing
            return [
                *_content_faults(connection),
                *_version_faults(connection),
                *_feed_faults(connection),
            ][:MAX_FAULTS]

    def dangling(self) -> list[str]:
        """Return manifests that are no versions, and of which a part was deleted."""
        with self._database.read() as connection:
            return [
                f"the manifest {row.manifest} of {row.repository} refers to {row.digest}"
                for row in connection.execute(_torn().limit(MAX_FAULTS))
                if not _is_version(connection, row.repository, row.manifest)
            ]


def _kept() -> sa.ColumnElement[bool]:
    return schema.blob.c.state != schema.DELETING


def _users(connection: sa.Connection, repository: str, manifest: str) -> list[User]:
    version, trust, tag = schema.application_version, schema.trust, schema.tag
    published = (
        sa.select(version, trust.c.common_name)
        .outerjoin(trust, trust.c.fingerprint == version.c.published_by)
        .where(_is_of(repository, manifest))
    )
    if rows := connection.execute(published).all():
        return [
            User(
                str(Key(row.name, row.number, row.architecture)),
                row.published_by,
                row.common_name or "",
                repository,
            )
            for row in rows
        ]
    query = sa.select(tag.c.name).where(tag.c.repository == repository, tag.c.digest == manifest)
    tags = list(connection.execute(query).scalars())
    names = [f"{repository}:{name}" for name in tags] or [f"{repository}@{manifest}"]
    return [User(name, place=repository) for name in names]


def _is_of(repository: str, manifest: str) -> sa.ColumnElement[bool]:
    """Return the condition that a published version has this manifest."""
    version = schema.application_version
    return sa.and_(
        version.c.name == application_of(repository),
        version.c.digest == manifest,
        version.c.removed_at.is_(None),
    )


def _is_version(connection: sa.Connection, repository: str, manifest: str) -> bool:
    query = sa.select(schema.application_version.c.name).where(_is_of(repository, manifest))
    return connection.execute(query).first() is not None


def _content_faults(connection: sa.Connection) -> Iterator[str]:
    """Compare every manifest with its digest."""
    table = schema.manifest
    query = sa.select(table.c.repository, table.c.digest, table.c.content)
    for row in connection.execution_options(yield_per=100).execute(query):
        wanted = Digest.parse(row.digest)
        if Digest.of(row.content, wanted.algorithm) != wanted:
            yield f"the manifest {row.digest} of {row.repository} is damaged"


def _torn() -> sa.Select[Any]:
    """Return the references to what their repository hasn't."""
    reference, link, manifest = schema.reference, schema.repository_blob, schema.manifest
    has_blob = sa.exists().where(
        link.c.repository == reference.c.repository, link.c.digest == reference.c.digest
    )
    has_manifest = sa.exists().where(
        manifest.c.repository == reference.c.repository, manifest.c.digest == reference.c.digest
    )
    return reference.select().where(~has_blob, ~has_manifest)


def _version_faults(connection: sa.Connection) -> Iterator[str]:
    """Find published versions that aren't whole, or aren't found by their tags."""
    version = schema.application_version
    for row in connection.execute(version.select().where(version.c.removed_at.is_(None))):
        key = Key(row.name, row.number, row.architecture)
        repository, digest = repository_of(key.name), Digest.parse(row.digest)
        if manifests.get(connection, repository, digest) is None:
            yield f"version {key} has no manifest"
            continue
        if manifests.tagged(connection, repository, key.tag) != digest:
            yield f"the tag {key.tag} of {repository} isn't that of version {key}"
        if manifests.tagged(connection, repository, key.index_tag) is None:
            yield f"version {key} is in no index: the tag {key.index_tag} is missing"
        torn = _torn().where(
            schema.reference.c.repository == repository,
            schema.reference.c.manifest == row.digest,
        )
        for part in connection.execute(torn):
            yield f"version {key} refers to {part.digest}, which its repository hasn't"


def _feed_faults(connection: sa.Connection) -> Iterator[str]:
    """Check that the feed has every number up to its head once."""
    change = schema.change
    head = connection.execute(sa.select(schema.feed.c.seq)).scalar()
    count, last = connection.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.max(change.c.seq), 0))
    ).one()
    if head is None:
        yield "the change feed has no head"
    elif (count, last) != (head, head):
        yield f"the change feed has {count} rows up to {last}, but its head is {head}"
