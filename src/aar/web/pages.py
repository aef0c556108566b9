"""Pages of the change feed for many clients that wait at the same place of it.

After a commit each of them would read the same page. Here one of them reads it for all, once per
commit that this worker knows of; so what a commit costs the database doesn't grow with those who
wait. A page is as old as the version that it is kept under, which is good for whoever waits, since
the next version wakes it. Whoever doesn't wait reads the feed itself (`aar.feed`).
"""

from __future__ import annotations

from collections.abc import Callable

from gevent.event import Event

from aar.feed import Cursor, Page

ROOM = 64
"""Pages that are kept; clients that are further behind than most read for themselves."""


class _Reading:
    """A page that somebody is reading, or has read."""

    def __init__(self) -> None:
        self.ended = Event()
        self.page: Page | None = None
        self.fault: Exception | None = None


class Pages:
    """The pages of one worker.

    Args:
        read: reads a page from the database (`Feed.read`).
        version: gives a number that differs after every commit (`Database.version`).
    """

    def __init__(
        self, read: Callable[[Cursor | None, int], Page], version: Callable[[], int]
    ) -> None:
        self._read = read
        self._version = version
        self._seen: int | None = None
        self._readings: dict[tuple[Cursor | None, int], _Reading] = {}

    def read(self, since: Cursor | None, limit: int) -> tuple[int, Page]:
        """Return the page after `since`, and the database's version before it was read.

        Raises what reading it raises, for all who wanted the same page.
        """
        while True:
            version = self._version()
            if version != self._seen:
                self._seen, self._readings = version, {}
            found = self._readings.get((since, limit))
            if found is None:
                return version, self._begin(since, limit)
            found.ended.wait()
            if found.fault is not None:
                raise found.fault
            if found.page is not None:
                return version, found.page
            # Its reader was ended, as by a client that hung up: now it is somebody else's turn.

    def _begin(self, since: Cursor | None, limit: int) -> Page:
        reading, key, readings = _Reading(), (since, limit), self._readings
        if len(readings) < ROOM:
            readings[key] = reading
        try:
            page = reading.page = self._read(since, limit)
        except Exception as fault:
            reading.fault = fault
            raise
        finally:
            if reading.page is None:
                readings.pop(key, None)
            reading.ended.set()
        return page
