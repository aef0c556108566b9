"""Servers under test as process groups: started, waited for, measured, ended by id.

CPU and memory are read from /proc for the whole group (proc_pid_stat(5), proc_pid_status(5)).
What a server is and how it is configured is `servers`' business.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
START_SECONDS = 60.0
STOP_SECONDS = 20.0

_RESET_PEAK = "5"
"""proc(5), clear_refs: the peak of the resident set begins anew at the present size."""


class NotReady(RuntimeError):  # noqa: N818 - the name states the outcome
    """A process didn't come to where it should; the message has its last lines."""


@dataclass
class Usage:
    """What a group used between two moments: CPU in seconds, memory in bytes.

    `peak` is the sum of VmHWM, the largest resident set of each process in that time; pages that
    processes share are counted in each. `resident` is the sum of the present sizes, `own` that of
    the pages that are a process's alone or its part of a shared one (Pss).
    """

    cpu: float = 0.0
    peak: int = 0
    resident: int = 0
    own: int = 0


@dataclass(frozen=True)
class Line:
    """A line that a process wrote to its log, and when it came (`time.monotonic`)."""

    text: str
    at: float


class Group:
    """A process with its children, in a session of its own. A context manager: leaving ends it."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """Start `command`; what it says goes to the file `log` and can be waited for."""
        self._lines: list[Line] = []
        self._news = threading.Condition()
        self._log = log
        self._process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def mark(self) -> int:
        """Return where the log ends now, for `expect`."""
        with self._news:
            return len(self._lines)

    def expect(
        self, fits: Callable[[str], bool], since: int = 0, seconds: float = START_SECONDS
    ) -> Line:
        """Return the first line from `since` on that fits, as soon as it is there."""
        deadline = time.monotonic() + seconds
        at = since
        with self._news:
            while True:
                while at < len(self._lines):
                    if fits(self._lines[at].text):
                        return self._lines[at]
                    at += 1
                left = deadline - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    raise NotReady(f"{self._log.name}: not what was waited for:\n{self.tail()}")
                self._news.wait(min(left, 0.2))

    def tail(self, count: int = 20) -> str:
        """Return the last lines of the log."""
        return "".join(line.text for line in self._lines[-count:])

    def members(self) -> list[int]:
        """Return the processes of the group that live."""
        return [pid for pid in _pids() if _group_of(pid) == self.pid]

    def usage(self) -> Usage:
        """Return what the group has used since it began, or since the peak was reset."""
        found = Usage()
        for pid in self.members():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.cpu += _cpu(pid)
                status = _status(pid)
                found.peak += status.get("VmHWM", 0)
                found.resident += status.get("VmRSS", 0)
                found.own += _proportional(pid)
        return found

    def sockets(self) -> int:
        """Return how many TCP connections the group holds, listening sockets left out."""
        return sum(len(_sockets(pid) & _established(pid)) for pid in self.members())

    @contextmanager
    def measured(self) -> Iterator[Usage]:
        """Fill the given Usage with what is used inside the block."""
        for pid in self.members():
            with contextlib.suppress(OSError):  # a kernel without it: the peak is since the start
                Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)
        before = self.usage().cpu
        used = Usage()
        yield used
        after = self.usage()
        used.cpu = after.cpu - before
        used.peak, used.resident, used.own = after.peak, after.resident, after.own

    def stop(self) -> None:
        """Ask it to stop; end whatever of the group is left after a while."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the group at once."""
        if self._process.returncode is None or self.members():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(STOP_SECONDS)
        self._reader.join(STOP_SECONDS)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream, self._log.open("a", encoding="utf-8") as log:
            for text in stream:
                line = Line(text, time.monotonic())
                log.write(text)
                log.flush()
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()


def until(condition: Callable[[], object], seconds: float, pause: float = 0.005) -> None:
    """Look at a condition every `pause` seconds until it holds. Raises NotReady."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotReady(f"what was waited for didn't come within {seconds:g} s")
        time.sleep(pause)


def free_port() -> int:
    """Return a port of loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_port(group: Group, port: int, seconds: float = START_SECONDS) -> None:
    """Wait until `group` takes connections on `port`. Raises NotReady when it ends before."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if not group.runs or time.monotonic() > deadline:
            raise NotReady(f"nothing listens on port {port}:\n{group.tail()}")
        time.sleep(0.01)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the third on: names may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def _group_of(pid: int) -> int:
    try:
        state, _, group = _fields(pid)[:3]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if state == "Z" else int(group)


def _cpu(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that have ended."""
    # Fields 14 to 17: utime, stime, cutime, cstime.
    return sum(int(ticks) for ticks in _fields(pid)[11:15]) / TICK


def _status(pid: int) -> dict[str, int]:
    """Return the sizes in /proc/<pid>/status, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines]
    return {
        row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"
    }


def _sockets(pid: int) -> set[str]:
    """Return the inodes of a process's sockets."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = str(link.readlink())
            if target.startswith("socket:["):
                found.add(target[len("socket:[") : -1])
    return found


def _established(pid: int) -> set[str]:
    """Return the inodes of established TCP connections (proc(5), net/tcp: state 01)."""
    rows = Path(f"/proc/{pid}/net/tcp").read_text(encoding="utf-8").splitlines()[1:]
    return {row.split()[9] for row in rows if row.split()[3] == "01"}


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
