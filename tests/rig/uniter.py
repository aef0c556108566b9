"""One unit's agent: carries out what the resolver decides, one step at a time.

Runs hooks through the unit's host, flushes what they buffered when they succeed, and keeps the
agent's own state. Hooks of units on one machine never overlap.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from rig import hookcontext, resolver
from rig.errors import JujuError, RigError
from rig.hosts import Outcome
from rig.operations import (
    BROKEN,
    CHANGED,
    CREATED,
    DEPARTED,
    JOINED,
    EnterScopes,
    Finish,
    Hook,
    LeaveScope,
    Operation,
    Resign,
    RunTask,
    Task,
    Upgrade,
)
from rig.resolver import Failure, Local, View
from rig.state import Model, Relation, Unit, network_settings

if TYPE_CHECKING:
    from rig.controller import Controller

UPDATE_STATUS_SECONDS = 300.0
RETRY_SECONDS, RETRY_LIMIT_SECONDS = 5.0, 300.0


class Uniter:
    """The agent of `unit`. `step` is thread-safe; one thread at a time may call it."""

    def __init__(self, controller: Controller, model: Model, unit: Unit):
        self.controller, self.model, self.unit = controller, model, unit
        self.local = Local(charm=unit.app.charm)
        self.reseed()
        self.provisioned = False
        self.busy = False
        self._config_running: object = None

    def reseed(self) -> None:
        """Shuffle by the model's seed, differently from every other unit."""
        self.rng = random.Random(f"{self.model.seed}:{self.unit.name}")

    # ---- deciding

    def _next(self, rng: random.Random) -> Operation | None:
        if not self.provisioned:
            return None
        around = resolver.Surroundings(
            self.model.relations_of(self.unit.app),
            list(self.controller.secrets.values()),
            self.model.dialect,
            self.controller.clock.monotonic(),
        )
        return resolver.next_operation(self.unit, self.local, around, rng)

    def has_work(self) -> bool:
        """Whether the agent is in the middle of something or would start something now."""
        if self.local.gone:
            return False
        return not self.provisioned or self.busy or self._next(random.Random(0)) is not None

    def next_wake(self) -> float:
        """Monotonic time at which something falls due by itself."""
        failure = self.local.failure
        return failure.retry_at if failure else self.local.update_due

    # ---- doing

    def provision(self) -> None:
        """Bring the unit's charm onto its (running) machine."""
        self.unit.machine.host.install_charm(self.unit.tag, self.unit.app.charm)
        with self.controller.changed:
            self.provisioned = True
            self.controller.set_agent(self.unit, "executing", "initialising agent")
            self.controller.changed.notify_all()

    def step(self) -> bool:
        """Do the next thing; False when there is nothing to do now."""
        with self.controller.changed:
            operation = self._next(self.rng)
            if operation is None:
                if self.unit.agent_status.current != "idle" and self.provisioned:
                    self.controller.set_agent(self.unit, "idle")
                return False
            self.busy = True
        try:
            self._execute(operation)
        finally:
            with self.controller.changed:
                self.busy = False
                self.controller.changed.notify_all()
        return True

    def _execute(self, operation: Operation) -> None:
        local, dialect = self.local, self.model.dialect
        match operation:
            case Hook():
                self._run_hook(operation)
            case RunTask(task):
                self._run_task(task)
            case Upgrade():
                self.unit.machine.host.install_charm(self.unit.tag, self.unit.app.charm)
                with self.controller.changed:
                    local.charm = self.unit.app.charm
                    local.failure, local.queued = None, Hook("upgrade-charm")
            case EnterScopes(relations):
                with self.controller.changed:
                    for relation in relations:
                        relation.enter(self.unit, dialect)
                        local.views[relation] = View()
            case LeaveScope(relation):
                with self.controller.changed:
                    self._leave(relation)
            case Resign():
                with self.controller.changed:
                    local.leader = False
            case Finish():
                self._finish()

    def _run_hook(self, hook: Hook) -> None:
        with self.controller.changed:
            self._prepare(hook)
            context = hookcontext.HookContext(self.controller, self.model, self.unit, hook=hook)
        name = hook.name(self.unit)
        outcome = self._run(context, name)
        with self.controller.changed:
            if outcome.returncode == 0:
                self._commit(hook)
            elif not context.requeue:
                self._fail(hook)

    def _run_task(self, task: Task) -> None:
        with self.controller.changed:
            self.local.tasks.remove(task)
            task.status = "running"
            context = hookcontext.HookContext(self.controller, self.model, self.unit, task=task)
        command = ["/bin/bash", "-c", task.command] if task.is_command else None
        outcome = self._run(context, task.action, command)
        with self.controller.changed:
            task.status = "failed" if outcome.returncode or task.failed else "completed"
            task.results["return-code"] = outcome.returncode
            for stream in ("stdout", "stderr"):
                if getattr(outcome, stream):
                    task.results[stream] = getattr(outcome, stream)
            task.done.set()

    def _run(
        self, context: hookcontext.HookContext, name: str, command: list[str] | None = None
    ) -> Outcome:
        """Run a hook, action or command and flush it; a flush that fails fails the hook."""
        controller, unit = self.controller, self.unit
        entry = unit.app.charm.entry_point(context.dispatch_path)
        if command is None and entry is None:
            controller.log(unit, "DEBUG", f'hook "{name}" not implemented')
            return Outcome(0)
        command = command or [f"{hookcontext.charm_directory(unit)}/{entry}"]
        with controller.changed:
            controller.contexts[context.id] = context
            controller.set_agent(unit, "executing", f"running {name} hook")
            environment = context.environment()
        with controller.machine_lock(unit.machine):
            begun = time.monotonic()
            try:
                outcome = unit.machine.host.run_hook(unit.tag, environment, command)
            except RigError as error:
                outcome = Outcome(1, stderr=str(error))
            seconds = time.monotonic() - begun
        with controller.changed:
            del controller.contexts[context.id]
            controller.timings.record(unit, name, seconds, context, outcome.returncode)
            for line in outcome.stdout.splitlines():
                controller.log(unit, "DEBUG", line)
            for line in outcome.stderr.splitlines():
                controller.log(unit, "WARNING", line)
            code = outcome.returncode or (1 if context.broken else 0)
            if code == 0:
                try:
                    context.flush()
                except JujuError as error:
                    controller.log(unit, "ERROR", f"flushing {name}: {error}")
                    code = 1
            controller.log(unit, "INFO", f'ran "{name}" ({seconds:.3f} s, exit {code})')
        if context.reboot:
            self.reboot()
        return Outcome(code, outcome.stdout, outcome.stderr)

    def reboot(self) -> None:
        """Restart the unit's machine; `start` runs again afterwards."""
        with self.controller.machine_lock(self.unit.machine):
            self.unit.machine.host.reboot()
        with self.controller.changed:
            for unit in self.model.units():
                if unit.machine is self.unit.machine:
                    unit.uniter.local.rebooted = True
            self.controller.changed.notify_all()

    # ---- the agent's own state around a hook

    def _prepare(self, hook: Hook) -> None:
        """What `relation-list` and the status show already while the hook runs."""
        if hook.kind == "install" and not self.unit.workload_set:
            self.controller.set_workload(self.unit, "maintenance", "installing charm software")
        if hook.kind == "leader-elected":
            self.local.leader = True
        if hook.kind == "config-changed":
            # Read before the hook runs: a change during it makes another one.
            self._config_running = resolver.config_of(self.unit)
            for relation in self.local.views:
                bag = relation.unit_bags[self.unit]
                bag.replace({**bag.data, **network_settings(self.unit, self.model.dialect)})
        view = self.local.views.get(hook.relation) if hook.relation else None
        if view is None or hook.remote is None:
            return
        if hook.kind == JOINED:
            view.members[hook.remote] = hook.version
        elif hook.kind == DEPARTED:
            view.members.pop(hook.remote, None)
            if view.force_changed is hook.remote:
                view.force_changed = None

    def _commit(self, hook: Hook) -> None:
        """The hook is done (or was skipped): it will not run again for the same reason."""
        local = self.local
        if local.failure and local.failure.hook is hook:
            local.failure = None
        if local.queued and local.queued.kind == hook.kind:
            local.queued = None
        now = self.controller.clock.monotonic()
        match hook.kind:
            case "install":
                local.installed = True
            case "start":
                local.started, local.rebooted = True, False
                local.update_due = now + UPDATE_STATUS_SECONDS
                if not self.unit.workload_set:
                    self.controller.set_workload(self.unit, "unknown", "")
            case "config-changed":
                local.config_seen = self._config_running
                if not local.started:
                    local.queued = Hook("start")
            case "upgrade-charm":
                local.queued = Hook("config-changed")
            case "update-status":
                local.update_due = now + UPDATE_STATUS_SECONDS
            case "stop":
                local.started = False
            case "remove":
                local.installed = False
            case "secret-changed" if hook.secret:
                hook.secret.notified[self.unit] = hook.version
        if hook.relation is not None:
            self._commit_relation(hook, hook.relation)

    def _commit_relation(self, hook: Hook, relation: Relation) -> None:
        view = self.local.views.get(relation)
        if view is None:
            return
        if hook.kind == CREATED:
            view.created = True
        elif hook.kind == JOINED:
            view.force_changed = hook.remote
        elif hook.kind == CHANGED and hook.remote is None:
            view.app_version = hook.version
        elif hook.kind == CHANGED and hook.remote in view.members:
            view.members[hook.remote] = hook.version
            if view.force_changed is hook.remote:
                view.force_changed = None
        elif hook.kind == BROKEN:
            self._leave(relation)

    def _leave(self, relation: Relation) -> None:
        relation.leave(self.unit)
        self.local.views.pop(relation, None)
        self.controller.reap(relation)

    def _fail(self, hook: Hook) -> None:
        attempts = self.local.failure.attempts + 1 if self.local.failure else 1
        wait = min(RETRY_SECONDS * 2 ** (attempts - 1), RETRY_LIMIT_SECONDS)
        clock = self.controller.clock
        self.local.failure = Failure(hook, attempts, clock.monotonic() + wait, clock.now())

    def resolve(self, retry: bool) -> None:
        """What `juju resolved` does: retry the failed hook now, or take it as done."""
        failure = self.local.failure
        if failure is None:
            raise JujuError(f'unit "{self.unit.name}" is not in an error state')
        if retry:
            failure.retry_at = self.controller.clock.monotonic()
        else:
            self._commit(failure.hook)
        self.controller.changed.notify_all()

    def _finish(self) -> None:
        unit, machine = self.unit, self.unit.machine
        with self.controller.changed:
            unit.dead = True
            for relation in list(self.local.views):
                self._leave(relation)
            self.controller.forget(self.model, unit)
            shared = any(u.machine is machine for u in self.model.units())
        if shared:
            machine.host.remove_charm(unit.tag)
        else:
            machine.host.stop()
        with self.controller.changed:
            self.local.gone = True
            if not shared:
                self.model.machines.pop(machine.number, None)

    # ---- as a thread of its own

    def start(self) -> threading.Thread:
        """Run in a thread until the unit is gone."""
        thread = threading.Thread(target=self._loop, name=self.unit.tag, daemon=True)
        thread.start()
        return thread

    def _loop(self) -> None:
        try:
            self.controller.boot(self.model, self.unit.machine)
            self.provision()
        except Exception as error:
            self.controller.report(f"provisioning {self.unit.name}", error)
            with self.controller.changed:
                self.controller.set_agent(self.unit, "error", f"provisioning failed: {error}")
            return
        while not self.local.gone and not self.controller.stopping:
            try:
                worked = self.step()
            except Exception as error:
                self.controller.report(f"agent of {self.unit.name}", error)
                worked = False
                time.sleep(1.0)  # a broken rig must not spin while its test fails
            if not worked:
                with self.controller.changed:
                    wait = self.next_wake() - self.controller.clock.monotonic()
                    if self._next(random.Random(0)) is None and not self.local.gone:
                        self.controller.changed.wait(timeout=max(0.01, min(wait, 60.0)))
