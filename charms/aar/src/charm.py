#!/usr/bin/env python3
"""The registry's charm: reads what Juju says, makes the machine so, tells the other side.

Every event means the same: reconcile. The charm keeps no state; what a relation is owed follows
from the relations, and who owns a row of the trust store is kept by the registry. How units share
one state is decided in `sharing`.
"""

from __future__ import annotations

import dataclasses

import ops

from aar_interface.relation import PROVIDER_ENDPOINTS, RegistryProvider, Wanted
from actions import ACTIONS, CHANGES
from machine_service import (
    CommandFailed,
    InvalidConfiguration,
    MachineService,
    MachineServiceError,
    NotRunning,
)
from options import InvalidOption, Options
from registry import PROGRAM, Registry
from shared import PEERS, Peers
from shared_engines import DATABASE, OBJECT_STORAGE, Engines, Store
from shared_engines.relations import Shared
from sharing import Decision, Run, Situation, decide
from status import Findings, Refused, statuses


class AarCharm(ops.CharmBase):
    """One unit of the application registry."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.registry = Registry(MachineService(PROGRAM))
        self.provider = RegistryProvider(self)
        self.shared = Shared(self)
        self.peers = Peers(self)
        self._findings: Findings | None = None
        changes = [
            self.on.install,
            self.on.upgrade_charm,
            self.on.config_changed,
            self.on.start,
            self.on.update_status,
            self.on.leader_elected,
            self.on.secret_changed,
        ]
        for endpoint in (*PROVIDER_ENDPOINTS, DATABASE, OBJECT_STORAGE, PEERS):
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
        framework.observe(self.on.migrate_action, self._on_migrate)

    def reconcile(self, event: ops.EventBase | None = None, *, rotated: bool = False) -> None:
        """Make the machine, the trust store and our databags what the model asks for.

        `rotated`: this unit has just made a new certificate, which the others are to take.
        """
        self.registry.install(self.charm_dir / "wheels")
        self.shared.request()
        pair = None if rotated else self.peers.certificate()
        situation = self._situation(certificate=bool(pair) or rotated)
        decision = decide(situation)
        options, findings = self._run(decision, situation.engines, pair)
        holds = Store.SHARED if self.registry.is_shared else situation.store
        self.peers.tell(holds.value if situation.related else "")
        wanted = self.provider.wanted()
        refused, unkept = self._keep_trust(decision, wanted, event)
        if unkept and not findings.down:
            findings = dataclasses.replace(findings, down=unkept)
        if decision.run in (Run.APART, Run.STOPPED):
            self.provider.withdraw()
        elif options and not decision.waiting:
            if decision.run is Run.SHARED and self.unit.is_leader() and not pair:
                fingerprint = str(self.registry.certificate().fingerprint)
                self.peers.share(self.registry.key_and_certificate(), fingerprint)
            self._advertise(options)
        self.unit.set_workload_version(self.registry.version())
        known = Wanted() if decision.run is Run.APART else wanted
        self._findings = dataclasses.replace(
            findings,
            blocked=decision.blocked,
            waiting=decision.waiting,
            wrong_pairs=known.wrong_pairs,
            both_roles=known.both_roles,
            faults=known.faults,
            refused=refused,
        )

    def _situation(self, *, certificate: bool) -> Situation:
        """Read which engines there are, and what this unit and the others hold."""
        related = self.shared.related
        engines, unusable = self.shared.read()
        holds = Store.EMPTY
        if self.registry.is_shared:
            holds = Store.SHARED
        elif related and self.registry.has_data():
            holds = Store.OWN
        return Situation(
            unit=self.unit.name,
            units=self.peers.units,
            leader=self.unit.is_leader(),
            store=holds,
            related=related,
            unusable=unusable,
            engines=engines,
            certificate=certificate,
            told=self.peers.told(),
        )

    def _run(
        self, decision: Decision, engines: Engines | None, pair: str | None
    ) -> tuple[Options | None, Findings]:
        """Run the registry as decided and configured; without options where that failed.

        Then it goes on as it was, and so does what it advertises; trust is kept up all the same.
        """
        try:
            options = Options.read(self.config)
            if decision.run is Run.STOPPED:
                self.registry.stop()
            elif decision.run is Run.SHARED and engines is None:
                pass  # its engines are about to be told anew: it goes on with those it knows
            else:
                shared = engines if decision.run is Run.SHARED else None
                if shared and pair:
                    self.registry.take_certificate(pair)
                ipv6 = ":" in self._ingress(PEERS)
                self.registry.run_as(options, ipv6=ipv6, engines=shared)
        except (InvalidOption, InvalidConfiguration) as error:
            return None, Findings(misconfigured=str(error))
        except NotRunning as error:
            return None, Findings(down=str(error))
        return options, Findings()

    def _keep_trust(
        self, decision: Decision, wanted: Wanted, event: ops.EventBase | None
    ) -> tuple[tuple[Refused, ...], str]:
        """Trust whom the relations want trusted, if that is this unit's business.

        Return who isn't, and why the shared store can't be changed now, if it can't.

        Each unit's own store is. The shared one is that unit's which speaks for all.
        """
        if decision.run is Run.STOPPED:
            return (), ""
        if decision.run is not Run.SHARED:
            return self._grant(wanted if decision.run is Run.ALONE else Wanted()), ""
        if not self.peers.speaks_for_all(event):
            return (), ""
        try:
            return self._grant(wanted), ""
        except CommandFailed as error:  # an engine is down: the next hook tries again
            return (), str(error)

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

    def _on_change(self, event: ops.EventBase) -> None:
        self.reconcile(event)

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
        rotating = name == "rotate-certificate"
        if rotating and self.registry.is_shared and not self.unit.is_leader():
            event.fail(f"the units share one certificate: juju run {self.app.name}/leader {name}")
            return
        try:
            event.set_results(ACTIONS[name](self.registry, event.params))
            if name in CHANGES:
                self.reconcile(rotated=rotating and self.registry.is_shared)
        except MachineServiceError as error:
            event.fail(str(error))

    def _on_migrate(self, event: ops.ActionEvent) -> None:
        """Move this unit's own data to the engines that are related."""
        situation = self._situation(certificate=False)
        if situation.store is not Store.OWN:
            event.fail("this unit has no data of its own: there is nothing to move")
            return
        if situation.engines is None:
            event.fail("nothing was moved: integrate database and object-storage first")
            return
        try:
            options = Options.read(self.config)
            ipv6 = ":" in self._ingress(PEERS)
            said = self.registry.migrate(options, situation.engines, ipv6=ipv6)
            event.set_results({"result": said.strip()})
            self.reconcile()
        except (InvalidOption, MachineServiceError) as error:
            event.fail(str(error))

    def _ingress(self, relation: ops.Relation | str) -> str:
        """Return the address at which the other side of a relation reaches this unit."""
        binding = self.model.get_binding(relation)
        addresses = binding.network.ingress_addresses if binding else []
        return str(addresses[0]) if addresses else ""


if __name__ == "__main__":  # pragma: nocover
    ops.main(AarCharm)
