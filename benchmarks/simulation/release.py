"""A release on its way through a fleet: who learns of it when, who asks, who downloads from where.

Sites learn by a long-poll, or by asking every so often. Those who know of it ask their unit for
what changed and for the manifest, one after another as each unit has processors for it, and then
download, from the units or, redirected, from the object storage. Everything is spread evenly over
the units. Lost packets, refused connections and slow starts aren't in it: it is the best case.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.simulation.capacity import Capacity
from benchmarks.simulation.sharing import Links, transfer

GB = 1e9
REQUESTS = 5
"""What a sync asks before it downloads: `/1.0`, the changes, index, manifest, configuration."""
LONG_POLL = 50.0
"""Seconds that AMS lets the registry wait (`ams.sync.door.MAX_WAIT`)."""
JITTER = 0.1
"""Part of the interval by which sites differ (`ams.sync.engine.JITTER`)."""


@dataclass(frozen=True)
class Fleet:
    """How many clients in how many places, what they download (bytes), their links (bytes/s)."""

    clients: int = 100_000
    places: int = 50
    package: float = 2 * GB
    place_link: float = 10 * GB / 8
    client_link: float = GB / 8


@dataclass(frozen=True)
class Knobs:
    """What an operator can turn.

    `interval` is `registry.update_interval` in seconds; `spread` is `registry.spread`; without
    `long_poll` sites only ask every interval. `redirected`: blobs come from the object storage.
    """

    units: int = 3
    long_poll: bool = True
    interval: float = 3600.0
    spread: float = 0.0
    redirected: bool = True
    unit_link: float = 10 * GB / 8
    store_link: float = 100 * GB / 8


@dataclass(frozen=True)
class Figures:
    """What comes of it; times in seconds, loads as parts of all processors of a unit."""

    idle_load: float
    """Of a unit while nothing happens: asking again, every interval or every long-poll."""
    waiting_memory: float
    """Bytes per unit for those who wait."""
    storm: float
    """Seconds for which the units do nothing but answer those who have learned of it."""
    queue: int
    """The most clients of a unit that wait for an answer at one moment."""
    first: float
    median: float
    last: float
    """When the first, the middle and the last client have it."""
    at_once: int
    """The most downloads that run at one moment."""
    bulk_load: float
    """Of a unit by sending, while downloads run; 0 when redirected."""


def simulate(fleet: Fleet, knobs: Knobs, unit: Capacity, seed: int = 1) -> Figures:
    """Publish one version to a fleet that waits for it."""
    chance = random.Random(seed)
    learned = _learned(fleet, knobs, unit, chance)
    asking = sorted(at + knobs.spread * chance.random() for at in learned)
    answered, storm, queue = _answered(asking, knobs, unit)
    chance.shuffle(answered)  # a place is not a rank
    starts = [answered[place :: fleet.places] for place in range(fleet.places)]
    ended = transfer(starts, fleet.package, _links(fleet, knobs, unit))
    sending = 0.0 if knobs.redirected else fleet.clients * fleet.package / GB
    busy = ended.times[-1] - min(answered)
    return Figures(
        idle_load=_idle_load(fleet, knobs, unit),
        waiting_memory=fleet.clients / knobs.units * unit.waiting_bytes if knobs.long_poll else 0,
        storm=storm,
        queue=queue,
        first=ended.times[0],
        median=ended.times[len(ended.times) // 2],
        last=ended.times[-1],
        at_once=ended.at_once,
        bulk_load=unit.seconds(gb=sending) / knobs.units / unit.cores / busy,
    )


def sweep(base: Knobs) -> Iterator[tuple[str, Knobs]]:
    """Give the settings that are compared, each with a name: one knob turned at a time."""
    yield "3 units, redirected, long-poll", base
    yield "spread 10m", replace(base, spread=600)
    yield "spread 1h", replace(base, spread=3600)
    yield "interval 1h, no long-poll", replace(base, long_poll=False)
    yield "interval 5m, no long-poll", replace(base, long_poll=False, interval=300)
    yield "1 unit", replace(base, units=1)
    yield "6 units", replace(base, units=6)
    yield "not redirected", replace(base, redirected=False)
    yield "not redirected, 6 units", replace(base, units=6, redirected=False)
    yield "object storage 4 x as wide", replace(base, store_link=4 * base.store_link)


def _learned(fleet: Fleet, knobs: Knobs, unit: Capacity, chance: random.Random) -> list[float]:
    if not knobs.long_poll:
        return [
            knobs.interval * (1 - JITTER * chance.random()) * chance.random()
            for _ in range(fleet.clients)
        ]
    each = unit.wake / unit.cores
    return [(rank // knobs.units + 1) * each for rank in range(fleet.clients)]


def _answered(asking: list[float], knobs: Knobs, unit: Capacity) -> tuple[list[float], float, int]:
    """Return when each has what it asked for, how long a unit was busy, and its longest queue."""
    link = unit.link if knobs.redirected else 0.0  # the package is one file
    each = (unit.seconds(requests=REQUESTS, connections=1) + link) / unit.cores
    answered, busy, longest = [], 0.0, 0
    for number in range(knobs.units):
        mine = asking[number :: knobs.units]
        free, done, waiting = 0.0, [], 0
        for index, at in enumerate(mine):
            free = max(free, at) + each
            done.append(free)
            while waiting < index and done[waiting] <= at:
                waiting += 1
            longest = max(longest, index - waiting + 1)
        answered += done
        busy = max(busy, len(mine) * each)
    return answered, busy, longest


def _links(fleet: Fleet, knobs: Knobs, unit: Capacity) -> Links:
    sent = min(knobs.unit_link, unit.cores / unit.per_gb * GB) if unit.per_gb else knobs.unit_link
    source = knobs.store_link if knobs.redirected else knobs.units * sent
    return Links(source, fleet.place_link, fleet.client_link)


def _idle_load(fleet: Fleet, knobs: Knobs, unit: Capacity) -> float:
    """A poll each time, on a connection that is still open only with a long-poll."""
    pause = LONG_POLL if knobs.long_poll else knobs.interval * (1 - JITTER / 2)
    each = unit.seconds(requests=1 if knobs.long_poll else 2, connections=not knobs.long_poll)
    return fleet.clients / pause * each / knobs.units / unit.cores
