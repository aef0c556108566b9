"""What every blob store offers. The rules of its methods are tested by one conformance suite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol

from regkit.errors import Invalid
from regkit.oci.digest import Digest

READ_CHUNK = 256 * 1024
"""Bytes per piece when reading; larger ones gained nothing over TLS."""


class DigestMismatch(Invalid):
    """The content isn't what its digest says."""


@dataclass(frozen=True)
class StagedInfo:
    """Something staged: its name, size in bytes, time of the last write (aware, UTC)."""

    name: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class BlobInfo:
    """A blob that is kept: its digest, size in bytes, time of storing (aware, UTC)."""

    digest: Digest
    size: int
    modified: datetime


class Staged(Protocol):
    """Content on its way in, held by one writer. Closing keeps the bytes for resumption."""

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`, all or nothing. Raises NoSpace."""
        ...

    def sync(self) -> None:
        """Make everything written so far survive a power cut."""
        ...

    def truncate(self, size: int) -> None:
        """Drop what is beyond `size` bytes."""
        ...

    def seal(self, digest: Digest) -> int:
        """Make the content durable, compare it with `digest`; return its size. May be slow.

        Raises DigestMismatch, after which it may still be truncated or discarded.
        """
        ...

    def publish(self) -> None:
        """Turn the sealed content into the blob of its digest. Quick, never yields."""
        ...

    def close(self) -> None:
        """Let go of it; idempotent."""
        ...

    def __enter__(self) -> Staged: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class BlobReader(Protocol):
    """The pieces of a blob; closes itself at the end."""

    def __iter__(self) -> Iterator[bytes]: ...

    def __next__(self) -> bytes: ...

    def close(self) -> None:
        """Stop before the end; idempotent."""
        ...

    @property
    def version(self) -> object:
        """What tells this content from any other that takes the blob's place later."""
        ...


class BlobStore(Protocol):
    """Blobs by digest, and staged content by name (a letter or digit, then also `.`, `_`, `-`)."""

    def size(self, digest: Digest) -> int | None:
        """Return the blob's size in bytes; None when it isn't here."""
        ...

    def read(
        self, digest: Digest, start: int = 0, stop: int | None = None, chunk: int = READ_CHUNK
    ) -> BlobReader:
        """Return the bytes from `start` up to but not including `stop`, in pieces.

        Raises NotFound at the call, not at the first piece.
        """
        ...

    def stage(self, name: str, *, create: bool = True) -> Staged:
        """Open or resume what is staged as `name`, for this writer alone.

        Raises Invalid for a name that isn't allowed, Conflict while another writer holds it,
        NotFound when there is nothing and `create` is false.
        """
        ...

    def staged_info(self, name: str) -> StagedInfo | None:
        """Tell about one staged name without holding it; None when there is nothing."""
        ...

    def staged(self) -> list[StagedInfo]:
        """Return everything staged."""
        ...

    def discard(self, name: str) -> None:
        """Drop what is staged as `name`; idempotent. Raises Conflict while a writer holds it."""
        ...

    def blobs(self) -> Iterator[BlobInfo]:
        """Go over all blobs, in any order; what comes or goes meanwhile may be missed."""
        ...

    def delete(self, digest: Digest) -> None:
        """Drop a blob; idempotent."""
        ...

    def set_aside(self, digest: Digest, version: object) -> bool:
        """Take damaged content away, so that nobody reads it any more; a person still may.

        Returns false, and does nothing, unless it is what was read as `version`.
        """
        ...

    def strays(self) -> Iterator[str]:
        """Name what lies among the blobs and is none."""
        ...

    def free(self) -> int:
        """Return how many bytes new content may have."""
        ...
