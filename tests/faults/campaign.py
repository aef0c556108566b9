"""The campaign: windows of faults at random, each healed and looked at; repeatable by its seed.

The order of the faults follows from the seed; when exactly each strikes depends on the machine.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from faults.injection import Fault, Injection
from faults.invariants import Invariants
from faults.singles import Singles
from faults.world import Saved, World

WINDOW = 30
"""Faults between two looks, or half of all. By turns a restore or what `singles` does are among
them, in the first window both."""
WINDOW_SECONDS = 60.0
"""When a window ends, however few of its faults have happened."""
AT_ONCE = 10
"""Faults that are there at the same time, at most."""
MANY = 30
"""Versions of one source, beyond which about as many are removed as are added."""
PATIENCE = 8.0
"""Seconds that a fault is given to happen."""
RESTORE_POINTS = (
    "",
    *(
        f"{step}:{side}"
        for step in ("restore.commit", "restore.move")
        for side in ("before", "after")
    ),
)
"""Where a restore is killed before it is done again; "": nowhere."""


@dataclass
class Summary:
    """Counts by kind, and every violation with the window that it was found in."""

    seed: int
    injected: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    violations: list[dict[str, Any]] = field(default_factory=list)
    windows: int = 0
    done: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "windows": self.windows,
            "faults": sum(self.injected.values()),
            "kinds": {
                kind: {
                    "injected": count,
                    "survived": self.survived[kind],
                    "lost": self.lost[kind],
                }
                for kind, count in sorted(self.injected.items())
            },
            "operations": dict(sorted(self.done.items())),
            "violations": self.violations,
        }

    def table(self) -> str:
        """The counts as a Markdown table."""
        lines = ["| fault | injected | survived | lost |", "|---|---:|---:|---:|"]
        rows = [(kind, self.injected[kind]) for kind in sorted(self.injected)]
        lines += [
            f"| {kind} | {count} | {self.survived[kind]} | {self.lost[kind]} |"
            for kind, count in rows
        ]
        totals = (sum(counter.values()) for counter in (self.injected, self.survived, self.lost))
        lines.append("| **all** | " + " | ".join(f"**{total}**" for total in totals) + " |")
        return "\n".join(lines)


class Drivers:
    """Use the world, each publisher in a thread of its own; mostly by what is `wanted`."""

    WORKS: ClassVar = {
        "publish": World.publish,
        "update": lambda world: world.publish(update=True),
        "delete": World.delete,
        "push": World.push,
        "unpush": World.unpush,
    }
    SOURCES = (("publish", "update", "delete"), ("push", "unpush"))

    def __init__(self, world: World, seed: int, done: Counter[str]) -> None:
        self.wanted: list[str] = []
        self._world, self._done = world, done
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._drive, args=(works, random.Random(f"{seed}/{works}")), daemon=True
            )
            for works in self.SOURCES
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Begin nothing more; returns when what was begun has its answer, or none."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _many(self, works: tuple[str, ...]) -> bool:
        """Whether it is time to remove something rather than add."""
        return len(self._world.model.of("direct" if works[0] == "push" else "site")) > MANY

    def _drive(self, works: tuple[str, ...], rng: random.Random) -> None:
        while not self._ended.is_set():
            wanted = [name for name in self.wanted if name in works]
            name = rng.choice(wanted or works)
            if self._many(works) and rng.random() < 0.5:
                name = works[-1]
            acknowledged = self.WORKS[name](self._world)
            self._done[f"{name}: {'acknowledged' if acknowledged else 'not'}"] += 1
            self._ended.wait(0.3 if wanted else 1.0)


class Campaign:
    """Runs windows until so many faults have happened, or the time is over."""

    def __init__(
        self, root: Path, seed: int, *, small_disks: bool, tell: Callable[[str], None]
    ) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._root = root
        self._small_disks = small_disks
        self._tell = tell
        self.summary = Summary(seed)

    def run(self, faults: int, seconds: float) -> Summary:
        """Inject about `faults` faults, within about `seconds`."""
        began = self._began = time.monotonic()
        window = min(WINDOW, -(-faults // 2))
        with World(self._root, self._rng, small_disks=self._small_disks) as world:
            injection = Injection(world, self._seed)
            invariants = Invariants(world)
            singles = Singles(world, self._seed)
            for _ in range(2):
                assert world.publish()
                assert world.push()
            self._look(world, invariants, [], [])
            while not self.summary.violations:
                self.summary.seconds = time.monotonic() - began
                left = faults - sum(self.summary.injected.values())
                if left <= 0 or self.summary.seconds > seconds:
                    break
                happened: list[Fault] = []
                wrong: list[str] = []
                try:
                    saved = world.save() if self.summary.windows % 2 == 0 else None
                    if saved is None or not self.summary.windows:
                        wrong += singles.window(happened)
                    until = min(time.monotonic() + WINDOW_SECONDS, began + seconds)
                    self._window(world, injection, min(window, left), until, happened)
                    if saved is not None:
                        wrong += self._restore(world, invariants, saved, happened)
                except Exception:
                    wrong.append(traceback.format_exc())
                self._look(world, invariants, happened, wrong)
                self.summary.windows += 1
                self._say(world, happened)
        self.summary.seconds = time.monotonic() - began
        return self.summary

    def _window(
        self,
        world: World,
        injection: Injection,
        count: int,
        deadline: float,
        happened: list[Fault],
    ) -> None:
        """Let faults come and go while the world is used; adds those that happened."""
        there: list[tuple[Fault, float]] = []
        with closing(
            Drivers(world, self._seed + self.summary.windows, self.summary.done)
        ) as drivers:
            while len(happened) < count and time.monotonic() < deadline:
                while len(there) < AT_ONCE:
                    fault = injection.next({fault.slot for fault, _ in there})
                    there.append((fault, time.monotonic()))
                    fault.begin()
                waiting = [fault for fault, _ in there if not fault.happened()]
                drivers.wanted = [name for fault in waiting for name in fault.wants]
                time.sleep(0.05)
                world.awaken()
                there = self._pass(there, happened)
            for fault, _ in there:
                end(fault, happened)
            world.awaken()

    def _restore(
        self, world: World, invariants: Invariants, saved: Saved, happened: list[Fault]
    ) -> list[str]:
        """Put the registry back to where it was before the window; returns what is wrong."""
        wrong = world.heal()
        world.command("revoke")  # which the backup can't know of
        point = self._rng.choice(RESTORE_POINTS)
        wrong += world.restore(saved, point)
        happened.append(
            Fault("restore of an older backup", f"restore {point}", "", bool, lambda: True)
        )
        return wrong + invariants.restored(saved)

    def _pass(
        self, there: list[tuple[Fault, float]], happened: list[Fault]
    ) -> list[tuple[Fault, float]]:
        """End the faults that have happened, or had their time; returns those that go on."""
        left = []
        for fault, since in there:
            age = time.monotonic() - since
            if age > PATIENCE or (age >= fault.lasts and fault.happened()):
                end(fault, happened)
            else:
                left.append((fault, since))
        return left

    def _look(
        self, world: World, invariants: Invariants, happened: list[Fault], wrong: list[str]
    ) -> None:
        try:
            wrong += world.heal()
            wrong += invariants.check()
        except Exception as error:
            wrong.append(f"the look itself failed: {type(error).__name__}: {error}")
            self._tell(traceback.format_exc())
        lost = any(text.startswith("lost") for text in wrong)
        for fault in happened:
            self.summary.injected[fault.kind] += 1
            (self.summary.lost if lost else self.summary.survived)[fault.kind] += 1
        if wrong:
            self.summary.violations.append(
                {
                    "window": self.summary.windows,
                    "faults": [fault.what for fault in happened],
                    "wrong": wrong,
                }
            )
            for service in world.services:
                self._tell(f"--- {service.name}\n{service.log_tail(60)}")

    def _say(self, world: World, happened: list[Fault]) -> None:
        count = sum(self.summary.injected.values())
        what = "; ".join(fault.what for fault in happened)
        spent = time.monotonic() - self._began
        self._tell(f"{spent:5.0f} s, {count} faults, {len(world.model.promised)} versions: {what}")


def end(fault: Fault, happened: list[Fault]) -> None:
    """End a fault, and count it if it happened: before, or while it was waited for."""
    did = fault.happened()
    fault.end()
    if did or fault.happened():
        happened.append(fault)


def report(summary: Summary, path: Path | None) -> None:
    """Print the table, the operations and the violations; write them as JSON."""
    document = summary.to_dict()
    print(f"\nSeed {summary.seed}: {document['faults']} faults in {summary.windows} windows, "
          f"{document['seconds']:g} s\n\n{summary.table()}\n")  # fmt: skip
    for what, count in document["operations"].items():
        print(f"{what}: {count}")
    print(f"violations: {len(summary.violations)}")
    for violation in summary.violations:
        json.dump(violation, sys.stdout, indent=2)
        print()
    if path is not None:
        path.write_text(json.dumps(document, indent=2) + "\n")
