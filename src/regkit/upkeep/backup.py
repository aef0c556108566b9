"""Making a backup beside a running service: one snapshot, and exactly the blobs it refers to.

Blobs never change, and none is deleted while the janitor's lock is shared, which it is from before
the snapshot until the last blob is read. Every blob is compared with its digest on its way.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import IO

from regkit import failpoints
from regkit.blobs import BlobStore
from regkit.database import Database
from regkit.errors import NotFound, ServiceError
from regkit.oci.digest import Digest, new_hasher
from regkit.progress import Advance, ignore
from regkit.upkeep import archive, locks
from regkit.upkeep.rows import database_faults
from regkit.upkeep.scrub import Wanted
from regkit.upkeep.state import State

PATIENCE = 600.0
"""Seconds to wait for a janitor that is at work."""


@dataclass(frozen=True)
class Made:
    """What a backup has. `lost`: blobs that are damaged or missing here, and so there."""

    blobs: int
    size: int
    lost: tuple[Digest, ...]


class Snapshot:
    """The database at one moment, in a file that has no name any more."""

    def __init__(self, file: IO[bytes], wanted: list[Wanted]) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self.wanted = [item for item in wanted if item.sound]
        self.lost = [item.digest for item in wanted if not item.sound]

    def chunks(self) -> Iterator[bytes]:
        """Give its content, from the beginning."""
        self._file.seek(0)
        while chunk := self._file.read(archive.CHUNK):
            yield chunk


@contextmanager
def opened(state: State) -> Iterator[Snapshot]:
    """Take a snapshot, and see to it that no blob goes while it is open.

    Raises Conflict while blobs are being deleted, ServiceError for a database that is damaged.
    """
    lock = state.home / locks.JANITOR
    busy = "left-overs are being removed at this moment: try again later"
    with locks.held(lock, busy, shared=True, seconds=PATIENCE), _copied(state.database) as path:
        database = Database(f"sqlite:///{path}")
        try:
            with database.read() as connection:
                if faults := list(database_faults(connection)):
                    raise ServiceError(
                        f"{faults[0]} ({len(faults)} faults): this can't be backed up; restore a "
                        "former backup"
                    )
                wanted = list(state.wanted(connection))
        finally:
            database.close()
        single_file(path)
        with path.open("rb") as file:
            _remove(path)
            yield Snapshot(file, wanted)


def single_file(path: Path) -> None:
    """Make a closed database one file that needs no log beside it (no WAL)."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def write(
    state: State, snapshot: Snapshot, out: IO[bytes], *, keys: bool, count: Advance = ignore
) -> Made:
    """Write a backup of `snapshot`; the service goes on meanwhile.

    `keys`: with the private keys, so that a restored service is known as the same. A blob that is
    damaged is left out, and told.
    """
    files = _files(state, keys)
    sums = {name: archive.sha256([content]) for name, content in files.items()}
    sums[archive.DATABASE] = archive.sha256(snapshot.chunks())
    size = sum(item.size for item in snapshot.wanted)
    header = archive.Header(
        service=state.service,
        created=datetime.now(timezone.utc),
        version=metadata.version("anbox-registry"),
        sums=sums,
        blobs=len(snapshot.wanted),
        size=size,
    )
    writer = archive.Writer(out)
    writer.document(archive.HEADER, header.to_dict())
    for name, content in files.items():
        writer.content(name, content)
    writer.stream(archive.DATABASE, snapshot.size, snapshot.chunks())
    lost = list(snapshot.lost)
    for item in snapshot.wanted:
        if not _add(writer, state.blobs, item, count):
            lost.append(item.digest)
    writer.document(archive.COMPLETE, {"lost": [str(digest) for digest in lost]})
    writer.close()
    return Made(len(snapshot.wanted), size, tuple(lost))


def _add(writer: archive.Writer, blobs: BlobStore, item: Wanted, count: Advance) -> bool:
    """Add a blob; return whether it is sound."""
    hasher = new_hasher(item.digest.algorithm)

    def chunks() -> Iterator[bytes]:
        with closing(blobs.read(item.digest, chunk=archive.CHUNK)) as reader:
            for chunk in reader:
                hasher.update(chunk)
                count(len(chunk))
                yield chunk

    def readable() -> Iterator[bytes]:
        try:
            yield from chunks()
        except (OSError, NotFound, ServiceError):
            return  # what is short is not sound

    exact = writer.stream(archive.blob_name(item.digest), item.size, readable())
    return exact and hasher.hexdigest() == item.digest.hex


def _files(state: State, keys: bool) -> dict[str, bytes]:
    paths = [state.configuration, *(state.keys if keys else ())]
    found = {}
    for path in paths:
        try:
            found[str(path)] = (state.home / path).read_bytes()
        except FileNotFoundError:
            continue
    return found


@contextmanager
def _copied(database: Path) -> Iterator[Path]:
    """Copy the database (https://www.sqlite.org/backup.html), all pages in one step."""
    for former in database.parent.glob(".backup-*.db"):
        process = former.name.removeprefix(".backup-").removesuffix(".db")
        if not (process.isdigit() and Path("/proc", process).exists()):
            _remove(former)
    path = database.parent / f".backup-{os.getpid()}.db"
    _remove(path)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(path)) as copy:
            failpoints.reach("backup.snapshot:before")
            source.backup(copy)
        failpoints.reach("backup.snapshot:after")
        yield path
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
