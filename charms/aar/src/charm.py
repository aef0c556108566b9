#!/usr/bin/env python3
"""The registry's charm: reads what Juju says, makes the machine so, tells the other side.

Every event means the same: reconcile. The charm keeps no state; what a relation is owed follows
from the relations, and who owns a row of the trust store is kept by the registry.
"""

from __future__ import annotations

import dataclasses

import ops

from aar_interface.relation import PROVIDER_ENDPOINTS, RegistryProvider, Wanted
from actions import ACTIONS, CHANGES
from machine_service import (
    InvalidConfiguration,
    MachineService,
    MachineServiceError,
    NotRunning,
)
from options import InvalidOption, Options
from registry import PROGRAM, Registry
from status import Findings, Refused, statuses

PEERS = "peers"


class AarCharm(ops.CharmBase):
    """One unit of the application registry."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.registry = Registry(MachineService(PROGRAM))
        self.provider = RegistryProvider(self)
        self._findings: Findings | None = None
        changes = [
            self.on.install,
            self.on.upgrade_charm,
            self.on.config_changed,
            self.on.start,
            self.on.update_status,
        ]
        for endpoint in (*PROVIDER_ENDPOINTS, PEERS):
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
        framework.observe(self.on.stop, self._on_stop)
        framework.observe(self.on.remove, self._on_remove)
        framework.observe(self.on.collect_unit_status, self._on_collect_status)
        for name in ACTIONS:
            framework.observe(self.on[name].action, self._on_action)

    def reconcile(self) -> None:
        """Make the machine, the trust store and our databags what the model asks for."""
        self.registry.install(self.charm_dir / "wheels")
        options, findings = self._run()
        primary = self._primary()
        in_use = primary == self.unit.name
        wanted = self.provider.wanted() if in_use else Wanted()
        refused = self._grant(wanted)
        if not in_use:
            self.provider.withdraw()
        elif options:
            self._advertise(options)
        self.unit.set_workload_version(self.registry.version())
        self._findings = dataclasses.replace(
            findings,
            primary="" if in_use else primary,
            wrong_pairs=wanted.wrong_pairs,
            both_roles=wanted.both_roles,
            faults=wanted.faults,
            refused=refused,
        )

    def _run(self) -> tuple[Options | None, Findings]:
        """Run the registry as configured; without options where that failed.

        Then it goes on as it was, and so does what it advertises; trust is kept up all the same.
        """
        try:
            options = Options.read(self.config)
            self.registry.run_as(options, ipv6=":" in self._ingress(PEERS))
        except (InvalidOption, InvalidConfiguration) as error:
            return None, Findings(misconfigured=str(error))
        except NotRunning as error:
            return None, Findings(down=str(error))
        return options, Findings()

    def _grant(self, wanted: Wanted) -> tuple[Refused, ...]:
        """Trust whom the relations want trusted, and no other of theirs; return who isn't."""
        refusals = self.registry.trust_exactly(
            {
                "certificate": grant.certificate.pem,
                "role": grant.role.value,
                "origin": grant.origin,
                "architectures": list(grant.architectures),
            }
            for grant in wanted.grants
        )
        units = {str(grant.certificate.fingerprint): grant.units for grant in wanted.grants}
        return tuple(
            Refused(units[refusal.fingerprint], refusal.fingerprint, refusal.message)
            for refusal in refusals
        )

    def _advertise(self, options: Options) -> None:
        """Open the port, and tell every related site where and who the registry is."""
        self.unit.set_ports(options.port)
        location = options.location

        def address(relation: ops.Relation) -> tuple[str, int]:
            host = location.host if location else self._ingress(relation)
            return host, (location and location.port) or options.port

        self.provider.publish(self.registry.certificate(), address)

    def _on_change(self, _: ops.EventBase) -> None:
        self.reconcile()

    def _on_stop(self, _: ops.StopEvent) -> None:
        self.registry.stop()

    def _on_remove(self, _: ops.RemoveEvent) -> None:
        self.registry.remove()

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
            event.set_results(ACTIONS[name](self.registry, event.params))
            if name in CHANGES:
                self.reconcile()
        except MachineServiceError as error:
            event.fail(str(error))

    def _primary(self) -> str:
        """Return the unit whose registry is the one in use: each holds a store of its own.

        It is the oldest, the one with the lowest number, so that every unit finds the same.
        """
        peers = self.model.get_relation(PEERS)
        units = {self.unit, *(peers.units if peers else ())}
        return min((unit.name for unit in units), key=lambda name: int(name.rpartition("/")[2]))

    def _ingress(self, relation: ops.Relation | str) -> str:
        """Return the address at which the other side of a relation reaches this unit."""
        binding = self.model.get_binding(relation)
        addresses = binding.network.ingress_addresses if binding else []
        return str(addresses[0]) if addresses else ""


if __name__ == "__main__":  # pragma: nocover
    ops.main(AarCharm)
