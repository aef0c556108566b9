"""Downloads of blobs: 1 MB, 100 MB, 1 GB by 1, 4 and 8 clients at a time, on kept connections.

Every byte is compared with the blob's. The time to the first byte is
counted from when the request could be sent.
"""

from __future__ import annotations

from benchmarks.content import blob, make_application
from benchmarks.lab import CONTENDERS, Lab
from benchmarks.measures.scale import Measure, Measured, Scale, of_bytes
from benchmarks.results import Rows, Sample, at_least, at_most
from benchmarks.rounds import Trial, interleave
from benchmarks.servers import Server

SIZES = {"1 MB": 10**6, "100 MB": 10**8, "1 GB": 10**9}
QUICK = {"1 MB": 10**5, "100 MB": 10**6, "1 GB": 4 * 10**6}
STREAMS = (1, 4, 8)
ENOUGH = 500_000_000
"""Bytes that all clients move at least, so that a round takes a moment."""
FLAT = 1.2
"""How much more memory a 1 GB blob may take than one of 1 MB."""


def measure(lab: Lab, scale: Scale) -> Measured:
    """Measure GB per second."""
    folder = lab.room("pull")
    sizes = scale.pick(SIZES, QUICK)
    blobs = {name: blob(folder, name, size) for name, size in sizes.items()}
    made = make_application(folder, "pull", tuple(blobs.values()))
    servers = lab.servers(*CONTENDERS)
    for server in servers:
        server.put(made, lab.publisher)
    trials = []
    for name, one in blobs.items():
        for streams in STREAMS:
            times = max(1, scale.pick(ENOUGH, 10**6) // one.size // streams)
            for server in servers:
                if server.name == "nginx" and streams == STREAMS[-1]:
                    continue  # no goal has it, and it takes long
                path = f"/v2/{made.repository}/blobs/{one.digest}"

                def run(
                    server: Server = server,
                    path: str = path,
                    file: str = str(one.path),
                    streams: int = streams,
                    times: int = times,
                ) -> Sample:
                    url = server.url
                    jobs = [
                        lab.job(
                            "load",
                            targets=[{"url": url + path, "file": file}],
                            warm={"url": f"{url}/v2/", "status": _status(server)},
                            connections=count,
                            count=times * count,
                        )
                        for count in lab.spread(streams)
                    ]
                    return of_bytes(*lab.run(server, jobs))

                trials.append(Trial(_case(name, streams), server.name, "GB/s", "GB", run))
    rows = Rows(interleave(trials, scale.rounds, warm_up=not scale.quick))
    goals = []
    for name in sizes:
        case = _case(name, 1)
        for other, limit in (("docker-registry", 1.0), ("nginx", 1.1)):
            text = f"{name}, 1 stream, x {other}"
            goals.append(at_least(text, rows.ratio(case, "aar", other), limit))
        ratio = rows.ratio(_case(name, 4), "aar", "docker-registry")
        goals.append(at_least(f"{name}, 4 streams, x docker-registry", ratio, 1.0))
    goals.append(at_most("peak memory at 1 GB, x that at 1 MB (1 stream)", _growth(rows), FLAT))
    return Measured(rows.all, goals)


def _case(name: str, streams: int) -> str:
    return f"{name}, {streams} stream{'s' if streams > 1 else ''}"


def _status(server: Server) -> int:
    """Return what a server answers to the probe; nginx has no file of that name."""
    return 403 if server.name == "nginx" else 200


def _growth(rows: Rows) -> float | None:
    small, large = (rows.get(_case(name, 1), "aar") for name in ("1 MB", "1 GB"))
    return None if small is None or large is None else large.peak / small.peak


MEASURE = Measure("pull", "Downloads", measure, CONTENDERS[1:])
