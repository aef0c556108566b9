"""The hook tools: one table of tools, and the call that a charm's `relation-get` ends up in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig.errors import JujuError, UsageError
from rig.hooktools import actions, misc, ports, relations, secrets, status, storage
from rig.hooktools.command import Call, Tool, render

if TYPE_CHECKING:
    from rig.controller import Controller
    from rig.hookcontext import HookContext

MODULES = (actions, misc, ports, relations, secrets, status, storage)
TOOLS: dict[str, Tool] = {t.name: t for module in MODULES for t in module.TOOLS}


def call(
    controller: Controller,
    context_id: str,
    name: str,
    arguments: list[str],
    stdin: str = "",
    files: dict[str, str] | None = None,
) -> tuple[int, str, str]:
    """Run one hook tool; return exit status, standard output and standard error.

    Args:
        files: content of the files that arguments name, read on the machine.
    """
    with controller.changed:
        context = controller.contexts.get(context_id)
        if context is None:
            return 1, "", f"ERROR no hook context {context_id!r}: the hook has ended\n"
        context.calls += 1
        if controller.faults.strikes(context.unit.name, context.name, context.calls):
            context.broken = True
        if not context.broken:
            result = run(context, name, arguments, stdin, files or {})
            if not context.broken:
                return result
    controller.log(context.unit, "ERROR", f"rig: {context.name} killed at call {context.calls}")
    context.unit.machine.host.kill_hook(context.unit.tag)
    return 1, "", "ERROR the rig killed this hook\n"


def run(
    context: HookContext, name: str, arguments: list[str], stdin: str, files: dict[str, str]
) -> tuple[int, str, str]:
    """Run one hook tool within its context."""
    try:
        if name not in TOOLS:
            raise UsageError(f"unknown command {name!r}: the rig has no such hook tool")
        tool = TOOLS[name]
        parsed = tool.parse(arguments, stdin, files)
        value = tool.function(context, parsed)
        output = render(value, parsed.text("format") or "smart") if tool.prints else ""
    except JujuError as error:
        return error.code, "", f"ERROR {error}\n"
    return 0, output, ""


__all__ = ["TOOLS", "Call", "call", "run"]
