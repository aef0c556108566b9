"""Tools that Juju has and the rig does not emulate: they say so, loudly.

A charm without storage may ask for its list, which is empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rig.errors import UsageError
from rig.hooktools.command import Call, Tool

if TYPE_CHECKING:
    from rig.hookcontext import HookContext

NOT_EMULATED = (
    "credential-get",
    "payload-register",
    "payload-status-set",
    "payload-unregister",
    "resource-get",
    "storage-add",
    "storage-get",
)


def storage_list(context: HookContext, call: Call) -> list[str]:
    """Storage of the unit: none."""
    return []


def _refuse(name: str) -> Tool:
    def function(context: HookContext, call: Call) -> Any:
        raise UsageError(f"{name} is not emulated by the rig")

    return Tool(name, function, options={"-s": "s"}, words=(0, 1000), prints=True)


TOOLS = (
    Tool("storage-list", storage_list, words=(0, 1), prints=True),
    *(_refuse(name) for name in NOT_EMULATED),
)
