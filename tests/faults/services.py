"""Services that are made to fail: killed, killed at a failpoint, out of space, with wrong clocks.

Each is an `e2e.site.Machine`, started with a folder of failpoints of its own and, where
libfaketime is installed, with a clock that can be set while it runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ams.client import Client
from e2e.site import COMMAND_SECONDS, Machine, Result, until
from regkit import failpoints

LIBRARY = "libfaketimeMT.so.1"


def faketime_library() -> Path | None:
    """Return libfaketime (https://github.com/wolfcw/libfaketime), if it is installed."""
    found = sorted(Path("/usr/lib").glob(f"*/faketime/{LIBRARY}"))
    return found[0] if found else None


class Service(Machine):
    """One service whose faults are in our hands."""

    def __init__(self, root: Path, name: str, program: str, settings: str) -> None:
        super().__init__(root, name, program, settings)
        self.port = 0
        self._points = root / name / "failpoints"
        self._points.mkdir()
        self._clock = root / name / "clock"
        self._library = faketime_library()
        self.set_clock(0)

    @property
    def _environment(self) -> dict[str, str]:
        environment = {**super()._environment, failpoints.VARIABLE: str(self._points)}
        if self._library is not None:
            environment |= {
                "LD_PRELOAD": str(self._library),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            }
        return environment

    # Its process

    def up(self) -> None:
        """Start it and wait until it serves."""
        self.start()
        self.port = self.wait_ready()

    def kill(self) -> None:
        """kill -9 every process of it."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def kill_worker(self) -> bool:
        """kill -9 one process that serves; the first starts another."""
        workers = self.members()[1:]
        if workers:
            os.kill(workers[0], signal.SIGKILL)
        return bool(workers)

    def members(self) -> list[int]:
        """Return its processes, the first one first."""
        assert self._process is not None
        first = self._process.pid
        try:
            children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [first, *map(int, children)]

    def stop(self) -> None:
        self.request_stop()
        self.wait_stopped()

    def begin_again(self) -> None:
        """Start it after it has ended; `wait_ready` tells when it serves."""
        self._join_group()
        self.start()

    def _join_group(self) -> None:
        """Make sure that no worker of a first process that died goes on."""
        assert self._process is not None
        group = self._process.pid

        def gone() -> bool:
            # Orphans are ours where we are the first process of a namespace.
            with suppress(ChildProcessError):
                os.waitpid(-group, os.WNOHANG)
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                return True
            return False

        until(f"{self.name} has ended", gone, 10)

    def command(self, arguments: Sequence[str], failpoints_in: Path, days: int = 0) -> int:
        """Run its program beside it, with failpoints of its own; returns the exit code."""
        environment = {**self._environment, failpoints.VARIABLE: str(failpoints_in)}
        if self._library is not None:
            del environment["FAKETIME_TIMESTAMP_FILE"]
            environment["FAKETIME"] = f"{days:+d}d"
        done = subprocess.run(
            [sys.executable, "-m", self.program, *arguments],
            cwd=self.desk,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return done.returncode

    # Failpoints

    def arm(self, point: str, action: str, hit: int = 1) -> None:
        made = self._points / f".{point}"
        made.write_text(f"{hit} {action}")
        (self._points / f"{point}.fired").unlink(missing_ok=True)
        made.rename(self._points / point)

    def fired(self, point: str) -> bool:
        return (self._points / f"{point}.fired").exists()

    def disarm(self) -> None:
        for path in self._points.iterdir():
            path.unlink(missing_ok=True)

    # Its clock

    @property
    def has_clock(self) -> bool:
        return self._library is not None

    def set_clock(self, days: int) -> None:
        """Move its clock so many days from the true time; it jumps within a second or two."""
        made = self._clock.with_suffix(".new")
        made.write_text(f"{days:+d}d\n")
        made.rename(self._clock)

    # Its resources

    def descriptors(self) -> list[str]:
        """Return what its processes have open."""
        found = []
        for process in self.members():
            folder = Path(f"/proc/{process}/fd")
            try:
                links = list(folder.iterdir())
            except (FileNotFoundError, ProcessLookupError):
                continue
            for link in links:
                try:
                    found.append(str(link.readlink()))
                except FileNotFoundError:
                    continue
        return found


class ManagementService(Service):
    """An `ams serve` and a client of its API."""

    def __init__(self, root: Path, name: str, settings: str) -> None:
        super().__init__(root, name, "ams", settings)

    def api(self) -> Client:
        return Client.local(self.home / "server" / "unix.socket")

    def configure(self, **options: str) -> None:
        with self.api() as client:
            for name, value in options.items():
                client.wait(client.set_config(name.replace("__", "."), value), 60)

    def certificate(self) -> tuple[Path, Path]:
        folder = self.home / "registry"
        return folder / "client.crt", folder / "client.key"

    def ams(self, *arguments: str) -> Result:
        """Run `ams` on its state, beside it."""
        return self.run("ams", *arguments)


class Filler:
    """A file that takes what room is left on a file system, until it is deleted."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "filler"

    def fill(self, leave: int = 0) -> int:
        """Leave at most `leave` bytes free; returns what is left."""
        for _ in range(50):
            # Whoever else writes may take of it between the look and the deed.
            size = self._free() - leave
            with suppress(OSError), self._path.open("ab") as file:
                if size > 0:
                    os.posix_fallocate(file.fileno(), file.tell(), size)
                break
        return self._free()

    def _free(self) -> int:
        state = os.statvfs(self._path.parent)
        return state.f_bavail * state.f_frsize

    def delete(self) -> None:
        self._path.unlink(missing_ok=True)


def settled(look: Callable[[], object], seconds: float) -> bool:
    """Whether a condition comes true within some seconds; False when it doesn't."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
