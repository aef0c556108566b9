"""The no-change poll: `GET /1.0/changes` at the head of the feed, as every AMS asks it.

Clients with a certificate each ask one after the other on kept connections, of registries with
few and with many versions. `conditional` is the same with If-None-Match, answered 304. The peers
have nothing like it, so that the registries are compared among themselves.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from typing import Any

from benchmarks.lab import Lab
from benchmarks.measures.scale import Measure, Measured, Scale, of_requests
from benchmarks.results import Rows, Sample, at_least, at_most
from benchmarks.rounds import Trial, interleave
from benchmarks.servers import Aar

VERSIONS = (100, 10_000, 100_000)
CLIENTS = (1, 100, 1_000)


def measure(lab: Lab, scale: Scale) -> Measured:
    """Measure requests per second."""
    sizes = scale.pick(VERSIONS, (10, 50))
    counts = scale.pick(CLIENTS, (1, 4))
    with ExitStack() as stack:
        servers = {size: lab.stocked(size, lab.crowd(max(counts))) for size in sizes}
        for server in servers.values():
            server.start()
            stack.callback(server.stop)
        trials = [
            _trial(lab, scale, servers[size], size, count, conditional=conditional)
            for conditional in (False, True)
            for count in (counts if not conditional else counts[1:2])
            for size in sizes
        ]
        rows = Rows(interleave(trials, scale.rounds, warm_up=not scale.quick))
    least, most = f"{sizes[0]:,} versions", f"{sizes[-1]:,} versions"
    goals = [
        at_most(
            f"{_case(count)}: time of a poll at {most}, x that at {least}",
            rows.ratio(_case(count), least, most),
            1.2,
        )
        for count in counts
    ]
    slowest = rows.value(_case(counts[1]), most)
    goals.append(at_least(f"polls/s of {counts[1]:,} clients at {most}", slowest, 5000))
    return Measured(rows.all, goals)


def _trial(
    lab: Lab, scale: Scale, server: Aar, size: int, clients: int, *, conditional: bool
) -> Trial:
    target = _target(lab, server, size, conditional=conditional)

    def run() -> Sample:
        crowd, jobs = lab.crowd(clients), []
        for count in lab.spread(clients):
            mine, crowd = crowd[:count], crowd[count:]
            seconds = scale.pick(1.5, 0.2)
            jobs.append(
                lab.job("load", mine, targets=[target], connections=count, seconds=seconds)
            )
        return of_requests(*lab.run(server, jobs))

    case = _case(clients, conditional=conditional)
    return Trial(case, f"{size:,} versions", "polls/s", "1,000 polls", run)


def _case(clients: int, *, conditional: bool = False) -> str:
    who = "1 client" if clients == 1 else f"{clients:,} clients"
    return f"{who}, conditional" if conditional else who


def _target(lab: Lab, server: Aar, size: int, *, conditional: bool) -> dict[str, Any]:
    """Return the poll, and what must come back: nothing new."""
    with server.session(lab.client) as session:
        head = session.get(f"{server.url}/1.0/changes?limit=1").json()["metadata"]
        assert head["seq"] == size, head
        url = f"{server.url}/1.0/changes?limit=1000&since={head['epoch']}:{head['seq']}"
        answer = session.get(url)
    page = answer.json()["metadata"]
    assert answer.status_code == 200 and not page["changes"] and page["seq"] == size, page
    if conditional:
        return {"url": url, "status": 304, "headers": [f"If-None-Match: {answer.headers['ETag']}"]}
    return {"url": url, "sha256": hashlib.sha256(answer.content).hexdigest()}


MEASURE = Measure("poll", "The no-change poll", measure)
