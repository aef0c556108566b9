#!/usr/bin/env python3
"""The charm of the management service: reads what Juju says, makes the machine so, tells it.

Every event means the same: reconcile. The charm keeps no state; what a relation sets follows from
the relation, and AMS itself keeps what is set by whom, so that it can be taken back exactly. How
units share one site is decided in `sharing`.
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
from shared_engines import DATABASE, OBJECT_STORAGE, Engines, Store
from shared_engines.relations import Shared, Units
from sharing import Decision, Run, Situation, decide
from status import Findings, statuses

PEERS = "peers"


class AmsCharm(ops.CharmBase):
    """One unit of the application management service."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.manager = Manager(MachineService(PROGRAM))
        self.requirer = RegistryRequirer(self)
        self.shared = Shared(self)
        self.peers = Units(self, PEERS)
        self._findings: Findings | None = None
        changes = [
            self.on.install,
            self.on.upgrade_charm,
            self.on.config_changed,
            self.on.start,
            self.on.leader_elected,
            self.on.secret_changed,
        ]
        for endpoint in (*REQUIRER_ENDPOINTS, DATABASE, OBJECT_STORAGE, PEERS):
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

    def reconcile(self, event: ops.EventBase | None = None) -> None:
        """Make the machine, AMS' options and our databags what the model asks for."""
        self.manager.install(self.charm_dir / "wheels")
        self.shared.request()
        situation = self._situation()
        decision = decide(situation)
        options, findings = self._run(decision, situation.engines)
        joins = decision.run in (Run.ALONE, Run.SHARED)
        if not joins:
            self.requirer.withdraw()
        if options and decision.run is not Run.STOPPED:
            self.unit.set_ports(options.port)
            if joins:
                self._introduce()
            writes = decision.run is not Run.SHARED or self.peers.speaks_for_all(event)
            findings = self._follow(options, joins=joins, writes=writes)
        self.unit.set_workload_version(self.manager.version())
        self._findings = dataclasses.replace(
            findings, blocked=decision.blocked, engines=decision.waiting
        )

    def _situation(self) -> Situation:
        """Read which engines there are, and what this unit holds."""
        related = self.shared.related
        engines, unusable = self.shared.read()
        holds = Store.EMPTY
        if self.manager.is_shared:
            holds = Store.SHARED
        elif related and self.manager.has_data():
            holds = Store.OWN
        return Situation(
            unit=self.unit.name,
            store=holds,
            related=related,
            unusable=unusable,
            engines=engines,
        )

    def _run(self, decision: Decision, engines: Engines | None) -> tuple[Options | None, Findings]:
        """Run AMS as decided and configured; without options where that failed.

        Then it goes on as it was.
        """
        try:
            options = Options.read(self.config)
            if decision.run is Run.STOPPED:
                self.manager.stop()
            elif decision.run is Run.SHARED and engines is None:
                pass  # its engines are about to be told anew: it goes on with those it knows
            else:
                shared = engines if decision.run is Run.SHARED else None
                self.manager.run_as(options, shared)
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

    def _follow(self, options: Options, *, joins: bool, writes: bool) -> Findings:
        """Set what the relation asks for and what the operator configured, and nothing else.

        `joins`: a registry may be used. `writes`: it is this unit that sets it; where units share
        one site, one of them does.
        """
        related = self.requirer.related
        registry = self.requirer.registry() if joins else None
        asked = options.for_registry(registry) if registry else {}
        own = {k: v for k, v in options.config.items() if not (related and k in RELATED)}
        misconfigured = refused = ""
        if writes and not asked:  # first: the operator's options may have these names again
            refused = self._refused(lambda: self.manager.follow({}, None))
        if writes:
            misconfigured = self._refused(lambda: self.manager.set_options(own))
        if writes and registry:
            refused = self._refused(lambda: self.manager.follow(asked, registry.certificate))
        if len(own) < len(options.config) and not misconfigured:
            clash = ", ".join(sorted(options.config.keys() - own.keys()))
            misconfigured = f"config: {clash}: the relation sets it, remove it here"
        waiting = joins and not (registry or self.requirer.conflict or self.requirer.wrong_pair)
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

    def _on_change(self, event: ops.EventBase) -> None:
        self.reconcile(event)

    def _on_update_status(self, _: ops.UpdateStatusEvent) -> None:
        """Look at the synchronisation too: after a change it may fail until both sides have it."""
        self.reconcile()
        if self._findings and self.requirer.related and self.manager.is_running:
            try:
                error = self.manager.registry_status()["last_error"] or ""
            except CommandFailed as fault:  # such as of a database that is down
                error = str(fault)
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
