"""What is measured: a module each, listed here in the order of the page."""

from __future__ import annotations

from benchmarks.measures import (
    client,
    fleet,
    idle,
    poll,
    pull,
    push,
    small,
    startup,
    sync,
    tail,
    units,
)

MEASURES = {
    module.MEASURE.name: module.MEASURE
    for module in (small, poll, pull, push, tail, idle, fleet, sync, startup, client, units)
}
