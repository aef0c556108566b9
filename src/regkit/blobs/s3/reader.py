"""Reading a blob's content from a bucket in pieces, going on after a cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from regkit.blobs.protocol import StorageDown
from regkit.blobs.s3.bucket import Bucket
from regkit.blobs.s3.layout import Pointer
from regkit.errors import NotFound

TRIES = 3
"""Cuts without a single byte in between that are borne."""


class S3Reader(Iterator[bytes]):
    """A range of a blob's content. See `BlobReader`. Raises NotFound when it is made."""

    def __init__(
        self, bucket: Bucket, pointer: Pointer, start: int, stop: int | None, chunk: int
    ) -> None:
        self.version = pointer.content
        self._bucket = bucket
        self._data = pointer.data
        self._position = max(start, 0)
        self._stop = pointer.size if stop is None else min(stop, pointer.size)
        self._chunk = chunk
        self._body: Any = None
        if self._position < self._stop:
            self._body = bucket.open(self._data, self._position, self._stop)

    def __next__(self) -> bytes:
        wanted = min(self._chunk, self._stop - self._position)
        if self._body is None or wanted <= 0:
            self.close()
            raise StopIteration
        for last in (*[False] * (TRIES - 1), True):
            try:
                with self._bucket.reading():
                    piece = self._body.read(wanted)
                if piece:
                    self._position += len(piece)
                    return piece
                raise StorageDown("the bucket sent only a part of a blob")
            except StorageDown:
                if last:
                    self.close()
                    raise
                self._reopen()
        raise AssertionError("not reached")

    def _reopen(self) -> None:
        self._drop()
        try:
            self._body = self._bucket.open(self._data, self._position, self._stop)
        except NotFound:
            self.close()
            raise StorageDown("the blob was deleted while it was read: ask anew") from None

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            with suppress(Exception):
                body.close()

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._drop()
        self._position = self._stop

    def __del__(self) -> None:
        self._drop()
