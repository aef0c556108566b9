"""Compressed streams from strangers: read in bounded pieces, stopped when they expand too far."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol

from regkit.errors import Invalid, TooLarge

XZ_MEMORY = 256 * 1024 * 1024
"""What decompressing xz may take; `xz -9` needs 65 MiB, a hostile header asks for 4 GiB."""
READ_CHUNK = 256 * 1024
MAX_SINGLE_READ = 4 * 1024 * 1024
"""Format libraries read a whole header at once, as large as the archive says it is."""

_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


class Readable(Protocol):
    """What is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        ...


class Counted:
    """A file of which the bytes read so far are counted."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        """Read on."""
        data = self._source.read(size)
        self.count += len(data)
        return data


class _Xz:
    """Decompresses one or several xz streams within `XZ_MEMORY`, which `lzma.open` can't limit."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._decompressor = self._new()

    def read(self, size: int = -1, /) -> bytes:
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data or self._source.read(READ_CHUNK)
                # Stream padding: zero bytes, in fours (the .xz file format, section 2.2).
                rest = rest.lstrip(b"\0")
                if not rest and not (rest := self._source.read(READ_CHUNK).lstrip(b"\0")):
                    return b""
                self._decompressor = self._new()
                data = self._decompressor.decompress(rest, size)
            else:
                raw = self._source.read(READ_CHUNK) if self._decompressor.needs_input else b""
                if not raw and self._decompressor.needs_input:
                    raise EOFError("the compressed data ends early")
                data = self._decompressor.decompress(raw, size)
            if data:
                return data

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY)


def decompressed(start: bytes, source: Counted) -> Readable | None:
    """Return a reader of the decompressed content, by the first bytes of `source`.

    None when they are of no compression known here. `source` must stand at its beginning.
    """
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=source, mode="rb")  # type: ignore[arg-type] - reads only
    if start.startswith(b"BZh"):
        return bz2.BZ2File(source, "rb")  # type: ignore[arg-type] - reads only
    if start.startswith(b"\xfd7zXZ\x00"):
        return _Xz(source)
    return None


class Forward:
    """A stream as the seekable file that `tarfile` wants, going forward only.

    Enforces the limits on everything that is read, headers included: `total` bytes, and not more
    than `ratio` times the compressed bytes once `ratio_floor` bytes are out.
    """

    def __init__(
        self, stream: Readable, source: Counted, total: int, ratio: int, ratio_floor: int
    ) -> None:
        self._stream = stream
        self._source = source
        self._total = total
        self._ratio = ratio
        self._ratio_floor = ratio_floor
        self._position = 0
        self.last = b""
        """The result of the last read."""

    def read(self, size: int = -1, /) -> bytes:
        """Read `size` bytes, less only at the end. Raises Invalid, TooLarge."""
        if not 0 <= size <= MAX_SINGLE_READ:
            raise Invalid("the archive has a header that is too large: pack it again")
        parts, missing = [], size
        with translated():
            while missing and (data := self._stream.read(min(missing, READ_CHUNK))):
                parts.append(data)
                missing -= len(data)
                self._advance(len(data))
        self.last = b"".join(parts)
        return self.last

    def tell(self) -> int:
        """Say how many bytes were read so far."""
        return self._position

    def seek(self, position: int, whence: int = 0, /) -> int:
        """Skip to `position`. Raises Invalid for a step back: no proper archive needs one."""
        if whence != 0 or position < self._position:
            raise Invalid("the archive is damaged: pack it again")
        while self._position < position:
            if not self.read(min(position - self._position, READ_CHUNK)):
                break
        return self._position

    def drain(self) -> None:
        """Read what follows to the end, so that check sums at the end of the file are checked."""
        while self.read(READ_CHUNK):
            pass

    def _advance(self, count: int) -> None:
        self._position += count
        if self._position > self._total:
            raise TooLarge(f"the package is too large: at most {self._total} bytes unpacked")
        check_ratio(self._position, self._source.count, self._ratio, self._ratio_floor)


def check_ratio(unpacked: int, packed: int, ratio: int, floor: int) -> None:
    """Raise TooLarge when content expands so far that it must be meant to fill the disk."""
    if unpacked > floor and unpacked > ratio * packed:
        raise TooLarge(
            f"the archive expands to more than {ratio} times its size, like a decompression "
            "bomb: if that is meant, pack it as an uncompressed .tar"
        )


@contextmanager
def translated() -> Iterator[None]:
    """Turn what decompressors raise for damaged data into Invalid."""
    try:
        yield
    except lzma.LZMAError as error:
        if "limit" in str(error).lower():
            raise TooLarge(
                "the archive needs too much memory: pack it with 'xz -9' or less"
            ) from None
        raise Invalid(f"the archive is damaged ({error}): pack or copy it again") from None
    except EOFError:
        raise Invalid("the archive is truncated: copy it again") from None
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Invalid(f"the archive is damaged ({error}): pack or copy it again") from None
