"""One, two and three units on a shared PostgreSQL and object storage, beside the embedded one.

All on the same cores as the engines and the load: what is shown is what the engines cost, and that
units don't stand in each other's way, not what more machines would give. Downloads are measured
through the units (`redirect: false`) and, redirected, as answers that name the place: the bytes
are the object storage's business then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from benchmarks.content import Application, blob, make_application
from benchmarks.lab import Lab
from benchmarks.measures.scale import KIB, Measure, Measured, Scale, of_bytes, of_requests
from benchmarks.measures.small import ACCEPT
from benchmarks.results import Rows, Sample
from benchmarks.rounds import Trial, interleave
from benchmarks.servers import Aar
from benchmarks.shared import Engines, Units, started

COUNTS = (1, 2, 3)
CLIENTS = 8
STREAMS = 4
LARGE = 10**8
EMBEDDED = "embedded"
SMALL, POLL, ELSEWHERE = "manifest, kept connection", "no-change poll", "redirected download"
PULL, PUSH = "100 MB down, 4 streams", "100 MB up, 4 streams"


def measure(lab: Lab, scale: Scale) -> Measured:
    """Measure requests and GB per second."""
    folder = lab.room("units")
    made = make_application(
        folder,
        "units",
        (blob(folder, "small", KIB), blob(folder, "large", scale.pick(LARGE, 10**6))),
    )
    trials: list[Trial] = []
    with ExitStack() as stack:
        engines = stack.enter_context(Engines())
        groups = [stack.enter_context(started(lab, EMBEDDED, 1, {}))]
        for count in COUNTS:
            name = f"{count} unit{'s' if count > 1 else ''}"
            settings = engines.settings(redirect=False)
            groups.append(stack.enter_context(started(lab, name, count, settings)))
        redirecting = stack.enter_context(
            started(lab, "redirecting unit", 1, engines.settings(redirect=True))
        )
        for group in (*groups, redirecting):
            group.units[0].put(made, lab.publisher)
        for case, run in _cases(lab, scale, made):
            trials += [
                Trial(case, group.name, "GB/s" if case in (PULL, PUSH) else "requests/s",
                      "GB" if case in (PULL, PUSH) else "1,000 requests", _bound(run, group))
                for group in groups
            ]  # fmt: skip
        redirected = _bound(_redirects(lab, scale, made), redirecting)
        trials.append(
            Trial(ELSEWHERE, redirecting.name, "requests/s", "1,000 requests", redirected)
        )
        rows = Rows(interleave(trials, scale.rounds, warm_up=not scale.quick))
    notes = ["CPU and memory are the units' own, without PostgreSQL's and the object storage's."]
    return Measured(rows.all, [], notes)


Run = Callable[[Units], Sample]


def _bound(run: Run, group: Units) -> Callable[[], Sample]:
    return lambda: run(group)


def _cases(lab: Lab, scale: Scale, made: Application) -> list[tuple[str, Run]]:
    large = made.blobs[1]
    manifest = f"/v2/{made.repository}/manifests/{made.digest}"
    download = f"/v2/{made.repository}/blobs/{large.digest}"

    def small(group: Units) -> Sample:
        target = {"path": manifest, "sha256": made.digest.hex, "headers": [ACCEPT]}
        return _asked(lab, scale, group, lambda _: target)

    def poll(group: Units) -> Sample:
        return _asked(lab, scale, group, lambda unit: _poll(lab, unit))

    def pull(group: Units) -> Sample:
        jobs = [
            lab.job(
                "load",
                targets=[{"url": unit.url + download, "file": str(large.path)}],
                warm={"url": f"{unit.url}/v2/", "status": 200},
                connections=streams,
                count=2 * streams,
            )
            for unit, streams in _divided(group, STREAMS)
        ]
        return of_bytes(*_run(lab, group, jobs))

    def push(group: Units) -> Sample:
        jobs = [
            lab.job(
                "push",
                [lab.publisher],
                base=unit.url,
                repository="push",
                size=scale.pick(LARGE, 10**6),
                streams=streams,
                count=1,
                chunk=None,
            )
            for unit, streams in _divided(group, STREAMS)
        ]
        return of_bytes(*_run(lab, group, jobs))

    return [(SMALL, small), (POLL, poll), (PULL, pull), (PUSH, push)]


def _redirects(lab: Lab, scale: Scale, made: Application) -> Run:
    path = f"/v2/{made.repository}/blobs/{made.blobs[1].digest}"
    return lambda group: _asked(lab, scale, group, lambda _: {"path": path, "status": 307})


def _asked(
    lab: Lab, scale: Scale, group: Units, target: Callable[[Aar], dict[str, Any]]
) -> Sample:
    jobs = []
    for unit, connections in _divided(group, CLIENTS):
        wanted = dict(target(unit))
        wanted["url"] = unit.url + wanted.pop("path")
        seconds = scale.pick(4.0, 0.2)
        jobs.append(lab.job("load", targets=[wanted], connections=connections, seconds=seconds))
    return of_requests(*_run(lab, group, jobs))


def _poll(lab: Lab, unit: Aar) -> dict[str, Any]:
    with unit.session(lab.client) as session:
        head = session.get(f"{unit.url}/1.0/changes?limit=1").json()["metadata"]
        path = f"/1.0/changes?limit=1000&since={head['epoch']}:{head['seq']}"
        answer = session.get(unit.url + path)
    assert answer.status_code == 200, answer.text
    return {"path": path, "sha256": hashlib.sha256(answer.content).hexdigest()}


def _divided(group: Units, total: int) -> list[tuple[Aar, int]]:
    """Give each unit its part of `total` connections, at least one."""
    count = len(group.units)
    parts = [total // count + (index < total % count) for index in range(count)]
    return [(unit, max(1, part)) for unit, part in zip(group.units, parts, strict=True)]


def _run(lab: Lab, group: Units, jobs: list[dict[str, Any]]) -> tuple[Any, Any]:
    with lab.crew(jobs) as crew, group.measured() as used:
        crew.go()
        outcome = crew.outcome()
    return outcome, used


MEASURE = Measure("units", "Several units on shared engines", measure)
