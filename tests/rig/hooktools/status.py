"""status-set, status-get, application-version-set: effective at once, whatever the hook does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rig.errors import JujuError, UsageError
from rig.hooktools.command import Call, Tool
from rig.state import Status, Unit

if TYPE_CHECKING:
    from rig.hookcontext import HookContext

SETTABLE = ("maintenance", "blocked", "waiting", "active")


def status_set(context: HookContext, call: Call) -> None:
    """Set the unit's status, or with --application the application's (leader only)."""
    current, message = call.word(0), " ".join(call.words[1:])
    if current not in SETTABLE:
        raise UsageError(f'invalid status "{current}", expected one of {list(SETTABLE)}')
    unit = context.unit
    if call.on("application"):
        if not unit.is_leader:
            raise JujuError("this unit is not the leader")
        unit.app.status = Status(current, message, context.controller.clock.now())
        return
    unit.workload_set = True
    context.controller.set_workload(unit, current, message)


def _shown(status: Status) -> dict[str, Any]:
    return {"status": status.current, "message": status.message, "status-data": {}}


def status_get(context: HookContext, call: Call) -> Any:
    """The status; only its word in the smart format without --include-data."""
    unit = context.unit
    if not call.on("application"):
        shown = _shown(unit.workload)
        detailed = call.on("include-data") or call.text("format") in ("json", "yaml")
        return shown if detailed else shown["status"]
    if not unit.is_leader:
        raise JujuError("this unit is not the leader")
    units: dict[str, Unit] = unit.app.units
    status = unit.app.status or Status("unknown", "", context.controller.clock.now())
    shown = _shown(status) | {"units": {n: _shown(u.workload) for n, u in units.items()}}
    return {"application-status": shown}


def application_version_set(context: HookContext, call: Call) -> None:
    """Set the version that `juju status` shows."""
    context.unit.app.version = call.word(0)


APPLICATION = {"--application": "application"}
TOOLS = (
    Tool("status-set", status_set, switches=APPLICATION, words=(1, 1000)),
    Tool(
        "status-get",
        status_get,
        switches={**APPLICATION, "--include-data": "include-data"},
        prints=True,
    ),
    Tool("application-version-set", application_version_set, words=(1, 1)),
)
