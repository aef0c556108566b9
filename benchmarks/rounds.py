"""Rounds in turn: A B C A B C …, so that whatever else the machine does falls on all alike."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.results import Row, Sample


@dataclass(frozen=True)
class Trial:
    """One contender in one case; `run` does one round of it."""

    case: str
    contender: str
    unit: str
    per: str
    run: Callable[[], Sample]


def interleave(trials: Sequence[Trial], rounds: int, *, warm_up: bool) -> list[Row]:
    """Run the trials case by case, within a case in turn; the first turn may be thrown away."""
    rows: list[Row] = []
    for case in dict.fromkeys(trial.case for trial in trials):
        group = [trial for trial in trials if trial.case == case]
        fresh = [Row(trial.case, trial.contender, trial.unit, trial.per) for trial in group]
        for turn in range(rounds + (1 if warm_up else 0)):
            for trial, row in zip(group, fresh, strict=True):
                gc.collect()
                os.sync()  # what one contender has written isn't the next one's burden
                sample = trial.run()
                if turn == 0 and warm_up:
                    continue
                row.samples.append(sample)
                _tell(trial, sample)
        rows += fresh
    return rows


def _tell(trial: Trial, sample: Sample) -> None:
    print(
        f"  {trial.case:<44} {trial.contender:<16} {sample.value:>12,.5g} {trial.unit}",
        file=sys.stderr,
        flush=True,
    )
