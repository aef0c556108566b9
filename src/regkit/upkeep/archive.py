"""The file that a backup is: a tar archive, written and read from its beginning to its end.

    backup.json          what it is, and the SHA-256 of each of the next
    conf/…, certs/…      configuration and keys
    database.db          SQLite, one snapshot
    blobs/sha256/ab/…    every blob that the snapshot refers to
    complete.json        which of them turned out to be damaged; without it the file was cut short

Its bytes are foreign until compared with their digests. What is in it, and where it goes, is the
business of `backup` and `restore`.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any

from regkit.errors import Invalid
from regkit.oci.digest import LENGTHS, Digest

FORMAT = 1
HEADER, DATABASE, COMPLETE = "backup.json", "database.db", "complete.json"
MAX_JSON = 64 * 1024 * 1024
MAX_FILE = 1024 * 1024
"""Bytes of a configuration or key file."""
MAX_FILES = 100
CHUNK = 1024 * 1024

_FILE = re.compile(r"(conf|certs|server|registry)/[A-Za-z0-9][A-Za-z0-9._-]{0,100}", re.ASCII)
_BLOB = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]{2})/([0-9a-f]{64,128})", re.ASCII)


@dataclass(frozen=True)
class Header:
    """What a backup says of itself. `sums` are the SHA-256 (hex) of files and database."""

    service: str
    created: datetime
    version: str
    sums: dict[str, str]
    blobs: int
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "format": FORMAT,
            "service": self.service,
            "created": self.created.isoformat(timespec="seconds"),
            "version": self.version,
            "sha256": self.sums,
            "blobs": self.blobs,
            "bytes": self.size,
        }


class Writer:
    """Writes a backup to a file or a pipe."""

    def __init__(self, out: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._time = int(time.time())

    def document(self, name: str, content: Any) -> None:
        """Add a JSON document."""
        self.content(name, json.dumps(content, indent=1).encode())

    def content(self, name: str, content: bytes) -> None:
        """Add a small file."""
        self._add(name, len(content), io.BytesIO(content))

    def stream(self, name: str, size: int, chunks: Iterable[bytes]) -> bool:
        """Add a file of `size` bytes; return whether `chunks` gave exactly as many.

        What is missing is filled up with zeros, what is too much is left out: the archive goes on.
        """
        reader = _Exactly(chunks, size)
        self._add(name, size, reader)
        return reader.exact()

    def close(self) -> None:
        """End the archive."""
        self._tar.close()

    def _add(self, name: str, size: int, file: Any) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o600, self._time
        self._tar.addfile(info, file)
        _forget(self._tar)


class _Exactly:
    """A file of exactly `size` bytes made of chunks."""

    def __init__(self, chunks: Iterable[bytes], size: int) -> None:
        self._chunks = iter(chunks)
        self._left = size
        self._rest = b""
        self._short = False

    def read(self, size: int) -> bytes:
        size = min(size, self._left)
        parts, wanted = [], size
        while wanted:
            if not self._rest and not self._short:
                self._rest = next(self._chunks, b"")
                self._short = not self._rest
            part = bytes(wanted) if self._short else self._rest[:wanted]
            self._rest = self._rest[len(part) :]
            parts.append(part)
            wanted -= len(part)
        self._left -= size
        return b"".join(parts)

    def exact(self) -> bool:
        """Whether the chunks ended where they should."""
        return not self._short and not self._rest and next(self._chunks, b"") == b""


@dataclass(frozen=True)
class Member:
    """A file in a backup; `read` may be called once, before the next member."""

    name: str
    size: int
    file: IO[bytes]

    @property
    def digest(self) -> Digest | None:
        """The blob's digest, by its name; None when it is no blob."""
        return blob_digest(self.name)

    def content(self, limit: int) -> bytes:
        """Return all of a small file. Raises Invalid."""
        if self.size > limit:
            raise Invalid(f"the backup's {self.name} is too large")
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """Give the content in pieces. Raises Invalid when the archive was cut short."""
        left = self.size
        while left:
            try:
                piece = self.file.read(min(CHUNK, left))
            except tarfile.TarError:
                piece = b""
            if not piece:
                raise Invalid("the backup was cut short")
            left -= len(piece)
            yield piece


def members(file: IO[bytes]) -> Iterator[Member]:
    """Give the members of a backup, in order. Raises Invalid for what is none."""
    try:
        with tarfile.open(fileobj=file, mode="r|") as tar:
            for info in tar:
                _forget(tar)
                content = tar.extractfile(info) if info.isreg() else None
                if content is None or not _allowed(info.name):
                    raise Invalid(f"this is no backup: it holds {info.name[:80]!r}")
                yield Member(info.name, info.size, content)
    except (tarfile.TarError, EOFError) as error:
        raise Invalid(f"this is no backup, or one that was cut short: {error}") from None


def parse_header(content: bytes) -> Header:
    """Read `backup.json`. Raises Invalid."""
    body = parse_json(content, HEADER)
    if body.get("format") != FORMAT:
        raise Invalid(
            f"the backup has the format {str(body.get('format'))[:20]}, this version reads "
            f"{FORMAT}: use the version that made it, or a newer one"
        )
    try:
        created = datetime.fromisoformat(body["created"])
        sums = {str(name): str(value) for name, value in body["sha256"].items()}
        header = Header(
            str(body["service"]), created, str(body["version"]), sums,
            int(body["blobs"]), int(body["bytes"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Invalid(f"the backup's {HEADER} can't be read: {error!r}") from None
    if created.tzinfo is None or len(sums) > MAX_FILES or DATABASE not in sums:
        raise Invalid(f"the backup's {HEADER} is incomplete")
    return header


def parse_json(content: bytes, name: str) -> dict[str, Any]:
    """Read one of the backup's documents. Raises Invalid."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Invalid(f"the backup's {name} can't be read")
    return body


def blob_name(digest: Digest) -> str:
    """Return the name of a blob's member."""
    return f"blobs/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"


def blob_digest(name: str) -> Digest | None:
    """Return the digest of the blob whose member has this name, None for other members."""
    match = _BLOB.fullmatch(name)
    if match is None or len(match[3]) != LENGTHS[match[1]] or match[3][:2] != match[2]:
        return None
    return Digest(match[1], match[3])


def sha256(chunks: Iterable[bytes]) -> str:
    """Return the SHA-256 of content, as hex."""
    hasher = hashlib.sha256()
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.hexdigest()


def _forget(tar: tarfile.TarFile) -> None:
    """Drop the list of the members so far: it may be millions, and nobody asks for it."""
    tar.members = []  # type: ignore[attr-defined]


def _allowed(name: str) -> bool:
    if name in {HEADER, DATABASE, COMPLETE} or blob_digest(name) is not None:
        return True
    return _FILE.fullmatch(name) is not None
