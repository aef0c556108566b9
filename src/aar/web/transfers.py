"""Running downloads, cut as soon as whoever receives them may no longer.

Each piece is asked for before it is sent, in `access`; that alone would leave a download alone
which waits for its client in the midst of a piece, with what the kernel has taken already. So one
greenlet per worker looks at the database's version while there are downloads, and after a commit
asks for all of them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gevent

from regkit.serving import reset

#: Seconds between two looks at the database, which cost microseconds.
INTERVAL = 0.05


@dataclass(eq=False)
class _Transfer:
    greenlet: Any
    connection: Any
    may_go_on: Callable[[], bool]


class Transfers:
    """The downloads of one worker. `version` gives a number that differs after every commit."""

    def __init__(self, version: Callable[[], int], interval: float = INTERVAL) -> None:
        self._version = version
        self._interval = interval
        self._running: set[_Transfer] = set()
        self._looking: gevent.Greenlet | None = None

    @contextmanager
    def running(self, connection: Any, may_go_on: Callable[[], bool]) -> Iterator[None]:
        """Watch a download that this greenlet sends over `connection`, within the context.

        When `may_go_on` says no, the connection is cut and this greenlet gets a BrokenPipeError,
        which the server takes for a client's leaving.
        """
        transfer = _Transfer(gevent.getcurrent(), connection, may_go_on)
        self._running.add(transfer)
        if self._looking is None or self._looking.dead:
            self._looking = gevent.spawn(self._look)
        try:
            yield
        finally:
            self._running.discard(transfer)

    def _look(self) -> None:
        seen = None
        while self._running:
            version = self._version()
            if version != seen:
                seen = version
                for transfer in list(self._running):
                    if not transfer.may_go_on():
                        self._cut(transfer)
            gevent.sleep(self._interval)

    def _cut(self, transfer: _Transfer) -> None:
        self._running.discard(transfer)
        reset(transfer.connection)
        transfer.greenlet.kill(ended(), block=False)


def ended() -> BrokenPipeError:
    """Return what ends an answer without a word: the server closes the connection."""
    return BrokenPipeError(errno.EPIPE, "trust ended during a transfer")
