"""A package on its way to the service: packing a folder, hashing, streaming with progress.

Whether the content is a good package is for the service to say; only what can't be packed
faithfully is refused here.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from regkit.errors import Invalid

CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Payload:
    """A file ready to be sent: its size in bytes and the SHA-256 of all of it, in hex."""

    file: IO[bytes]
    size: int
    sha256: str

    def chunks(self) -> Iterator[bytes]:
        """Read it from the beginning. Raises Invalid when it has become shorter."""
        self.file.seek(0)
        left = self.size
        while left:
            chunk = self.file.read(min(CHUNK, left))
            if not chunk:
                raise Invalid("the package was changed while it was sent: try again")
            left -= len(chunk)
            yield chunk


@contextmanager
def payload(path: Path) -> Iterator[Payload]:
    """Open the package at `path`, an archive or a folder, which is packed into a temporary file.

    Raises Invalid for what can't be read or packed. The temporary file has no name, so it never
    outlives the process.
    """
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
        with _pack(path) if is_folder else path.open("rb") as file:
            yield _prepared(file, path)
    except FileNotFoundError:
        raise Invalid(f"{path} does not exist: give a folder or an archive") from None
    except PermissionError as error:
        raise Invalid(
            f"{error.filename or path} can't be read: check its owner and mode"
        ) from None


def _prepared(file: IO[bytes], path: Path) -> Payload:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise Invalid(f"{path} is neither a folder nor a file")
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    if not size:
        raise Invalid(f"{path} is empty: give a folder or an archive with a manifest.yaml")
    return Payload(file, size, digest.hexdigest())


def _pack(folder: Path) -> IO[bytes]:
    if not (folder / "manifest.yaml").is_file():
        raise Invalid(f"{folder} holds no manifest.yaml: give the folder of a package")
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in _files(folder):
                archive.add(path, str(path.relative_to(folder)), recursive=False, filter=_plain)
    except BaseException:
        file.close()
        raise
    return file


def _files(folder: Path) -> Iterator[Path]:
    """Every file and folder below `folder`, sorted; anything else is refused."""
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise Invalid(
                f"{path} is a link, which a package can't hold: put the file itself there"
            )
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise Invalid(f"{path} is neither a file nor a folder, which a package can't hold")
        yield path
        if stat.S_ISDIR(mode):
            yield from _files(path)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out who owns the files here: it is nobody's business, and changes the bytes."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    # Two hard-linked files are two files of the package.
    if member.islnk():
        member.type, member.linkname = tarfile.REGTYPE, ""
    return member
