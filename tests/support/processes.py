"""Real processes under test: started in a group of their own, watched by what they say on stderr.

Knows nothing of what the process does: `registry` and `ams` start the services themselves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

DEADLINE = 20.0
"""Seconds after which something that should have happened hasn't."""

T = TypeVar("T")


class Process:
    """One process with its children. Leaving the context ends all of them."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):  # the whole group may have ended
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has said so far."""
        with self._news:
            return "".join(self._lines)

    def expect(self, text: str, count: int = 1, seconds: float = DEADLINE) -> str:
        """Return the `count`-th line with `text` in it, as soon as it is there."""
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                found = [line for line in self._lines if text in line]
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    said = "".join(self._lines)
                    raise AssertionError(f"no line {count} with {text!r} within time in:\n{said}")
                self._news.wait(min(left, 0.1))

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = DEADLINE) -> int:
        """Return the exit code of the first process; all of its output has then been read."""
        code = self._process.wait(seconds)
        self._reader.join(seconds)
        return code

    def members(self) -> list[int]:
        """The processes of its group that live."""
        return [pid for pid in _pids() if _group_of(pid) == self.pid]

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()


def until(condition: Callable[[], T], seconds: float = DEADLINE) -> T:
    """Poll `condition` until it gives something true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s; the last answer was {result!r}")
        time.sleep(0.02)
    return result


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _group_of(pid: int) -> int:
    """Return the process group of a process that lives, 0 for one that has ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            state, _, group = file.read().rpartition(")")[2].split()[:3]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if state == "Z" else int(group)
