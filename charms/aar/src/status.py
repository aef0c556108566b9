"""What the unit tells its operator: a pure function of what the last reconcile found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ops

from aar_interface.relation import Fault, WrongPair


@dataclass(frozen=True)
class Refused:
    """A certificate that the registry doesn't trust although these units show it, and why not."""

    units: tuple[str, ...]
    fingerprint: str
    message: str


@dataclass(frozen=True)
class Findings:
    """All that the unit's status depends on. Empty texts and tuples: nothing to say."""

    misconfigured: str = ""
    """The option that can't be used, and why."""
    down: str = ""
    """Why the registry doesn't run."""
    blocked: str = ""
    """What keeps units from sharing one state, and what to do."""
    waiting: str = ""
    """What this unit waits for before it serves."""
    wrong_pairs: tuple[WrongPair, ...] = ()
    both_roles: tuple[str, ...] = ()
    """Remote applications that are related as client and as publisher."""
    faults: tuple[Fault, ...] = ()
    refused: tuple[Refused, ...] = ()


def statuses(findings: Findings) -> Iterator[ops.StatusBase]:
    """Yield what applies, the most fundamental first; of one severity Juju shows the first."""
    if findings.down:
        yield ops.BlockedStatus(f"the registry is down: {findings.down}")
    if findings.misconfigured:
        yield ops.BlockedStatus(f"{findings.misconfigured} (juju config)")
    if findings.blocked:
        yield ops.BlockedStatus(findings.blocked)
    for pair in findings.wrong_pairs:
        yield ops.BlockedStatus(
            f"{pair.application} is related to {pair.endpoint} as {pair.remote_role}: remove that "
            f"relation and relate it to {pair.remote_role} instead"
        )
    for application in findings.both_roles:
        yield ops.BlockedStatus(
            f"{application} is related as both client and publisher: remove one of client, "
            "publisher"
        )
    if findings.waiting:
        yield ops.WaitingStatus(findings.waiting)
    notes = [f"{fault.unit} sent no usable {fault.message}" for fault in findings.faults]
    notes += [f"{', '.join(refused.units)}: {refused.message}" for refused in findings.refused]
    yield ops.ActiveStatus("; ".join(notes))
