"""Packages as strangers send them: a tar or zip archive, or a directory. All is hostile input.

An archive is recognised by its content and never unpacked to disk: its files are handed on one by
one, as they are read. Refused: absolute paths and `..`, links and special files of any kind,
names that occur twice or aren't UTF-8, encrypted zips, anything beyond the limits, truncated or
damaged archives. What a manifest says is not looked at here.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ams.packages import streams
from regkit.errors import Invalid, TooLarge
from regkit.oci.application import NAME_MAX, PATH_MAX
from regkit.oci.paths import below_a_file

CHUNK = 1024 * 1024
FORMATS = ".tar, .tar.bz2, .tar.gz, .tar.xz or .zip"
_BLOCK = tarfile.BLOCKSIZE
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_ENCRYPTED, _UTF8 = 0x1, 0x800  # general purpose bits 0 and 11 (APPNOTE.TXT, section 4.4.4)


@dataclass(frozen=True)
class Limits:
    """How much one package may hold; sizes in bytes."""

    count: int = 10_000
    """Entries, folders included."""
    file_size: int = 16 * 2**30
    total_size: int = 32 * 2**30
    ratio: int = 200
    """Unpacked bytes for each packed one, once `ratio_floor` bytes are unpacked."""
    ratio_floor: int = 64 * 2**20


@dataclass(frozen=True)
class Member:
    """One regular file. `chunks` is read once, before the next member is asked for."""

    path: str
    mode: int
    """0o755 when its owner may run it, else 0o644."""
    size: int
    chunks: Iterable[bytes]


def members(source: Path | BinaryIO, limits: Limits) -> Iterator[Member]:
    """Go over the regular files of a directory or archive.

    `source` is a path, or an open seekable file with an archive. Raises Invalid or TooLarge for
    the first thing that is wrong.
    """
    if not isinstance(source, Path):
        yield from _checked(_archive(source, limits), limits)
        return
    try:
        if source.is_dir():
            yield from _checked(_directory(source, limits), limits)
        else:
            with source.open("rb") as opened:
                yield from _checked(_archive(opened, limits), limits)
    except OSError as error:
        if error.errno is None or error.filename is None:
            raise
        raise Invalid(f"{error.filename} can't be read: {error.strerror}") from None


def safe_path(name: str) -> str:
    """Return the path of a member without `./` and doubled slashes. Raises Invalid."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    try:
        lengths = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise Invalid(f"the name {name[:120]!r} is not UTF-8: rename the file") from None
    if name.startswith("/") or ".." in parts:
        raise Invalid(f"{name[:120]!r} leads out of the package: use paths inside it only")
    if "\\" in name or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise Invalid(f"{name[:120]!r} has a backslash or control character: rename the file")
    if lengths and (max(lengths) > NAME_MAX or sum(lengths) + len(parts) - 1 > PATH_MAX):
        raise Invalid(f"{name[:120]!r} is too long for a file name: rename the file")
    return "/".join(parts)


def _checked(found: Iterator[Member], limits: Limits) -> Iterator[Member]:
    seen: set[str] = set()
    total = 0
    for member in found:
        path = member.path
        if path in seen:
            raise Invalid(f"{path[:120]!r} is in the package twice: pack it again")
        seen.add(path)
        total += member.size
        if member.size > limits.file_size:
            raise TooLarge(f"{path[:120]!r} is too large: at most {limits.file_size} bytes")
        if total > limits.total_size:
            raise TooLarge(f"the package is too large: at most {limits.total_size} bytes")
        yield member
    # Only now: every folder of every path, to ask for one by one, could fill the memory.
    below = below_a_file(seen)
    if below is not None:
        raise Invalid(f"{below[:120]!r}: a file and a folder have the same name: pack it again")


def _count(number: int, limits: Limits) -> None:
    if number > limits.count:
        raise TooLarge(f"the package has too many files: at most {limits.count}")


def _mode(bits: int) -> int:
    return 0o755 if bits & stat.S_IXUSR else 0o644


def _refuse(name: str, what: str) -> Invalid:
    return Invalid(
        f"{name[:120]!r} is {what}: a package holds regular files and folders only; "
        "put a copy of the file in its place"
    )


def _archive(source: BinaryIO, limits: Limits) -> Iterator[Member]:
    start = source.read(_BLOCK)
    source.seek(0)
    if not start:
        raise Invalid("the package is empty")
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        yield from _zip(source, limits)
        return
    counted = streams.Counted(source)
    stream = streams.decompressed(start, counted)
    if stream is None and start[257:262] != b"ustar":
        raise Invalid(f"this is not a package: give a directory, or a {FORMATS} archive")
    forward = streams.Forward(
        counted if stream is None else stream,
        counted,
        # Headers and padding of a tar archive: three blocks for each entry are plenty.
        limits.total_size + 3 * _BLOCK * limits.count + tarfile.RECORDSIZE,
        limits.ratio,
        limits.ratio_floor,
    )
    yield from _tar(forward, limits)


def _tar(forward: streams.Forward, limits: Limits) -> Iterator[Member]:
    try:
        # Reads the first header already.
        archive = tarfile.TarFile(fileobj=forward, encoding="utf-8")  # type: ignore[arg-type]
        number = 0
        while (info := archive.next()) is not None:
            number += 1
            _count(number, limits)
            archive.members.clear()  # type: ignore[attr-defined] - else it keeps every header
            path = safe_path(info.name)
            if info.issym() or info.islnk():
                raise _refuse(info.name, "a link")
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise _refuse(info.name, "not a regular file")
            if not path:
                raise Invalid("the archive has a file without a name: pack it again")
            yield Member(path, _mode(info.mode), info.size, _tar_chunks(forward, info))
    except RecursionError:
        raise Invalid("the archive has too many extended headers: pack it again") from None
    except (tarfile.TarError, ValueError) as error:
        raise Invalid(
            f"the archive is damaged or not a tar archive ({error}): pack or copy it again"
        ) from None
    # A tar archive ends in zero blocks (POSIX pax); without them it was cut between two files.
    if forward.last != bytes(_BLOCK):
        raise Invalid("the archive is truncated or damaged: copy it again")
    forward.drain()


def _tar_chunks(forward: streams.Forward, info: tarfile.TarInfo) -> Iterator[bytes]:
    forward.seek(info.offset_data)
    missing = info.size
    while missing:
        data = forward.read(min(missing, CHUNK))
        if not data:
            raise Invalid("the archive is truncated or damaged: copy it again")
        missing -= len(data)
        yield data


class _BoundedFile:
    """An open file of which no single read may be huge: a zip's directory is read at once."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.seek, self.tell = source.seek, source.tell
        self.seekable = lambda: True

    def read(self, size: int = -1, /) -> bytes:
        if size > streams.MAX_SINGLE_READ:
            raise TooLarge("the zip archive's directory is too large: pack fewer files")
        return self._source.read(size)


def _zip(source: BinaryIO, limits: Limits) -> Iterator[Member]:
    packed = source.seek(0, os.SEEK_END)
    try:
        with zipfile.ZipFile(_BoundedFile(source)) as archive:  # type: ignore[arg-type]
            entries = archive.infolist()
            _count(len(entries), limits)
            unpacked = sum(info.file_size for info in entries)
            streams.check_ratio(unpacked, packed, limits.ratio, limits.ratio_floor)
            for info in entries:
                path = safe_path(_zip_name(info))
                _check_zip_entry(info)
                if info.is_dir():
                    continue
                if not path:
                    raise Invalid("the archive has a file without a name: pack it again")
                mode = _mode(info.external_attr >> 16)
                yield Member(path, mode, info.file_size, _zip_chunks(archive, info))
    except UnicodeDecodeError:
        raise Invalid("the archive has a file name that is not UTF-8: rename the file") from None
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise Invalid(f"the zip archive is damaged ({error}): pack or copy it again") from None


def _zip_name(info: zipfile.ZipInfo) -> str:
    name = info.orig_filename
    if info.flag_bits & _UTF8 or name.isascii():
        return name
    # Without the flag names are CP437 by the book, and UTF-8 as every Unix tool writes them.
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        raise Invalid(f"the name {name[:120]!r} is not UTF-8: rename the file") from None


def _check_zip_entry(info: zipfile.ZipInfo) -> None:
    name = info.filename
    if info.flag_bits & _ENCRYPTED:
        raise Invalid(f"{name[:120]!r} is encrypted: pack it without a password")
    if info.compress_type not in _ZIP_METHODS:
        raise Invalid(f"{name[:120]!r} is compressed in an unusual way: use 'deflate'")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise _refuse(name, "a link")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refuse(name, "not a regular file")


def _zip_chunks(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    missing = info.file_size
    try:
        with streams.translated(), archive.open(info) as opened:
            while data := opened.read(CHUNK):
                missing -= len(data)
                yield data
    except (zipfile.BadZipFile, ValueError) as error:
        raise Invalid(f"the zip archive is damaged ({error}): pack or copy it again") from None
    if missing:
        raise Invalid("the archive is truncated or damaged: copy it again")


def _directory(root: Path, limits: Limits) -> Iterator[Member]:
    pending, number = [""], 0
    while pending:
        folder = pending.pop()
        with os.scandir(root / folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        number += len(entries)
        _count(number, limits)
        for entry in entries:
            path = safe_path(f"{folder}/{entry.name}" if folder else entry.name)
            if entry.is_symlink():
                raise _refuse(path, "a link")
            if entry.is_dir(follow_symlinks=False):
                pending.append(path)
            elif entry.is_file(follow_symlinks=False):
                state = entry.stat(follow_symlinks=False)
                yield Member(path, _mode(state.st_mode), state.st_size, _file_chunks(root / path))
            else:
                raise _refuse(path, "not a regular file")


def _file_chunks(path: Path) -> Iterator[bytes]:
    # NOFOLLOW and NONBLOCK: the entry may have been replaced by a link or a pipe meanwhile.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
        with open(descriptor, "rb", buffering=0) as opened:  # noqa: PTH123 - a descriptor
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _refuse(path.name, "not a regular file")
            while data := opened.read(CHUNK):
                yield data
    except OSError as error:
        raise Invalid(f"{path} can't be read: {error.strerror}") from None
