"""The rig's own controls, for tests: faults, timings and artifacts.

Usable wherever `juju` reaches the rig; `running_here()` tells tests that also run on a real
controller whether they may use it.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from rig.errors import RigError

SOCKET = "\0anbox-registry-rig"


def running_here() -> bool:
    """Whether this process is on the network of a rig."""
    return "RIG_KEEPER" in os.environ


class Rig:
    """Controls of the rig. `model` defaults to the model that `juju switch` chose."""

    def __init__(self, model: str | None = None):
        self.model = model

    def _call(self, fault: str, **arguments: Any) -> Any:
        request = json.dumps({"fault": fault, "arguments": arguments}).encode() + b"\n"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(SOCKET)
            connection.sendall(request)
            reply = json.loads(connection.makefile("rb").readline())
        if reply["code"]:
            raise RigError(reply["err"].strip())
        return json.loads(reply["out"])

    def reboot(self, unit: str, *, hard: bool = False) -> None:
        """Restart a unit's machine and wait for its boot; `hard` cuts the power, hook or not."""
        self._call("reboot", unit=unit, model=self.model, hard=hard)

    def partition(self, unit: str) -> None:
        """Cut a unit's machine off from all others."""
        self._call("connect", unit=unit, model=self.model, connected=False)

    def heal(self, unit: str) -> None:
        """Undo `partition`."""
        self._call("connect", unit=unit, model=self.model, connected=True)

    def kill_service(self, unit: str, service: str, signal: str = "KILL") -> None:
        """Send a signal to all processes of a systemd service on a unit's machine."""
        self._call("kill_service", unit=unit, service=service, signal=signal, model=self.model)

    def change_address(self, unit: str) -> str:
        """Give a unit's machine another address; return it."""
        return self._call("change_address", unit=unit, model=self.model)

    def fail_hook(self, unit: str, hook: str, *, after_calls: int = 0, times: int = 1) -> None:
        """Kill a unit's hook ("*": any) after this many hook tool calls, `times` times."""
        self._call(
            "fail_hook",
            unit=unit,
            hook=hook,
            after_calls=after_calls,
            times=times,
            model=self.model,
        )

    def update_status(self, unit: str) -> None:
        """Make update-status run now instead of in five minutes."""
        self._call("update_status", unit=unit, model=self.model)

    def set_leader(self, unit: str) -> None:
        """Move leadership to a unit."""
        self._call("set_leader", unit=unit, model=self.model)

    def timings(self, hook: str | None = None, unit: str | None = None) -> dict[str, Any]:
        """`runs`, `median`, `idle-runs`, `idle-median` (seconds) and `hooks`, one entry a run.

        A run is idle when it had nothing to flush: a hook with nothing to do.
        """
        return self._call("timings", hook=hook, unit=unit)

    def problems(self) -> list[str]:
        """Faults of the rig itself; a test session with any has failed."""
        return self._call("problems")

    def seed(self) -> int:
        """The seed of all random orders; set RIG_SEED to repeat them."""
        return self._call("seed")

    def reseed(self, seed: int) -> None:
        """Shuffle by another seed from here on, in models that exist and in new ones."""
        self._call("reseed", seed=seed)

    def save(self, folder: Path) -> None:
        """Write debug logs, journals and hook timings into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self._call("artifacts").items():
            (folder / name).write_text(content)
