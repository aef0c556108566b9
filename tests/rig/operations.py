"""What a unit agent can do next: hooks, tasks, and the silent steps between them."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

from rig.secretstate import Secret
from rig.state import Relation, Unit

# Hooks that belong to a relation, without the endpoint's name in front.
CREATED, JOINED, CHANGED = "relation-created", "relation-joined", "relation-changed"
DEPARTED, BROKEN = "relation-departed", "relation-broken"


@dataclasses.dataclass(frozen=True, eq=False)
class Hook:
    """One hook to run. `version` is the remote databag's version that the hook will have seen.

    A relation hook without `remote` is about the remote application.
    """

    kind: str
    relation: Relation | None = None
    remote: Unit | None = None
    version: int = 0
    departing: Unit | None = None
    secret: Secret | None = None

    def name(self, unit: Unit) -> str:
        """As JUJU_HOOK_NAME gives it."""
        if self.relation is None:
            return self.kind
        return f"{self.relation.side(unit.app).endpoint.name}-{self.kind}"


@dataclasses.dataclass(eq=False)
class Task:
    """An action, or a command of `juju exec` (then `action` is `juju-exec`)."""

    id: str
    unit: Unit
    action: str
    parameters: dict[str, Any]
    command: str = ""
    status: str = "pending"
    results: dict[str, Any] = dataclasses.field(default_factory=dict)
    message: str = ""
    log: list[str] = dataclasses.field(default_factory=list)
    failed: bool = False
    done: threading.Event = dataclasses.field(default_factory=threading.Event)

    @property
    def is_command(self) -> bool:
        """Whether this came from `juju exec`."""
        return self.action == "juju-exec"


@dataclasses.dataclass(frozen=True, eq=False)
class RunTask:
    """Run the next action or command."""

    task: Task


@dataclasses.dataclass(frozen=True)
class EnterScopes:
    """Enter the scope of relations that the unit is not in yet."""

    relations: tuple[Relation, ...]


@dataclasses.dataclass(frozen=True)
class LeaveScope:
    """Leave a dying relation that no hook has told the charm of."""

    relation: Relation


@dataclasses.dataclass(frozen=True)
class Resign:
    """Notice that leadership is gone; there is no hook for it."""


@dataclasses.dataclass(frozen=True)
class Upgrade:
    """Unpack the application's new charm."""


@dataclasses.dataclass(frozen=True)
class Finish:
    """Remove the unit and its machine."""


Operation = Hook | RunTask | EnterScopes | LeaveScope | Resign | Upgrade | Finish
