"""How this unit is to run, alone or on engines that the units share: one pure decision.

    related to                   this unit's store   it
    neither                      empty, own          is a site of its own
    neither                      shared              stops: its applications are elsewhere
    one of the two               own                 goes on as it is, and says what is missing
    one of the two               empty               runs, but uses no registry yet
    one of the two               shared              stops
    both, one not ready          own, shared         goes on as it is
    both, one not ready          empty               runs, but uses no registry yet
    both, ready                  own                 goes on as it is, and says what to do first
    both, ready                  empty, shared       is one of the units of the shared site

Nothing leads from a store with applications of its own to another one, and nothing from shared
engines back to an empty store: a registry would be told that all is gone, or told nothing more.
What came from a registry isn't missed: it comes again.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from shared_engines import Engines, Store, lacking

_NOTHING_LOST = "; nothing was deleted"


class Run(enum.Enum):
    """What to do with the service on this machine."""

    ALONE = enum.auto()
    """Serve from its own files, as a site of its own."""
    APART = enum.auto()
    """Serve from its own files, but use no registry, so that they stay empty."""
    SHARED = enum.auto()
    """Serve from the shared engines."""
    STOPPED = enum.auto()
    """Serve nobody, and change nothing."""


@dataclass(frozen=True)
class Situation:
    """All that the decision depends on."""

    unit: str
    store: Store
    related: frozenset[str] = frozenset()
    """Which of database, object-storage are related."""
    unusable: Mapping[str, str] | None = None
    """By endpoint, what is wrong with what its provider said."""
    engines: Engines | None = None
    """Both, once both providers have said all."""


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
    if now.store is Store.OWN:
        return Decision(
            Run.ALONE,
            blocked=f"{now.unit} has applications of its own, which database and object-storage "
            "lack: export and delete them here, then create them again; or remove both relations",
        )
    return Decision(Run.SHARED)


def _alone(now: Situation) -> Decision:
    if now.store is not Store.SHARED:
        return Decision(Run.ALONE)
    return Decision(
        Run.STOPPED,
        blocked="the applications are in a database and an object storage that aren't related "
        "any more: integrate database and object-storage again" + _NOTHING_LOST,
    )


def _incomplete(now: Situation) -> Decision:
    (there,) = now.related
    sentence = lacking(now.related)
    if now.store is Store.SHARED:
        return Decision(Run.STOPPED, blocked=sentence + _NOTHING_LOST)
    return Decision(_as_before(now), blocked=f"{sentence}, or remove {there}")


def _as_before(now: Situation) -> Run:
    return {Store.SHARED: Run.SHARED, Store.OWN: Run.ALONE, Store.EMPTY: Run.APART}[now.store]
