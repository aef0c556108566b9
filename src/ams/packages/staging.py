"""Files of a package on their way into the blob store: staged one by one, kept or dropped as one.

It knows neither archives nor manifests.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from types import TracebackType

from regkit.blobs import BlobStore, Staged
from regkit.errors import NoSpace, TooLarge, Unavailable
from regkit.oci.application import PackageFile
from regkit.oci.digest import Digest, new_hasher

PREFIX = "package-"
"""How the names of staged package files begin."""

KEEP_OPEN = 64
"""How many large files stay open, so that their content needn't be read again to be sealed."""
LARGE = 4 * 1024 * 1024

Progress = Callable[[int], None]
"""Called with the bytes staged so far; it may raise to stop the work."""


@dataclass
class _Entry:
    name: str
    file: PackageFile
    staged: Staged | None


class Staging:
    """The staged files of one package. Leaving the context drops whatever wasn't published."""

    def __init__(self, blobs: BlobStore, progress: Progress | None = None) -> None:
        self._blobs = blobs
        self._progress = progress
        self._token = secrets.token_hex(8)
        self._entries: list[_Entry] = []
        self._count = 0
        self._open = 0
        self.size = 0
        """Bytes staged so far."""

    def add(
        self, path: str, mode: int, chunks: Iterable[bytes], expected: int, limit: int
    ) -> PackageFile:
        """Stage one file and return it with its digest.

        `expected` is the size that the source announces: it is compared with the free space before
        anything is written. Raises NoSpace, TooLarge beyond `limit` bytes, and whatever `chunks`
        raises; nothing of this file is left behind then.
        """
        if expected > self._blobs.free():
            raise NoSpace(f"no space for {path[:120]!r} ({expected} bytes): free some disk space")
        name = f"{PREFIX}{self._token}-{self._count}"
        self._count += 1
        hasher, size = new_hasher("sha256"), 0
        staged = self._blobs.stage(name)
        try:
            for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise TooLarge(f"{path[:120]!r} is too large: at most {limit} bytes")
                staged.write(chunk)
                hasher.update(chunk)
                if self._progress is not None:
                    self._progress(self.size + size)
                time.sleep(0)  # under gevent this gives other requests their turn
        except BaseException:
            staged.close()
            self._blobs.discard(name)
            raise
        self.size += size
        file = PackageFile(path, Digest("sha256", hasher.hexdigest()), size, mode)
        if size >= LARGE and self._open < KEEP_OPEN:
            self._open += 1
            self._entries.append(_Entry(name, file, staged))
        else:
            staged.close()
            self._entries.append(_Entry(name, file, None))
        return file

    def publish(self, anew: Collection[Digest] = ()) -> int:
        """Turn every staged file into a blob; what the store has already is dropped.

        What is in `anew` is stored whether the store has it or not. Returns the bytes that were
        new. It takes as long as syncing the files to disk does. Raises Unavailable, before
        anything is stored, when something of `anew` isn't staged here.
        """
        if not {entry.file.digest for entry in self._entries}.issuperset(anew):
            raise Unavailable("some of its content is being cleared away: try again")
        new = 0
        while self._entries:
            entry = self._entries[-1]
            if entry.file.digest in anew or self._blobs.size(entry.file.digest) is None:
                staged = entry.staged or self._blobs.stage(entry.name, create=False)
                try:
                    new += staged.seal(entry.file.digest)
                    staged.publish()
                finally:
                    staged.close()  # some stores hold it until then, and count it as under way
                self._entries.pop()
            else:
                self._drop(self._entries.pop())
            time.sleep(0)
        return new

    def close(self) -> None:
        """Drop whatever is staged; idempotent."""
        while self._entries:
            self._drop(self._entries.pop())

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _drop(self, entry: _Entry) -> None:
        if entry.staged is not None:
            entry.staged.close()
        self._blobs.discard(entry.name)
