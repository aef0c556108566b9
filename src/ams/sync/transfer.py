"""Blobs between the registry and the blob store, resumed after a cut.

Downloads are staged under a name made from the digest, so that they go on where they were after a
kill -9 too; nothing becomes a blob before its digest was verified. Which blobs are needed is the
runner's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TypeVar

from ams.sync.door import CHUNK, SMALL, BlobStream, Door, Silent, UploadSession
from regkit.blobs import BlobStore, DigestMismatch, Staged
from regkit.errors import Invalid, NotFound, ServiceError, Unavailable
from regkit.oci.application import Key
from regkit.oci.digest import Digest

ATTEMPTS = 4
"""Tries of one blob that bring no byte; any byte that arrives starts the count anew."""
SILENT_ATTEMPTS = 2
"""The same where the registry is there and silent: such a try takes a minute in which the end of
the sync is waited for, and the second may reach another unit."""
FIRST_PAUSE = 0.5
"""Seconds before the second try; doubled for each further one."""

Count = Callable[[int], None]
"""Told of each piece that was moved, in bytes; may raise to give up."""

_T = TypeVar("_T")


def stage_name(digest: Digest) -> str:
    """Return the name under which a download is staged."""
    return f"sync-{digest.algorithm}-{digest.hex}"


class Transfer:
    """Moves single blobs. `pause` waits some seconds; tests inject one that doesn't."""

    def __init__(
        self, registry: Door, blobs: BlobStore, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._registry = registry
        self._blobs = blobs
        self._pause = pause

    def missing(self, digest: Digest, size: int, *, anew: bool = False) -> int:
        """Return how many bytes a download would still need; `anew`: whatever is here."""
        if not anew and self._blobs.size(digest) is not None:
            return 0
        staged = self._blobs.staged_info(stage_name(digest))
        return size - min(staged.size if staged else 0, size)

    def download(
        self, key: Key, digest: Digest, size: int, count: Count, *, anew: bool = False
    ) -> None:
        """Fetch a blob of `size` bytes, unless it is here; `anew`: whatever is here.

        Raises DigestMismatch, NoSpace, Unavailable when it stays cut; what arrived is kept.
        """
        if not anew and self._blobs.size(digest) is not None:
            return
        with self._blobs.stage(stage_name(digest)) as staged:
            if not anew and self._blobs.size(digest) is not None:  # somebody else was quicker
                return
            if staged.size > size:
                staged.truncate(0)
            resumed = staged.size > 0
            self._fill(staged, key, digest, size, count)
            try:
                staged.seal(digest)
            except DigestMismatch:
                # The tail of an earlier attempt may have been torn by a power cut.
                staged.truncate(0)
                if not resumed:
                    raise
                self._fill(staged, key, digest, size, count)
                self._seal_or_drop(staged, digest)
            staged.publish()

    def upload(self, key: Key, digest: Digest, size: int, count: Count) -> bool:
        """Send a blob of the store, unless the registry has it; goes on after a cut.

        Returns whether it was sent.
        """
        if self._registry.has_blob(key, digest):
            return False
        if size <= SMALL:
            content = b"".join(self._blobs.read(digest))
            self._registry.put_small_blob(key, digest, content)
            count(size)
            return True
        failures = 0
        session: UploadSession | None = None
        offset = 0
        while True:
            begun = offset
            try:
                if session is None:
                    session, offset = self._registry.begin_upload(key), 0
                    begun = 0
                if offset < size:
                    session.send(self._counted(digest, offset, count), offset, size)
                session.finish(digest)
            except Unavailable as fault:
                session, offset = self._where(session)
                failures = 0 if offset > begun else failures + 1
                self._wait(failures, fault)
            except (NotFound, Invalid) as fault:
                # A resumed session may be gone, or at another place than it said.
                if not begun:
                    raise
                session, failures = None, failures + 1
                self._wait(failures, fault)
            else:
                return True

    def _seal_or_drop(self, staged: Staged, digest: Digest) -> None:
        try:
            staged.seal(digest)
        except DigestMismatch:
            staged.truncate(0)
            raise

    def _fill(self, staged: Staged, key: Key, digest: Digest, size: int, count: Count) -> None:
        failures = 0
        while staged.size < size:
            begun = staged.size
            try:
                with self._registry.blob(key, digest, begun) as stream:
                    _receive(staged, stream, size, count)
                if staged.size < size:
                    raise Unavailable(f"the registry sent only a part of the blob {digest}")
            except Unavailable as fault:
                failures = 0 if staged.size > begun else failures + 1
                self._wait(failures, fault)

    def _where(self, session: UploadSession | None) -> tuple[UploadSession | None, int]:
        """Ask how far an upload came; (None, 0) when it must begin anew."""
        if session is None:
            return None, 0
        try:
            return session, session.offset()
        except ServiceError:
            return None, 0

    def _counted(self, digest: Digest, start: int, count: Count) -> Iterator[bytes]:
        with closing(self._blobs.read(digest, start, chunk=CHUNK)) as chunks:
            for chunk in chunks:
                count(len(chunk))
                yield chunk
                time.sleep(0)

    def _wait(self, failures: int, fault: ServiceError) -> None:
        if failures >= (SILENT_ATTEMPTS if isinstance(fault, Silent) else ATTEMPTS):
            raise fault
        self._pause(FIRST_PAUSE * 2 ** max(failures - 1, 0))


def _receive(staged: Staged, stream: BlobStream, size: int, count: Count) -> None:
    if stream.offset != staged.size:
        staged.truncate(min(stream.offset, staged.size))
    for chunk in stream.chunks:
        if staged.size + len(chunk) > size:
            staged.truncate(0)
            raise DigestMismatch("the registry sends more than the blob's size")
        staged.write(chunk)
        count(len(chunk))
        # One bulk transfer must not starve the API: under gevent this lets others run.
        time.sleep(0)
