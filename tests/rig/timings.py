"""How long hooks took and whether they did anything: for reports and for the no-op median."""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING, Any

from rig.state import Unit

if TYPE_CHECKING:
    from rig.hookcontext import HookContext


@dataclasses.dataclass(frozen=True)
class Timing:
    """One run. `wrote` is whether it left anything to flush or set a status."""

    unit: str
    hook: str
    seconds: float
    calls: int
    returncode: int
    wrote: bool


class Timings:
    """All runs so far, oldest first. Guarded by the controller's lock."""

    def __init__(self) -> None:
        self.runs: list[Timing] = []

    def record(
        self, unit: Unit, hook: str, seconds: float, context: HookContext, returncode: int
    ) -> None:
        """Remember one run."""
        self.runs.append(
            Timing(unit.name, hook, seconds, context.calls, returncode, context.wrote())
        )

    def summary(self, hook: str | None = None, unit: str | None = None) -> dict[str, Any]:
        """Counts and medians in seconds of the matching runs and of those that wrote nothing."""
        chosen = [r for r in self.runs if hook in (None, r.hook) and unit in (None, r.unit)]
        idle = [r for r in chosen if not r.wrote and r.returncode == 0]
        return {
            "runs": len(chosen),
            "median": statistics.median([r.seconds for r in chosen]) if chosen else None,
            "idle-runs": len(idle),
            "idle-median": statistics.median([r.seconds for r in idle]) if idle else None,
            "hooks": [dataclasses.asdict(r) for r in chosen],
        }

    def table(self) -> str:
        """One line a run, for the artifacts of a failure."""
        lines = [
            f"{r.unit:16} {r.hook:40} {r.seconds:8.3f} s {r.calls:4} calls"
            f" exit {r.returncode}{'' if r.wrote else ' (no-op)'}\n"
            for r in self.runs
        ]
        return "".join(lines)
