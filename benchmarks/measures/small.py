"""Small reads: a manifest and a blob of 1 KiB, on kept connections and on new ones.

A new connection is a full handshake with both certificates: sessions aren't resumed; AMS's client
resumes none. Eight clients ask one after the other, as fast as they are answered.
"""

from __future__ import annotations

from benchmarks.content import Application, blob, make_application
from benchmarks.lab import CONTENDERS, Lab
from benchmarks.measures.scale import KIB, Measure, Measured, Scale, of_requests
from benchmarks.results import Rows, Sample, at_least
from benchmarks.rounds import Trial, interleave
from benchmarks.servers import Server
from regkit.oci.manifests import MANIFEST as MEDIA_TYPE

CLIENTS = 8
ACCEPT = f"Accept: {MEDIA_TYPE}"
"""Without it docker-registry doesn't know the OCI manifests; AMS sends it, too."""
MANIFEST, BLOB, NEW = "manifest, kept connection", "1 KiB blob, kept", "manifest, new connection"


def measure(lab: Lab, scale: Scale) -> Measured:
    """Measure requests per second."""
    folder = lab.room("small")
    made = make_application(folder, "small", (blob(folder, "file", KIB),))
    trials = []
    for case in (MANIFEST, BLOB, NEW):
        for server in lab.servers(*CONTENDERS):
            server.put(made, lab.publisher)
            path, sha256 = _resource(made, case)

            def run(
                server: Server = server, path: str = path, sha256: str = sha256, case: str = case
            ) -> Sample:
                jobs = [
                    lab.job(
                        "load",
                        targets=[
                            {"url": server.url + path, "sha256": sha256, "headers": [ACCEPT]}
                        ],
                        connections=count,
                        seconds=scale.pick(1.5, 0.2),
                        fresh=case == NEW,
                    )
                    for count in lab.spread(CLIENTS)
                ]
                return of_requests(*lab.run(server, jobs))

            trials.append(Trial(case, server.name, "requests/s", "1,000 requests", run))
    rows = Rows(interleave(trials, scale.rounds, warm_up=not scale.quick))
    peer = "docker-registry"
    goals = [
        at_least("manifest reads, x docker-registry", rows.ratio(MANIFEST, "aar", peer), 2.5),
        at_least("1 KiB blob reads, x docker-registry", rows.ratio(BLOB, "aar", peer), 2.5),
        at_least("new connections, x docker-registry", rows.ratio(NEW, "aar", peer), 1.1),
    ]
    return Measured(rows.all, goals)


def _resource(made: Application, case: str) -> tuple[str, str]:
    """Return the path and the SHA-256 of what is read."""
    if case == BLOB:
        digest = made.blobs[0].digest
        return f"/v2/{made.repository}/blobs/{digest}", digest.hex
    return f"/v2/{made.repository}/manifests/{made.digest}", made.digest.hex


MEASURE = Measure("small", "Small reads and new connections", measure, CONTENDERS[1:])
