"""The controller: its models, the machines they run on, and one lock over all of their state."""

from __future__ import annotations

import collections
import threading
import traceback
import uuid
from collections.abc import Callable

from rig.clock import Clock
from rig.errors import JujuError
from rig.faults import Faults
from rig.hookcontext import HookContext
from rig.hosts import Host
from rig.operations import Task
from rig.secretstate import Secret
from rig.state import Application, Dialect, Machine, Model, Relation, Status, Unit
from rig.timings import Timings
from rig.uniter import Uniter

LOG_LINES = 100_000
JOURNALS = 12  # of machines of destroyed models, kept for the artifacts of a failure


class Controller:
    """All state hangs off here. `changed` guards it and wakes whoever waits for a change.

    Args:
        host_factory: makes the host of a new machine from its name.
        seed: decides every order that Juju leaves open.
        series: the Juju version to speak, "3.6" or "4.0".
        threads: run unit agents in threads; without, the caller steps them.
    """

    def __init__(
        self,
        host_factory: Callable[[str], Host],
        *,
        seed: int = 0,
        series: str = "3.6",
        clock: Clock | None = None,
        threads: bool = True,
    ):
        self.changed = threading.Condition(threading.RLock())
        self.clock = clock or Clock()
        self.host_factory, self.threads = host_factory, threads
        self.seed, self.dialect = seed, Dialect.of(series)
        self.uuid = str(uuid.uuid4())
        self.models: dict[str, Model] = {}
        self.current: str | None = None
        self.secrets: dict[str, Secret] = {}
        self.contexts: dict[str, HookContext] = {}
        self.timings, self.faults = Timings(), Faults()
        self.lines: collections.deque[tuple[str, str]] = collections.deque(maxlen=LOG_LINES)
        self.problems: list[str] = []
        self.journals: collections.deque[tuple[str, str]] = collections.deque(maxlen=JOURNALS)
        self.stopping = False
        self._machine_locks: dict[Machine, threading.RLock] = {}

    # ---- models

    def add_model(self, name: str) -> Model:
        """A new, empty model."""
        if name in self.models:
            raise JujuError(f'failed to create new model: model "{name}" for admin already exists')
        model = Model(name, str(uuid.uuid4()), self.dialect, self.seed)
        self.models[name] = model
        return model

    def model(self, reference: str | None) -> Model:
        """The model called `[controller:][user/]model`, or the current one."""
        name = (reference or self.current or "").rpartition(":")[2].rpartition("/")[2]
        if not name:
            raise JujuError("No selected model: name one with --model, or `juju switch`")
        if name not in self.models:
            raise JujuError(f"model admin/{name} not found")
        return self.models[name]

    def drop_model(self, model: Model) -> list[Machine]:
        """Forget a model at once; the machines returned are for the caller to stop."""
        for unit in model.units():
            unit.uniter.local.gone = unit.dead = True
            for task in unit.uniter.local.tasks:
                task.status = "aborted"
                task.done.set()
        machines = list(model.machines.values())
        owned = [s for s in self.secrets.values() if s.app.model == model.name]
        for secret in owned:
            del self.secrets[secret.id]
        for other in self.models.values():
            other.relations = [r for r in other.relations if r not in model.relations]
        del self.models[model.name]
        self.current = None if self.current == model.name else self.current
        self.changed.notify_all()
        return machines

    # ---- machines and units

    def add_units(self, model: Model, app: Application, count: int, to: str = "") -> list[Unit]:
        """Add units, each on a new machine unless `to` names one; the first one leads."""
        made = []
        for _ in range(count):
            machine = model.machine(to) if to else self._add_machine(model)
            waiting = Status("waiting", "waiting for machine", self.clock.now())
            allocating = Status("allocating", "", self.clock.now())
            unit = Unit(app, app.next_unit, machine, waiting, allocating)
            unit.uniter = Uniter(self, model, unit)
            app.next_unit += 1
            app.units[unit.name] = unit
            app.leader = app.leader or unit
            made.append(unit)
            if self.threads:
                unit.uniter.start()
        self.changed.notify_all()
        return made

    def _add_machine(self, model: Model) -> Machine:
        number = model.next_machine
        model.next_machine += 1
        machine = Machine(number, self.host_factory(f"juju-{model.uuid[:6]}-{number}"))
        model.machines[number] = machine
        return machine

    def boot(self, model: Model, machine: Machine) -> None:
        """Start a machine that is not started yet."""
        with self.machine_lock(machine):
            if machine.status != "pending":
                return
            machine.host.start()
            if machine.number not in model.machines:  # destroyed while it booted
                machine.host.stop()
                raise JujuError("the machine was removed while it booted")
            machine.status = "started"

    def machine_lock(self, machine: Machine) -> threading.RLock:
        """Held while a hook runs on the machine. Never taken with `changed` held."""
        with self.changed:
            return self._machine_locks.setdefault(machine, threading.RLock())

    def forget(self, model: Model, unit: Unit) -> None:
        """Take a dead unit out of the model and let another one lead."""
        app = unit.app
        app.units.pop(unit.name, None)
        for task in unit.uniter.local.tasks:
            task.status = "aborted"
            task.done.set()
        if app.leader is unit:
            alive = [u for u in app.units.values() if not u.dying] or list(app.units.values())
            app.leader = unit.uniter.rng.choice(alive) if alive else None
        for secret in [s for s in self.secrets.values() if s.owner is unit]:
            del self.secrets[secret.id]
        if app.dying and not app.units:
            self.remove_app(model, app)
        self.changed.notify_all()

    def remove_app(self, model: Model, app: Application) -> None:
        """Take an application without units out of the model, with what only it had."""
        for relation in [r for r in model.relations if r.has(app)]:
            relation.dying = True
            self.reap(relation)
        for secret in [s for s in self.secrets.values() if s.owner is app]:
            del self.secrets[secret.id]
        model.apps.pop(app.name, None)

    def reap(self, relation: Relation) -> None:
        """Remove a dying relation that nobody is in any more, and the grants in it."""
        if not relation.dying or relation.members:
            return
        for model in self.models.values():
            if relation in model.relations:
                model.relations.remove(relation)
        for secret in self.secrets.values():
            for holder in [h for h, r in secret.grants.items() if r is relation]:
                del secret.grants[holder]

    def add_task(
        self, model: Model, unit: Unit, action: str, parameters: dict, command: str = ""
    ) -> Task:
        """Queue an action or a command on a unit."""
        task = Task(str(model.next_task), unit, action, parameters, command)
        model.next_task += 1
        unit.uniter.local.tasks.append(task)
        self.changed.notify_all()
        return task

    # ---- status and logs

    def set_agent(self, unit: Unit, current: str, message: str = "") -> None:
        """Set the agent's status."""
        unit.agent_status = Status(current, message, self.clock.now())

    def set_workload(self, unit: Unit, current: str, message: str) -> None:
        """Set the workload's status; `since` moves only when it changes."""
        if (unit.workload.current, unit.workload.message) != (current, message):
            unit.workload = Status(current, message, self.clock.now())

    def log(self, unit: Unit, level: str, message: str) -> None:
        """Add a line to the model's debug log."""
        line = f"{unit.tag}: {self.clock.now():%H:%M:%S.%f} {level} {message}"
        with self.changed:
            self.lines.append((unit.app.model, line))

    def report(self, doing: str, error: Exception) -> None:
        """Keep a fault of the rig itself; the session fails on it."""
        text = f"{doing}: {error!r}\n" + "".join(traceback.format_exception(error))
        with self.changed:
            self.problems.append(text)
            self.lines.append(("", f"rig: {text}"))
