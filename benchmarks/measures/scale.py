"""What every measurement is given and gives back, and the samples that several make alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.drivers import Outcome
from benchmarks.lab import Lab
from benchmarks.processes import Usage
from benchmarks.results import Goal, Row, Sample

T = TypeVar("T")

GB = 1e9
KIB = 1024
MIB = 1024 * 1024


@dataclass(frozen=True)
class Scale:
    """How much is done: `quick` is for trying out, its figures mean nothing."""

    quick: bool
    rounds: int

    def pick(self, full: T, quick: T) -> T:
        """Return the one or the other."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Measured:
    """What a measurement found."""

    rows: list[Row]
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Measure:
    """A measurement. `needs` are the servers beside ours that it compares with."""

    name: str
    title: str
    run: Callable[[Lab, Scale], Measured]
    needs: tuple[str, ...] = ()


def of_requests(outcome: Outcome, used: Usage) -> Sample:
    """Return requests per second, with latencies; the unit of work is 1,000 requests."""
    return Sample(
        value=outcome.rate,
        cpu=used.cpu,
        work=outcome.done / 1000,
        peak=used.peak,
        client_cpu=outcome.cpu,
        more={
            "p50 ms": outcome.latency(0.5) * 1000,
            "p99 ms": outcome.latency(0.99) * 1000,
        },
    )


def of_bytes(outcome: Outcome, used: Usage) -> Sample:
    """Return GB per second; the unit of work is one GB."""
    more = {}
    if outcome.first_bytes:
        more["first byte ms"] = outcome.first_byte * 1000
    return Sample(
        value=outcome.speed / GB,
        cpu=used.cpu,
        work=outcome.moved / GB,
        peak=used.peak,
        client_cpu=outcome.cpu,
        more=more,
    )
