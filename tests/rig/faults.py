"""Faults that the rig injects into hooks; faults of machines are the hosts' own matter."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(eq=False)
class HookFault:
    """Kill a unit's hook when it calls its n-th hook tool; `times` counts down."""

    unit: str
    hook: str
    after_calls: int
    times: int = 1


class Faults:
    """Faults that wait to strike. Guarded by the controller's lock."""

    def __init__(self) -> None:
        self.hooks: list[HookFault] = []

    def strikes(self, unit: str, hook: str, calls: int) -> bool:
        """Whether a hook of `unit` dies at this tool call (counted from 1)."""
        for fault in self.hooks:
            if fault.unit == unit and fault.hook in (hook, "*") and calls > fault.after_calls:
                fault.times -= 1
                if fault.times <= 0:
                    self.hooks.remove(fault)
                return True
        return False
