"""One run of a hook, action or command: its environment, and its writes until it succeeds.

Relation data, unit state, ports and secrets are buffered here and take effect together when the
run exits 0; the hook tools fill and read the buffers.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from rig.errors import JujuError
from rig.operations import DEPARTED, Hook, Task
from rig.secretstate import Secret
from rig.state import Application, Model, Relation, Unit

if TYPE_CHECKING:
    from rig.controller import Controller

AGENTS = "/var/lib/juju/agents"
TOOLS = "/var/lib/juju/tools"
SOCKET = "/run/juju-rig/agent.socket"
API_ADDRESS = "10.77.0.1:17070"


def charm_directory(unit: Unit) -> str:
    """Where the unit's charm is on its machine."""
    return f"{AGENTS}/{unit.tag}/charm"


@dataclasses.dataclass(eq=False)
class HookContext:
    """The view that one run has of the model. Guarded by the controller's lock."""

    controller: Controller
    model: Model
    unit: Unit
    hook: Hook | None = None
    task: Task | None = None
    writes: dict[tuple[Relation, Unit | Application], dict[str, str]] = dataclasses.field(
        default_factory=dict
    )
    reads: dict[tuple[Relation, Unit | Application], dict[str, str]] = dataclasses.field(
        default_factory=dict
    )
    opened: set[str] = dataclasses.field(default_factory=set)
    closed: set[str] = dataclasses.field(default_factory=set)
    state: dict[str, str] | None = None
    new_secrets: dict[str, Secret] = dataclasses.field(default_factory=dict)
    secret_content: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    secret_changes: list[Callable[[], None]] = dataclasses.field(default_factory=list)
    calls: int = 0
    broken: bool = False
    reboot: bool = False
    requeue: bool = False

    def __post_init__(self) -> None:
        self.id = f"{self.unit.name}-{self.name}-{uuid.uuid4().hex[:16]}"

    # ---- what this run is about

    @property
    def name(self) -> str:
        """The hook's or action's name."""
        if self.hook:
            return self.hook.name(self.unit)
        return self.task.action if self.task else ""

    @property
    def relation(self) -> Relation | None:
        """The relation of a relation hook."""
        return self.hook.relation if self.hook else None

    @property
    def remote_unit(self) -> str:
        """The remote unit's name as this unit sees it; empty when there is none."""
        if not self.hook or not self.hook.relation or not self.hook.remote:
            return ""
        return self.hook.relation.name_of(self.hook.remote, self.unit.app)

    @property
    def remote_app(self) -> str:
        """The remote application's name as this unit sees it; empty when there is none."""
        return self.relation.app_seen_by(self.unit.app) if self.relation else ""

    @property
    def dispatch_path(self) -> str:
        """`hooks/NAME` or `actions/NAME`; empty for a command."""
        if self.hook:
            return f"hooks/{self.name}"
        return "" if not self.task or self.task.is_command else f"actions/{self.task.action}"

    def environment(self) -> dict[str, str]:
        """Exactly the variables that Juju sets, and no other."""
        unit, directory = self.unit, charm_directory(self.unit)
        variables = {
            "CHARM_DIR": directory,
            "JUJU_CHARM_DIR": directory,
            "JUJU_CONTEXT_ID": self.id,
            "JUJU_HOOK_NAME": self.name if self.hook else "",
            "JUJU_AGENT_SOCKET_ADDRESS": SOCKET,
            "JUJU_AGENT_SOCKET_NETWORK": "unix",
            "JUJU_UNIT_NAME": unit.name,
            "JUJU_MODEL_UUID": self.model.uuid,
            "JUJU_MODEL_NAME": self.model.name,
            "JUJU_API_ADDRESSES": API_ADDRESS,
            "JUJU_MACHINE_ID": str(unit.machine.number),
            "JUJU_PRINCIPAL_UNIT": "",
            "JUJU_AVAILABILITY_ZONE": "rig",
            "JUJU_VERSION": self.model.dialect.version,
            "CLOUD_API_VERSION": "",
            "JUJU_CHARM_HTTP_PROXY": "",
            "JUJU_CHARM_HTTPS_PROXY": "",
            "JUJU_CHARM_FTP_PROXY": "",
            "JUJU_CHARM_NO_PROXY": "127.0.0.1,localhost,::1",
            "JUJU_DISPATCH_PATH": self.dispatch_path,
            "APT_LISTCHANGES_FRONTEND": "none",
            "DEBIAN_FRONTEND": "noninteractive",
            "LANG": "C.UTF-8",
            "TERM": "tmux-256color",
            "PATH": f"{TOOLS}/{unit.tag}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
            ":/sbin:/bin:/snap/bin",
        }
        if self.relation:
            side = self.relation.side(unit.app)
            variables |= {
                "JUJU_RELATION": side.endpoint.name,
                "JUJU_RELATION_ID": side.key,
                "JUJU_REMOTE_UNIT": self.remote_unit,
                "JUJU_REMOTE_APP": self.remote_app,
            }
            if self.hook and self.hook.kind == DEPARTED and self.hook.departing:
                departing = self.relation.name_of(self.hook.departing, unit.app)
                variables["JUJU_DEPARTING_UNIT"] = departing
        if self.task:
            variables |= {
                "JUJU_ACTION_NAME": self.task.action,
                "JUJU_ACTION_UUID": self.task.id,
                "JUJU_ACTION_TAG": f"action-{self.task.id}",
            }
        if self.hook and self.hook.secret:
            variables |= {
                "JUJU_SECRET_ID": self.hook.secret.uri,
                "JUJU_SECRET_LABEL": self.hook.secret.labels.get(unit, ""),
            }
        return variables

    # ---- buffers

    def bag(self, relation: Relation, owner: Unit | Application) -> dict[str, str]:
        """A databag as this run sees it: own writes included, others' as first read."""
        if (relation, owner) in self.writes:
            return self.writes[relation, owner]
        if isinstance(owner, Unit):
            current = relation.unit_bags[owner].data
        else:
            current = relation.app_bag(owner).data
        if owner in (self.unit, self.unit.app):
            return dict(current)
        return self.reads.setdefault((relation, owner), dict(current))

    def unit_state(self) -> dict[str, str]:
        """The unit's stored state as this run sees it."""
        return dict(self.unit.state) if self.state is None else self.state

    def wrote(self) -> bool:
        """Whether flushing would change anything, or a status was set."""
        bags = any(
            data != (r.unit_bags[o].data if isinstance(o, Unit) else r.app_bag(o).data)
            for (r, o), data in self.writes.items()
        )
        ports = (self.unit.ports | self.opened) - self.closed != self.unit.ports
        state = self.state is not None and self.state != self.unit.state
        return bool(bags or ports or state or self.secret_changes or self.new_secrets)

    def flush(self) -> None:
        """Make the buffered writes effective, all or none.

        Raises:
            JujuError: when leadership was lost since an application databag was written.
        """
        for relation, owner in self.writes:
            if isinstance(owner, Application) and not self.unit.is_leader:
                key = relation.side(owner).key
                raise JujuError(f'cannot write relation settings of "{key}": not the leader')
        for (relation, owner), data in self.writes.items():
            if isinstance(owner, Unit):
                relation.unit_bags[owner].replace(data)
            else:
                relation.app_bag(owner).replace(data)
        self.unit.ports = (self.unit.ports | self.opened) - self.closed
        if self.state is not None:
            self.unit.state = self.state
        self.controller.secrets.update(self.new_secrets)
        for change in self.secret_changes:
            change()
        self.controller.changed.notify_all()
