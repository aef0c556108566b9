"""Wakes the requests that wait for something new.

One greenlet per worker looks at the database's version, and only while somebody waits: thousands
of waiting clients cost one cheap look. It knows nothing of what changed: whoever is woken looks,
together with the others (`pages`), so that a change of the feed and a change of trust both reach
a waiting client.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
from gevent.event import Event

#: Seconds between two looks at the database. A change reaches a waiting client within this time.
INTERVAL = 0.1


class Watcher:
    """Lets any number of greenlets wait for the next commit of any process.

    Args:
        version: gives a number that differs after every commit (`Database.version`).
        stopping: true once the server has been asked to stop; everybody is woken then.
        interval: seconds between two looks.
    """

    def __init__(
        self,
        version: Callable[[], int],
        stopping: Callable[[], bool],
        interval: float = INTERVAL,
    ) -> None:
        self._version = version
        self._stopping = stopping
        self._interval = interval
        self._changed = Event()
        self._seen = version()
        self._looking: gevent.Greenlet | None = None
        self.waiting = 0

    @property
    def version(self) -> int:
        """The database's version now; take it before reading what `wait` is to be about."""
        return self._version()

    @property
    def stopping(self) -> bool:
        """Whether the server stops, so that nobody should begin to wait."""
        return self._stopping()

    def wait(self, seen: int, deadline: float) -> bool:
        """Wait until the database's version is not `seen` any more.

        Returns True when it is another, False at the deadline (seconds of `time.monotonic`) or
        when the server stops.
        """
        self.waiting += 1
        try:
            if self._looking is None or self._looking.dead:
                self._looking = gevent.spawn(self._look)
            while not self._stopping():
                changed = self._changed
                if self._version() != seen:
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                changed.wait(left)
            return False
        finally:
            self.waiting -= 1

    def _look(self) -> None:
        while self.waiting:
            version = self._version()
            if version != self._seen or self._stopping():
                self._seen = version
                self._wake()
            gevent.sleep(self._interval)

    def _wake(self) -> None:
        # A fresh event for those who come later, so that none of them is woken by what was before.
        woken, self._changed = self._changed, Event()
        woken.set()
