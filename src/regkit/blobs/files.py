"""Blobs as files: `blobs/<algorithm>/<first two digits>/<hex>`, staged content in `uploads/`.

Damaged content goes to `damaged/`, which nothing reads; `blobs/owner` says whose store it is.
Content is written to a file on the same file system, hashed, fsynced, renamed, and the folder
fsynced: a blob is there whole or not at all. A writer holds an advisory lock (flock), which the
kernel drops however the process ends. Nothing else may write below the root.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from regkit import failpoints
from regkit.aside import Aside, aside, nothing
from regkit.blobs.protocol import (
    READ_CHUNK,
    BlobInfo,
    BlobReader,
    DigestMismatch,
    StagedInfo,
    Tidied,
)
from regkit.errors import Conflict, Invalid, NoSpace, NotFound, ServiceError
from regkit.oci.digest import LENGTHS, Digest, new_hasher

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_HASH_CHUNK = 1024 * 1024
_WORTH_A_THREAD = 256 * 1024
"""Bytes whose hashing takes longer than handing them to a thread."""
_FLUSHED = 8 * 1024 * 1024
"""Bytes after which the disk is set to work, rather than at the end with all of them."""
_OWNER = "owner"
_FULL = {errno.ENOSPC, errno.EDQUOT}


class FileBlobStore:
    """A blob store below one folder. See `BlobStore` for the methods' rules."""

    remote = False

    def __init__(self, root: Path, aside: Aside = aside) -> None:
        """Use `root`, which is created; `aside` begins what takes long.

        So what is written to a staged file must not change afterwards: it may be hashed later.
        """
        self._blobs = root / "blobs"
        self._uploads = root / "uploads"
        self._damaged = root / "damaged"
        self._aside = aside
        for folder in (self._blobs, self._uploads):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_usual_folders()

    def check(self) -> None:
        """Do nothing: the folder is made when the store is."""

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def size(self, digest: Digest) -> int | None:
        """Return the blob's size; None when it isn't here."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(
        self, digest: Digest, start: int = 0, stop: int | None = None, chunk: int = READ_CHUNK
    ) -> BlobReader:
        """Return a range of the blob in pieces."""
        try:
            descriptor = os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"the blob {digest} is not here") from None
        return _Reader(digest, descriptor, start, stop, chunk)

    def link(self, digest: Digest) -> str | None:
        """Return None: files are sent by whoever has them. Raises NotFound."""
        if self.size(digest) is None:
            raise NotFound(f"the blob {digest} is not here")
        return None

    def stage(self, name: str, *, create: bool = True) -> FileStaged:
        """Open or resume what is staged as `name`, exclusively."""
        path = self._staged_path(name)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        while True:
            try:
                with _full_disk():
                    descriptor = os.open(path, flags, 0o600)
            except FileNotFoundError:
                raise NotFound(f"nothing is staged as {name!r}") from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Between open and lock its former holder may have published or discarded it.
                if _same_file(descriptor, path):
                    return FileStaged(path, descriptor, self._path, self._aside)
            except BlockingIOError:
                os.close(descriptor)
                raise Conflict(f"{name!r} is being written by another request") from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def staged_info(self, name: str) -> StagedInfo | None:
        """Tell about one staged name; None when there is nothing."""
        try:
            state = self._staged_path(name).lstat()
        except FileNotFoundError:
            return None
        return StagedInfo(name, state.st_size, _moment(state.st_mtime))

    def staged(self) -> list[StagedInfo]:
        """Return everything staged, by name."""
        names = self.staged_names()
        return [info for name in names if (info := self.staged_info(name)) is not None]

    def staged_names(self) -> Iterator[str]:
        """Name everything staged."""
        names = (path.name for path in self._uploads.iterdir())
        return iter(sorted(name for name in names if _NAME.fullmatch(name)))

    def discard(self, name: str) -> None:
        """Drop what is staged as `name`."""
        try:
            staged = self.stage(name, create=False)
        except NotFound:
            return
        with staged:
            self._staged_path(name).unlink()

    def blobs(self) -> Iterator[BlobInfo]:
        """Go over all blobs."""
        for algorithm in LENGTHS:
            for path in (self._blobs / algorithm).glob("[0-9a-f][0-9a-f]/*"):
                if _digest(path.parent.relative_to(self._blobs), path.name):
                    with suppress(FileNotFoundError):
                        state = path.stat()
                        moment = _moment(state.st_ctime)
                        yield BlobInfo(Digest(algorithm, path.name), state.st_size, moment)

    def delete(self, digest: Digest) -> None:
        """Drop a blob, durably."""
        path = self._path(digest)
        failpoints.reach("blob.delete:before")
        with suppress(FileNotFoundError):
            path.unlink()
            _sync_folder(path.parent)
        failpoints.reach("blob.delete:after")

    def doom(self, digest: Digest) -> Callable[[], None]:
        """Return what deletes the blob."""
        return lambda: self.delete(digest)

    def set_aside(self, digest: Digest, version: object) -> bool:
        """Move damaged content to `damaged/`, durably."""
        path = self._path(digest)
        try:
            if _version(path.stat()) != version:
                return False
        except FileNotFoundError:
            return False
        self._damaged.mkdir(mode=0o700, exist_ok=True)
        failpoints.reach("blob.set-aside:before")
        path.rename(self._damaged / f"{digest.algorithm}-{digest.hex}-{time.time_ns()}")
        _sync_folder(self._damaged)
        _sync_folder(path.parent)
        failpoints.reach("blob.set-aside:after")
        return True

    def strays(self) -> Iterator[str]:
        """Name what lies below `blobs/` in no place of a blob."""
        for folder, _, names in os.walk(self._blobs):
            place = Path(folder).relative_to(self._blobs)
            for name in names:
                if _digest(place, name) is None and (place, name) != (Path(), _OWNER):
                    yield str(place / name)

    def tidy(self, before: datetime, *, dry_run: bool = False) -> Tidied:
        """Do nothing: what a crash leaves here is staged, or a blob."""
        return Tidied()

    def owner(self) -> str | None:
        """Return whose store it is."""
        try:
            return (self._blobs / _OWNER).read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return None

    def claim(self, owner: str, *, replace: bool = False) -> str:
        """Write down whose store it is, durably."""
        path = self._blobs / _OWNER
        made = self._uploads / f".{_OWNER}.{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with _full_disk(), os.fdopen(os.open(made, flags, 0o600), "w") as file:
                file.write(owner + "\n")
                file.flush()
                os.fsync(file.fileno())
            if replace:
                made.rename(path)
            else:
                with suppress(FileExistsError):
                    os.link(made, path)
        finally:
            made.unlink(missing_ok=True)
        _sync_folder(self._blobs)
        return self.owner() or ""

    def free(self) -> int:
        """Return the bytes that this user may still write on the file system."""
        state = os.statvfs(self._blobs)
        return state.f_bavail * state.f_frsize

    def _make_usual_folders(self) -> None:
        """Make the folders of all SHA-256 at once, so that no upload waits for that of its own."""
        usual = self._blobs / "sha256"
        if (usual / "ff").is_dir():
            return
        usual.mkdir(mode=0o700, exist_ok=True)
        for number in range(256):
            (usual / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
        _sync_folder(usual)
        _sync_folder(self._blobs)

    def _path(self, digest: Digest) -> Path:
        return self._blobs / digest.algorithm / digest.hex[:2] / digest.hex

    def _staged_path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise Invalid(f"{name[:80]!r} can't name staged content")
        return self._uploads / name


class FileStaged:
    """A staged file, locked. See `Staged` for the methods' rules."""

    def __init__(
        self,
        path: Path,
        descriptor: int,
        target: Callable[[Digest], Path],
        aside: Aside,
    ) -> None:
        self._path = path
        self._descriptor: int | None = descriptor
        self._target = target
        self._aside = aside
        self._size = os.lseek(descriptor, 0, os.SEEK_END)
        # Kept only while it covers exactly what is in the file, once `_hashed()` has returned.
        self._hasher: Any = new_hasher("sha256") if self._size == 0 else None
        self._hashed: Callable[[], object] = nothing
        self._flushed: Callable[[], object] = nothing
        self._unflushed = 0
        self._synced = self._folder_synced = False
        self._sealed: Digest | None = None

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`, all or nothing."""
        descriptor, view, written = self._open(), memoryview(data).cast("B"), 0
        self._sealed = None
        self._synced = False
        try:
            with _full_disk():
                failpoints.reach("blob.write:before")
                while written < len(view):
                    written += os.write(descriptor, view[written:])
                failpoints.reach("blob.write:after")
        except BaseException:
            self._cut(self._size)
            raise
        if self._hasher is not None:
            self._hash_aside(view)
        self._size += written
        self._unflushed += written
        if self._unflushed >= _FLUSHED:
            self._flush_aside()

    def sync(self) -> None:
        """Make everything written so far durable, the file's name included."""
        self._sync_content()
        if not self._folder_synced:
            with _full_disk():
                _sync_folder(self._path.parent)
            self._folder_synced = True

    def truncate(self, size: int) -> None:
        """Drop what is beyond `size` bytes."""
        if not 0 <= size <= self._size:
            raise Invalid(f"can't cut {self._size} bytes to {size}")
        if size != self._size:
            self._cut(size)
            self._size = size
            self._hashed()
            self._hasher = new_hasher("sha256") if size == 0 else None
        self._sealed = None

    def seal(self, digest: Digest) -> int:
        """Make the content durable and compare it with `digest`.

        Not its staged name, which publishing replaces.
        """
        self._sync_content()
        self._hashed()
        if self._hasher is not None and digest.algorithm == "sha256":
            found = self._hasher.hexdigest()
        else:
            found = self._hash(digest.algorithm)
        if found != digest.hex:
            raise DigestMismatch(
                f"the content has the digest {digest.algorithm}:{found}, not {digest}: "
                "send it again"
            )
        self._sealed = digest
        return self._size

    def publish(self) -> None:
        """Rename into place and make the name durable."""
        self._open()
        if self._sealed is None:
            raise RuntimeError("publish() needs seal() first, with no write in between")
        target = self._target(self._sealed)
        with _full_disk():
            if not target.parent.is_dir():
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _sync_folder(target.parent.parent)
                _sync_folder(target.parent.parent.parent)
            failpoints.reach("blob.rename:before")
            self._path.rename(target)
            failpoints.reach("blob.rename:after")
            failpoints.reach("blob.folder-fsync:before")
            _sync_folder(target.parent)
            failpoints.reach("blob.folder-fsync:after")
        self.close()

    def close(self) -> None:
        """Let go of the file and its lock."""
        if self._descriptor is not None:
            with suppress(OSError):
                self._flushed()
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FileStaged:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _open(self) -> int:
        if self._descriptor is None:
            raise RuntimeError("the staged content was closed or published")
        return self._descriptor

    def _hash_aside(self, view: memoryview) -> None:
        """Hash what was just written while the next piece arrives."""
        self._hashed()
        update = self._hasher.update
        if len(view) < _WORTH_A_THREAD:
            update(view)
        else:
            self._hashed = self._aside(lambda: update(view))

    def _flush_aside(self) -> None:
        """Write to disk what is there while the next pieces arrive."""
        descriptor = self._open()
        with _full_disk():
            self._flushed()  # a fault is told once: whoever missed it would take all for safe
            self._flushed = self._aside(lambda: os.fdatasync(descriptor))
        self._unflushed = 0

    def _sync_content(self) -> None:
        if self._synced:
            return
        descriptor = self._open()
        with _full_disk():
            self._flushed()
            failpoints.reach("blob.fsync:before")
            self._aside(lambda: os.fsync(descriptor))()
            failpoints.reach("blob.fsync:after")
        self._synced = True

    def _cut(self, size: int) -> None:
        descriptor = self._open()
        self._synced = False
        os.ftruncate(descriptor, size)
        os.lseek(descriptor, size, os.SEEK_SET)

    def _hash(self, algorithm: str) -> str:
        descriptor, hasher, position = self._open(), new_hasher(algorithm), 0
        while piece := os.pread(descriptor, _HASH_CHUNK, position):
            hasher.update(piece)
            position += len(piece)
            # Under gevent this gives the other requests their turn.
            time.sleep(0)
        return hasher.hexdigest()


class _Reader(Iterator[bytes]):
    """A range of an open blob. Unlike a generator it closes its file even if never started."""

    def __init__(
        self, digest: Digest, descriptor: int, start: int, stop: int | None, chunk: int
    ) -> None:
        self._digest = digest
        self._descriptor: int | None = descriptor
        state = os.fstat(descriptor)
        self.version = _version(state)
        size = state.st_size
        self._position = max(start, 0)
        self._stop = size if stop is None else min(stop, size)
        self._chunk = chunk

    def __next__(self) -> bytes:
        wanted = min(self._chunk, self._stop - self._position)
        if self._descriptor is None or wanted <= 0:
            self.close()
            raise StopIteration
        piece = os.pread(self._descriptor, wanted, self._position)
        if not piece:
            self.close()
            raise ServiceError(f"the blob {self._digest} was cut short on disk: restore it")
        self._position += len(piece)
        return piece

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()


def _digest(place: Path, name: str) -> Digest | None:
    """Return the digest of the blob that a file is, by its place below `blobs/`; None for none."""
    algorithm, _, prefix = str(place).partition("/")
    length = LENGTHS.get(algorithm)
    if length is None or prefix != name[:2] or not re.fullmatch(rf"[0-9a-f]{{{length}}}", name):
        return None
    return Digest(algorithm, name)


def _version(state: os.stat_result) -> tuple[int, int, int, int]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


@contextmanager
def _full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoSpace("the disk that holds the blobs is full: free some space") from error
        raise
