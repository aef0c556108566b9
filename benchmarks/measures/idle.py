"""Two thousand clients that wait: what each costs in memory, and what the others notice.

Memory is what the server's processes have grown by (Pss: shared pages count in parts), divided by
the clients; the kernel's own for the sockets isn't in it. Each round has a server just started,
since memory once taken isn't always given back. Ours trusts a certificate per client; the peers,
which would send the list of all in every handshake, one for all.
"""

from __future__ import annotations

from typing import Any

from benchmarks.content import Application, blob, make_application
from benchmarks.lab import CONTENDERS, Lab
from benchmarks.measures.scale import KIB, Measure, Measured, Scale
from benchmarks.measures.small import ACCEPT
from benchmarks.processes import NotReady, until
from benchmarks.results import Rows, Sample, at_most
from benchmarks.rounds import Trial, interleave
from benchmarks.servers import Aar, Server

POLL, IDLE, ALONE = "long-polling", "idle", "none waits"
CLIENTS = 2_000
RATE = 100.0
WAIT = 60
"""Seconds that a long-poll asks for: the most that the registry grants."""
ARRIVED = {POLL: 40.0, IDLE: 10.0}
"""Seconds until all must be there, so that none of them ends before it was looked at: a long-poll
ends after WAIT, an idle connection with us after 30 s."""
LOOK = 0.25
"""Seconds between two looks at how many there are: looking takes the server's time, too."""
LIMIT = 100 * KIB


def measure(lab: Lab, scale: Scale) -> Measured:
    """Measure bytes per client."""
    folder = lab.room("idle")
    made = make_application(folder, "idle", (blob(folder, "small", KIB),))
    count = scale.pick(CLIENTS, 40)
    trials = []
    for state in (POLL, IDLE, ALONE):
        for name in CONTENDERS:
            if name not in lab.contenders or (state == POLL and name != Aar.name):
                continue

            def run(name: str = name, state: str = state) -> Sample:
                server = lab.another(name, lab.folder / f"idle-{name}", lab.crowd(count))
                server.start()
                try:
                    return _round(lab, scale, server, made, 0 if state == ALONE else count, state)
                finally:
                    server.stop()

            unit = "ms p99" if state == ALONE else "KiB/client"
            trials.append(Trial(_case(state, count), name, unit, "round", run))
    rows = Rows(interleave(trials, scale.rounds, warm_up=False))
    waiting = rows.value(_case(POLL, count), Aar.name)
    goals = [at_most("KiB for a waiting client", waiting, LIMIT / KIB)]
    return Measured(rows.all, goals)


def _round(
    lab: Lab, scale: Scale, server: Server, made: Application, count: int, state: str
) -> Sample:
    server.put(made, lab.publisher)
    others = lab.job(
        "load",
        targets=[
            {
                "url": f"{server.url}/v2/{made.repository}/manifests/{made.digest}",
                "sha256": made.digest.hex,
                "headers": [ACCEPT],
            }
        ],
        connections=8,
        rate=RATE,
        seconds=scale.pick(3.0, 0.5),
    )
    lab.run(server, [{**others, "seconds": 0.5}])  # what is made once isn't the clients'
    before = server.group.usage()
    with lab.crew(_waiting(lab, server, made, count, state)) as crew:
        crew.go()
        if count:
            _await_all(lab, server, state, count)
        held = server.group.usage()
        outcome, used = lab.run(server, [others])
        lost = count - _held(lab, server, state) if count else 0
        crew.stop()
        crew.outcome()
    if lost > 0:
        raise RuntimeError(f"{server.name} has lost {lost} of {count} waiting clients")
    p99 = outcome.latency(0.99) * 1000
    return Sample(
        value=(held.own - before.own) / count / KIB if count else p99,
        cpu=used.cpu,
        peak=used.peak,
        client_cpu=outcome.cpu,
        more={"p50 ms": outcome.latency(0.5) * 1000, "p99 ms": p99},
    )


def _await_all(lab: Lab, server: Server, state: str, count: int) -> None:
    try:
        until(lambda: _held(lab, server, state) >= count, ARRIVED[state], LOOK)
    except NotReady:
        raise NotReady(
            f"only {_held(lab, server, state):,} of {count:,} clients hold on to {server.name}: "
            "connecting all of them took too long; is the machine busy?"
        ) from None


def _waiting(
    lab: Lab, server: Server, made: Application, count: int, state: str
) -> list[dict[str, Any]]:
    first = {
        "url": f"{server.url}/v2/{made.repository}/blobs/{made.config.digest}",
        "sha256": made.config.digest.hex,
    }
    poll = _poll(lab, server) if state == POLL else None
    jobs, crowd = [], lab.crowd(count)
    for part in lab.spread(count) if count else []:
        mine, crowd = crowd[:part], crowd[part:]
        who = mine if server.name == Aar.name else None
        jobs.append(lab.job("hold", who, first=first, poll=poll, connections=part))
    return jobs


def _poll(lab: Lab, server: Server) -> dict[str, Any]:
    with server.session(lab.client) as session:
        head = session.get(f"{server.url}/1.0/changes?limit=1").json()["metadata"]
    since = f"{head['epoch']}:{head['seq']}"
    return {"url": f"{server.url}/1.0/changes?limit=1000&since={since}&wait={WAIT}"}


def _held(lab: Lab, server: Server, state: str) -> int:
    """Return how many clients wait: by the registry's own count, or by the open sockets."""
    if state != POLL:
        return server.group.sockets()
    return int(server.metric(lab.client, "aar_waiting_clients"))


def _case(state: str, count: int) -> str:
    return state if state == ALONE else f"{count:,} {state}"


MEASURE = Measure("idle", "Waiting clients", measure, CONTENDERS[1:])
