"""Blobs that are here though no version refers to them, read before a version takes one over.

Such are left by a removed version until the garbage collection, or by an import that didn't come
to its end. `ams verify` reads what versions refer to only, so nobody has looked at these since
they were stored. What a version refers to already is taken as it is: that is verify's business.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from ams.catalogue import store
from regkit import logs
from regkit.blobs import BlobStore
from regkit.database import Database
from regkit.errors import Unavailable
from regkit.oci.digest import Digest
from regkit.upkeep.scrub import examine

log = logs.get("ams.catalogue")


def prove(database: Database, blobs: BlobStore, digests: Iterable[Digest]) -> None:
    """Read those of `digests` that are left over; what isn't what its digest says is moved aside.

    So it isn't here any more, and is stored anew. Raises Unavailable for one that can't be read.
    """
    here = [digest for digest in digests if blobs.size(digest) is not None]
    if not here:
        return
    with database.read() as connection:
        left_over = store.unreferenced(connection, here)
    for digest in left_over:
        # Between pieces the other requests get their turn, under gevent.
        fault = examine(blobs, digest, None, lambda _: time.sleep(0))
        if fault is None or fault.kind == "missing":
            continue
        if fault.kind == "unreadable":
            raise Unavailable(f"the blob {digest} can't be read ({fault.why}): check the disk")
        with database.write() as connection:
            # Somebody may have stored it anew meanwhile, and refer to it by now.
            if store.unreferenced(connection, [digest]) and blobs.set_aside(digest, fault.version):
                log.warning("damaged-blob-set-aside", digest=str(digest), reason=fault.why)
