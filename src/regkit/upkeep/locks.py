"""Locks between processes (flock): the kernel drops them however their holder ends.

`JANITOR`: held by whoever deletes blobs, and shared by whoever needs that none is deleted.
`STATE`: shared by every process that has the state open, held by the one that replaces it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regkit.errors import Conflict

JANITOR = Path("data/janitor.lock")
STATE = Path("data/state.lock")
"""Under the state root, which itself may be another user's."""

_PAUSE = 0.05


def take(path: Path, *, shared: bool = False, seconds: float = 0.0) -> int | None:
    """Return a descriptor that holds the lock until it is closed; None when it is held.

    Waits up to `seconds` for its holder.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + seconds
    try:
        while True:
            try:
                fcntl.flock(
                    descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
                )
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return None
                time.sleep(_PAUSE)
            else:
                return descriptor
    except BaseException:
        os.close(descriptor)
        raise


@contextmanager
def held(path: Path, busy: str, *, shared: bool = False, seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock within the context. Raises Conflict, with the message `busy`, without it."""
    descriptor = take(path, shared=shared, seconds=seconds)
    if descriptor is None:
        raise Conflict(busy)
    try:
        yield
    finally:
        os.close(descriptor)
