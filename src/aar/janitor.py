"""Clears what is left over: uploads that rest, blobs that nothing refers to.

A blob goes in two transactions: first it is marked, and from then on counts as absent, then its
content and row are dropped, unless somebody pushed it again in between. Both hold the write lock
in which an upload publishes its content, so an upload that races the janitor keeps its blob. When
the janitor runs is `aar serve`'s business.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from aar import schema
from regkit.blobs import BlobStore
from regkit.database import Database
from regkit.errors import Conflict
from regkit.oci.digest import Digest

BATCH = 100
"""Rows or files per transaction, so that nobody waits long for the write lock."""


@dataclass(frozen=True)
class Counts:
    """What one run did. `ran` is false when another process was at it."""

    ran: bool = True
    uploads: int = 0
    """Stale uploads that were discarded."""
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
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._lock = lock
        self._uploads_after = uploads_after
        self._blobs_after = blobs_after

    def run(self, now: datetime) -> Counts:
        """Clear what has been left over for longer than its period at `now`."""
        with self._alone() as alone:
            if not alone:
                return Counts(ran=False)
            uploads = self._discard_uploads(now - self._uploads_after)
            before = now - self._blobs_after
            links = self._unlink(schema.to_text(before))
            marked = self._mark(schema.to_text(before))
            blobs, size = self._sweep()
            orphans = self._drop_orphans(before)
            return Counts(True, uploads, links, marked, blobs, size, orphans)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    def _discard_uploads(self, before: datetime) -> int:
        discarded = 0
        for info in self._blobs.staged():
            if info.modified >= before:
                continue
            try:
                self._blobs.discard(info.name)
            except Conflict:
                # Somebody is writing it at this moment.
                continue
            discarded += 1
        return discarded

    def _unlink(self, before: str) -> int:
        """Let repositories go of blobs that none of their manifests refers to."""
        link, reference = schema.repository_blob, schema.reference
        used = sa.exists().where(
            reference.c.repository == link.c.repository, reference.c.digest == link.c.digest
        )
        with self._database.write() as connection:
            return connection.execute(link.delete().where(link.c.touched < before, ~used)).rowcount

    def _mark(self, before: str) -> int:
        """Mark blobs that no repository has."""
        blob, link = schema.blob, schema.repository_blob
        linked = sa.exists().where(link.c.digest == blob.c.digest)
        with self._database.write() as connection:
            return connection.execute(
                blob.update()
                .where(blob.c.state == schema.PRESENT, blob.c.touched < before, ~linked)
                .values(state=schema.DELETING)
            ).rowcount

    def _sweep(self) -> tuple[int, int]:
        """Drop what is marked and still so: also what a former run had no time for."""
        blob = schema.blob
        query = (
            sa.select(blob.c.digest, blob.c.size)
            .where(blob.c.state == schema.DELETING)
            .order_by(blob.c.digest)
            .limit(BATCH)
        )
        count = size = 0
        while True:
            with self._database.write() as connection:
                rows = connection.execute(query).all()
                for row in rows:
                    self._blobs.delete(Digest.parse(row.digest))
                    connection.execute(blob.delete().where(blob.c.digest == row.digest))
                    size += row.size
            count += len(rows)
            if len(rows) < BATCH:
                return count, size

    def _drop_orphans(self, before: datetime) -> int:
        """Drop content without a row: a crash came between publishing it and the commit."""
        blob = schema.blob
        old = [info.digest for info in self._blobs.blobs() if info.modified < before]
        dropped = 0
        for start in range(0, len(old), BATCH):
            batch = old[start : start + BATCH]
            query = sa.select(blob.c.digest).where(
                blob.c.digest.in_([str(item) for item in batch])
            )
            with self._database.read() as connection:
                known = set(connection.execute(query).scalars())
            if all(str(digest) in known for digest in batch):
                continue
            # Only inside the write lock is it certain that no upload is just committing one.
            with self._database.write() as connection:
                known = set(connection.execute(query).scalars())
                for digest in batch:
                    if str(digest) not in known:
                        self._blobs.delete(digest)
                        dropped += 1
        return dropped
