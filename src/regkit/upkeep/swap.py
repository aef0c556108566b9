"""Putting several new files in the place of old ones, all or none, whatever comes in between.

The new files lie beside the old, durable, before a marker names all moves. The marker is the
commit: without it nothing has happened, with it whoever opens the state next finishes the moves
first. A stale SQLite log (`-wal`) would be played back into the new database, so it goes with the
old one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from regkit import failpoints
from regkit.errors import Unavailable
from regkit.upkeep import locks

MARKER = Path("data/restore.json")
"""Under the state root."""

PATIENCE = 30.0
"""Seconds to wait for another process that finishes the moves."""

_SQLITE = ("-wal", "-shm")


def new_name(path: Path) -> Path:
    """Return where the file that is to take the place of `path` is made."""
    return path.with_name(f".{path.name}.restored")


def write(path: Path, content: bytes) -> None:
    """Make a new file for the place of `path`, for its owner only, durably."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = new_name(path)
    made.unlink(missing_ok=True)
    _write(made, content)


def commit(home: Path, paths: Sequence[Path]) -> None:
    """Let the new files take their places; on return they have. Needs the state's lock."""
    for path in paths:
        _sync_file(new_name(path))
        _sync_folder(path.parent)
    marker = home / MARKER
    temporary = marker.with_name(f".{MARKER.name}.new")
    temporary.unlink(missing_ok=True)
    _write(temporary, json.dumps([str(path) for path in paths]).encode())
    failpoints.reach("restore.commit:before")
    temporary.rename(marker)
    failpoints.reach("restore.commit:after")
    _sync_folder(marker.parent)
    _finish(marker)


def complete(home: Path) -> bool:
    """Finish what a killed restore had committed; return whether there was anything.

    To be called before anything of the state is read; costs one look at a file. Raises
    Unavailable while another process holds the state.
    """
    marker = home / MARKER
    # Where it can't even be looked for, whoever opens the state says so better.
    if not os.path.exists(marker):  # noqa: PTH110 - Path.exists raises for forbidden folders
        return False
    descriptor = locks.take(home / locks.STATE, seconds=PATIENCE)
    if descriptor is None:
        raise Unavailable("the state is being restored: try again when that is done")
    try:
        if not marker.exists():
            return False
        _finish(marker)
        return True
    finally:
        os.close(descriptor)


def _finish(marker: Path) -> None:
    for text in json.loads(marker.read_bytes()):
        path = Path(text)
        made = new_name(path)
        if made.exists():
            for suffix in _SQLITE:
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            _sync_folder(path.parent)
            failpoints.reach("restore.move:before")
            made.rename(path)
            failpoints.reach("restore.move:after")
            _sync_folder(path.parent)
    marker.unlink()
    _sync_folder(marker.parent)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
