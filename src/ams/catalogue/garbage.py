"""Removal of blobs that no version refers to, and of staged files that were abandoned.

Safe beside running creates and imports: a young blob is left alone, so is one that somebody has
claimed, and the last look and the deletion happen under the database's write lock, where no
version can be committed in between. In a bucket nothing is deleted inside a transaction: what is
to go is written down as doomed there, and from then on counts as gone, so that whoever claims it
stores it anew; what is deleted afterwards is the content that was looked up before.
"""

from __future__ import annotations

import secrets
import time
from datetime import datetime, timedelta
from itertools import islice

from ams.catalogue import store
from ams.catalogue.records import Garbage
from regkit import logs
from regkit.blobs import BlobStore
from regkit.database import Database
from regkit.errors import Conflict
from regkit.oci.digest import Digest

log = logs.get("ams.catalogue")

GRACE = timedelta(hours=1)
"""How long a blob without a version, or a claim, is left alone."""
STAGED_GRACE = timedelta(hours=24)
"""How long a partial file waits to be resumed after its last byte."""
DOOMED_GRACE = timedelta(hours=24)
"""How long a blob counts as gone after a collection that never said that it was done; no process
is held up for longer."""
_BATCH = 200


def collect(
    database: Database,
    blobs: BlobStore,
    now: datetime,
    grace: timedelta = GRACE,
    staged_grace: timedelta = STAGED_GRACE,
) -> Garbage:
    """Remove what is not needed any more; returns how much."""
    with database.write() as connection:
        store.drop_claims(connection, now - grace)
        store.drop_doomed(connection, now - DOOMED_GRACE)
    found = (blob.digest for blob in blobs.blobs() if blob.modified <= now - grace)
    removed = 0
    while batch := list(islice(found, _BATCH)):
        removed += _remove_unused(database, blobs, batch, now)
        time.sleep(0)  # under gevent this gives other requests their turn
    staged = sum(
        _discard(blobs, info.name)
        for info in blobs.staged()
        if info.modified <= now - staged_grace
    )
    tidied = blobs.tidy(now - staged_grace).count
    if removed or staged or tidied:
        log.info("garbage-collected", blobs=removed, staged=staged, objects=tidied)
    return Garbage(removed, staged)


def _remove_unused(
    database: Database, blobs: BlobStore, digests: list[Digest], now: datetime
) -> int:
    with database.read() as connection:
        candidates = store.unused(connection, digests)
    if not candidates:
        return 0
    if blobs.remote:
        return _doom_unused(database, blobs, candidates, now)
    with database.write() as connection:
        unused = store.unused(connection, candidates)
        for digest in unused:
            blobs.delete(digest)
    return len(unused)


def _doom_unused(
    database: Database, blobs: BlobStore, candidates: list[Digest], now: datetime
) -> int:
    # In this order: what is stored by those who find a blob doomed isn't what was looked up.
    deletions = {digest: blobs.doom(digest) for digest in candidates}
    run = secrets.token_hex(16)
    with database.write() as connection:
        unused = store.unused(connection, candidates)
        store.doom(connection, unused, run, now)
    for digest in unused:
        with database.read() as connection:
            still = store.doomed(connection, [digest]).get(digest) == run
        if still:
            deletions[digest]()
    with database.write() as connection:
        store.forget_doomed(connection, run)
    return len(unused)


def _discard(blobs: BlobStore, name: str) -> bool:
    try:
        blobs.discard(name)
    except Conflict:  # somebody is writing it right now
        return False
    return True
