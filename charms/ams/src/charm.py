#!/usr/bin/env python3
"""The charm of the management service: reads what Juju says, makes the machine so, tells it.

Every event means the same: reconcile. The charm keeps no state; what a relation sets follows from
the relation, and AMS itself keeps what is set by whom, so that it can be taken back exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import ops

from aar_interface.relation import REQUIRER_ENDPOINTS, RegistryRequirer
from actions import ACTIONS, CHANGES
from machine_service import (
    CommandFailed,
    InvalidConfiguration,
    MachineService,
    MachineServiceError,
    NotRunning,
)
from manager import PROGRAM, Manager
from options import RELATED, InvalidOption, Options
from status import Findings, statuses


class AmsCharm(ops.CharmBase):
    """One unit of the application management service."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.manager = Manager(MachineService(PROGRAM))
        self.requirer = RegistryRequirer(self)
        self._findings: Findings | None = None
        changes = [
            self.on.install,
            self.on.upgrade_charm,
            self.on.config_changed,
            self.on.start,
        ]
        for endpoint in REQUIRER_ENDPOINTS:
            events = self.on[endpoint]
            changes += [
                events.relation_created,
                events.relation_joined,
                events.relation_changed,
                events.relation_departed,
                events.relation_broken,
            ]
        for change in changes:
            framework.observe(change, self._on_change)
        framework.observe(self.on.update_status, self._on_update_status)
        framework.observe(self.on.stop, self._on_stop)
        framework.observe(self.on.remove, self._on_remove)
        framework.observe(self.on.collect_unit_status, self._on_collect_status)
        for name in ACTIONS:
            framework.observe(self.on[name].action, self._on_action)

    def reconcile(self) -> None:
        """Make the machine, AMS' options and our databags what the model asks for."""
        self.manager.install(self.charm_dir / "wheels")
        options, findings = self._run()
        if options:
            self.unit.set_ports(options.port)
            self._introduce()
            findings = self._follow(options)
        self.unit.set_workload_version(self.manager.version())
        self._findings = findings

    def _run(self) -> tuple[Options | None, Findings]:
        """Run AMS as configured; without options where that failed: then it goes on as it was."""
        try:
            options = Options.read(self.config)
            self.manager.run_as(options)
        except (InvalidOption, InvalidConfiguration) as error:
            return None, Findings(misconfigured=str(error))
        except NotRunning as error:
            return None, Findings(down=str(error))
        return options, Findings()

    def _introduce(self) -> None:
        """Show our certificate to the registry, unless it could take us for both roles."""
        if self.requirer.conflict:
            self.requirer.withdraw()
        else:
            self.requirer.publish(self.manager.certificate(), self.manager.architecture)

    def _follow(self, options: Options) -> Findings:
        """Set what the relation asks for and what the operator configured, and nothing else."""
        related, registry = self.requirer.related, self.requirer.registry()
        asked = options.for_registry(registry) if registry else {}
        own = {k: v for k, v in options.config.items() if not (related and k in RELATED)}
        refused = ""
        if not asked:  # first: the operator's options may have these names again
            self.manager.follow({}, None)
        misconfigured = self._refused(lambda: self.manager.set_options(own))
        if registry:
            refused = self._refused(lambda: self.manager.follow(asked, registry.certificate))
        if len(own) < len(options.config) and not misconfigured:
            clash = ", ".join(sorted(options.config.keys() - own.keys()))
            misconfigured = f"config: {clash}: the relation sets it, remove it here"
        waiting = not (registry or self.requirer.conflict or self.requirer.wrong_pair)
        return Findings(
            misconfigured=misconfigured,
            both_roles=related if self.requirer.conflict else (),
            wrong_pair=self.requirer.wrong_pair or "",
            faults=self.requirer.faults,
            refused=refused,
            waiting=related[0] if related and waiting else "",
            others=registry.others if registry else (),
        )

    def _refused(self, change: Callable[[], None]) -> str:
        """Make a change; return what AMS says if it doesn't take it."""
        try:
            change()
        except CommandFailed as error:
            return str(error)
        return ""

    def _on_change(self, _: ops.EventBase) -> None:
        self.reconcile()

    def _on_update_status(self, _: ops.UpdateStatusEvent) -> None:
        """Look at the synchronisation too: after a change it may fail until both sides have it."""
        self.reconcile()
        if self._findings and self.requirer.related and self.manager.is_running:
            error = self.manager.registry_status()["last_error"] or ""
            self._findings = dataclasses.replace(self._findings, sync_error=error)

    def _on_stop(self, _: ops.StopEvent) -> None:
        self.manager.stop()

    def _on_remove(self, _: ops.RemoveEvent) -> None:
        self.manager.remove()

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        if self._findings is not None:
            for status in statuses(self._findings):
                event.add_status(status)

    def _on_action(self, event: ops.ActionEvent) -> None:
        """Answer an action; what goes wrong is its failure, in a line."""
        name = event.handle.kind.removesuffix("_action").replace("_", "-")
        if event.params.get("confirm") is False:
            event.fail("this can't be undone: run it again with confirm=true")
            return
        try:
            event.set_results(ACTIONS[name](self.manager, event.params))
            if name in CHANGES:
                self.reconcile()
        except MachineServiceError as error:
            event.fail(str(error))


if __name__ == "__main__":  # pragma: nocover
    ops.main(AmsCharm)
