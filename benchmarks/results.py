"""Figures as values, and as JSON: samples of rounds, rows of cases and contenders, goals."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sample:
    """What one round of one case gave.

    `value` is the figure itself, in the row's unit. `cpu` are the server's CPU seconds over `work`
    units of work (thousands of requests, GB, …), `peak` its largest resident set in bytes,
    `client_cpu` the CPU seconds of what made the load. `more`: further figures by name.
    """

    value: float
    cpu: float = 0.0
    work: float = 1.0
    peak: int = 0
    client_cpu: float = 0.0
    more: dict[str, float] = field(default_factory=dict)


@dataclass
class Row:
    """The samples of one contender in one case. `per` names the unit of work."""

    case: str
    contender: str
    unit: str
    per: str
    samples: list[Sample] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(sample.value for sample in self.samples)

    @property
    def lowest(self) -> float:
        return min(sample.value for sample in self.samples)

    @property
    def highest(self) -> float:
        return max(sample.value for sample in self.samples)

    @property
    def cpu(self) -> float:
        """The median of the server's CPU seconds per unit of work."""
        return statistics.median(sample.cpu / sample.work for sample in self.samples)

    @property
    def client_cpu(self) -> float:
        """The median of the load's CPU seconds per unit of work."""
        return statistics.median(sample.client_cpu / sample.work for sample in self.samples)

    @property
    def peak(self) -> int:
        return int(statistics.median(sample.peak for sample in self.samples))

    def more(self, name: str) -> float:
        """Return the median of a further figure."""
        return statistics.median(sample.more[name] for sample in self.samples)


@dataclass(frozen=True)
class Goal:
    """What was aimed at. `value` and `met` are None where its contenders weren't measured."""

    text: str
    value: float | None
    met: bool | None


class Rows:
    """The rows of a measurement, found by case and contender."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.all = list(rows)

    def get(self, case: str, contender: str) -> Row | None:
        """Return a row, or None when it wasn't measured."""
        for row in self.all:
            if (row.case, row.contender) == (case, contender):
                return row
        return None

    def value(self, case: str, contender: str, more: str | None = None) -> float | None:
        """Return a row's median, or that of a further figure."""
        row = self.get(case, contender)
        if row is None:
            return None
        return row.median if more is None else row.more(more)

    def ratio(
        self, case: str, contender: str, other: str, more: str | None = None
    ) -> float | None:
        """Return how many times the other's figure a contender's is."""
        ours, theirs = self.value(case, contender, more), self.value(case, other, more)
        return None if ours is None or not theirs else ours / theirs


def at_least(text: str, value: float | None, limit: float) -> Goal:
    """Return a goal that is met from `limit` on."""
    return Goal(f"{text} ≥ {limit:g}", value, None if value is None else value >= limit)


def at_most(text: str, value: float | None, limit: float) -> Goal:
    """Return a goal that is met up to `limit`."""
    return Goal(f"{text} ≤ {limit:g}", value, None if value is None else value <= limit)


@dataclass(frozen=True)
class Report:
    """Everything that one measurement gave."""

    name: str
    title: str
    rounds: int
    quick: bool
    environment: dict[str, Any]
    rows: list[Row]
    goals: list[Goal]
    notes: list[str]

    def save(self, folder: Path) -> None:
        """Write it as `<name>.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        document = asdict(self)
        for written, row in zip(document["rows"], self.rows, strict=True):
            written |= {
                "median": row.median,
                "cpu_per_work": row.cpu,
                "client_cpu_per_work": row.client_cpu,
                "peak": row.peak,
            }
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        (folder / f"{self.name}.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read what `save` wrote."""
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            Row(
                row["case"],
                row["contender"],
                row["unit"],
                row["per"],
                [Sample(**sample) for sample in row["samples"]],
            )
            for row in document["rows"]
        ]
        goals = [Goal(**goal) for goal in document["goals"]]
        return cls(**{**document, "rows": rows, "goals": goals})
