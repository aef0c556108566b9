"""What only the rig can do to a model: break machines, networks and hooks, and read timings.

Runs in the daemon; client.py is how tests call it. Every verb takes and returns plain JSON.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from typing import Any

from rig.controller import Controller
from rig.errors import JujuError, UsageError
from rig.faults import HookFault
from rig.hosts import Host
from rig.machine import NspawnMachine
from rig.state import Model, Unit


class FaultVerbs:
    """The verbs; `call` finds one by name and refuses others."""

    def __init__(self, controller: Controller, new_address: Callable[[], str]):
        self.controller, self.new_address = controller, new_address

    def call(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Run one verb; JujuError when it or its target is unknown."""
        function = getattr(self, f"do_{verb}", None)
        if function is None:
            raise UsageError(f"the rig has no fault {verb!r}")
        return function(**arguments)

    def _unit(self, model: str | None, unit: str) -> tuple[Model, Unit, NspawnMachine]:
        with self.controller.changed:
            found = self.controller.model(model)
            target = found.unit(unit)
        host = target.machine.host
        if not isinstance(host, NspawnMachine) or target.machine.status != "started":
            raise JujuError(f"the machine of {unit} has not started")
        return found, target, host

    def do_reboot(self, unit: str, model: str | None = None, hard: bool = False) -> None:
        """Restart a unit's machine; `hard` cuts the power, even in the middle of a hook."""
        found, target, host = self._unit(model, unit)
        if hard:
            host.reboot(hard=True)
        else:
            with self.controller.machine_lock(target.machine):
                host.reboot()
        with self.controller.changed:
            for other in found.units():
                if other.machine is target.machine:
                    other.uniter.local.rebooted = True
            self.controller.changed.notify_all()

    def do_connect(self, unit: str, connected: bool, model: str | None = None) -> None:
        """Plug a unit's network cable in or out; hooks still reach the controller."""
        self._unit(model, unit)[2].connect(connected)

    def do_kill_service(
        self, unit: str, service: str, signal: str = "KILL", model: str | None = None
    ) -> None:
        """Send a signal to all processes of a service."""
        host = self._unit(model, unit)[2]
        done = host.run(["systemctl", "kill", f"--signal={signal}", service])
        if done.returncode:
            raise JujuError(f"cannot kill {service} on {unit}: {done.stderr.strip()}")

    def do_change_address(self, unit: str, model: str | None = None) -> str:
        """Give a unit's machine an address of its own that nobody had; config-changed follows."""
        host, address = self._unit(model, unit)[2], self.new_address()
        host.set_address(address)
        with self.controller.changed:
            self.controller.changed.notify_all()
        return address

    def do_fail_hook(
        self, unit: str, hook: str, after_calls: int = 0, times: int = 1, model: str | None = None
    ) -> None:
        """Kill the named hook ("*": any) after this many hook tool calls, `times` times.

        The unit need not exist yet.
        """
        with self.controller.changed:
            self.controller.faults.hooks.append(HookFault(unit, hook, after_calls, times))

    def do_update_status(self, unit: str, model: str | None = None) -> None:
        """Make update-status due now."""
        with self.controller.changed:
            target = self.controller.model(model).unit(unit)
            target.uniter.local.update_due = self.controller.clock.monotonic()
            self.controller.changed.notify_all()

    def do_set_leader(self, unit: str, model: str | None = None) -> None:
        """Move leadership to a unit, as if the leader's lease had run out."""
        with self.controller.changed:
            target = self.controller.model(model).unit(unit)
            target.app.leader = target
            self.controller.changed.notify_all()

    def do_timings(self, hook: str | None = None, unit: str | None = None) -> dict[str, Any]:
        """Counts and medians of hook times, in seconds; see timings.py."""
        with self.controller.changed:
            return self.controller.timings.summary(hook, unit)

    def do_problems(self) -> list[str]:
        """Faults of the rig itself so far."""
        with self.controller.changed:
            return list(self.controller.problems)

    def do_artifacts(self) -> dict[str, str]:
        """File names and contents that explain a failure: logs, timings, journals."""
        with self.controller.changed:
            files = {"hook-timings.txt": self.controller.timings.table()}
            lines = list(self.controller.lines)
            for name in sorted({model for model, _ in lines if model}):
                own = [line for model, line in lines if model in (name, "")]
                files[f"{name}-debug-log.txt"] = "\n".join(own) + "\n"
            files["problems.txt"] = "\n".join(self.controller.problems)
            files |= {f"{name}-journal.txt": text for name, text in self.controller.journals}
            machines = [
                (f"{model.name}-machine-{m.number}-journal.txt", m.host)
                for model in self.controller.models.values()
                for m in model.machines.values()
                if m.status == "started"
            ]

        def collect(name: str, host: Host) -> None:
            try:
                files[name] = host.journal()
            except (OSError, subprocess.SubprocessError) as error:
                files[name] = f"no journal: {error!r}"

        threads = [threading.Thread(target=collect, args=pair) for pair in machines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return files

    def do_reseed(self, seed: int) -> None:
        """Decide all random orders from here on by another seed, in old models and new ones."""
        with self.controller.changed:
            self.controller.seed = seed
            for model in self.controller.models.values():
                model.seed = seed
                for unit in model.units():
                    unit.uniter.reseed()

    def do_seed(self) -> int:
        """The seed that decides all random orders."""
        return self.controller.seed
