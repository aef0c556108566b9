"""The job `load`: requests over and over, each connection one at a time, or at a given pace.

With a `rate` the requests have a timetable, and a latency is counted from when the request was
due: what a slow server keeps waiting is in the figures, too.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from benchmarks.driver.handles import Answer, Handle, Identity, Target, content_of
from benchmarks.driver.loop import Loop


@dataclass
class Tally:
    """What came of a load. `wall` is from the beginning to the last answer, in seconds."""

    done: int = 0
    moved: int = 0
    wall: float = 0.0
    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)


class Load:
    """`connections` clients that ask for the targets in turn, for `seconds` or `count` times."""

    def __init__(self, job: dict[str, Any], identities: list[Identity]) -> None:
        targets = [Target.parse(given) for given in job["targets"]]
        self._targets = cycle(targets)
        for target in targets:
            if target.file is not None:
                content_of(target.file)
        self._warm = Target.parse(job["warm"]) if "warm" in job else targets[0]
        self._seconds: float | None = job.get("seconds")
        self._count: int | None = job.get("count")
        self._rate: float | None = job.get("rate")
        self._fresh = bool(job.get("fresh"))
        connections = job["connections"]
        who = cycle(identities)
        self._handles = [Handle(next(who), fresh=self._fresh) for _ in range(connections)]
        self._idle = deque(self._handles)
        self._due: deque[float] = deque()
        self._loop = Loop(connections)
        self._tally = Tally()
        self._begun = 0
        self._over = False

    def prepare(self) -> None:
        """Let each client make one request (`warm`), so that its connection is there."""
        left = len(self._handles)

        def done(_answer: Answer) -> None:
            nonlocal left
            left -= 1

        for handle in self._handles:
            self._loop.start(handle.ask(self._warm, done))
        self._loop.run(lambda: left == 0)
        for handle in self._handles:
            handle.moved = 0

    def run(self) -> Tally:
        """Do it."""
        self._loop.listen()
        self._start = time.perf_counter()
        if self._rate:
            self._loop.at(self._start, self._tick)
        else:
            for handle in self._handles:
                self._next(handle)
        self._loop.run(self._finished)
        self._loop.cancel_all()
        self._tally.moved = sum(handle.moved for handle in self._handles)
        if self._loop.stopped or not self._tally.wall:
            self._tally.wall = time.perf_counter() - self._start
        return self._tally

    def _finished(self) -> bool:
        if self._loop.stopped:
            return True
        return self._over and not self._loop.running and not self._due

    def _may_begin(self) -> bool:
        if self._over:
            return False
        if self._seconds is not None and time.perf_counter() - self._start >= self._seconds:
            self._over = True
        if self._count is not None and self._begun >= self._count:
            self._over = True
        return not self._over

    def _tick(self) -> None:
        """Make the next request of the timetable due."""
        if not self._may_begin():
            return
        assert self._rate is not None
        self._due.append(self._start + self._begun / self._rate)
        self._begun += 1
        self._loop.at(self._start + self._begun / self._rate, self._tick)
        self._serve_due()

    def _serve_due(self) -> None:
        while self._due and self._idle:
            self._request(self._idle.popleft(), self._due.popleft())

    def _next(self, handle: Handle) -> None:
        if self._may_begin():
            self._begun += 1
            self._request(handle, None)

    def _request(self, handle: Handle, due: float | None) -> None:
        def done(answer: Answer) -> None:
            now = time.perf_counter()
            tally = self._tally
            tally.done += 1
            tally.wall = now - self._start
            tally.latencies.append(answer.seconds if due is None else now - due)
            tally.first_bytes.append(answer.first_byte)
            if due is None:
                self._next(handle)
            else:
                self._idle.append(handle)
                self._serve_due()

        self._loop.start(handle.ask(next(self._targets), done))
