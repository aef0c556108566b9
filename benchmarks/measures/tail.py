"""Small reads while four bulk transfers run: how long the slowest of a hundred wait.

Manifests are asked for by a timetable, 200 a second over eight connections, and a latency counts
from when the request was due: a server that stalls can't hide it. Bulk transfers are downloads of
a large blob by four clients, or two downloads and two uploads; how much they move is told beside
it, since a server that starves them has it easy.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.content import Application, blob, make_application
from benchmarks.lab import CONTENDERS, Lab
from benchmarks.measures.scale import GB, KIB, Measure, Measured, Scale
from benchmarks.measures.small import ACCEPT
from benchmarks.results import Rows, Sample, at_most
from benchmarks.rounds import Trial, interleave
from benchmarks.servers import Server

RATE = 200.0
CLIENTS = 8
RAMP = 0.5
"""Seconds that the bulk transfers run alone, so that all of them are under way."""
ALONE, DOWN, MIXED = "no bulk transfer", "4 downloads", "2 downloads, 2 uploads"


def measure(lab: Lab, scale: Scale) -> Measured:
    """Measure the 99th percentile in milliseconds."""
    folder = lab.room("tail")
    small = make_application(folder, "tail", (blob(folder, "small", KIB),))
    large = make_application(
        folder, "bulk", (blob(folder, "large", scale.pick(10**9, 4 * 10**6)),)
    )
    trials = []
    for case in (ALONE, DOWN, MIXED):
        for server in lab.servers(*CONTENDERS):
            if case == MIXED and server.name == "nginx":
                continue
            server.put(small, lab.publisher)
            server.put(large, lab.publisher)

            def run(server: Server = server, case: str = case) -> Sample:
                return _round(lab, scale, server, case, small, large)

            per = "round" if case == ALONE else "GB moved"
            trials.append(Trial(case, server.name, "ms p99", per, run))
    rows = Rows(interleave(trials, scale.rounds, warm_up=not scale.quick))
    goals = [
        at_most(f"p99 with {case}, x docker-registry", rows.ratio(case, *CONTENDERS[:2]), 0.5)
        for case in (DOWN, MIXED)
    ]
    return Measured(rows.all, goals)


def _round(
    lab: Lab, scale: Scale, server: Server, case: str, small: Application, large: Application
) -> Sample:
    seconds = scale.pick(4.0, 0.5)
    timed = lab.job(
        "load",
        targets=[
            {
                "url": f"{server.url}/v2/{small.repository}/manifests/{small.digest}",
                "sha256": small.digest.hex,
                "headers": [ACCEPT],
            }
        ],
        connections=CLIENTS,
        seconds=seconds,
        rate=RATE,
    )
    bulk = _bulk(lab, scale, server, case, large)
    with lab.crew([timed]) as clients, lab.crew(bulk) as movers, server.group.measured() as used:
        movers.go()
        time.sleep(RAMP if bulk else 0)
        clients.go()
        outcome = clients.outcome()
        movers.stop()
        moved = movers.outcome()
    server.forget(moved.digests)
    speed = moved.speed / GB if bulk else 0.0
    return Sample(
        value=outcome.latency(0.99) * 1000,
        cpu=used.cpu,
        work=moved.moved / GB if moved.moved else 1.0,
        peak=used.peak,
        client_cpu=outcome.cpu + moved.cpu,
        more={
            "p50 ms": outcome.latency(0.5) * 1000,
            "max ms": max(outcome.latencies) * 1000,
            "bulk GB/s": speed,
        },
    )


def _bulk(
    lab: Lab, scale: Scale, server: Server, case: str, large: Application
) -> list[dict[str, Any]]:
    """Return the jobs of the bulk transfers, which go on until they are stopped."""
    downloads = {ALONE: 0, DOWN: 4, MIXED: 2}[case]
    one = large.blobs[0]
    target = {
        "url": f"{server.url}/v2/{large.repository}/blobs/{one.digest}",
        "file": str(one.path),
    }
    small = {"url": f"{server.url}/v2/{large.repository}/blobs/{large.config.digest}"}
    jobs = [
        lab.job("load", targets=[target], warm=small, connections=count, seconds=3600.0)
        for count in (lab.spread(downloads) if downloads else [])
    ]
    if case == MIXED:
        push = {"repository": "tail", "size": scale.pick(10**8, 10**6), "chunk": None}
        jobs += [
            lab.job(
                "push",
                [lab.publisher],
                base=server.url,
                streams=count,
                count=scale.pick(40, 400),
                **push,
            )
            for count in lab.spread(2)
        ]
    return jobs


MEASURE = Measure("tail", "Small reads under bulk transfers", measure, CONTENDERS[1:])
