"""`S3BlobStore`: the methods of `BlobStore` over a bucket."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import groupby
from typing import Any

from regkit import failpoints
from regkit.blobs.protocol import READ_CHUNK, UNBOUNDED, BlobInfo, StagedInfo, Tidied
from regkit.blobs.s3 import layout
from regkit.blobs.s3.bucket import Bucket, Item
from regkit.blobs.s3.layout import Pointer
from regkit.blobs.s3.links import Links
from regkit.blobs.s3.reader import S3Reader
from regkit.blobs.s3.sessions import Sessions
from regkit.blobs.s3.staged import COPIED, S3Staged
from regkit.blobs.s3.tidying import tidy
from regkit.errors import NotFound
from regkit.oci.digest import Digest
from regkit.storage import BucketStorage, S3Storage

PARTS_IN_FLIGHT = 16
"""Parts on their way in one process, of all uploads together: 128 MiB while parts are small."""
HASHERS = 1_000
"""Uploads between two requests whose hashers a process keeps."""


class S3BlobStore:
    """A blob store in a bucket. See `BlobStore` for the methods' rules."""

    remote = True

    def __init__(self, settings: BucketStorage, copied: int = COPIED) -> None:
        """Nothing is asked of the server; `check` does. `S3Storage` may want redirects too.

        `copied`: bytes that the server may copy in one request, at least `SMALLEST_PART`.
        """
        self._copied = copied
        self._bucket = Bucket(settings)
        self._sessions = Sessions(self._bucket)
        self._room = threading.Semaphore(PARTS_IN_FLIGHT)
        self._hashers: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._links = Links(settings, self._bucket) if isinstance(settings, S3Storage) else None

    def check(self) -> None:
        """Ask whether the bucket is there for us. Raises Invalid, StorageDown."""
        self._bucket.check()
        if self._links is not None:
            self._links.check()

    def close(self) -> None:
        """Close idle connections."""
        self._bucket.close()

    def size(self, digest: Digest) -> int | None:
        """Return the blob's size; None when it isn't here."""
        found = self._find(digest)
        return self._bucket.size(found.data) if found else None

    def read(
        self, digest: Digest, start: int = 0, stop: int | None = None, chunk: int = READ_CHUNK
    ) -> S3Reader:
        """Return a range of the blob in pieces."""
        try:
            return S3Reader(self._bucket, self._existing(digest), start, stop, chunk)
        except NotFound:
            raise _missing(digest) from None

    def link(self, digest: Digest) -> str | None:
        """Return where a client may fetch the blob; None when it shall be sent by us."""
        links = self._links
        return links.to(self._existing(digest)) if links and links.wanted else None

    def stage(self, name: str, *, create: bool = True) -> S3Staged:
        """Open or resume what is staged as `name`, exclusively."""
        hold = self._sessions.hold(layout.checked(name), create=create)
        hasher = self._hashers.pop((name, hold.number - 1), None)
        try:
            return S3Staged(self._bucket, hold, hasher, self._room, self._remember, self._copied)
        except BaseException:
            hold.release()
            raise

    def staged_info(self, name: str) -> StagedInfo | None:
        """Tell about one staged name; None when there is nothing."""
        return self._sessions.info(layout.checked(name))

    def staged(self) -> list[StagedInfo]:
        """Return everything staged, by name."""
        return list(self._sessions.all())

    def staged_names(self) -> Iterator[str]:
        """Name everything staged."""
        return self._sessions.names()

    def discard(self, name: str) -> None:
        """Drop what is staged as `name`."""
        try:
            staged = self.stage(name, create=False)
        except NotFound:
            return
        with staged:
            staged.drop()

    def blobs(self) -> Iterator[BlobInfo]:
        """Go over all blobs."""
        found = (
            (*parsed, item.modified)
            for item in self._bucket.list(layout.BLOBS)
            if (parsed := layout.blob(item.key))
        )
        for digest, group in groupby(found, key=lambda entry: entry[0]):
            _, pointer, modified = max(group, key=lambda entry: (entry[2], str(entry[1])))
            yield BlobInfo(digest, pointer.size, modified)

    def delete(self, digest: Digest) -> None:
        """Drop a blob."""
        for item, pointer in self._pointers(digest):
            self._drop(item, pointer)

    def doom(self, digest: Digest) -> Callable[[], None]:
        """Return what deletes the blob as it is now, and nothing that is pushed meanwhile."""
        doomed = [
            (item, pointer)
            for item, pointer in self._pointers(digest)
            # As long as there is an upload, its rows may still be about to be committed.
            if not self._sessions.exists(pointer.staged_as)
        ]

        def delete() -> None:
            for item, pointer in doomed:
                self._drop(item, pointer)

        return delete

    def set_aside(self, digest: Digest, version: object) -> bool:
        """Point at damaged content from `damaged/` instead."""
        found = self._pointers(digest)
        if not found or _newest(found).content != version:
            return False
        for item, pointer in found:
            self._bucket.put(layout.damaged(digest, pointer), b"")
            self._bucket.delete(item.key)
        return True

    def strays(self) -> Iterator[str]:
        """Name what lies below `blobs/` and points at nothing."""
        for item in self._bucket.list(layout.BLOBS):
            if layout.blob(item.key) is None:
                yield item.key.removeprefix(layout.BLOBS)

    def tidy(self, before: datetime, *, dry_run: bool = False) -> Tidied:
        """Drop what crashes left."""
        return tidy(self._bucket, self._sessions, before, dry_run=dry_run)

    def owner(self) -> str | None:
        """Return whose store it is."""
        found = self._bucket.get(layout.OWNER)
        return found.decode("ascii", "replace").strip() if found else None

    def claim(self, owner: str, *, replace: bool = False) -> str:
        """Write down whose store it is."""
        content = owner.encode("ascii")
        if replace:
            self._bucket.put(layout.OWNER, content)
            return owner
        return owner if self._bucket.create(layout.OWNER, content) else self.owner() or ""

    def free(self) -> int:
        """Return that there is no bound."""
        return UNBOUNDED

    def _find(self, digest: Digest) -> Pointer | None:
        found = self._pointers(digest)
        return _newest(found) if found else None

    def _existing(self, digest: Digest) -> Pointer:
        found = self._find(digest)
        if found is None:
            raise _missing(digest)
        return found

    def _pointers(self, digest: Digest) -> list[tuple[Item, Pointer]]:
        start = layout.pointers(digest)
        items, _, _ = self._bucket.page(start)
        return [
            (item, found)
            for item in items
            if (found := layout.pointer(item.key.removeprefix(start)))
        ]

    def _drop(self, item: Item, pointer: Pointer) -> None:
        # In this order: what nothing points at any more, tidying finds.
        failpoints.reach("blob.delete:before")
        self._bucket.delete(item.key)
        self._bucket.delete(pointer.data)
        failpoints.reach("blob.delete:after")

    def _remember(self, name: str, generation: int, hasher: Any) -> None:
        """Keep a hasher for who goes on with the upload in this process, as most do."""
        self._hashers[name, generation] = hasher
        while len(self._hashers) > HASHERS:
            self._hashers.popitem(last=False)


def _newest(found: list[tuple[Item, Pointer]]) -> Pointer:
    return max(found, key=lambda entry: (entry[0].modified, str(entry[1])))[1]


def _missing(digest: Digest) -> NotFound:
    return NotFound(f"the blob {digest} is not here")
