"""A controller whose machines are in memory and whose charms are Python functions.

Everything but the machines is the rig's own code: the same resolver, hook contexts, tools and
`juju` verbs that drive booted machines. Agents are stepped by hand, so order is under control.
"""

from __future__ import annotations

import dataclasses
import json
import random
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from rig import hooktools, juju
from rig.charms import Charm
from rig.clock import ManualClock
from rig.controller import Controller
from rig.hosts import Outcome
from rig.juju.command import Reply
from rig.state import Unit


class HookKilledError(Exception):
    """The hook that runs was killed."""


@dataclasses.dataclass
class Run:
    """One run of a charm's code: its environment, and the hook tools."""

    world: World
    environment: dict[str, str]

    @property
    def name(self) -> str:
        """The hook's name; empty for actions and commands."""
        return self.environment["JUJU_HOOK_NAME"]

    @property
    def unit(self) -> str:
        """The unit's name."""
        return self.environment["JUJU_UNIT_NAME"]

    def raw(self, tool: str, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Exit status, standard output and error of a hook tool."""
        context = self.environment["JUJU_CONTEXT_ID"]
        return hooktools.call(self.world.controller, context, tool, list(arguments), stdin)

    def tool(self, tool: str, *arguments: str, stdin: str = "") -> str:
        """Output of a hook tool that must succeed."""
        code, out, err = self.raw(tool, *arguments, stdin=stdin)
        assert code == 0, f"{tool} {arguments}: {err}"
        return out

    def json(self, tool: str, *arguments: str) -> Any:
        """Output of a hook tool as JSON."""
        return json.loads(self.tool(tool, *arguments, "--format=json"))


@dataclasses.dataclass(frozen=True)
class Event:
    """One hook that ran, and the environment it had."""

    unit: str
    name: str
    environment: dict[str, str]

    @property
    def remote(self) -> str:
        """JUJU_REMOTE_UNIT, empty when there is none."""
        return self.environment.get("JUJU_REMOTE_UNIT", "")


class MemoryHost:
    """A machine that is a Python object; it calls the charm's function."""

    def __init__(self, world: World, name: str):
        self.world, self.name = world, name
        world.addresses += 1
        self.address = f"10.77.1.{world.addresses}"
        self.files: dict[str, bytes] = {}
        self.boots = 0
        self.running = self.connected = False

    def start(self) -> None:
        self.running, self.boots = True, self.boots + 1

    def stop(self) -> None:
        self.running = False

    def reboot(self, hard: bool = False) -> None:
        self.boots += 1

    def install_charm(self, tag: str, charm: Charm) -> None:
        assert self.running, "a charm is installed on a running machine"
        self.world.installed.append((tag, charm.name))

    def remove_charm(self, tag: str) -> None:
        self.world.installed.append((tag, ""))

    def run_hook(self, tag: str, environment: dict[str, str], command: Sequence[str]) -> Outcome:
        run = Run(self.world, environment)
        if run.name:
            self.world.events.append(Event(run.unit, run.name, environment))
        app = run.unit.partition("/")[0]
        code = self.world.code.get(app, lambda run: 0)
        try:
            result = code(run)
        except HookKilledError:
            return Outcome(137)
        return Outcome(result or 0)

    def kill_hook(self, tag: str) -> None:
        raise HookKilledError(tag)

    def run(
        self,
        command: Sequence[str],
        *,
        user: str = "root",
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> Outcome:
        return Outcome(0, f"{user}: {' '.join(command)}")

    def read(self, path: str, user: str) -> bytes:
        return self.files[path]

    def write(self, path: str, content: bytes, user: str) -> None:
        self.files[path] = content

    def journal(self) -> str:
        return f"journal of {self.name}"

    def set_address(self, address: str) -> None:
        self.address = address

    def connect(self, connected: bool) -> None:
        self.connected = connected


class World:
    """One controller in memory. `code` maps an application's name to its charm's function."""

    def __init__(self, folder: Path, seed: int = 0, series: str = "3.6"):
        self.folder = folder
        self.addresses = 0
        self.events: list[Event] = []
        self.installed: list[tuple[str, str]] = []
        self.code: dict[str, Callable[[Run], int | None]] = {}
        self.clock = ManualClock()
        self.rng = random.Random(seed)
        self.controller = Controller(
            lambda name: MemoryHost(self, name),
            seed=seed,
            series=series,
            clock=self.clock,
            threads=False,
        )
        self.ok("add-model", "m")

    # ---- as an operator

    def juju(self, *arguments: str) -> Reply:
        """Run one command line of `juju`."""
        return juju.run(self.controller, list(arguments), str(self.folder), {})

    def ok(self, *arguments: str) -> str:
        """Output of a command that must succeed."""
        reply = self.juju(*arguments)
        assert reply.code == 0, reply.stderr
        return reply.stdout

    def task(self, *arguments: str) -> Reply:
        """A command that waits for a unit, while the units do their work."""
        replies: list[Reply] = []
        thread = threading.Thread(target=lambda: replies.append(self.juju(*arguments)))
        thread.start()
        while thread.is_alive():
            self.settle()
            thread.join(0.001)
        return replies[0]

    def status(self, model: str = "m") -> dict[str, Any]:
        """The status document."""
        return json.loads(self.ok("status", "--model", model, "--format", "json"))

    def charm(self, name: str, **documents: Any) -> str:
        """Write a `.charm` file; return its path. Keywords: metadata, config, actions, files."""
        path = self.folder / f"{name}-{len(list(self.folder.iterdir()))}.charm"
        config, actions = documents.pop("config", {}), documents.pop("actions", {})
        files = documents.pop("files", ["dispatch"])
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.yaml", yaml.safe_dump({"name": name, **documents}))
            archive.writestr("config.yaml", yaml.safe_dump({"options": config}))
            archive.writestr("actions.yaml", yaml.safe_dump(actions))
            for file in files:
                archive.writestr(file, "")
        return str(path)

    def provider(self, name: str = "db", units: int = 1, **documents: Any) -> None:
        """Deploy an application that provides `db` and has peers."""
        sections = {
            "provides": {"db": {"interface": "sql"}},
            "peers": {"ring": {"interface": "r"}},
        }
        self.ok("deploy", self.charm(name, **{**sections, **documents}), name, "-n", str(units))

    def requirer(self, name: str = "web", units: int = 1, **documents: Any) -> None:
        """Deploy an application that requires `database`."""
        sections = {"requires": {"database": {"interface": "sql"}}}
        self.ok("deploy", self.charm(name, **{**sections, **documents}), name, "-n", str(units))

    # ---- as time passes

    def units(self) -> list[Unit]:
        """All units of all models."""
        return [u for m in self.controller.models.values() for u in m.units()]

    def unit(self, name: str, model: str = "m") -> Unit:
        """One unit."""
        return self.controller.models[model].unit(name)

    def step(self, name: str) -> bool:
        """One step of one unit."""
        unit = self.unit(name)
        self._provision(unit)
        return unit.uniter.step()

    def _provision(self, unit: Unit) -> None:
        if not unit.uniter.provisioned:
            model = self.controller.models[unit.app.model]
            self.controller.boot(model, unit.machine)
            unit.uniter.provision()

    def settle(self, limit: int = 2000) -> list[Event]:
        """Step all units, in an order that the seed decides, until none has anything to do.

        Returns the hooks that ran.
        """
        before = len(self.events)
        for _ in range(limit):
            units = self.units()
            self.rng.shuffle(units)
            for unit in units:
                self._provision(unit)
            worked = [u.uniter.step() for u in units]
            if not any(worked):
                return self.events[before:]
        raise AssertionError(f"not settled: {[e.name for e in self.events[-20:]]}")

    def settle_unit(self, name: str, limit: int = 200) -> list[Event]:
        """Step one unit until it has nothing to do."""
        before = len(self.events)
        for _ in range(limit):
            if name not in {u.name for u in self.units()} or not self.step(name):
                return self.events[before:]
        raise AssertionError(f"{name} not settled")

    def command(
        self, unit: str, line: str, stdin: str = "", model: str = "m"
    ) -> tuple[int, str, str]:
        """Run one hook tool on a unit as `juju exec` would; no other unit does anything."""
        found: list[tuple[int, str, str]] = []
        tool, *arguments = line.split()

        def code(run: Run) -> int:
            found.append(run.raw(tool, *arguments, stdin=stdin))
            return found[0][0]

        on = self.unit(unit, model)
        app, previous = on.app.name, self.code.get(on.app.name)
        self.code[app] = code
        with self.controller.changed:
            task = self.controller.add_task(
                self.controller.models[model], on, "juju-exec", {}, line
            )
        while not task.done.is_set():
            assert on.uniter.step(), f"{unit} does not get to its command"
        del self.code[app]
        if previous:
            self.code[app] = previous
        return found[0]

    def hooks(self, unit: str) -> list[str]:
        """Names of the hooks that ran on a unit."""
        return [e.name for e in self.events if e.unit == unit]

    def last(self, unit: str, name: str) -> Event:
        """The latest run of a hook on a unit."""
        return next(e for e in reversed(self.events) if (e.unit, e.name) == (unit, name))
