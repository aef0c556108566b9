"""Waits at the registry for something new, so that a change arrives in about a second.

A thread of its own (a greenlet under `ams serve`) holds one long-poll. It only wakes the engine:
what changed is read and judged there.
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
    ) -> None:
        self._open = open_registry
        self._cursor = cursor
        self._wake = wake
        self._turn = threading.Condition()
        self._wanted = False
        self._stopped = False
        self._thread: threading.Thread | None = None

    def listen(self) -> None:
        """Wait for what comes after the cursor; no-op while it already does."""
        with self._turn:
            if self._stopped:
                return
            self._wanted = True
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
        while True:
            with self._turn:
                while not self._wanted and not self._stopped:
                    self._turn.wait()
                if self._stopped:
                    return
            try:
                new = self._poll()
            except ServiceError as fault:
                log.debug("long-poll-failed", error=str(fault))
                new = True
            except Exception:  # a fault of ours: the interval still holds
                log.exception("long-poll-broke")
                self.pause()
                continue
            if new:
                with self._turn:
                    self._wanted = False
                    stopped = self._stopped
                if not stopped:
                    self._wake()

    def _poll(self) -> bool:
        cursor = self._cursor()
        if cursor is None:
            return True
        registry = self._open()
        try:
            page = registry.changes(cursor, wait=MAX_WAIT)
        finally:
            registry.close()
        # Own pushes may have been read meanwhile: then it is nothing new.
        return page.head != self._cursor()
