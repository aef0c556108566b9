"""Uploads of blobs that the server has never seen, its SHA-256 computed on the fly.

Monolithic: POST, then PUT with the whole content. Chunked: PATCH after PATCH, then an empty PUT.
Both sides promise the same: an answered upload is on disk. How many fsync calls an upload makes
is counted with strace, where that is installed and allowed, and told in the notes.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.environment import Missing, program
from benchmarks.lab import Lab
from benchmarks.measures.scale import MIB, Measure, Measured, Scale, of_bytes
from benchmarks.processes import NotReady, until
from benchmarks.results import Rows, Sample, at_least, at_most
from benchmarks.rounds import Trial, interleave
from benchmarks.servers import Server

CONTENDERS = ("aar", "docker-registry")
CHUNK = 16 * MIB
CASES = (
    # size, streams, blobs of each stream
    ("1 MB", 10**6, 1, 50),
    ("1 MB", 10**6, 4, 25),
    ("100 MB", 10**8, 1, 3),
    ("100 MB", 10**8, 4, 1),
    ("1 GB", 10**9, 1, 1),
)
QUICK = (("1 MB", 10**5, 1, 3), ("100 MB", 3 * 10**6, 4, 1), ("1 GB", 4 * 10**6, 1, 1))


def measure(lab: Lab, scale: Scale) -> Measured:
    """Measure GB per second."""
    servers = lab.servers(*CONTENDERS)
    notes = [_durability(lab, server) for server in servers]
    chunk = scale.pick(CHUNK, MIB)
    trials = [
        _trial(lab, server, (name, size, streams, count), chunk if form == "chunked" else None)
        for form in ("monolithic", "chunked")
        for name, size, streams, count in scale.pick(CASES, QUICK)
        for server in servers
    ]
    rows = Rows(interleave(trials, scale.rounds, warm_up=not scale.quick))
    goals = [
        at_least(f"{case}, x docker-registry", rows.ratio(case, *CONTENDERS), 2.0)
        for case in dict.fromkeys(trial.case for trial in trials)
    ]
    small, large = (rows.get(_case(name, 1, chunked=False), "aar") for name in ("1 MB", "1 GB"))
    growth = large.peak / small.peak if small and large else None
    goals.append(at_most("peak memory at 1 GB, x that at 1 MB (monolithic)", growth, 1.2))
    return Measured(rows.all, goals, notes)


def _trial(lab: Lab, server: Server, blobs: tuple[str, int, int, int], chunk: int | None) -> Trial:
    name, size, streams, count = blobs

    def run() -> Sample:
        outcome, used = lab.run(server, _jobs(lab, server, size, streams, count, chunk))
        server.forget(outcome.digests)
        return of_bytes(outcome, used)

    case = _case(name, streams, chunked=chunk is not None)
    return Trial(case, server.name, "GB/s", "GB", run)


def _jobs(
    lab: Lab, server: Server, size: int, streams: int, count: int, chunk: int | None
) -> list[dict[str, object]]:
    return [
        lab.job(
            "push",
            [lab.publisher],
            base=server.url,
            repository="push",
            size=size,
            streams=part,
            count=count,
            chunk=chunk,
        )
        for part in lab.spread(streams)
    ]


def _case(name: str, streams: int, *, chunked: bool) -> str:
    form = "chunked" if chunked else "monolithic"
    return f"{form}, {name}, {streams} stream{'s' if streams > 1 else ''}"


def _durability(lab: Lab, server: Server) -> str:
    """Say how many fsync calls the server makes for one monolithic upload of 1 MB."""
    log = lab.folder / f"{server.name}.strace"
    try:
        with _traced(server, log):
            outcome, _ = lab.run(server, _jobs(lab, server, 10**6, 1, 1, None))
    except (Missing, NotReady) as why:
        return f"{server.name}: fsync calls weren't counted ({why})"
    server.forget(outcome.digests)
    calls = re.findall(r"\b(?:fsync|fdatasync)\((\d+)(?:<([^>]*)>)?", log.read_text("utf-8"))
    folders = sum(Path(path).is_dir() for _, path in calls if path)
    return f"{server.name}: {len(calls)} fsync calls for an upload of 1 MB, {folders} of folders"


@contextlib.contextmanager
def _traced(server: Server, log: Path) -> Iterator[None]:
    """Record the fsync calls of all the server's processes. Raises Missing, NotReady."""
    pids = [word for pid in server.group.members() for word in ("-p", str(pid))]
    command = [program("strace"), "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", log, *pids]
    said = log.with_suffix(".err")
    with said.open("w") as errors, subprocess.Popen(command, stderr=errors) as tracer:
        try:
            until(lambda: tracer.poll() is not None or "attached" in said.read_text("utf-8"), 10)
            if tracer.poll() is not None:
                raise NotReady("strace may not attach")
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                tracer.send_signal(signal.SIGINT)


MEASURE = Measure("push", "Uploads", measure, CONTENDERS[1:])
