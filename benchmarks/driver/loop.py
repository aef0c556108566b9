"""Many handles at a time in one thread: libcurl's multi interface over epoll.

As libcurl's documentation has it for many connections (libcurl-multi(3), "multi_socket"): epoll
says which sockets moved, only those are looked at.
"""
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import heapq
import os
import select
import sys
import time
from collections.abc import Callable
from itertools import count

import pycurl

from benchmarks.driver.handles import Handle

LONGEST = 1.0
"""Seconds of one wait at most, so that a lost timer can't stop everything."""


class Loop:
    """Runs handles and timers until told to stop, by itself or by a line on standard input."""

    def __init__(self, connections: int) -> None:
        """Keep up to `connections` idle connections for later requests."""
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._wish)
        self._poll = select.epoll()
        self._watched: set[int] = set()
        self._due: float | None = None
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._handles: dict[pycurl.Curl, Handle] = {}
        self.stopped = False
        """Whether a line `stop` (or the end of the input) has come."""

    @property
    def running(self) -> int:
        """How many requests are under way."""
        return len(self._handles)

    def start(self, handle: Handle) -> None:
        """Begin the request that was prepared."""
        self._handles[handle.curl] = handle
        self._multi.add_handle(handle.curl)

    def cancel(self, handle: Handle) -> None:
        """Give a request up, and its connection."""
        if self._handles.pop(handle.curl, None):
            self._multi.remove_handle(handle.curl)

    def cancel_all(self) -> None:
        """Give up what is under way."""
        for handle in list(self._handles.values()):
            self.cancel(handle)

    def at(self, moment: float, call: Callable[[], None]) -> None:
        """Call something at `moment` (`time.perf_counter`)."""
        heapq.heappush(self._timers, (moment, next(self._order), call))

    def listen(self) -> None:
        """Take `stop` from standard input from now on."""
        os.set_blocking(sys.stdin.fileno(), False)
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)

    def run(self, until: Callable[[], bool]) -> None:
        """Work until the condition holds. Raises WrongAnswer."""
        self._act(pycurl.SOCKET_TIMEOUT, 0)
        while not until():
            for descriptor, events in self._poll.poll(self._pause()):
                if descriptor == sys.stdin.fileno():
                    self._hear()
                    continue
                mask = 0
                if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    mask |= pycurl.CSELECT_IN
                if events & select.EPOLLOUT:
                    mask |= pycurl.CSELECT_OUT
                self._act(descriptor, mask)
            now = time.perf_counter()
            if self._due is not None and now >= self._due:
                self._due = None
                self._act(pycurl.SOCKET_TIMEOUT, 0)
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()

    def _pause(self) -> float:
        moments = [self._due] if self._due is not None else []
        moments += [self._timers[0][0]] if self._timers else []
        return max(0.0, min([moment - time.perf_counter() for moment in moments], default=LONGEST))

    def _act(self, descriptor: int, mask: int) -> None:
        self._multi.socket_action(descriptor, mask)
        while True:
            left, finished, failed = self._multi.info_read()
            for curl in finished:
                self._end(curl, None)
            for curl, _, message in failed:
                self._end(curl, message)
            if not left:
                return

    def _end(self, curl: pycurl.Curl, fault: str | None) -> None:
        handle = self._handles.pop(curl)
        self._multi.remove_handle(curl)
        handle.finished(fault)

    def _hear(self) -> None:
        text = os.read(sys.stdin.fileno(), 4096)
        if not text or b"stop" in text:
            self._poll.unregister(sys.stdin.fileno())
            self.stopped = True

    def _watch(self, action: int, descriptor: int, _multi: object, _data: object) -> None:
        if action == pycurl.POLL_REMOVE:
            if descriptor in self._watched:
                self._watched.discard(descriptor)
                try:
                    self._poll.unregister(descriptor)
                except OSError:  # libcurl has closed it already
                    return
            return
        events = 0
        if action in (pycurl.POLL_IN, pycurl.POLL_INOUT):
            events |= select.EPOLLIN
        if action in (pycurl.POLL_OUT, pycurl.POLL_INOUT):
            events |= select.EPOLLOUT
        if descriptor in self._watched:
            self._poll.modify(descriptor, events)
        else:
            self._watched.add(descriptor)
            self._poll.register(descriptor, events)

    def _wish(self, milliseconds: int) -> None:
        self._due = None if milliseconds < 0 else time.perf_counter() + milliseconds / 1000
