"""What the unit tells its operator: a pure function of what the last reconcile found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ops

from aar_interface.relation import REGISTRY_CLIENT, REGISTRY_PUBLISHER, Fault

OTHER = {REGISTRY_CLIENT: REGISTRY_PUBLISHER, REGISTRY_PUBLISHER: REGISTRY_CLIENT}


@dataclass(frozen=True)
class Findings:
    """All that the unit's status depends on. Empty texts and tuples: nothing to say."""

    misconfigured: str = ""
    """The option that can't be used, and why."""
    down: str = ""
    """Why the service doesn't run."""
    blocked: str = ""
    """What keeps units from sharing one site, and what to do."""
    engines: str = ""
    """What this unit waits for before it uses a registry."""
    both_roles: tuple[str, ...] = ()
    """Our endpoints, when both are related."""
    wrong_pair: str = ""
    """Our endpoint whose registry offers the other role."""
    faults: tuple[Fault, ...] = ()
    refused: str = ""
    """What AMS doesn't take of what the relation asks for."""
    waiting: str = ""
    """Our endpoint whose registry has sent nothing yet."""
    others: tuple[str, ...] = ()
    """Units that offer another registry than the one in use."""
    sync_error: str = ""
    """Why the last synchronisation failed."""


def statuses(findings: Findings) -> Iterator[ops.StatusBase]:
    """Yield what applies, the most fundamental first; of one severity Juju shows the first."""
    if findings.down:
        yield ops.BlockedStatus(f"the service is down: {findings.down}")
    if findings.misconfigured:
        yield ops.BlockedStatus(f"{findings.misconfigured} (juju config)")
    if findings.blocked:
        yield ops.BlockedStatus(findings.blocked)
    if findings.both_roles:
        yield ops.BlockedStatus(
            "related as both client and publisher: remove one of " + ", ".join(findings.both_roles)
        )
    if findings.wrong_pair:
        yield ops.BlockedStatus(
            f"{findings.wrong_pair} is related to the registry's endpoint for the other role: "
            f"remove that relation and relate {OTHER[findings.wrong_pair]} instead"
        )
    for fault in findings.faults:
        yield ops.BlockedStatus(f"{fault.unit} sent no usable {fault.message}")
    if findings.refused:
        yield ops.BlockedStatus(f"the registry of the relation can't be used: {findings.refused}")
    if findings.engines:
        yield ops.WaitingStatus(findings.engines)
    if findings.waiting:
        yield ops.WaitingStatus(f"waiting for the registry on {findings.waiting}")
    notes = []
    if findings.others:
        notes.append(f"another registry is offered by {', '.join(findings.others)}: not used")
    if findings.sync_error:
        notes.append(f"last sync failed: {findings.sync_error}")
    yield ops.ActiveStatus("; ".join(notes))
