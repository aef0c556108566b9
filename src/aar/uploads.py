"""Upload sessions: content on its way to becoming a blob of a repository.

The staged file is the truth, so that a session outlives the process and a chunk that was
acknowledged is on disk. A session's id can't be guessed and holds for one repository only. Who may
upload is the doors' business, when a stale session goes the janitor's.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from aar import manifests, schema
from aar.errors import (
    BlobUploadBusy,
    BlobUploadUnknown,
    DigestInvalid,
    RangeInvalid,
    SizeInvalid,
    TooManyRequests,
    UploadTooLarge,
)
from aar_interface import Fingerprint
from regkit.blobs import BlobStore, DigestMismatch, Staged
from regkit.database import Database
from regkit.errors import Conflict, NoSpace, NotFound
from regkit.oci.digest import Digest

_ID_LENGTH = 32
_TAG = 8
"""Digits of an upload's id that are its owner's; the other 96 bits can't be guessed."""
_ID = re.compile(rf"[0-9a-f]{{{_ID_LENGTH}}}", re.ASCII)
_OPEN_RETRY = 60.0
"""Seconds after which some of an owner's many uploads may have ended."""

Chunks = Iterable[bytes | bytearray | memoryview]


@dataclass(frozen=True)
class Upload:
    """A session: its id, and how many bytes the registry has (the next chunk begins there)."""

    id: str
    repository: str
    size: int


RESERVE = 8 * 1024 * 1024
"""Bytes that uploads leave free: on a disk filled to the brim the database couldn't grow, and so
nothing could be deleted to make room. Twice what its log grows to (SQLite's 1,000 pages)."""


class Uploads:
    """Starts, continues and finishes upload sessions."""

    def __init__(
        self, database: Database, blobs: BlobStore, *, max_size: int = 0, max_open: int = 0
    ) -> None:
        """Take uploads of at most `max_size` bytes, and `max_open` of one owner; 0: any."""
        self._database = database
        self._blobs = blobs
        self._max_size = max_size
        self._max_open = max_open

    def start(self, repository: str, owner: Fingerprint | None = None) -> Upload:
        """Begin a session on behalf of `owner`. Raises NameInvalid, TooManyRequests, NoSpace.

        A power cut may take it with it until something was added: there is nothing in it to lose.
        """
        manifests.checked_repository(repository)
        upload = Upload(self._new_id(owner), repository, 0)
        self._blobs.stage(_staged_name(upload.repository, upload.id)).close()
        return upload

    def status(self, repository: str, upload_id: str) -> Upload:
        """Return a session as it stands. Raises NameInvalid, BlobUploadUnknown."""
        info = self._blobs.staged_info(self._checked_name(repository, upload_id))
        if info is None:
            raise _unknown()
        return Upload(upload_id, repository, info.size)

    def append(
        self,
        repository: str,
        upload_id: str,
        chunks: Chunks,
        *,
        start: int | None = None,
        length: int | None = None,
    ) -> Upload:
        """Add to a session; on return it is on disk.

        `start` is where the sender says that the bytes begin, `length` how many there are (both
        optional). When `chunks` raises, what came before stays and the sender may resume. Raises
        BlobUploadUnknown, BlobUploadBusy, RangeInvalid when `start` isn't the session's size,
        SizeInvalid when there are fewer or more bytes than `length`, UploadTooLarge for more than
        an upload may have (then none is kept of it), NoSpace.
        """
        with self._open(repository, upload_id) as staged:
            try:
                self._receive(staged, chunks, start, length)
            finally:
                # Also when the sender is cut off: what came may be resumed from.
                staged.sync()
            return Upload(upload_id, repository, staged.size)

    def finish(
        self,
        repository: str,
        upload_id: str,
        digest: Digest,
        chunks: Chunks = (),
        *,
        start: int | None = None,
        length: int | None = None,
    ) -> int:
        """Add the last bytes, if any, and turn the session into a blob; return its size.

        Raises as `append`, and DigestInvalid when the content isn't that of `digest`; the session
        is over then, since nothing can make it right.
        """
        name = self._checked_name(repository, upload_id)
        try:
            with self._open(repository, upload_id) as staged:
                try:
                    self._receive(staged, chunks, start, length)
                except BaseException:
                    staged.sync()
                    raise
                return self._commit(staged, repository, digest)
        except DigestMismatch as error:
            self._drop(name)
            raise DigestInvalid(str(error)) from None

    def put(
        self,
        repository: str,
        digest: Digest,
        chunks: Chunks,
        length: int | None = None,
        owner: Fingerprint | None = None,
    ) -> int:
        """Take a whole blob in one request; return its size. Nothing is kept of a failure.

        Raises NameInvalid, DigestInvalid, SizeInvalid, UploadTooLarge, TooManyRequests, NoSpace.
        """
        manifests.checked_repository(repository)
        name = _staged_name(repository, self._new_id(owner))
        done = False
        try:
            with self._blobs.stage(name) as staged:
                self._receive(staged, chunks, None, length)
                size = self._commit(staged, repository, digest)
            done = True
        except DigestMismatch as error:
            raise DigestInvalid(str(error)) from None
        finally:
            if not done:
                self._drop(name)
        return size

    def cancel(self, repository: str, upload_id: str) -> None:
        """End a session. Raises NameInvalid, BlobUploadUnknown, BlobUploadBusy."""
        self.status(repository, upload_id)
        try:
            self._blobs.discard(_staged_name(repository, upload_id))
        except Conflict:
            raise _busy() from None

    def _open(self, repository: str, upload_id: str) -> Staged:
        try:
            return self._blobs.stage(self._checked_name(repository, upload_id), create=False)
        except NotFound:
            raise _unknown() from None
        except Conflict:
            raise _busy() from None

    def _new_id(self, owner: Fingerprint | None) -> str:
        """Make an id that nobody can guess, and by whose end an owner's uploads are counted."""
        if owner is None:
            return secrets.token_hex(16)
        tag = str(owner)[:_TAG]
        if self._max_open:
            names = (name.partition(".")[0] for name in self._blobs.staged_names())
            if sum(name.endswith(tag) for name in names) >= self._max_open:
                raise TooManyRequests(
                    f"this certificate has {self._max_open} uploads open, and more aren't "
                    "allowed: finish or cancel some first",
                    _OPEN_RETRY,
                )
        return secrets.token_hex((_ID_LENGTH - _TAG) // 2) + tag

    def _check_size(self, staged: Staged, size: int, begin: int) -> None:
        if self._max_size and size > self._max_size:
            staged.truncate(begin)
            raise UploadTooLarge(
                f"an upload may have {self._max_size} bytes at most: push it in smaller files, or "
                "ask the registry's operator to raise limits.upload-size"
            )

    def _checked_name(self, repository: str, upload_id: str) -> str:
        manifests.checked_repository(repository)
        if not _ID.fullmatch(upload_id):
            raise _unknown()
        return _staged_name(repository, upload_id)

    def _receive(
        self, staged: Staged, chunks: Chunks, start: int | None, length: int | None
    ) -> None:
        begin = staged.size
        if start is not None and start != begin:
            raise RangeInvalid(
                f"the chunk begins at byte {start}, but the registry has {begin} bytes: "
                f"continue at byte {begin}",
                begin,
            )
        self._check_size(staged, begin + (length or 0), begin)
        room = self._blobs.free() - RESERVE
        if length and length > room:
            raise NoSpace(f"the registry's disk has no room for {length} bytes: free some space")
        written = 0
        for chunk in chunks:
            written += len(chunk)
            if length is not None and written > length:
                break
            self._check_size(staged, begin + written, begin)
            if written > room:
                raise NoSpace("the registry's disk is full: free some space")
            staged.write(chunk)
        if length is not None and written != length:
            staged.truncate(begin)
            raise SizeInvalid(
                f"the request has {'more' if written > length else 'fewer'} bytes than the "
                f"{length} that it states: send the chunk again"
            )

    def _commit(self, staged: Staged, repository: str, digest: Digest) -> int:
        size = staged.seal(digest)
        if self._blobs.remote:
            staged.publish()  # never wait for the network in a transaction; see `BlobStore.doom`
        with self._database.write(manifests.blob_scope(digest)) as connection:
            now = schema.now_text()
            manifests.keep_blob(connection, digest, size, now)
            manifests.link_blob(connection, repository, digest, now)
            if not self._blobs.remote:
                # As late as possible: a crash between here and the commit costs the session.
                staged.publish()
        return size

    def _drop(self, name: str) -> None:
        try:
            self._blobs.discard(name)
        except Conflict:
            # Somebody resumed it in the meantime and will find out alone.
            return


def _staged_name(repository: str, upload_id: str) -> str:
    # The repository's hash makes an id worthless elsewhere, without a table.
    return f"{upload_id}.{hashlib.sha256(repository.encode()).hexdigest()[:16]}"


def _unknown() -> BlobUploadUnknown:
    return BlobUploadUnknown("no such upload: it was finished, cancelled or given up; start anew")


def _busy() -> BlobUploadBusy:
    return BlobUploadBusy(
        "another request is writing this upload: wait for it, then ask for its status"
    )
