"""Downloads as AMS does them, against curl from the same server.

AMS: a fresh site imports an application with one large file; counted from when it is told where
the registry is until the version is there: hashed, on disk, in the catalogue. curl writes the same
blob to a file on the same disk and does none of that; "curl, then sha256sum and sync" does. The
CPU columns: the registry's, and that of the client, per GB.
"""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from benchmarks.content import Application, Blob, blob, make_application
from benchmarks.driver import CIPHER, GROUP
from benchmarks.environment import Missing, program
from benchmarks.lab import Lab
from benchmarks.measures.scale import GB, Measure, Measured, Scale
from benchmarks.processes import Usage
from benchmarks.results import Rows, Sample, at_least, at_most
from benchmarks.rounds import Trial, interleave
from benchmarks.servers import Aar
from benchmarks.sites import Site

SIZES = {"1 MB": 10**6, "100 MB": 10**8, "1 GB": 10**9}
QUICK = {"1 MB": 10**5, "100 MB": 10**6, "1 GB": 4 * 10**6}
AMS, CURL, CHECKED = "AMS", "curl", "curl, then sha256sum and sync"


def measure(lab: Lab, scale: Scale) -> Measured:
    """Measure GB per second."""
    notes = []
    contenders = [AMS, CURL, CHECKED]
    try:
        program("curl")
    except Missing as why:
        contenders, notes = [AMS], [str(why)]
    with ExitStack() as stack:
        trials = []
        for name, size in scale.pick(SIZES, QUICK).items():
            folder = lab.room("client")
            one = blob(folder, name, size)
            made = make_application(folder, "client", (one,))
            server = lab.aar(lab.folder / f"client-{size}")
            server.start()
            stack.callback(server.stop)
            server.put(made, lab.publisher)
            runs = _runs(lab, server, made, one)
            trials += [Trial(name, who, "GB/s", "GB", runs[who]) for who in contenders]
        rows = Rows(interleave(trials, scale.rounds, warm_up=not scale.quick))
    goals = [
        at_least(f"AMS, {name}, x curl", rows.ratio(name, AMS, CURL), 0.9)
        for name in ("100 MB", "1 GB")
    ]
    large = rows.value("1 GB", AMS, "client peak MB")
    small = rows.value("1 MB", AMS, "client peak MB")
    growth = large / small if large and small else None
    goals.append(at_most("AMS, peak memory at 1 GB, x that at 1 MB", growth, 1.2))
    return Measured(rows.all, goals, notes)


def _runs(lab: Lab, server: Aar, made: Application, one: Blob) -> dict:
    numbers = count()

    def ams() -> Sample:
        with Site(lab.folder / f"d{one.size}-{next(numbers)}", server) as site:
            site.start()
            site.configure()
            mark = site.group.mark()
            with server.group.measured() as served, site.group.measured() as used:
                begun = time.monotonic()
                site.connect()
                seconds = site.imported(1, mark) - begun
            stored = site.home / "data" / "blobs" / "sha256" / one.digest.hex[:2] / one.digest.hex
            _expect_content(stored, one)
        stored.unlink()
        more = {"client peak MB": used.peak / 1e6}
        return _sample(one, seconds, served, used.cpu, more)

    def curl(*, checked: bool) -> Sample:
        target = lab.folder / "curled"
        with server.group.measured() as served:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            begun = time.monotonic()
            _curl(lab, server, made, one, target)
            if checked:
                subprocess.run(["sha256sum", target], check=True, stdout=subprocess.DEVNULL)
                subprocess.run(["sync", target], check=True)
            seconds = time.monotonic() - begun
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        _expect_content(target, one)
        target.unlink()
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return _sample(one, seconds, served, cpu)

    return {
        AMS: ams,
        CURL: lambda: curl(checked=False),
        CHECKED: lambda: curl(checked=True),
    }


def _curl(lab: Lab, server: Aar, made: Application, one: Blob, target: Path) -> None:
    command = [program("curl"), "--silent", "--show-error", "--fail", "--http1.1", "--insecure"]
    tls = ["--tlsv1.3", "--tls13-ciphers", CIPHER, "--curves", GROUP]
    who = ["--cert", lab.client.pair, "--key", lab.client.pair]
    url = f"{server.url}/v2/{made.repository}/blobs/{one.digest}"
    subprocess.run([*command, *tls, *who, "--output", target, url], check=True)


def _expect_content(path: Path, one: Blob) -> None:
    """See that what was stored is the blob."""
    with path.open("rb") as file:
        hasher = hashlib.sha256()
        while piece := file.read(1 << 20):
            hasher.update(piece)
    assert hasher.hexdigest() == one.digest.hex, f"{path} has other content"
    os.sync()


def _sample(
    one: Blob, seconds: float, served: Usage, cpu: float, more: dict[str, float] | None = None
) -> Sample:
    return Sample(
        value=one.size / seconds / GB,
        cpu=served.cpu,
        work=one.size / GB,
        peak=served.peak,
        client_cpu=cpu,
        more=more or {},
    )


MEASURE = Measure("client", "Downloads of AMS", measure)
