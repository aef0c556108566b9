"""Waits at the registry for something new, so that a change arrives in about a second.

A thread of its own (a greenlet under `ams serve`) holds one long-poll, on one connection for as
long as nothing is new. It only wakes the engine: what changed is read and judged there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ams.sync.door import MAX_WAIT, Door
from ams.sync.feed import Cursor
from regkit import logs
from regkit.errors import ServiceError

log = logs.get("ams.sync")


class Listener:
    """Holds a long-poll from the time it is told to until something is new or it fails.

    It asks again only when the engine has looked (`listen`): so neither a failing registry nor
    one that answers nonsense makes it spin.
    """

    def __init__(
        self,
        open_registry: Callable[[], Door],
        cursor: Callable[[], Cursor | None],
        wake: Callable[[], None],
        delay: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`delay` tells how many seconds to let pass between the news and `wake`."""
        self._open = open_registry
        self._cursor = cursor
        self._wake = wake
        self._delay = delay
        self._turn = threading.Condition()
        self._asked = 0
        self._registry: tuple[int, Door] | None = None
        self._wanted = False
        self._stopped = False
        self._thread: threading.Thread | None = None

    def listen(self) -> None:
        """Wait for what comes after the cursor; where it already does, by the present settings.

        The settings count from the next poll on: the connection is made anew then.
        """
        with self._turn:
            if self._stopped:
                return
            self._wanted = True
            self._asked += 1
            if self._thread is None:
                # A daemon: its poll can't be interrupted, and nothing is lost with it.
                self._thread = threading.Thread(target=self._run, name="ams-listen", daemon=True)
                self._thread.start()
            self._turn.notify()

    def pause(self) -> None:
        """Ask no more until `listen`."""
        with self._turn:
            self._wanted = False

    def stop(self) -> None:
        """End the thread when its present poll ends."""
        with self._turn:
            self._stopped = True
            self._wanted = False
            self._turn.notify()

    def _run(self) -> None:
        try:
            while self._may_ask():
                delay = self._news()
                if delay is not None and self._after(delay):
                    self._wake()
        finally:
            self._hang_up()

    def _may_ask(self) -> bool:
        """Wait until asked to listen; say whether there is to be a poll at all."""
        with self._turn:
            resting = not self._wanted
        if resting:
            self._hang_up()
        with self._turn:
            self._turn.wait_for(lambda: self._wanted or self._stopped)
            return not self._stopped

    def _news(self) -> float | None:
        """Poll once; return in how many seconds to wake the engine, None for not at all."""
        try:
            if not self._poll():
                return None
            delay = self._delay()
        except ServiceError as fault:
            log.debug("long-poll-failed", error=str(fault))
            self._hang_up()
            delay = 0.0
        except Exception:  # a fault of ours: the interval still holds
            log.exception("long-poll-broke")
            self.pause()
            return None
        self.pause()
        return delay

    def _after(self, seconds: float) -> bool:
        """Let the time pass; say whether nobody has stopped us meanwhile."""
        with self._turn:
            return not self._turn.wait_for(lambda: self._stopped, seconds)

    def _poll(self) -> bool:
        cursor = self._cursor()
        if cursor is None:
            return True
        page = self._connected().changes(cursor, wait=MAX_WAIT)
        # Own pushes may have been read meanwhile: then it is nothing new.
        return page.head != self._cursor()

    def _connected(self) -> Door:
        with self._turn:
            asked = self._asked
        if self._registry is None or self._registry[0] != asked:
            self._hang_up()
            self._registry = (asked, self._open())
        return self._registry[1]

    def _hang_up(self) -> None:
        if self._registry is not None:
            self._registry[1].close()
            self._registry = None
