"""Clears what is left over: uploads that rest, blobs that nothing refers to.

A blob goes in two transactions: first it is marked, and from then on counts as absent, then its
content and row are dropped, unless somebody pushed it again in between. Both hold the write lock
in which an upload publishes its content, so an upload that races the janitor keeps its blob; in a
remote store, where nothing is done inside a transaction, `BlobStore.doom` sees to that. When the
janitor runs is `aar serve`'s business. Only one runs at a time: by a lock on a file, and where
several machines share the database also by a lease, without which no transaction takes place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from aar import manifests, schema
from regkit import failpoints
from regkit.blobs import BlobStore
from regkit.database import Database, as_engine_error
from regkit.errors import Conflict
from regkit.leases import Fence, Lease, unfenced
from regkit.oci.digest import Digest
from regkit.upkeep import locks

BATCH = 100
"""Rows or files per transaction, so that nobody waits long for the write lock."""


@dataclass(frozen=True)
class Counts:
    """What one run did. `ran` is false when another process was at it."""

    ran: bool = True
    uploads: int = 0
    """Stale uploads that were discarded."""
    upload_bytes: int = 0
    links: int = 0
    """Blobs that repositories let go of."""
    marked: int = 0
    """Blobs that were found unused."""
    blobs: int = 0
    """Blobs that were dropped."""
    bytes: int = 0
    """The size of the blobs that were dropped."""
    orphans: int = 0
    """Files dropped that the database didn't know, left by a crash."""
    orphan_bytes: int = 0

    @property
    def freed(self) -> int:
        """Bytes that are free now."""
        return self.upload_bytes + self.bytes + self.orphan_bytes


class _Undo(Exception):  # noqa: N818 - no error: the end of a dry run's transaction
    """Rolls back what was only tried."""


class Janitor:
    """Runs in one process at a time, guarded by a lock on the file `lock`."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        lock: Path,
        *,
        uploads_after: timedelta = timedelta(hours=24),
        blobs_after: timedelta = timedelta(hours=24),
        lease: Lease | None = None,
    ) -> None:
        self._lease = lease
        self._fence: Fence = unfenced
        self._database = database
        self._blobs = blobs
        self._lock = lock
        self._uploads_after = uploads_after
        self._blobs_after = blobs_after

    def run(
        self,
        now: datetime,
        *,
        older_than: timedelta | None = None,
        dry_run: bool = False,
        patience: float = 0.0,
        every: timedelta = timedelta(),
    ) -> Counts:
        """Clear what has been left over for longer than its period at `now`.

        `older_than` takes the place of both periods. `dry_run` only counts. `patience`: seconds
        to wait for another process that is at it. `every`: do nothing when another machine ran
        one since. Raises LeaseLost when it was stopped for another machine's.
        """
        uploads_before = now - (self._uploads_after if older_than is None else older_than)
        before = now - (self._blobs_after if older_than is None else older_than)
        with self._alone(patience, every.total_seconds(), not dry_run) as alone:
            if not alone:
                return Counts(ran=False)
            uploads, upload_bytes = self._discard_uploads(uploads_before, dry_run)
            links, marked, blobs, size = self._clear(schema.to_text(before), dry_run)
            if not dry_run:
                blobs, size = self._sweep()
            orphans, orphan_bytes = self._drop_orphans(before, dry_run)
            tidied = self._blobs.tidy(min(before, uploads_before), dry_run=dry_run)
        return Counts(
            True,
            uploads,
            upload_bytes,
            links,
            marked,
            blobs,
            size,
            orphans + tidied.count,
            orphan_bytes + tidied.size,
        )

    @contextmanager
    def _alone(self, patience: float, every: float, counts: bool) -> Iterator[bool]:
        descriptor = locks.take(self._lock, seconds=patience)
        if descriptor is None:
            yield False
            return
        try:
            if self._lease is None:
                yield True
                return
            with self._lease.kept(every, patience, counts=counts) as held:
                self._fence = self._lease.fence
                yield held
        finally:
            os.close(descriptor)

    def _discard_uploads(self, before: datetime, dry_run: bool) -> tuple[int, int]:
        discarded = size = 0
        for info in self._blobs.staged():
            if info.modified >= before:
                continue
            try:
                if not dry_run:
                    self._blobs.discard(info.name)
            except Conflict:
                # Somebody is writing it at this moment.
                continue
            discarded += 1
            size += info.size
        return discarded, size

    def _clear(self, before: str, dry_run: bool) -> tuple[int, int, int, int]:
        """Let go of and mark what isn't used; return also what is marked altogether."""
        blob = schema.blob
        total = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(blob.c.size), 0)).where(
            blob.c.state == schema.DELETING
        )
        links = marked = count = size = 0
        with suppress(_Undo), self._database.write() as connection:
            self._fence(connection)
            links = self._unlink(connection, before)
            failpoints.reach("janitor.mark:before", as_engine_error)
            marked = self._mark(connection, before)
            failpoints.reach("janitor.mark:after")
            count, size = connection.execute(total).one()
            if dry_run:
                raise _Undo
        return links, marked, count, size

    def _unlink(self, connection: sa.Connection, before: str) -> int:
        """Let repositories go of blobs that none of their manifests refers to."""
        link, reference = schema.repository_blob, schema.reference
        used = sa.exists().where(
            reference.c.repository == link.c.repository, reference.c.digest == link.c.digest
        )
        return connection.execute(link.delete().where(link.c.touched < before, ~used)).rowcount

    def _mark(self, connection: sa.Connection, before: str) -> int:
        """Mark blobs that no repository has."""
        blob, link = schema.blob, schema.repository_blob
        linked = sa.exists().where(link.c.digest == blob.c.digest)
        return connection.execute(
            blob.update()
            .where(blob.c.state != schema.DELETING, blob.c.touched < before, ~linked)
            .values(state=schema.DELETING)
        ).rowcount

    def _sweep(self) -> tuple[int, int]:
        """Drop what is marked and still so: also what a former run had no time for."""
        blob = schema.blob
        query = (
            sa.select(blob.c.digest)
            .where(blob.c.state == schema.DELETING)
            .order_by(blob.c.digest)
            .limit(BATCH)
        )
        count = size = 0
        after = ""
        while True:
            with self._database.read() as connection:
                found = connection.execute(query.where(blob.c.digest > after)).scalars().all()
            digests = [Digest.parse(text) for text in found]
            with self._deletion(digests) as (connection, drop):
                still = (blob.c.digest.in_(found), blob.c.state == schema.DELETING)
                rows = connection.execute(
                    sa.select(blob.c.digest, blob.c.size).where(*still)
                ).all()
                for row in rows:
                    drop(Digest.parse(row.digest))
                    connection.execute(blob.delete().where(blob.c.digest == row.digest))
                    size += row.size
            count += len(rows)
            if len(found) < BATCH:
                return count, size
            after = found[-1]

    @contextmanager
    def _deletion(
        self, digests: Sequence[Digest]
    ) -> Iterator[tuple[sa.Connection, Callable[[Digest], None]]]:
        """Give a writing transaction, and what drops content of `digests` with it.

        A remote store's content is looked up before it and dropped after it, so that nobody waits
        for the network inside; a crash in between leaves orphans.
        """
        scopes = [manifests.blob_scope(digest) for digest in digests] or ["nothing"]
        if not self._blobs.remote:
            with self._database.write(*scopes) as connection:
                self._fence(connection)
                yield connection, self._blobs.delete
            return
        doomed = {digest: self._blobs.doom(digest) for digest in digests}
        dropped: list[Digest] = []
        with self._database.write(*scopes) as connection:
            self._fence(connection)
            yield connection, dropped.append
        for digest in dropped:
            doomed[digest]()

    def _drop_orphans(self, before: datetime, dry_run: bool) -> tuple[int, int]:
        """Drop content without a row: a crash came between publishing it and the commit."""
        blob = schema.blob
        old = [info for info in self._blobs.blobs() if info.modified < before]
        dropped = size = 0
        for start in range(0, len(old), BATCH):
            batch = old[start : start + BATCH]
            query = sa.select(blob.c.digest).where(
                blob.c.digest.in_([str(info.digest) for info in batch])
            )
            with self._database.read() as connection:
                known = set(connection.execute(query).scalars())
            if all(str(info.digest) in known for info in batch):
                continue
            # Only inside the write lock is it certain that no upload is just committing one.
            unknown = [info.digest for info in batch if str(info.digest) not in known]
            with self._deletion(unknown) as (connection, drop):
                known = set(connection.execute(query).scalars())
                for info in batch:
                    if info.digest in unknown and str(info.digest) not in known:
                        if not dry_run:
                            drop(info.digest)
                        dropped += 1
                        size += info.size
        return dropped, size
