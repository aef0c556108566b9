"""A whole sync: a real AMS site imports from a real registry, or finds that nothing is new.

Cold: a fresh site imports everything; counted from when it is told where the registry is. Ten new:
they are published in one transaction and arrive by the long-poll; counted from the commit. Nothing
new: asked for over the REST interface, many times, for the CPU of both sides. The CPU column is
the registry's, the client's CPU column the site's, per sync.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import count

from benchmarks import catalogue, sites
from benchmarks.lab import Lab
from benchmarks.measures.scale import Measure, Measured, Scale
from benchmarks.processes import Usage
from benchmarks.results import Rows, Sample, at_most
from benchmarks.rounds import Trial, interleave
from benchmarks.servers import Aar
from benchmarks.sites import Site

SIZES = (100, 10_000, 100_000)
QUICK = (20,)
COLD, AMONG, NEW = 1_000, 10_000, 10
CPU_LIMIT = 0.020
"""Seconds of CPU that a sync of nothing new may take on each side."""


def measure(lab: Lab, scale: Scale) -> Measured:
    """Measure seconds."""
    sizes = scale.pick(SIZES, QUICK)
    with ExitStack() as stack:
        trials = [
            _cold(lab, stack, scale.pick(COLD, 5)),
            _news(lab, stack, scale.pick(AMONG, 20)),
            *[_nothing(lab, scale, stack, size) for size in sizes],
        ]
        rows = Rows(interleave(trials, scale.rounds, warm_up=False))
    goals = []
    for size in sizes:
        row = rows.get(_idle_case(size), "aar + AMS")
        for side, cpu in (("registry", row and row.cpu), ("AMS", row and row.client_cpu)):
            text = f"CPU seconds of the {side}, nothing new among {size:,}"
            goals.append(at_most(text, cpu, CPU_LIMIT))
    return Measured(rows.all, goals)


def _cold(lab: Lab, stack: ExitStack, versions: int) -> Trial:
    server = _registry(lab, stack, "cold", versions)
    numbers = count()

    def run() -> Sample:
        with Site(lab.folder / f"c{next(numbers)}", server) as site:
            site.start()
            site.configure()
            mark = site.group.mark()
            with server.group.measured() as served, site.group.measured() as used:
                begun = time.monotonic()
                site.connect()
                ended = site.imported(versions, mark)
        return _sample(ended - begun, served, used, {"versions/s": versions / (ended - begun)})

    return Trial(f"cold, {versions:,} versions", "aar + AMS", "s", "sync", run)


def _news(lab: Lab, stack: ExitStack, versions: int) -> Trial:
    server = _registry(lab, stack, "news", versions)
    site = stack.enter_context(_site(lab, "news", server, versions))
    first = count()

    def run() -> Sample:
        made = list(catalogue.entries(NEW, prefix=f"new-{next(first)}"))
        mark = site.group.mark()
        with server.group.measured() as served, site.group.measured() as used:
            catalogue.fill(server.folder, iter(made))
            begun = time.monotonic()
            ended = site.imported(NEW, mark)
        return _sample(ended - begun, served, used)

    return Trial(f"{NEW} new among {versions:,}", "aar + AMS", "s", "sync", run)


def _nothing(lab: Lab, scale: Scale, stack: ExitStack, versions: int) -> Trial:
    server = lab.stocked(versions)
    server.start()
    stack.callback(server.stop)
    site = stack.enter_context(_site(lab, f"idle-{versions}", server, versions))
    # A slow one needs no repetition to be measured with a clock of 10 ms.
    times = scale.pick(20 if versions <= AMONG else 3, 3)

    def run() -> Sample:
        with server.group.measured() as served, site.group.measured() as used:
            begun = time.monotonic()
            for _ in range(times):
                report = site.sync()
                assert not report["done"] and not report["planned"], report
            seconds = time.monotonic() - begun
        return _sample(seconds / times, served, used, work=times)

    return Trial(_idle_case(versions), "aar + AMS", "s", "sync", run)


def _idle_case(versions: int) -> str:
    return f"nothing new among {versions:,}"


def _registry(lab: Lab, stack: ExitStack, name: str, versions: int) -> Aar:
    """Start a registry whose versions will change."""
    folder = lab.folder / f"aar-{name}"
    catalogue.fill(folder, catalogue.entries(versions))
    server = lab.aar(folder)
    server.start()
    stack.callback(server.stop)
    return server


def _site(lab: Lab, name: str, server: Aar, versions: int) -> Site:
    """Start a site that has everything already."""
    site = sites.stocked(lab.folder / f"s-{name}", server, versions)
    site.start()
    site.configure()
    site.connect()
    report = site.sync()
    assert not report["done"], report
    return site


def _sample(
    seconds: float,
    served: Usage,
    used: Usage,
    more: dict[str, float] | None = None,
    work: float = 1.0,
) -> Sample:
    return Sample(
        value=seconds,
        cpu=served.cpu,
        work=work,
        peak=served.peak,
        client_cpu=used.cpu,
        more={"AMS peak MB": used.peak / 1e6, **(more or {})},
    )


MEASURE = Measure("sync", "Synchronisation of a site", measure)
