"""The kinds of faults, each injected for real; `SLOTS` says what may be wrong at the same time.

A fault is begun, gets its occasion by what the world does meanwhile, and is counted only if it
happened.
"""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from faults.proxy import FAULTS as NETWORK
from faults.services import Service
from faults.world import World

STORING = ("blob.write", "blob.fsync", "blob.rename", "blob.folder-fsync", "database.commit")
SERVING = {
    "aar": (*STORING, "feed.append", "version.tombstone"),
    "client": (*STORING, "import.commit", "import.remove", "sync.feed-step", "ledger.write"),
    "publisher": (*STORING, "withdrawal.tombstone", "ledger.write", "sync.feed-step"),
}
"""Steps that a running service comes by while it is used."""

MAX_WAITING = 20

Work = Callable[[], object]


@dataclass
class Fault:
    """One fault. `slot`: what it takes hold of; only one fault at a time does."""

    kind: str
    what: str
    slot: str
    begin: Work
    happened: Callable[[], bool]
    end: Work = lambda: None
    wants: tuple[str, ...] = ()
    """What must be done for it to happen: publish, delete, push, unpush."""
    lasts: float = 0.0
    """Seconds that it stays at least."""


class Injection:
    """Makes faults for a world, at random."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._made = 0
        self._waiting: list[Fault] = []
        self._rng = random.Random(seed)
        self._makers: list[tuple[int, Callable[[], Fault | None]]] = [
            (26, self._failpoint_kill),
            (20, self._failpoint_error),
            (8, self._kill),
            (3, self._restart),
            (24, self._network),
            (8, self._clock),
            (3, self._bit_flip),
            (3, self._full_disk),
            (4, self._killed_command),
        ]

    def next(self, taken: set[str]) -> Fault:
        """Return the next fault whose slot isn't taken; the others wait for theirs."""
        for fault in self._waiting:
            if fault.slot not in taken:
                self._waiting.remove(fault)
                return fault
        while True:
            fault = self._make()
            if fault.slot not in taken:
                return fault
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append(fault)

    def _make(self) -> Fault:
        weights, makers = zip(*self._makers, strict=True)
        while True:
            # Each has a sequence of its own, so that its number alone says what it is.
            self._made += 1
            self._rng = random.Random(f"{self._seed}/{self._made}")
            fault = self._rng.choices(makers, weights)[0]()
            if fault is not None:
                return fault

    # Processes

    def _failpoint(self) -> tuple[Service, str, tuple[str, ...]]:
        service = self._rng.choice(self._world.services)
        role = service.program if service.program == "aar" else service.name.partition("-")[0]
        step = self._rng.choice(SERVING[role])
        if step in ("version.tombstone", "import.remove", "withdrawal.tombstone"):
            return service, step, ("delete",) if role == "publisher" else ("unpush", "push")
        return service, step, ("publish",) if role == "publisher" else ("push", "publish")

    def _failpoint_kill(self) -> Fault:
        service, step, wants = self._failpoint()
        point = f"{step}:{self._rng.choice(['before', 'after'])}"
        action = self._rng.choice(["kill", "kill", "kill-group"])
        hit = self._rng.choice([1, 1, 1, 2])
        return Fault(
            "kill -9 at a failpoint",
            f"{service.name} {point} {action}",
            service.name,
            lambda: service.arm(point, action, hit),
            lambda: service.fired(point),
            service.disarm,
            wants,
        )

    def _failpoint_error(self) -> Fault:
        service, step, wants = self._failpoint()
        point = f"{step}:before"
        action = self._rng.choice(["ENOSPC", "ENOSPC", "EIO"])
        return Fault(
            f"{action} at a write point",
            f"{service.name} {point} {action}",
            service.name,
            lambda: service.arm(point, action),
            lambda: service.fired(point),
            service.disarm,
            wants,
        )

    def _kill(self) -> Fault:
        service = self._rng.choice(self._world.services)
        whole = self._rng.random() < 0.4
        done = threading.Event()

        def strike() -> None:
            with suppress(ProcessLookupError):  # it has just died of something else
                if not service.ended:
                    if whole:
                        service.kill()
                        done.set()
                    elif service.kill_worker():
                        done.set()

        timer = threading.Timer(self._rng.uniform(0.05, 1.0), strike)
        what = f"{service.name} {'all of it' if whole else 'a worker'}"
        return Fault(
            "kill -9 at a random moment", what, service.name, timer.start, done.is_set, timer.join
        )

    def _restart(self) -> Fault:
        service = self._rng.choice(self._world.services)
        done = threading.Event()

        def strike() -> None:
            if not service.ended:
                with suppress(subprocess.TimeoutExpired):
                    service.stop()
                    done.set()

        timer = threading.Timer(self._rng.uniform(0.05, 0.8), strike)
        return Fault(
            "SIGTERM and restart", service.name, service.name, timer.start, done.is_set, timer.join
        )

    # Network, clock, disk

    def _network(self) -> Fault:
        name, proxy = self._rng.choice(sorted(self._world.proxies.items()))
        kind = self._rng.choice(NETWORK)
        label = {"http-404": "404 for a while", "http-500": "500 for a while"}.get(kind)
        if label is None:
            label = (
                "200 with a part or nothing" if kind.startswith("http-") else "network cut or slow"
            )
        return Fault(
            label,
            f"{name} {kind}",
            f"network {name}",
            lambda: proxy.begin(kind),
            lambda: proxy.hits > 0,
            proxy.end,
            ("publish",),
            1.0,
        )

    def _clock(self) -> Fault | None:
        service = self._rng.choice(self._world.services)
        if not service.has_clock:
            return None
        days = self._rng.choice([-1, 1])
        return Fault(
            "clock moved by a day",
            f"{service.name} {days:+d}d",
            f"clock {service.name}",
            lambda: service.set_clock(days),
            lambda: True,
            lambda: service.set_clock(0),
            lasts=2.5,
        )

    def _full_disk(self) -> Fault | None:
        if not self._world.fillers:
            return None
        name, filler = self._rng.choice(sorted(self._world.fillers.items()))
        left: list[int] = []
        leave = self._rng.choice([0, 0, 30_000, 200_000])
        return Fault(
            "file system full",
            f"{name} {leave} bytes left",
            f"disk {name}",
            lambda: left.append(filler.fill(leave)),
            lambda: bool(left) and left[0] <= leave + 4096,
            filler.delete,
            ("push", "publish"),
            1.0,
        )

    def _bit_flip(self) -> Fault | None:
        world = self._world
        service = self._rng.choice([world.registry, *world.clients])
        promised = sorted(world.model.promised)
        if not promised:
            return None
        sha = self._rng.choice(promised)
        path = world.blob_of(service, sha)
        done: list[str] = []

        def strike() -> None:
            if path.exists():
                flip(path, self._rng)
                world.damaged.add(service.name)
                world.flipped.add(sha)
                done.append(sha)

        return Fault(
            "bits of a blob flipped",
            f"{service.name} {sha[:12]}",
            f"blobs {service.name}",
            strike,
            lambda: bool(done),
        )

    # Commands

    def _killed_command(self) -> Fault:
        world = self._world
        kind = self._rng.choice(["backup", "gc", "revoke"])
        points = {
            "backup": ("backup.snapshot", "backup.rename"),
            "gc": ("janitor.mark", "blob.delete", "database.commit"),
            "revoke": ("trust.revoke", "database.commit"),
        }[kind]
        point = f"{self._rng.choice(points)}:{self._rng.choice(['before', 'after'])}"
        killed: list[bool] = []
        thread = threading.Thread(target=lambda: killed.append(world.command(kind, point)))

        return Fault(
            "kill -9 of a command",
            f"aar {kind} {point}",
            "command",
            thread.start,
            lambda: any(killed),
            thread.join,
        )


def flip(path: Path, rng: random.Random) -> None:
    """Change one bit of a file in its place."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        at = rng.randrange(size)
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << rng.randrange(8))]))
