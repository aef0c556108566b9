"""What every blob store offers. The rules of its methods are tested by one conformance suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol

from regkit.errors import Invalid, Unavailable
from regkit.oci.digest import Digest

READ_CHUNK = 512 * 1024
"""Bytes per piece when reading; larger ones gained nothing over TLS."""

UNBOUNDED = 2**63 - 1
"""What `BlobStore.free` says when nobody knows a bound."""


class DigestMismatch(Invalid):
    """The content isn't what its digest says."""


class StorageDown(Unavailable):
    """The store itself can't be used at this moment, whatever is asked of it."""

    retry_after = 5.0


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


@dataclass(frozen=True)
class Tidied:
    """How much was left over: objects, and their size in bytes as far as it is known."""

    count: int = 0
    size: int = 0


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
        """Turn the sealed content into the blob of its digest.

        Quick, and never yields, unless the store is `remote`.
        """
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

    @property
    def remote(self) -> bool:
        """Whether calls wait for the network: none may then be made inside a transaction.

        In such a store content is published before its rows are committed, and deleted after
        they are; see `doom`. In others both are done inside the transaction that holds the
        database's write lock.
        """
        ...

    def check(self) -> None:
        """Ask whether it can be used. Raises Invalid, with what to change, or Unavailable."""
        ...

    def close(self) -> None:
        """Let go of connections; idempotent, and the store may still be used."""
        ...

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

    def link(self, digest: Digest) -> str | None:
        """Return a URL under which anybody may fetch the blob for a while, None for no such.

        Raises NotFound.
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

    def staged_names(self) -> Iterator[str]:
        """Name everything staged, which is quicker."""
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

    def doom(self, digest: Digest) -> Callable[[], None]:
        """Return what deletes a blob as it is at this moment.

        It may be called at any time later: content that is published meanwhile stays, and so does
        what was published by an upload that isn't closed. That holds for `remote` stores; in
        others the caller keeps the database's write lock from this call to that one.
        """
        ...

    def set_aside(self, digest: Digest, version: object) -> bool:
        """Take damaged content away, so that nobody reads it any more; a person still may.

        Returns false, and does nothing, unless it is what was read as `version`.
        """
        ...

    def strays(self) -> Iterator[str]:
        """Name what lies among the blobs and is none."""
        ...

    def tidy(self, before: datetime, *, dry_run: bool = False) -> Tidied:
        """Drop what crashes left before `before` and what is neither staged nor a blob.

        `dry_run` only counts.
        """
        ...

    def owner(self) -> str | None:
        """Return what was written down with `claim`; None: nothing yet."""
        ...

    def claim(self, owner: str, *, replace: bool = False) -> str:
        """Write down whose store it is, up to 64 letters and digits, and return whose it is.

        Of several who try, one wins, and nobody later, unless with `replace`.
        """
        ...

    def free(self) -> int:
        """Return how many bytes new content may have; UNBOUNDED when nobody knows."""
        ...
