"""Named places where a test makes the program fail for real: killed, out of space, held up.

    failpoints.reach("blob.rename:before")

A call costs some 50 ns unless the process was started with `REGKIT_FAILPOINTS` in its environment,
which names a folder. There a file with the name of a point arms it, once, for whichever process
comes by first: its content is `<hit> <action>`, such as `1 kill`, `3 ENOSPC`. Nothing else arms a
point: no setting, no request. It is not for product code to learn anything from.

Actions: `kill` (this process, at once), `kill-group` (its whole process group), the name of an
errno (that OSError is raised, or what the point says that an OSError becomes there), `pause`
(until the file `<point>.go` is there).
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

VARIABLE = "REGKIT_FAILPOINTS"

STEPS = {
    "blob.write": "bytes of a blob, appended to what is staged",
    "blob.fsync": "what is staged, made durable",
    "blob.rename": "what is staged becomes a blob",
    "blob.folder-fsync": "the name of a new blob, made durable",
    "blob.delete": "a blob nobody uses, dropped",
    "blob.set-aside": "a damaged blob, moved out of the way",
    "database.commit": "any writing transaction, either service",
    "version.tombstone": "the registry notes that a version was removed",
    "feed.append": "the registry adds changes to its feed",
    "trust.revoke": "a certificate and its key, refused for ever",
    "janitor.mark": "the registry marks blobs that nobody uses",
    "sync.feed-step": "a site takes a page of the registry's feed",
    "import.commit": "a site takes a version over, its blobs being here",
    "import.remove": "a site drops a version that the registry removed",
    "withdrawal.tombstone": "a site notes that a version must leave the registry",
    "ledger.write": "a site notes what it pushed or withdrew, or sets aside",
    "backup.snapshot": "a copy of the database, for a backup",
    "backup.rename": "a complete backup gets its name",
    "restore.commit": "the marker that makes a restore happen",
    "restore.move": "one restored file takes its place",
}
"""What may be interrupted. Each is reached as `<step>:before` and `<step>:after`."""

POINTS = tuple(f"{step}:{side}" for step in STEPS for side in ("before", "after"))

Becomes = Callable[[OSError], Exception]
"""What an OSError is by the time it comes out of the engine that the point stands for."""

_POLL = 0.01


class _Armed:
    """Looks into the folder at each point, counting the hits of this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hits: dict[tuple[str, int], int] = {}

    def __call__(self, point: str, becomes: Becomes | None = None) -> None:
        path = self._folder / point
        try:
            armed, content = path.stat().st_ino, path.read_text()
        except FileNotFoundError:
            return
        wanted, action = content.split()
        # A file that is armed anew has another number, and its hits are counted anew.
        hits = self._hits[point, armed] = self._hits.get((point, armed), 0) + 1
        if hits < int(wanted):
            return
        try:
            path.rename(path.with_name(f"{point}.fired"))
        except FileNotFoundError:
            return  # another process was quicker
        self._act(path, action, becomes)

    def _act(self, path: Path, action: str, becomes: Becomes | None) -> None:
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "kill-group":
            os.killpg(os.getpgrp(), signal.SIGKILL)
        elif action == "pause":
            while not path.with_name(f"{path.name}.go").exists():
                time.sleep(_POLL)
        else:
            number: int = getattr(errno, action)
            error = OSError(number, os.strerror(number))
            raise error if becomes is None else becomes(error)


def _unarmed(point: str, becomes: Becomes | None = None) -> None:
    """Do nothing."""


_folder = os.environ.get(VARIABLE)
reach: Callable[..., None] = _Armed(Path(_folder)) if _folder else _unarmed
"""`reach(point, becomes=None)`: what is armed for `point` happens now."""
