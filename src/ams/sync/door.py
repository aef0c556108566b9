"""What the sync asks of a registry: the seam between its rules and the network.

`ams.sync.registry` implements it over HTTPS. Every method raises kinds of ServiceError only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ams.sync.feed import Cursor, Page
from regkit.errors import Unavailable
from regkit.oci.application import Key
from regkit.oci.digest import Digest

CHUNK = 1024 * 1024
"""Bytes per piece of a transfer: measured best for requests over TLS."""
SMALL = 256 * 1024
"""Blobs up to this size are uploaded in one request."""
MAX_WAIT = 50
"""Seconds of one long-poll: below the idle limit of 60 s that middleboxes like."""


class Silent(Unavailable):
    """The registry is there, and sent nothing for as long as a read may wait."""


@dataclass(frozen=True)
class Hello:
    """What the registry says about itself and about us."""

    trusted: bool
    role: str
    epoch: str
    extensions: frozenset[str]
    storage_authorities: str = ""
    """In PEM, who may certify the server that downloads are redirected to."""

    @property
    def waits(self) -> bool:
        """Whether the registry supports the long-poll."""
        return "changes_wait" in self.extensions


@dataclass(frozen=True)
class BlobStream:
    """A blob on its way: `offset` is where `chunks` begins, which may be earlier than asked."""

    offset: int
    chunks: Iterator[bytes]


class UploadSession(Protocol):
    """An upload of one blob, which can go on after a cut."""

    def send(self, chunks: Iterator[bytes], start: int, size: int) -> None:
        """Send bytes `start` to `size` (exclusive). Raises Unavailable when cut."""
        ...

    def offset(self) -> int:
        """Ask how many bytes have arrived. NotFound when the session is gone."""
        ...

    def finish(self, digest: Digest) -> None:
        """Close the session: the blob is there now."""
        ...


class Door(Protocol):
    """A registry, as the sync knows it. `url` is the one in use."""

    @property
    def url(self) -> str:
        """Where it is."""
        ...

    def close(self) -> None:
        """Close idle connections."""
        ...

    def hello(self) -> Hello:
        """Ask who answers. Raises NotARegistry, WrongCertificate, Unavailable."""
        ...

    def changes(self, since: Cursor | None, wait: int = 0) -> Page:
        """Return the changes after `since` (None: from the beginning), waiting up to `wait` s.

        Raises EpochChanged, FeedRefused.
        """
        ...

    def manifest(self, key: Key, digest: Digest) -> bytes:
        """Return the bytes of a version's manifest, which have this digest."""
        ...

    def small_blob(self, key: Key, digest: Digest, size: int) -> bytes:
        """Return a blob of exactly `size` bytes, for what is parsed in memory."""
        ...

    def blob(self, key: Key, digest: Digest, start: int = 0) -> AbstractContextManager[BlobStream]:
        """Open a blob from byte `start` on. Raises Unavailable when it is cut."""
        ...

    def has_blob(self, key: Key, digest: Digest) -> bool:
        """Whether the application's repository holds the blob."""
        ...

    def put_small_blob(self, key: Key, digest: Digest, content: bytes) -> None:
        """Upload a blob in one request."""
        ...

    def begin_upload(self, key: Key) -> UploadSession:
        """Open an upload session."""
        ...

    def put_manifest(self, key: Key, content: bytes) -> None:
        """Publish a version. Raises Conflict when the key has other content there."""
        ...

    def delete(self, name: str, number: int | None = None, architecture: str = "") -> None:
        """Remove an application, one of its versions, or one of an architecture. NotFound."""
        ...


Connect = Callable[[Sequence[str], str], Door]
"""Makes a door from `registry.url` and `registry.fingerprint`."""
