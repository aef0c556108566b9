"""What must be done so that this site and its registry agree: a pure function.

`plan` compares what the registry holds with what is here and returns steps; `ams.sync.runner`
executes them. Nothing here reads a clock, a database or the network.

Rules:
- pull imports versions of this machine's architecture that match the filter, and removes imported
  ones that the registry removed. Only the registry's own removal removes: a version that a new
  filter or mode would leave out stays.
- push uploads published local versions that the registry lacks, and takes back what was withdrawn
  here. A version that was pushed in this epoch and is gone was removed there on purpose: it is
  not pushed again by itself.
- manual does nothing by itself; `only` is the application that an operator named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from regkit.oci.application import Key
from regkit.oci.digest import Digest

Mode = Literal["pull", "push", "manual"]

MANY_APPLICATIONS = 10
"""More removed applications in one update, and more than half of the imported, are held."""


@dataclass(frozen=True)
class RemoteVersion:
    """A version in the registry. `size` is the bytes of its files.

    `carried` marks one that the registry held in an earlier epoch, and that nobody has removed:
    it is absent now, but its removal needs the operator's word.
    """

    key: Key
    digest: Digest
    size: int
    tags: tuple[str, ...]
    carried: bool = False


@dataclass(frozen=True)
class Snapshot:
    """What the registry holds, complete up to `seq` of `epoch`."""

    epoch: str
    seq: int
    versions: Mapping[Key, RemoteVersion]

    def present(self, key: Key) -> RemoteVersion | None:
        """Return the version unless it is absent or merely carried over."""
        found = self.versions.get(key)
        return None if found is None or found.carried else found


@dataclass(frozen=True)
class SiteVersion:
    """A version on this site. `imported`: the registry owns it."""

    key: Key
    digest: Digest
    published: bool
    imported: bool


@dataclass(frozen=True)
class Pushed:
    """A record that this site pushed a version, and into which epoch ("" while under way)."""

    digest: Digest
    epoch: str


@dataclass(frozen=True)
class Quarantined:
    """A version that failed for a reason of its own."""

    digest: Digest
    reason: str
    attempts: int
    retry_at: datetime


@dataclass(frozen=True)
class PlanInput:
    """Everything that a plan depends on. `filter` empty: no filter; `now` is aware.

    `remote` and `local` may leave out applications in which both sides agree and nothing is to be
    withdrawn; `applications` then says how many imported ones there are in all.
    """

    mode: Mode
    architecture: str
    filter: frozenset[str]
    remote: Snapshot
    local: Sequence[SiteVersion]
    pushed: Mapping[Key, Pushed]
    withdrawals: Mapping[Key, Digest]
    quarantine: Mapping[Key, Quarantined]
    allow_deletions: bool
    now: datetime
    only: str | None = None
    applications: int | None = None


@dataclass(frozen=True)
class Import:
    """Fetch a version from the registry; `replace`: in place of other content under this key."""

    key: Key
    digest: Digest
    size: int
    replace: bool = False

    def __str__(self) -> str:
        return f"import {self.key}"


@dataclass(frozen=True)
class RemoveImported:
    """Remove an imported version, which the registry removed."""

    key: Key
    digest: Digest

    def __str__(self) -> str:
        return f"remove {self.key}"


@dataclass(frozen=True)
class Push:
    """Upload a published local version.

    `again`: the registry has it, but whoever asked wants every file of it to be there.
    """

    key: Key
    digest: Digest
    again: bool = False

    def __str__(self) -> str:
        return f"push {self.key}"


@dataclass(frozen=True)
class Withdraw:
    """Remove from the registry what this site pushed and then revoked or deleted."""

    key: Key
    digest: Digest

    def __str__(self) -> str:
        return f"withdraw {self.key}"


Step = Import | RemoveImported | Push | Withdraw


@dataclass(frozen=True)
class Plan:
    """`steps` in order; the rest is for people, except the bookkeeping of the last three.

    `found`: published versions that the registry already holds, to be recorded as pushed.
    `settled`: withdrawals that need nothing any more. `forgotten`: records of pushes to drop.
    """

    steps: tuple[Step, ...] = ()
    held: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    found: tuple[tuple[Key, Digest], ...] = ()
    settled: tuple[Key, ...] = ()
    forgotten: tuple[Key, ...] = ()


@dataclass
class _Draft:
    steps: list[Step] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    found: list[tuple[Key, Digest]] = field(default_factory=list)
    settled: list[Key] = field(default_factory=list)
    forgotten: list[Key] = field(default_factory=list)

    def done(self) -> Plan:
        return Plan(
            tuple(self.steps),
            tuple(self.held),
            tuple(self.conflicts),
            tuple(self.notes),
            tuple(self.found),
            tuple(self.settled),
            tuple(self.forgotten),
        )


def plan(given: PlanInput) -> Plan:
    """Return what to do. Executing the steps and planning again gives no steps."""
    draft = _Draft()
    if given.mode == "pull":
        _plan_removals(given, draft)
        _plan_imports(given, draft)
    elif given.mode == "push":
        _plan_withdrawals(given, draft)
        _plan_pushes(given, draft)
    return draft.done()


def _wanted(given: PlanInput, key: Key) -> bool:
    return given.only is None or key.name == given.only


def _plan_removals(given: PlanInput, draft: _Draft) -> None:
    imported = [version for version in given.local if version.imported]
    removals: list[RemoveImported] = []
    for version in sorted(imported, key=lambda version: version.key):
        if not _wanted(given, version.key):
            continue
        remote = given.remote.versions.get(version.key)
        if remote is None:
            removals.append(RemoveImported(version.key, version.digest))
        elif remote.carried:
            if given.allow_deletions:
                removals.append(RemoveImported(version.key, version.digest))
            else:
                draft.held.append(
                    f"removing {version.key}: the registry was restored, reinstalled or replaced "
                    "and doesn't hold it; 'amc registry sync --allow-deletions' removes it"
                )
        elif remote.digest != version.digest and not given.allow_deletions:
            draft.conflicts.append(
                f"{version.key}: the registry now holds other content under this key; 'amc "
                "registry sync --allow-deletions' replaces the imported one"
            )
    if not given.allow_deletions and (why := _too_many(imported, removals, given.applications)):
        draft.held.append(why)
        return
    draft.steps.extend(removals)


def _too_many(
    imported: Sequence[SiteVersion], removals: Sequence[RemoveImported], applications: int | None
) -> str | None:
    """Say why so many removals at once are held, or None when they may go ahead."""
    gone = {step.key for step in removals}
    before = {version.key.name for version in imported}
    after = {version.key.name for version in imported if version.key not in gone}
    lost = len(before - after)
    count = len(before) if applications is None else applications
    if lost <= MANY_APPLICATIONS or 2 * lost <= count:
        return None
    return (
        f"removing {lost} of {count} imported applications at once: check the registry; "
        "'amc registry sync --allow-deletions' removes them"
    )


def _plan_imports(given: PlanInput, draft: _Draft) -> None:
    own = {version.key.name for version in given.local if not version.imported}
    here = {version.key: version for version in given.local}
    in_the_way: set[str] = set()
    for key, remote in sorted(given.remote.versions.items()):
        if remote.carried or key.architecture != given.architecture or not _wanted(given, key):
            continue
        # An operator who names an application wants it, whatever the filter.
        if given.only is None and given.filter and given.filter.isdisjoint(remote.tags):
            continue
        if key.name in own:
            in_the_way.add(key.name)
            continue
        found = here.get(key)
        other = found is not None and found.digest != remote.digest
        if found is not None and not (other and given.allow_deletions):
            continue
        if not _quarantined(given, remote, draft):
            draft.steps.append(Import(key, remote.digest, remote.size, replace=other))
    draft.conflicts.extend(
        f"{name}: a local application of this name is in the way of the registry's; it was left "
        "alone: delete it here to pull the registry's"
        for name in sorted(in_the_way)
    )


def _plan_withdrawals(given: PlanInput, draft: _Draft) -> None:
    published = {v.key for v in given.local if not v.imported and v.published}
    for key, digest in sorted(given.withdrawals.items()):
        if not _wanted(given, key):
            continue
        remote = given.remote.present(key)
        record = given.pushed.get(key)
        if key in published:
            draft.settled.append(key)
        elif remote is None or record is None or record.digest != digest:
            # Gone already, or never put there by this site.
            draft.settled.append(key)
            draft.forgotten.append(key)
        elif remote.digest != digest:
            draft.settled.append(key)
            draft.forgotten.append(key)
            draft.conflicts.append(
                f"{key}: not withdrawn, since the registry holds other content than was pushed"
            )
        elif not _quarantined(given, remote, draft):
            draft.steps.append(Withdraw(key, digest))


def _plan_pushes(given: PlanInput, draft: _Draft) -> None:
    for version in sorted(given.local, key=lambda version: version.key):
        key = version.key
        if version.imported or not version.published or not _wanted(given, key):
            continue
        remote, record = given.remote.present(key), given.pushed.get(key)
        same_record = record is not None and record.digest == version.digest
        same_epoch = same_record and record is not None and record.epoch == given.remote.epoch
        if remote is not None:
            if remote.digest != version.digest:
                draft.conflicts.append(
                    f"{key}: the registry holds other content under this key, and a version "
                    "never changes: publish a new version"
                )
            elif given.only is not None:
                # The registry's disk may have lost files of it: who names it wants it whole there.
                draft.steps.append(Push(key, version.digest, again=True))
            elif not same_epoch:
                draft.found.append((key, version.digest))
        elif same_epoch and given.only is None:
            draft.notes.append(
                f"{key} was removed from the registry and is not pushed again by itself: 'amc "
                f"registry push {key.name}' puts it back"
            )
        elif not _quarantined(given, version, draft):
            draft.steps.append(Push(key, version.digest))


def _quarantined(given: PlanInput, version: RemoteVersion | SiteVersion, draft: _Draft) -> bool:
    entry = given.quarantine.get(version.key)
    if entry is None or entry.digest != version.digest or entry.retry_at <= given.now:
        return False
    draft.notes.append(
        f"{version.key} is set aside until {entry.retry_at:%Y-%m-%d %H:%M} UTC: {entry.reason}"
    )
    return True
