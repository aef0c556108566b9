"""action-get, action-set, action-fail, action-log: only within an action."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rig.errors import JujuError
from rig.hooktools.command import Call, Tool, key_values
from rig.operations import Task

if TYPE_CHECKING:
    from rig.hookcontext import HookContext

RESERVED = ("stdout", "stderr", "return-code", "stdout-encoding", "stderr-encoding")
NO_REASON = "action failed without reason given, check action for errors"


def _task(context: HookContext) -> Task:
    if context.task is None or context.task.is_command:
        raise JujuError("not running an action")
    return context.task


def action_get(context: HookContext, call: Call) -> Any:
    """The parameters, or the one that a dotted key names."""
    value: Any = _task(context).parameters
    for key in filter(None, call.word(0).split(".")):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def action_set(context: HookContext, call: Call) -> None:
    """Add results; a dotted key nests."""
    task = _task(context)
    for key, value in key_values(call.words).items():
        if key in RESERVED:
            raise JujuError(f'cannot set reserved action key "{key}"')
        *path, last = key.split(".")
        target = task.results
        for name in path:
            target = target.setdefault(name, {})
        target[last] = value


def action_fail(context: HookContext, call: Call) -> None:
    """Fail the action; the unit stays as it is."""
    task = _task(context)
    task.failed, task.message = True, call.word(0) or NO_REASON


def action_log(context: HookContext, call: Call) -> None:
    """Tell whoever waits for the action."""
    now = context.controller.clock.now()
    _task(context).log.append(f"{now:%Y-%m-%d %H:%M:%S +0000 UTC} {' '.join(call.words)}")


TOOLS = (
    Tool("action-get", action_get, words=(0, 1), prints=True),
    Tool("action-set", action_set, words=(1, 1000)),
    Tool("action-fail", action_fail, words=(0, 1)),
    Tool("action-log", action_log, words=(1, 1000)),
)
