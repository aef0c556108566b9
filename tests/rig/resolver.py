"""Decide what a unit does next: a function of what the model holds and what the unit has seen.

Nothing is queued and nothing changes here, which is why events coalesce by themselves. The order
is Juju's (the uniter's resolvers, Juju 3.6 and 4.0); where it is random, a seeded generator
decides. While a failed hook waits, only actions and commands run.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import random
from typing import Any

from rig.charms import Charm
from rig.operations import (
    BROKEN,
    CHANGED,
    CREATED,
    DEPARTED,
    JOINED,
    EnterScopes,
    Finish,
    Hook,
    LeaveScope,
    Operation,
    Resign,
    RunTask,
    Task,
    Upgrade,
)
from rig.secretstate import Secret
from rig.state import Dialect, Relation, Unit


@dataclasses.dataclass(eq=False)
class View:
    """What a unit has seen of one relation it is in the scope of: databag versions by unit."""

    created: bool = False
    members: dict[Unit, int] = dataclasses.field(default_factory=dict)
    app_version: int = 0
    force_changed: Unit | None = None


@dataclasses.dataclass(eq=False)
class Failure:
    """A hook that failed and waits; `retry_at` is on the controller's monotonic clock."""

    hook: Hook
    attempts: int
    retry_at: float
    since: datetime.datetime


@dataclasses.dataclass(eq=False)
class Local:
    """A unit agent's own state."""

    installed: bool = False
    started: bool = False
    leader: bool = False
    rebooted: bool = False
    gone: bool = False
    charm: Charm | None = None
    config_seen: Any = None
    queued: Hook | None = None
    failure: Failure | None = None
    update_due: float = float("inf")
    views: dict[Relation, View] = dataclasses.field(default_factory=dict)
    tasks: collections.deque[Task] = dataclasses.field(default_factory=collections.deque)


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What the model looks like from one unit, now (monotonic seconds)."""

    relations: list[Relation]
    secrets: list[Secret]
    dialect: Dialect
    now: float


def config_of(unit: Unit) -> Any:
    """What config-changed is about: options, trust and address."""
    return (unit.app.options(), unit.app.trusted, unit.address)


def next_operation(
    unit: Unit, local: Local, around: Surroundings, rng: random.Random
) -> Operation | None:
    """The unit's next step, None when it has nothing to do for now."""
    if local.gone:
        return None
    if local.rebooted and local.started and not local.failure and not unit.dying:
        return Hook("start")
    return (
        _upgrade(unit, local)
        or _scopes(unit, local, around, rng)
        or _leadership(unit, local)
        or _secrets(unit, local, around)
        or _tasks(local)
        or _pending(unit, local, around, rng)
    )


def _upgrade(unit: Unit, local: Local) -> Operation | None:
    if not local.installed or local.charm is unit.app.charm or unit.dying:
        return None
    return None if local.failure and not unit.app.force_upgrade else Upgrade()


def _scopes(
    unit: Unit, local: Local, around: Surroundings, rng: random.Random
) -> Operation | None:
    # A hook that failed or is queued (start, or config-changed of an upgrade) comes first.
    if not local.installed or unit.dying or local.failure or local.queued:
        return None
    entering = [r for r in around.relations if r not in local.views and not r.dying]
    if entering:
        return EnterScopes(tuple(entering))
    fresh = [r for r, view in local.views.items() if not view.created]
    rng.shuffle(fresh)
    for relation in fresh:
        return LeaveScope(relation) if relation.dying else Hook(CREATED, relation)
    return None


def _leadership(unit: Unit, local: Local) -> Operation | None:
    if not local.installed:
        return None
    if local.leader and (not unit.is_leader or unit.dying):
        return Resign()
    if unit.is_leader and not local.leader and not unit.dying and not local.failure:
        return Hook("leader-elected")
    return None


def _secrets(unit: Unit, local: Local, around: Surroundings) -> Operation | None:
    if not local.installed or unit.dying or local.failure:
        return None
    news = [s for s in around.secrets if s.news_for(unit)]
    return Hook("secret-changed", secret=news[0], version=news[0].latest) if news else None


def _tasks(local: Local) -> Operation | None:
    """Actions go before commands, each kind in the order asked for."""
    if not local.installed or not local.tasks:
        return None
    return RunTask(min(local.tasks, key=lambda t: t.is_command))


def _pending(
    unit: Unit, local: Local, around: Surroundings, rng: random.Random
) -> Operation | None:
    if local.failure:
        return local.failure.hook if around.now >= local.failure.retry_at else None
    if local.queued:
        return local.queued
    if unit.dying:
        return _teardown(unit, local, around, rng)
    if not local.installed:
        return Hook("install")
    if local.config_seen != config_of(unit):
        return Hook("config-changed")
    hook = _relations(unit, local, around, rng)
    if hook is None and local.started and around.now >= local.update_due:
        hook = Hook("update-status")
    return hook


def _teardown(
    unit: Unit, local: Local, around: Surroundings, rng: random.Random
) -> Operation | None:
    hook = _relations(unit, local, around, rng)
    if hook:
        return hook
    if local.started:
        return Hook("stop")
    return Hook("remove") if local.installed else Finish()


def _relations(
    unit: Unit, local: Local, around: Surroundings, rng: random.Random
) -> Operation | None:
    """The first relation with something to tell; random order, peers last."""
    ordered = list(local.views)
    rng.shuffle(ordered)
    ordered.sort(key=lambda r: r.is_peer)
    for relation in ordered:
        view = local.views[relation]
        if not view.created:  # it came while the unit was dying: the charm never heard of it
            return LeaveScope(relation)
        hook = relation_hook(unit, relation, view, around.dialect)
        if hook:
            return hook
    return None


def relation_hook(unit: Unit, relation: Relation, view: View, dialect: Dialect) -> Hook | None:
    """The next hook within one relation: the first match wins."""
    remote = [] if unit.dying else relation.remote_members(unit, dialect)
    bags = relation.unit_bags
    if view.force_changed in remote:
        changed = view.force_changed
        return Hook(CHANGED, relation, changed, bags[changed].version)
    vanished = [u for u in view.members if u not in remote]
    for gone in sorted(vanished, key=lambda u: relation.name_of(u, unit.app)):
        departing = unit if unit.dying or unit.app.dying else gone
        return Hook(DEPARTED, relation, gone, departing=departing)
    if relation.dying or unit.dying:
        return None if relation.is_peer else Hook(BROKEN, relation)
    app_bag = relation.app_bag(relation.other(unit.app).app)
    if app_bag.version != view.app_version:
        return Hook(CHANGED, relation, None, app_bag.version)
    for other in remote:
        if other not in view.members:
            return Hook(JOINED, relation, other, bags[other].version)
    for other in remote:
        if bags[other].version != view.members[other]:
            return Hook(CHANGED, relation, other, bags[other].version)
    return None
