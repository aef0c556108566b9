"""A version as the archive that operators download: made while it is read, always the same bytes.

Handing it in again under the same name, number and architecture gives the same digest.
"""

from __future__ import annotations

import bz2
import tarfile
import time
from collections.abc import Iterable, Iterator

from regkit.blobs import BlobStore
from regkit.errors import NotFound
from regkit.oci.application import PackageFile

_END = bytes(2 * tarfile.BLOCKSIZE)


def tar_bz2(files: Iterable[PackageFile], blobs: BlobStore) -> Iterator[bytes]:
    """Return the compressed archive of `files`, in pieces; memory stays flat.

    Owner, time and order are fixed, so that equal content gives equal bytes. Raises NotFound at
    the call when a blob is missing.
    """
    files = sorted(files, key=lambda file: (file.path != "manifest.yaml", file.path))
    for file in files:
        if blobs.size(file.digest) != file.size:
            raise NotFound(f"the file {file.path!r} is missing in the blob store: restore it")
    return _compressed(_tar(files, blobs))


def _tar(files: list[PackageFile], blobs: BlobStore) -> Iterator[bytes]:
    for file in files:
        info = tarfile.TarInfo(file.path)
        info.size, info.mode = file.size, file.mode & 0o777
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
        yield from blobs.read(file.digest)
        yield bytes(-file.size % tarfile.BLOCKSIZE)
    yield _END


def _compressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    compressor = bz2.BZ2Compressor()
    for part in parts:
        if data := compressor.compress(part):
            yield data
        time.sleep(0)  # under gevent this gives other requests their turn
    yield compressor.flush()
