"""Transfers that share links: everybody gets the fair share of the narrowest link on the way.

A fluid model, as is usual for many TCP connections: max-min fairness between them, at every
moment (Bertsekas and Gallager, Data Networks, section 6.5). All are of one size; those of
one place are alike, so that a place is counted rather than each of its transfers.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

QUANTUM = 1.0
"""Seconds within which arrivals and ends count as one moment; the error of every figure."""


@dataclass(frozen=True)
class Links:
    """Bytes per second of the links on the way: the source's, each place's, each receiver's."""

    source: float
    place: float
    receiver: float


@dataclass(frozen=True)
class Ended:
    """When each transfer ended (seconds, by the end), and how many ran at once at the most."""

    times: tuple[float, ...]
    at_once: int


def fair_rates(running: Sequence[int], links: Links) -> list[float]:
    """Return the rate of one transfer in each place, where `running[i]` share place `i`."""
    caps = [min(links.receiver, links.place / count) if count else 0.0 for count in running]
    if sum(cap * count for cap, count in zip(caps, running, strict=True)) <= links.source:
        return caps
    # The source is what is narrow: those that can't use a fair share of it leave theirs to others.
    left, sharing, level = links.source, sum(running), 0.0
    for cap, count in sorted(zip(caps, running, strict=True)):
        if not count:
            continue
        level = left / sharing
        if cap > level:
            break
        left -= cap * count
        sharing -= count
    return [min(cap, level) for cap in caps]


def transfer(
    starts: Sequence[Iterable[float]], size: float, links: Links, quantum: float = QUANTUM
) -> Ended:
    """Let transfers of `size` bytes begin at `starts[place]`; return when they end.

    Within a place all get the same, so one needs only what a transfer that ran all the time would
    have got by now: each ends when that has grown by `size` since its start.
    """
    arrivals = sorted((at, place) for place, moments in enumerate(starts) for at in moments)
    running = [0] * len(starts)
    got = [0.0] * len(starts)
    due: list[list[float]] = [[] for _ in starts]
    ended: list[float] = []
    now, next_arrival, most = 0.0, 0, 0
    while next_arrival < len(arrivals) or any(running):
        while next_arrival < len(arrivals) and arrivals[next_arrival][0] <= now:
            place = arrivals[next_arrival][1]
            heapq.heappush(due[place], got[place] + size)
            running[place] += 1
            next_arrival += 1
        most = max(most, sum(running))
        rates = fair_rates(running, links)
        until = [
            (due[place][0] - got[place]) / rate for place, rate in enumerate(rates) if rate > 0
        ]
        if next_arrival < len(arrivals):
            until.append(arrivals[next_arrival][0] - now)
        step = max(quantum, min(until))
        now += step
        for place, rate in enumerate(rates):
            got[place] += rate * step
            while due[place] and due[place][0] <= got[place] * (1 + 1e-12):
                heapq.heappop(due[place])
                running[place] -= 1
                ended.append(now)
    return Ended(tuple(sorted(ended)), most)
