"""What a sync planned and did, as values that the API and `amc registry sync` show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ams.sync.plan import Quarantined, RemoteVersion, Snapshot
from regkit.oci.application import Key

Progress = Callable[[str, int, int], None]
"""Called with what is going on, bytes moved so far, and bytes to move (0 while unknown)."""


@dataclass(frozen=True)
class Moved:
    """Bytes of blobs that went over the network."""

    received: int = 0
    sent: int = 0

    @property
    def total(self) -> int:
        """Both directions together."""
        return self.received + self.sent


@dataclass(frozen=True)
class Report:
    """One sync, each list in words.

    `failed` holds steps with their reasons, `held` removals that need the operator's word,
    `changes` counts the rows of the feed that were new.

    """

    planned: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    moved: Moved = Moved()
    changes: int = 0
    dry_run: bool = False

    @property
    def steps(self) -> tuple[str, ...]:
        """The planned steps."""
        return self.planned

    @property
    def bytes(self) -> int:
        """Bytes of blobs that were moved."""
        return self.moved.total

    def to_dict(self) -> dict[str, Any]:
        """Return the form of the REST API."""
        return {
            "planned": list(self.planned),
            "done": list(self.done),
            "failed": list(self.failed),
            "held": list(self.held),
            "conflicts": list(self.conflicts),
            "notes": list(self.notes),
            "bytes": self.bytes,
            "bytes_received": self.moved.received,
            "bytes_sent": self.moved.sent,
            "changes": self.changes,
            "dry_run": self.dry_run,
        }


def applications(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return what the registry holds, one row per application, by name.

    Keys: name, versions (numbers), architectures, tags (of the newest), size (bytes of all
    versions, shared files counted for each).
    """
    grouped: dict[str, list[RemoteVersion]] = {}
    for key, version in sorted(snapshot.versions.items()):
        if not version.carried:
            grouped.setdefault(key.name, []).append(version)
    return [
        {
            "name": name,
            "versions": sorted({version.key.number for version in versions}),
            "architectures": sorted({version.key.architecture for version in versions}),
            "tags": list(versions[-1].tags),
            "size": sum(version.size for version in versions),
        }
        for name, versions in grouped.items()
    ]


def set_aside(quarantine: Mapping[Key, Quarantined]) -> list[dict[str, Any]]:
    """Return what failed for a reason of its own, by version."""
    return [
        {
            "version": str(key),
            "reason": entry.reason,
            "attempts": entry.attempts,
            "retry_at": moment_text(entry.retry_at),
        }
        for key, entry in sorted(quarantine.items())
    ]


def moment_text(moment: datetime | None) -> str:
    """Return a moment as RFC 3339 in UTC, empty for none."""
    return "" if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")
