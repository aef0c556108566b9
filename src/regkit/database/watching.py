"""Telling that somebody has committed, by asking a database server ten times a second.

PostgreSQL has no counter of commits that costs nothing to read, so one thread per process
(under gevent's patching: a greenlet) asks for `pg_current_snapshot()`, whose text differs after
every commit of a writer, whoever it was. NOTIFY would need the same polling beside it, to learn
that the connection is dead; it makes commits queue, and tells nothing of what `psql` does.

What is kept under a number must not be trusted while nobody knows whether it still holds. So,
when the last answer was asked for longer than `STALE` ago, the number changes by itself, once per
`INTERVAL`. A number is therefore never valid for longer than `STALE` and an `INTERVAL` after a
commit that it doesn't know.

Who needs to know for certain has the server asked at once (`fresh`), in one question for all who
do so at the same time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from regkit import logs

log = logs.get("regkit.database")

INTERVAL = 0.1
"""Seconds between two questions."""
STALE = 0.5
"""Seconds after which an answer is worth nothing."""
LONGEST_PAUSE = 2.0
"""Seconds between two tries to reach a server that is away."""


class Watch:
    """The number of one process; `ask` gives a function that asks, over a connection of its own.

    That function returns a text which differs after every commit, raises any error when it can't,
    and has a `close`.
    """

    def __init__(
        self, connect: Callable[[], Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._lock = threading.Lock()
        self._number = 0
        self._asked = float("-inf")  # when what was answered last was asked
        self._ticked = float("-inf")
        self._waiting: list[_Waiter] = []
        self._wanted = threading.Event()  # somebody waits, or it is over
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None
        self._process = 0

    def version(self) -> int:
        """Return the number; the first call begins the asking. It never waits for the server."""
        if self._thread is None or self._process != os.getpid():
            self._start()
        now = self._clock()
        with self._lock:
            if now - self._asked > STALE and now - self._ticked >= INTERVAL:
                self._number += 1
                self._ticked = now
            return self._number

    def fresh(self, patience: float = STALE) -> int:
        """Return the number after asking the server: it knows every commit that came before.

        When the server can't say within `patience` seconds nothing is kept under what is returned.
        """
        if self._thread is None or self._process != os.getpid():
            self._start()
        waiter = _Waiter()
        with self._lock:
            self._waiting.append(waiter)
            self._wanted.set()
        if waiter.told.wait(patience):
            return waiter.number
        self.bump()
        return self.version()

    def bump(self) -> None:
        """Change the number now, as after a commit of this process."""
        with self._lock:
            self._number += 1

    def close(self) -> None:
        """Stop asking; `version` begins anew."""
        with self._lock:
            thread, stop, self._thread = self._thread, self._stop, None
            self._asked = float("-inf")
        if stop is not None:
            stop.set()
            self._wanted.set()
        if thread is not None and self._process == os.getpid():
            thread.join(LONGEST_PAUSE)

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None and self._process == os.getpid():
                return
            self._process, self._asked = os.getpid(), float("-inf")
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._stop,), name="database-watch", daemon=True
            )
            self._thread.start()

    def _run(self, stop: threading.Event) -> None:
        pause, lost = INTERVAL, False
        while not stop.is_set():
            try:
                ask = self._connect()
                try:
                    if lost:
                        log.info("database-reached-again")
                    pause, lost = INTERVAL, False
                    self._ask_on(ask, stop)
                finally:
                    ask.close()
            except Exception as error:  # whatever it is: the number must stop being trusted
                if stop.is_set():
                    return
                self.bump()
                self._tell(self._those_waiting())
                if not lost:
                    log.warning("database-lost", reason=_line(error))
                lost = True
            stop.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _ask_on(self, ask: Any, stop: threading.Event) -> None:
        seen: str | None = None
        while not stop.is_set():
            waiting = self._those_waiting()
            asked = self._clock()
            try:
                answer = ask()
            except BaseException:
                with self._lock:
                    self._waiting += waiting
                raise
            with self._lock:
                if answer != seen:
                    self._number += 1
                    seen = answer
                if not stop.is_set():
                    self._asked = asked
            self._tell(waiting)
            self._wanted.wait(INTERVAL)

    def _those_waiting(self) -> list[_Waiter]:
        """Take those who wait for the next question."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            if self._stop is not None and not self._stop.is_set():
                self._wanted.clear()
        return waiting

    def _tell(self, waiting: list[_Waiter]) -> None:
        with self._lock:
            number = self._number
        for waiter in waiting:
            waiter.number = number
            waiter.told.set()


class _Waiter:
    """One who waits for the answer to a question that isn't asked yet."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.number = 0


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
