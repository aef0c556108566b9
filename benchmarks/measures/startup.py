"""From the start of the process to the first answer, with few and with many versions.

docker-registry, which reads nothing at its start, is there for comparison; AMS has imported all of
the largest catalogue. The files are in the page cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks import sites
from benchmarks.lab import Lab
from benchmarks.measures.scale import Measure, Measured, Scale
from benchmarks.peers import DockerRegistry
from benchmarks.processes import Group
from benchmarks.results import Sample
from benchmarks.rounds import Trial, interleave
from benchmarks.servers import Server
from benchmarks.sites import Site

SIZES = (100, 10_000, 100_000)


def measure(lab: Lab, scale: Scale) -> Measured:
    """Measure seconds."""
    sizes = scale.pick(SIZES, (20, 60))
    servers = {f"aar, {size:,} versions": lab.stocked(size) for size in sizes}
    site = sites.stocked(lab.folder / "s-start", lab.stocked(sizes[-1]), sizes[-1])
    runs: dict[str, Callable[[], Sample]] = {
        name: lambda server=server: _serve(lab, server) for name, server in servers.items()
    }
    runs[f"AMS, {sizes[-1]:,} versions"] = lambda: _manage(site)
    if DockerRegistry.name in lab.contenders:
        peer = lab.another(DockerRegistry.name, lab.folder / "start-peer")
        runs["docker-registry, empty"] = lambda: _serve(lab, peer)
    trials = [Trial("to the first answer", name, "s", "start", run) for name, run in runs.items()]
    return Measured(interleave(trials, scale.rounds, warm_up=True))


def _serve(lab: Lab, server: Server) -> Sample:
    begun = time.monotonic()
    server.start()
    try:
        with server.session(lab.client) as session:
            assert session.get(f"{server.url}/v2/").status_code == 200
        return _sample(begun, server.group)
    finally:
        server.stop()


def _manage(site: Site) -> Sample:
    begun = time.monotonic()
    site.start()
    try:
        with site.client() as client:
            assert client.info()["api_version"] == "1.0"
        return _sample(begun, site.group)
    finally:
        site.stop()


def _sample(begun: float, group: Group) -> Sample:
    seconds = time.monotonic() - begun
    used = group.usage()
    return Sample(value=seconds, cpu=used.cpu, peak=used.peak)


MEASURE = Measure("startup", "Start-up", measure, (DockerRegistry.name,))
