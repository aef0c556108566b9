"""From publishing to fifty sites, and what a small change in a large package moves.

Published → imported: light clients, each with its own certificate and long-poll, do on the wire
what AMS does (`driver.fleet`); one real AMS site among them shows that they stand for something.
Counted from before the manifest is sent until the last client has the version, every digest
checked. A one-file change: a real publisher and a real site around the registry, and bytes as the
registry counts them, over the size of the file that changed.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.content import blob, make_application
from benchmarks.lab import Lab
from benchmarks.measures.scale import MIB, Measure, Measured, Scale
from benchmarks.processes import until
from benchmarks.results import Rows, Sample, at_most
from benchmarks.rounds import Trial, interleave
from benchmarks.servers import Aar
from benchmarks.sites import Site

CLIENTS = 50
PACKAGE = 500 * MIB
FILES = 20
PATIENCE, LOOK = 120.0, 0.1
ARRIVAL = "publish → imported"
RECEIVED, SENT = "aar_http_received_bytes_total", "aar_http_sent_bytes_total"


def measure(lab: Lab, scale: Scale) -> Measured:
    """Measure seconds, then bytes."""
    clients = scale.pick(CLIENTS, 5)
    with ExitStack() as stack:
        light, real = f"{clients} light clients", "among them 1 AMS"
        arrival = _arrival(lab, scale, stack, clients)
        trials = [Trial(ARRIVAL, f"{light}, {real}", "s", "version", arrival)]
        rows = interleave(trials, scale.rounds, warm_up=True)
        change = stack.enter_context(_change(lab, scale))
        trials = [Trial("one file changed", "bytes moved", "x the file", "version", change)]
        rows += interleave(trials, scale.rounds, warm_up=False)
    found = Rows(rows)
    moved = rows[-1]
    goals = [
        at_most(f"seconds until {clients} clients have it", rows[0].median, 2.0),
        at_most("bytes sent by the publisher, x the file", moved.more("pushed"), 1.05),
        at_most("bytes received by the site, x the file", moved.more("pulled"), 1.05),
    ]
    return Measured(found.all, goals)


# Publishing to many


def _arrival(lab: Lab, scale: Scale, stack: ExitStack, clients: int) -> Any:
    crowd = lab.crowd(clients)
    server = lab.aar(lab.folder / "aar-fleet", crowd)
    server.start()
    stack.callback(server.stop)
    folder = lab.room("fleet")
    site = stack.enter_context(Site(lab.folder / "s-fleet", server))
    site.start()
    site.configure()
    site.connect()
    site.sync()
    watch = stack.enter_context(_following(lab, server, clients))
    numbers = count()

    def run() -> Sample:
        number = next(numbers)
        file = blob(folder, f"file-{number}", scale.pick(MIB, 10**4))
        made = make_application(folder, "fleet", (file,), number)
        mark = site.group.mark()
        until(lambda: server.metric(lab.client, "aar_waiting_clients") > clients, PATIENCE, LOOK)
        with server.group.measured() as used:
            begun = server.put(made, lab.publisher)
            last = watch.arrived(number + 1, clients)
            real = site.imported(1, mark)
        return Sample(
            value=max(last, real) - begun,
            cpu=used.cpu,
            peak=used.peak,
            more={"light clients s": last - begun, "AMS s": real - begun},
        )

    return run


class _Watch:
    """What the light clients tell, by the number of the change."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._counts: Counter[int] = Counter()
        self._last: dict[int, float] = {}

    def told(self, said: dict[str, Any]) -> None:
        with self._news:
            self._counts[said["seq"]] += 1
            self._last[said["seq"]] = max(self._last.get(said["seq"], 0.0), said["at"])
            self._news.notify_all()

    def arrived(self, seq: int, clients: int) -> float:
        """Wait until `clients` of them have the change; return when the last had it."""
        with self._news:
            if not self._news.wait_for(lambda: self._counts[seq] >= clients, PATIENCE):
                raise RuntimeError(f"only {self._counts[seq]} of {clients} clients have it")
            return self._last[seq]


@contextmanager
def _following(lab: Lab, server: Aar, clients: int) -> Iterator[_Watch]:
    """Let light clients follow the registry."""
    with server.session(lab.client) as session:
        head = session.get(f"{server.url}/1.0/changes?limit=1").json()["metadata"]
    crowd, jobs = lab.crowd(clients), []
    for part in lab.spread(clients):
        mine, crowd = crowd[:part], crowd[part:]
        since = f"{head['epoch']}:{head['seq']}"
        jobs.append(lab.job("fleet", mine, base=server.url, since=since, clients=part))
    watch = _Watch()
    with lab.crew(jobs, watch.told) as crew:
        crew.go()
        listener = threading.Thread(target=crew.outcome)
        listener.start()
        try:
            yield watch
        finally:
            crew.stop()
            listener.join()


# A small change in a large package


@contextmanager
def _change(lab: Lab, scale: Scale) -> Iterator[Any]:
    server = lab.aar(lab.folder / "aar-change")
    size = scale.pick(PACKAGE, 20 * MIB) // FILES
    package = lab.room("package")
    described = {"name": "large", "version": "1.0", "instance-type": "a4.3"}
    (package / "manifest.yaml").write_text(json.dumps(described), encoding="utf-8")
    for index in range(FILES):
        _rewrite(package / f"extra-{index}.bin", size)
    with ExitStack() as stack:
        server.start()
        stack.callback(server.stop)
        publisher = stack.enter_context(Site(lab.folder / "s-pub", server, "push"))
        site = stack.enter_context(Site(lab.folder / "s-sub", server))
        for one in (publisher, site):
            one.start()
            one.configure()
            one.connect()
            one.sync()
        mark = site.group.mark()
        publisher.amc("application", "create", package)
        site.imported(1, mark)

        def run() -> Sample:
            _rewrite(package / "extra-0.bin", size)
            mark, pushed = site.group.mark(), publisher.group.mark()
            before = _counted(lab, server)
            with server.group.measured() as used:
                publisher.amc("application", "update", "large", package)
                site.imported(1, mark)
                publisher.imported(1, pushed)
            after = _counted(lab, server)
            received, sent = (after[name] - before[name] for name in (RECEIVED, SENT))
            return Sample(
                value=max(received, sent) / size,
                cpu=used.cpu,
                peak=used.peak,
                more={"pushed": received / size, "pulled": sent / size},
            )

        yield run


def _rewrite(path: Path, size: int) -> None:
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for left in range(size, 0, -MIB):
            file.write((left.to_bytes(8, "big") + block[8:])[:left])


def _counted(lab: Lab, server: Aar) -> dict[str, float]:
    return {name: server.metric(lab.client, name) for name in (RECEIVED, SENT)}


MEASURE = Measure("fleet", "From a publisher to many sites", measure)
