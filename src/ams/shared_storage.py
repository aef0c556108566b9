"""Whether all services on one database keep blobs in one store too: each looks when it opens.

Rows without their files would be served as if they were there. So the first service puts a mark
into its store, a blob that nobody else has, and the database names it; whoever opens the database
must find the mark in its own store. What stores there are is `regkit.storage`'s business.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from ams import schema
from regkit import logs
from regkit.blobs import BlobStore
from regkit.database import Database
from regkit.errors import Invalid
from regkit.oci.digest import Digest

log = logs.get("ams.service")

MARK_BYTES = 32


def require_same(database: Database, blobs: BlobStore) -> None:
    """Look for the mark, or put one when there is none yet.

    Raises Invalid when this store isn't that of the other services, Unavailable when it can't be
    asked.
    """
    mark = _mark(database) or _first_mark(database, blobs)
    if blobs.size(mark) is None:
        raise Invalid(
            "other services on this database keep their files elsewhere: set the storage.s3 or "
            "storage.fs.root-directory that they have; if that storage is lost for good, run 'ams "
            "adopt-storage' first"
        )


def adopt(database: Database, blobs: BlobStore) -> None:
    """Make this store the one of all services on the database. Raises Unavailable."""
    mark = _put_mark(blobs)
    with database.write() as connection:
        connection.execute(schema.storage.delete())
        connection.execute(schema.storage.insert().values(id=1, mark=str(mark)))
    log.warning("storage-adopted")


def _first_mark(database: Database, blobs: BlobStore) -> Digest:
    """Put a mark, unless another service is quicker; return the one that counts."""
    mark = _put_mark(blobs)
    with database.write() as connection:
        found = connection.execute(sa.select(schema.storage.c.mark)).scalar()
        if found is not None:
            return Digest.parse(found)
        connection.execute(schema.storage.insert().values(id=1, mark=str(mark)))
    return mark


def _mark(database: Database) -> Digest | None:
    with database.read() as connection:
        found = connection.execute(sa.select(schema.storage.c.mark)).scalar()
    return None if found is None else Digest.parse(found)


def _put_mark(blobs: BlobStore) -> Digest:
    content = secrets.token_bytes(MARK_BYTES)
    digest = Digest.of(content)
    with blobs.stage(f"mark-{digest.hex[:16]}") as staged:
        staged.write(content)
        staged.seal(digest)
        staged.publish()
    return digest
