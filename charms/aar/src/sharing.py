"""How this unit is to run, alone or on engines that the units share: one pure decision.

    related to                   this unit's store   it
    neither                      empty, own data     serves if it is the first unit
    neither                      shared              stops: what it served is elsewhere
    one of the two               own data            serves as before, and says what is missing
    one of the two               empty               serves nobody yet
    one of the two               shared              stops
    both, one not ready          own data, shared    goes on as it is
    both, one not ready          empty               serves nobody yet
    both, ready                  own data            goes on as it is: its data must be moved first
    both, ready                  empty               serves the shared state, after the leader
    both, ready                  shared              serves the shared state

A registry must never seem to be empty: sites would take that for what it is. So nothing leads
from a store with data to another one but `migrate`, and nothing from shared engines back to an
empty store. The leader goes first, and only when no other unit has data of its own; the
certificate that it then shares is what lets the others follow.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from shared_engines import Engines, Store, lacking

_NOTHING_LOST = "; nothing was deleted"


class Run(enum.Enum):
    """What to do with the registry on this machine."""

    ALONE = enum.auto()
    """Serve from its own files."""
    APART = enum.auto()
    """Run on its own files, but nobody is told of it."""
    SHARED = enum.auto()
    """Serve from the shared engines."""
    STOPPED = enum.auto()
    """Serve nobody, and change nothing."""


@dataclass(frozen=True)
class Situation:
    """All that the decision depends on."""

    unit: str
    units: frozenset[str]
    leader: bool
    store: Store
    related: frozenset[str] = frozenset()
    """Which of database, object-storage are related."""
    unusable: Mapping[str, str] | None = None
    """By endpoint, what is wrong with what its provider said."""
    engines: Engines | None = None
    """Both, once both providers have said all."""
    certificate: bool = False
    """Whether the shared certificate is there."""
    told: Mapping[str, str] | None = None
    """What the other units said of their stores; "": nothing."""


@dataclass(frozen=True)
class Decision:
    """What to do, and what to tell the operator: `blocked` needs him, `waiting` doesn't."""

    run: Run
    blocked: str = ""
    waiting: str = ""


def decide(now: Situation) -> Decision:
    """Say how this unit is to run."""
    if not now.related:
        return _alone(now)
    if len(now.related) == 1:
        return _incomplete(now)
    if now.unusable:
        endpoint, fault = min(now.unusable.items())
        return Decision(_as_before(now), blocked=f"{endpoint} sent no usable {fault}")
    if now.engines is None:
        return Decision(_as_before(now), waiting="waiting for database and object-storage")
    return _ready(now)


def first_of(units: frozenset[str]) -> str:
    """Return the oldest unit, the one with the lowest number: every unit finds the same."""
    return min(units, key=lambda name: int(name.rpartition("/")[2]))


def _alone(now: Situation) -> Decision:
    if now.store is Store.SHARED:
        return Decision(
            Run.STOPPED,
            blocked="the registry's data are in a database and an object storage that aren't "
            "related any more: integrate database and object-storage again" + _NOTHING_LOST,
        )
    first = first_of(now.units)
    if first == now.unit:
        return Decision(Run.ALONE)
    return Decision(
        Run.APART,
        blocked=f"{first} is the registry: integrate database and object-storage, so that units "
        "share one, or remove this unit",
    )


def _incomplete(now: Situation) -> Decision:
    (there,) = now.related
    sentence = lacking(now.related)
    if now.store is Store.SHARED:
        return Decision(Run.STOPPED, blocked=sentence + _NOTHING_LOST)
    return Decision(_as_before(now), blocked=f"{sentence}, or remove {there}")


def _ready(now: Situation) -> Decision:
    if now.store is Store.OWN:
        return Decision(
            _as_before(now),
            blocked=f"{now.unit} has data of its own, which database and object-storage lack: "
            f"juju run {now.unit} migrate moves them there",
        )
    if now.store is Store.EMPTY and now.leader:
        return _first(now)
    return _following(now)


def _as_before(now: Situation) -> Run:
    if now.store is Store.SHARED:
        return Run.SHARED
    if now.store is Store.EMPTY:
        return Run.STOPPED
    return Run.ALONE if first_of(now.units) == now.unit else Run.APART


def _first(now: Situation) -> Decision:
    """The leader opens the shared state once it is sure that nobody's data are left behind."""
    told = now.told or {}
    if now.certificate or Store.SHARED.value in told.values():
        return Decision(Run.SHARED)
    for unit in sorted(told):
        if told[unit] == Store.OWN.value:
            return Decision(Run.STOPPED, waiting=f"waiting for {unit}, whose data must be moved")
    for unit in sorted(told):
        if not told[unit]:
            return Decision(Run.STOPPED, waiting=f"waiting for {unit} to say whether it has data")
    return Decision(Run.SHARED)


def _following(now: Situation) -> Decision:
    if now.certificate or now.leader:
        return Decision(Run.SHARED)
    run = Run.SHARED if now.store is Store.SHARED else Run.STOPPED
    return Decision(run, waiting="waiting for the shared certificate")
