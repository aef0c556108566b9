"""What a plan is made from, read from the database, and plans that still hold.

A site holds thousands of versions, and of most of them there is nothing to say. So only those
applications are read in which the two sides may differ, and a plan without a step is remembered
until something that it was made from changes: a row (`schema.revision`), the registry's feed, an
option, or the time when something set aside is due. The rules are `ams.sync.plan`'s.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ams import schema
from ams.sync.ledger import pushed_of, quarantine_of, withdrawals_of
from ams.sync.plan import Mode, Plan, PlanInput, Quarantined, SiteVersion, Snapshot, plan
from ams.sync.view import CARRIED, state_of, versions
from regkit.database import Database
from regkit.oci.application import Key
from regkit.oci.digest import Digest

NAMES_AT_ONCE = 500
"""Names in one query; engines have a limit (SQLite: 32,766 variables)."""
REMEMBERED = 8
"""Questions whose plans are kept: in practice those of the background and of an operator."""

_APP, _VERSION, _MIRROR = schema.application, schema.version, schema.registry_version
_REGISTRY = "registry"
"""`application.origin` of what the registry owns."""


@dataclass(frozen=True)
class Question:
    """What is asked for. `retry`: what is set aside counts, too."""

    mode: Mode
    filter: frozenset[str]
    only: str | None = None
    allow_deletions: bool = False
    retry: bool = False


@dataclass(frozen=True)
class Survey:
    """A plan and what it was made from. `stale`: quarantined versions that are gone."""

    plan: Plan
    epoch: str
    withdrawals: Mapping[Key, Digest]
    stale: tuple[Key, ...]


@dataclass(frozen=True)
class Counts:
    """How much there is on both sides, and what was pushed."""

    registry_applications: int
    registry_versions: int
    imported_versions: int
    pushed_versions: int


@dataclass(frozen=True)
class _Place:
    """Everything that decides about a plan beside the question and the time."""

    epoch: str
    seq: int
    revision: int


class Surveyor:
    """Makes plans for one site of an architecture."""

    def __init__(self, database: Database, architecture: str) -> None:
        self._database = database
        self._architecture = architecture
        self._lock = threading.Lock()
        self._remembered: dict[Question, tuple[_Place, datetime | None, Survey]] = {}

    def survey(self, question: Question, now: datetime) -> Survey | None:
        """Plan; None before the registry was first read.

        While nothing has changed that costs two rows, however much there is.
        """
        # All of it in one snapshot of the database, so that the revision is that of the rows.
        with self._database.read() as connection:
            state = state_of(connection)
            if state is None or not state.epoch:
                return None
            place = _Place(state.epoch, state.seq, _revision(connection))
            if (known := self._recall(question, place, now)) is not None:
                return known
            given, aside = self._read(connection, question, place, now)
        found = _survey(given, aside)
        if not (found.plan.steps or found.plan.found or found.plan.settled or found.stale):
            self._remember(question, place, _next_due(question, aside, now), found)
        return found

    def counts(self) -> Counts:
        """Count, without reading."""
        with self._database.read() as connection:
            present = _MIRROR.c.seq != CARRIED
            names, rows = connection.execute(
                sa.select(sa.func.count(sa.distinct(_MIRROR.c.name)), sa.func.count()).where(
                    present
                )
            ).one()
            imported = connection.execute(
                sa.select(sa.func.count()).select_from(_here()).where(_APP.c.origin == _REGISTRY)
            ).scalar_one()
            pushed = connection.execute(
                sa.select(sa.func.count()).select_from(schema.pushed)
            ).scalar_one()
        return Counts(names, rows, imported, pushed)

    def _recall(self, question: Question, place: _Place, now: datetime) -> Survey | None:
        with self._lock:
            known = self._remembered.get(question)
        if known is None or known[0] != place or (known[1] is not None and known[1] <= now):
            return None
        return known[2]

    def _remember(
        self, question: Question, place: _Place, until: datetime | None, found: Survey
    ) -> None:
        with self._lock:
            self._remembered.pop(question, None)
            while len(self._remembered) >= REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[question] = (place, until, found)

    def _read(
        self, connection: sa.Connection, question: Question, place: _Place, now: datetime
    ) -> tuple[PlanInput, dict[Key, Quarantined]]:
        withdrawals = withdrawals_of(connection.execute(schema.withdrawal.select()))
        aside = quarantine_of(connection.execute(schema.quarantine.select()))
        if question.only is not None:
            names = {question.only}
        elif question.mode == "pull":
            names = _pulled(connection, self._architecture)
        elif question.mode == "push":
            names = _unpushed(connection, place.epoch) | {key.name for key in withdrawals}
        else:
            names = set()
        names |= {key.name for key in aside}
        mirror, local, pushed = {}, [], {}
        for some in _batches(sorted(names)):
            mirror |= versions(connection, some)
            local += _local(connection, some)
            rows = connection.execute(schema.pushed.select().where(schema.pushed.c.name.in_(some)))
            pushed |= pushed_of(rows)
        given = PlanInput(
            mode=question.mode,
            architecture=self._architecture,
            filter=question.filter,
            remote=Snapshot(place.epoch, place.seq, mirror),
            local=local,
            pushed=pushed,
            withdrawals=withdrawals,
            quarantine={} if question.retry else aside,
            allow_deletions=question.allow_deletions,
            now=now,
            only=question.only,
            applications=_imported_applications(connection),
        )
        return given, aside


def _survey(given: PlanInput, aside: Mapping[Key, Quarantined]) -> Survey:
    alive = {(key, v.digest) for key, v in given.remote.versions.items() if not v.carried}
    alive |= {(version.key, version.digest) for version in given.local}
    stale = tuple(key for key, entry in aside.items() if (key, entry.digest) not in alive)
    return Survey(plan(given), given.remote.epoch, given.withdrawals, stale)


def _next_due(
    question: Question, aside: Mapping[Key, Quarantined], now: datetime
) -> datetime | None:
    """Return until when a plan holds if nothing else changes; None: for ever."""
    if question.retry:
        return None
    return min((entry.retry_at for entry in aside.values() if entry.retry_at > now), default=None)


# Names of applications about which there may be something to say: rather too many than too few.


def _pulled(connection: sa.Connection, architecture: str) -> set[str]:
    """Name what the registry has and this site hasn't imported, and the other way round."""
    to_import = (
        sa.select(_MIRROR.c.name)
        .where(_MIRROR.c.seq != CARRIED, _MIRROR.c.architecture == architecture)
        .where(
            ~sa.exists()
            .select_from(_here())
            .where(_APP.c.origin == _REGISTRY, *_same(_MIRROR))
            .correlate(_MIRROR)
        )
    )
    to_remove = (
        sa.select(_APP.c.name).select_from(_here()).where(_APP.c.origin == _REGISTRY, ~_mirrored())
    )
    return set(connection.execute(to_import.union(to_remove)).scalars())


def _unpushed(connection: sa.Connection, epoch: str) -> set[str]:
    """Name what is published here and not in the registry, or not known to be from here."""
    pushed = schema.pushed
    recorded = (
        sa.exists()
        .select_from(pushed)
        .where(pushed.c.epoch == epoch, *_same(pushed))
        .correlate(_APP, _VERSION)
    )
    query = (
        sa.select(_APP.c.name)
        .select_from(_here())
        .where(_APP.c.origin != _REGISTRY, _VERSION.c.published)
        .where(sa.or_(~_mirrored(), ~recorded))
    )
    return set(connection.execute(query.distinct()).scalars())


def _here() -> sa.Join:
    return _APP.join(_VERSION, _VERSION.c.application_id == _APP.c.id)


def _mirrored() -> sa.Exists:
    """Whether the registry holds the version of the enclosing query."""
    return (
        sa.exists()
        .select_from(_MIRROR)
        .where(_MIRROR.c.seq != CARRIED, *_same(_MIRROR))
        .correlate(_APP, _VERSION)
    )


def _same(table: sa.Table) -> Iterator[sa.ColumnElement[bool]]:
    """Whether a row of `table` is about the version here, and says that it has this content."""
    yield table.c.name == _APP.c.name
    for column in ("number", "architecture", "digest"):
        yield table.c[column] == _VERSION.c[column]


def _local(connection: sa.Connection, names: Iterable[str]) -> list[SiteVersion]:
    query = sa.select(
        _APP.c.name,
        _APP.c.origin,
        _VERSION.c.number,
        _VERSION.c.architecture,
        _VERSION.c.digest,
        _VERSION.c.published,
    ).select_from(_here())
    return [_site_version(row) for row in connection.execute(query.where(_APP.c.name.in_(names)))]


def _site_version(row: Any) -> SiteVersion:
    key = Key(row.name, row.number, row.architecture)
    return SiteVersion(key, Digest.parse(row.digest), row.published, row.origin == _REGISTRY)


def _imported_applications(connection: sa.Connection) -> int:
    return connection.execute(
        sa.select(sa.func.count())
        .select_from(_APP)
        .where(_APP.c.origin == _REGISTRY)
        .where(sa.exists().where(_VERSION.c.application_id == _APP.c.id))
    ).scalar_one()


def _revision(connection: sa.Connection) -> int:
    return connection.execute(sa.select(schema.revision.c.number)).scalar_one()


def _batches(names: list[str]) -> Iterator[list[str]]:
    for begin in range(0, len(names), NAMES_AT_ONCE):
        yield names[begin : begin + NAMES_AT_ONCE]
