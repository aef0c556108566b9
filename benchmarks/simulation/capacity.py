"""What one unit of the registry can do: figures of `./dev bench`, or stated assumptions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.measures import small, units
from benchmarks.results import Report, Row, Rows


@dataclass(frozen=True)
class Capacity:
    """One unit, on `cores` cores.

    Seconds are of CPU, so that they add up: for a request on an open connection, for a new
    connection, for ending a long-poll, for a signed link to the object storage, for sending a GB.
    `waiting_bytes`: memory of a client in a long-poll.
    """

    cores: int
    request: float
    connection: float
    wake: float
    link: float
    per_gb: float
    waiting_bytes: float

    def seconds(self, *, requests: float = 0, connections: float = 0, gb: float = 0) -> float:
        """Return the CPU seconds of some work."""
        return requests * self.request + connections * self.connection + gb * self.per_gb


NEEDED = ("small", "idle", "units")
AAR = "aar"
ONE, REDIRECTING = "1 unit", "redirecting unit"


def from_results(folder: Path) -> Capacity:
    """Read the capacity from what `./dev bench small idle units` wrote into `folder`.

    It is that of a unit on a shared database and object storage, which a large fleet needs; a new
    connection and a waiting client cost the same with any engine. Raises FileNotFoundError for a
    result that is missing, LookupError for a row that is.
    """
    reports = {name: Report.load(folder / f"{name}.json") for name in NEEDED}
    kept = _row(reports["small"], small.MANIFEST, AAR)
    fresh = _row(reports["small"], small.NEW, AAR)
    poll = _row(reports["units"], units.POLL, ONE)
    pull = _row(reports["units"], units.PULL, ONE)
    waiting = _row(reports["idle"], "2,000 long-polling", AAR)
    return Capacity(
        cores=reports["units"].environment["cores"],
        request=poll.cpu / 1000,
        connection=max(0.0, (fresh.cpu - kept.cpu) / 1000),
        wake=poll.cpu / 1000,  # it ends as a poll does: with a page of changes
        link=_row(reports["units"], units.ELSEWHERE, REDIRECTING).cpu / 1000,
        per_gb=pull.cpu,
        waiting_bytes=waiting.median * 1024,
    )


def _row(report: Report, case: str, contender: str) -> Row:
    row = Rows(report.rows).get(case, contender)
    if row is None:
        raise LookupError(f"{report.name} has no row {case!r} of {contender!r}")
    return row
