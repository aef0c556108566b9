"""Driver processes as the measurements use them: prepared, begun together, their results added.

What a job may say is in `driver/`; which Python they run on is `environment`'s business.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STOP_SECONDS = 60


class DriverFailed(RuntimeError):  # noqa: N818 - the name states the outcome
    """A driver met a wrong answer, or broke; the message says which."""


@dataclass
class Outcome:
    """The added results of drivers that ran at the same time. Times in seconds, `cpu` theirs."""

    done: int = 0
    moved: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.done / self.wall

    @property
    def speed(self) -> float:
        """Bytes of bodies per second."""
        return self.moved / self.wall

    def latency(self, part: float) -> float:
        """Return the latency that `part` (0 to 1) of the requests didn't exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    @property
    def first_byte(self) -> float:
        """The median time to the first byte."""
        ordered = sorted(self.first_bytes)
        return ordered[len(ordered) // 2]


class Driver:
    """One driver process, from its job to its result. A context manager: leaving ends it."""

    def __init__(
        self,
        python: Path,
        job: Mapping[str, Any],
        told: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Start it with `job`; `told` gets what it says between `ready` and `result`."""
        self._told = told
        with tempfile.NamedTemporaryFile(
            "w", suffix=".json", prefix="job-", delete=False, encoding="utf-8"
        ) as file:
            json.dump(job, file)
        self._job = Path(file.name)
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.driver", file.name],
            cwd=ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._job.unlink(missing_ok=True)

    def prepared(self) -> None:
        """Wait until it is ready to begin."""
        self._expect("ready")

    def go(self) -> None:
        """Let it begin."""
        self._say("go")

    def stop(self) -> None:
        """Let it end early."""
        self._say("stop")

    def result(self) -> dict[str, Any]:
        """Wait for its result."""
        return self._expect("result")

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._expect("result")  # says why it has ended

    def _expect(self, event: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if said["event"] == event:
                return said
            if said["event"] == "fault":
                raise DriverFailed(said["message"])
            if self._told is not None:
                self._told(said)
        raise DriverFailed(f"a driver ended with code {self._process.wait()} before its {event}")


class Crew:
    """Drivers that begin together, each with its job."""

    def __init__(
        self,
        python: Path,
        jobs: Sequence[Mapping[str, Any]],
        told: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._drivers: list[Driver] = []
        try:
            for job in jobs:
                self._drivers.append(Driver(python, job, told))
            for driver in self._drivers:
                driver.prepared()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all of them."""
        for driver in self._drivers:
            driver.__exit__()

    def go(self) -> None:
        """Let all begin."""
        for driver in self._drivers:
            driver.go()

    def stop(self) -> None:
        """Let all end early."""
        for driver in self._drivers:
            driver.stop()

    def outcome(self) -> Outcome:
        """Wait for all and add their results; the time is that of the slowest."""
        total = Outcome()
        for said in self._results():
            total.done += said["done"]
            total.moved += said["moved"]
            total.wall = max(total.wall, said["wall"])
            total.cpu += said["cpu"]
            total.latencies += said["latencies"]
            total.first_bytes += said["first_bytes"]
            total.digests += said["digests"]
        return total

    def _results(self) -> list[dict[str, Any]]:
        # Each in a thread: a driver whose pipe is full would wait for us while another runs.
        results: list[dict[str, Any] | BaseException] = [{} for _ in self._drivers]

        def collect(index: int) -> None:
            try:
                results[index] = self._drivers[index].result()
            except (DriverFailed, ValueError) as fault:
                results[index] = fault

        threads = [
            threading.Thread(target=collect, args=(index,)) for index in range(len(results))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found: list[dict[str, Any]] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            found.append(result)
        return found
