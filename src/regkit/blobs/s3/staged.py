"""A staged upload as its writer sees it: bytes become parts as they come, and a blob at the end.

The digest is computed on the way and compared before the multipart upload is completed. Where an
upload was begun by another process its hasher isn't at hand, so that the completed content is
read once more instead, before anything points at it. Who may write is `sessions`' business.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

from regkit import failpoints
from regkit.blobs.protocol import DigestMismatch, StorageDown
from regkit.blobs.s3 import layout
from regkit.blobs.s3.bucket import Bucket, Part
from regkit.blobs.s3.layout import Pointer
from regkit.blobs.s3.sessions import Hold, Progress
from regkit.errors import Invalid, NotFound, ServiceError, TooLarge, Unavailable
from regkit.oci.digest import Digest, new_hasher

MIB = 1024 * 1024
SMALLEST_PART = 5 * MIB
"""What S3 allows, but for the last part; likewise the number of parts."""
MAX_PARTS = 10_000
PART = 8 * MIB
"""The size of the first parts; it doubles every `STEP` parts, so that 10,000 hold 484 GiB."""
STEP = 2_000
IN_FLIGHT = 3
"""Parts of one upload that are sent at a time; measured as where more gains nothing."""
COPIED = 512 * MIB
"""Bytes that the server copies at a time; S3 allows 5 GiB in one request, of whatever kind
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)."""
HASHED = MIB

Keep = Callable[[str, int, Any], None]
"""Is told name, generation and hasher of an upload that somebody may go on with."""


def part_size(number: int) -> int:
    """Return the size of the part of this number, counted from 1. Raises TooLarge beyond all."""
    if number > MAX_PARTS:
        raise TooLarge("an upload to the bucket may have 10,000 parts, 484 GiB: split the file")
    return PART << ((number - 1) // STEP)


class S3Staged:
    """A staged upload, held. See `Staged` for the methods' rules.

    When a part can't be sent the writer is of no use any more: every method but `close` raises
    the same error, and who stages it anew finds what was synced last.
    """

    def __init__(  # noqa: PLR0917 - made in one place only
        self,
        bucket: Bucket,
        hold: Hold,
        hasher: Any,
        room: threading.Semaphore,
        keep: Keep,
        copied: int = COPIED,
    ) -> None:
        self._bucket = bucket
        self._copied = copied
        self._hold: Hold | None = hold
        self._room = room
        self._keep = keep
        self._fault: Exception | None = None
        self._whole = False
        self._sealed: Digest | None = None
        self._published = False
        self._sending: list[_Sending] = []
        progress = hold.progress
        self._content = progress.content
        self._upload = progress.upload
        self._parts: dict[int, Part] = {part.number: part for part in progress.parts}
        self._buffer = bytearray(self._rest_of(progress))
        self._size = self._saved = progress.size
        self._dirty = False
        self._hasher: Any = new_hasher("sha256") if self._size == 0 else hasher
        if self._upload is not None and not bucket.has_upload(self._data, self._upload):
            self._recover(progress)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    @property
    def _data(self) -> str:
        return layout.DATA + self._content

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`, all or nothing."""
        self._open()
        view = memoryview(data).cast("B")
        if self._whole:
            with self._broken_by_faults():
                self._rebuild(self._size)
        self._sealed = None
        self._dirty = True
        if self._hasher is not None:
            for start in range(0, len(view), HASHED):
                self._hasher.update(view[start : start + HASHED])
        self._buffer += view
        self._size += len(view)
        with self._broken_by_faults():
            while len(self._buffer) >= (size := part_size(self._next)):
                self._send(size)

    def sync(self) -> None:
        """Keep everything written so far in the bucket."""
        hold = self._open()
        with self._broken_by_faults():
            self._arrive()
            if self._dirty and not self._whole:
                parts = tuple(self._parts[number] for number in sorted(self._parts))
                rest = bytes(self._buffer)
                hold.save(Progress(self._content, self._upload, parts, len(rest), "", rest))
                self._saved = self._size
                self._dirty = False

    def truncate(self, size: int) -> None:
        """Drop what is beyond `size` bytes."""
        self._open()
        if not 0 <= size <= self._size:
            raise Invalid(f"can't cut {self._size} bytes to {size}")
        self._sealed = None
        if size == self._size:
            return
        with self._broken_by_faults():
            self._arrive()
            in_parts = sum(part.size for part in self._parts.values())
            if size == 0:
                self._restart()
            elif self._whole or size < in_parts:
                self._rebuild(size)
            else:
                del self._buffer[size - in_parts :]
        self._size = size
        self._dirty = True
        self._hasher = new_hasher("sha256") if size == 0 else None

    def seal(self, digest: Digest) -> int:
        """Compare the content with `digest`, and make it one object."""
        self._open()
        with self._broken_by_faults():
            self._arrive()
            found = None
            if self._hasher is not None and digest.algorithm == "sha256":
                found = self._hasher.hexdigest()
            if found is None or found == digest.hex:
                self._complete()
                found = found or self._read_back(digest.algorithm)
        if found != digest.hex:
            raise DigestMismatch(
                f"the content has the digest {digest.algorithm}:{found}, not {digest}: "
                "send it again"
            )
        self._sealed = digest
        return self._size

    def publish(self) -> None:
        """Point the blob at the content; the upload itself is forgotten when it is closed."""
        self._open()
        if self._sealed is None:
            raise RuntimeError("publish() needs seal() first, with no write in between")
        pointer = Pointer(self._content, self._size)
        failpoints.reach("blob.rename:before")
        self._bucket.put(f"{layout.pointers(self._sealed)}{pointer}", b"")
        failpoints.reach("blob.rename:after")
        self._published = True

    def close(self) -> None:
        """Let the next writer come, or forget what was published. Never raises."""
        hold = self._hold
        if hold is None:
            return
        try:
            if self._dirty and not self._published and self._fault is None:
                self.sync()
        except ServiceError:
            pass  # nobody was told that it is kept
        self._hold = None
        for sending in self._sending:
            sending.wait()
        try:
            if self._published:
                hold.end()
                return
            if self._hasher is not None and not self._dirty:
                self._keep(hold.name, hold.number, self._hasher)
            hold.release()
        except ServiceError:
            pass  # its objects stay until the janitor discards the upload

    def drop(self) -> None:
        """Give up what is staged, and close.

        Content that was completed stays until the store is tidied: a blob may point at it.
        """
        hold = self._open()
        if self._upload is not None and not self._whole:
            self._bucket.abort(self._data, self._upload)
        hold.end()
        self._hold = None

    def __enter__(self) -> S3Staged:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- parts ----------------------------------------------------------------------------------

    @property
    def _next(self) -> int:
        return len(self._parts) + len(self._sending) + 1

    def _send(self, size: int) -> None:
        """Begin to send the next part, when one of those on their way has arrived."""
        if self._upload is None:
            self._upload = self._bucket.begin(self._data)
        while len(self._sending) >= IN_FLIGHT:
            self._arrive(leave=IN_FLIGHT - 1)
        number, content = self._next, bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        send = partial(self._bucket.put_part, self._data, self._upload, number, content)
        self._sending.append(_Sending(send, self._room))

    def _arrive(self, leave: int = 0) -> None:
        """Wait for parts that are on their way, the oldest first."""
        while len(self._sending) > leave:
            part = self._sending[0].result()
            self._parts[part.number] = part
            del self._sending[0]

    def _complete(self) -> None:
        if self._whole:
            return
        if self._upload is None:
            self._bucket.put(self._data, bytes(self._buffer))
        else:
            if self._buffer:
                number = self._next
                self._parts[number] = self._bucket.put_part(
                    self._data, self._upload, number, bytes(self._buffer)
                )
            parts = [self._parts[number] for number in sorted(self._parts)]
            # It may have been done when an answer was lost, or given up: the size tells.
            with suppress(NotFound):
                self._bucket.complete(self._data, self._upload, parts)
        found = self._bucket.size(self._data)
        if found != self._size:
            raise Unavailable(
                f"the bucket made {found} bytes of an upload of {self._size}: send it again"
            )
        self._buffer.clear()
        self._whole = True

    def _read_back(self, algorithm: str) -> str:
        hasher = new_hasher(algorithm)
        if self._size:
            with self._bucket.reading():
                body = self._bucket.open(self._data, 0, self._size)
                with body:
                    while piece := body.read(HASHED):
                        hasher.update(piece)
                        # Under gevent this gives the other requests their turn.
                        time.sleep(0)
        return hasher.hexdigest()

    def _rebuild(self, size: int) -> None:
        """Make the first `size` bytes a multipart upload again: S3 can't shorten or continue one.

        The server copies; only what makes no part is read.
        """
        if not self._whole and self._upload is not None:
            parts = [self._parts[number] for number in sorted(self._parts)]
            self._bucket.complete(self._data, self._upload, parts)
        source = self._data
        self._restart()
        start = 0
        while size - start >= SMALLEST_PART:
            span = range(start, min(start + self._copied, size))
            if self._upload is None:
                self._upload = self._bucket.begin(self._data)
            part = self._bucket.copy_part(self._data, self._upload, self._next, source, span)
            self._parts[part.number] = part
            start = span.stop
        if start < size:
            with self._bucket.reading():
                body = self._bucket.open(source, start, size)
                with body:
                    self._buffer += body.read()
        self._dirty = True

    def _restart(self) -> None:
        """Begin from nothing, under a new name: the former one may be a blob's by now."""
        if self._upload is not None and not self._whole:
            self._bucket.abort(self._data, self._upload)
        self._content = layout.new_content(layout.staged_as(self._content))
        self._upload, self._whole = None, False
        self._parts.clear()
        self._buffer.clear()

    def _recover(self, progress: Progress) -> None:
        """Find what became of a multipart upload that isn't open any more."""
        self._hasher = None
        found = self._bucket.size(self._data)
        if found is not None and found >= progress.size:
            # It was completed and perhaps published, but nobody lived to say so.
            self._whole, self._size = True, found
            self._buffer.clear()
            if found > progress.size:
                self.truncate(progress.size)
            return
        self._upload = None
        self._restart()
        self._size, self._dirty = 0, True
        self._hasher = new_hasher("sha256")

    def _rest_of(self, progress: Progress) -> bytes:
        if not progress.tail:
            return progress.rest
        rest = self._bucket.get(progress.tail)
        if rest is None or len(rest) != progress.rest_size:
            raise ServiceError("an upload has lost bytes in the bucket: cancel it, start anew")
        return rest

    # -- faults ---------------------------------------------------------------------------------

    def _open(self) -> Hold:
        if self._hold is None or self._published:
            raise RuntimeError("the staged content was closed or published")
        if self._fault is not None:
            raise self._fault
        return self._hold

    def _broken_by_faults(self) -> _Breaking:
        return _Breaking(self)


class _Breaking:
    """Keeps the fault that makes a writer useless."""

    def __init__(self, staged: S3Staged) -> None:
        self._staged = staged

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, ServiceError):
            self._staged._fault = error
            if isinstance(error, NotFound):
                gone = StorageDown("the bucket lost an upload while it was written: start anew")
                self._staged._fault = gone
                raise gone from error


class _Sending:
    """A part on its way, in a thread (under gevent, a greenlet) of its own."""

    def __init__(self, send: Callable[[], Part], room: threading.Semaphore) -> None:
        self._part: Part | None = None
        self._fault: BaseException | None = None
        room.acquire()

        def run() -> None:
            try:
                self._part = send()
            except BaseException as fault:
                self._fault = fault
            finally:
                room.release()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        self._thread.join()

    def result(self) -> Part:
        self.wait()
        if self._part is None:
            raise self._fault or RuntimeError("a thread ended without a result")
        return self._part
