"""The job `hold`: connections that do nothing but be there, idle or in a long-poll.

Each has had one answer. With a `poll` it then asks for what doesn't come before it is stopped.
"""

from __future__ import annotations

from itertools import cycle
from typing import Any

from benchmarks.driver.handles import Answer, Handle, Identity, Target, WrongAnswer
from benchmarks.driver.load import Tally
from benchmarks.driver.loop import Loop

WAVE = 100
"""How many connect at a time."""


class Hold:
    """`connections` clients that hold on until `stop`."""

    def __init__(self, job: dict[str, Any], identities: list[Identity]) -> None:
        self._first = Target.parse(job["first"])
        self._poll = Target.parse(job["poll"]) if job.get("poll") else None
        who = cycle(identities)
        self._handles = [Handle(next(who)) for _ in range(job["connections"])]
        self._loop = Loop(len(self._handles))

    def prepare(self) -> None:
        """Connect, a wave at a time, and begin to wait."""
        for at in range(0, len(self._handles), WAVE):
            wave = self._handles[at : at + WAVE]
            for handle in wave:
                # Otherwise a wave would use the connections of the former one.
                handle.new_connection(True)
            self._ask(wave)
        for handle in self._handles:
            handle.new_connection(False)
        # The first may have been idle for long: now all are from the same moment on.
        self._ask(self._handles)
        if self._poll is None:
            return

        def answered(_answer: Answer) -> None:
            raise WrongAnswer("a long-poll ended by itself: something has changed meanwhile")

        for handle in self._handles:
            self._loop.start(handle.ask(self._poll, answered))

    def _ask(self, handles: list[Handle]) -> None:
        left = len(handles)

        def done(_answer: Answer) -> None:
            nonlocal left
            left -= 1

        for handle in handles:
            self._loop.start(handle.ask(self._first, done))
        self._loop.run(lambda: left == 0)

    def run(self) -> Tally:
        """Stay until told to stop."""
        self._loop.listen()
        self._loop.run(lambda: self._loop.stopped)
        self._loop.cancel_all()
        return Tally(done=len(self._handles))
