"""Both sides of the `aar` relation in charms of a few lines, under ops' own test double."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ops
from ops import testing

from aar_interface import Role
from aar_interface.databag import ProviderData, RequirerData
from aar_interface.relation import (
    INTERFACE,
    PROVIDER_ENDPOINTS,
    REQUIRER_ENDPOINTS,
    Fault,
    Registry,
    RegistryProvider,
    RegistryRequirer,
    Wanted,
)
from support.databags import certificate

REGISTRY, A, B = certificate("registry"), certificate("a"), certificate("b")
ARCHITECTURE = "arm64"
PORT = 3000
REMOTE = "remote-0123456789abcdef0123456789abcdef"
"""What the offering side sees of a consumer in another model."""

EVENTS = ("created", "joined", "changed", "departed", "broken")


class Side(ops.CharmBase):
    """Publishes at every event, unless the configuration says to withdraw."""

    ENDPOINTS: Mapping[str, Role]

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        observed: list[Any] = [self.on.update_status, self.on.config_changed]
        for endpoint, event in itertools.product(self.ENDPOINTS, EVENTS):
            observed.append(getattr(self.on[endpoint], f"relation_{event}"))
        for event in observed:
            framework.observe(event, self._on_event)

    def _on_event(self, _: ops.EventBase) -> None:
        (self.withdraw if self.config["withdraw"] else self.publish)()

    def publish(self) -> None:
        raise NotImplementedError

    def withdraw(self) -> None:
        raise NotImplementedError


class Provider(Side):
    ENDPOINTS = PROVIDER_ENDPOINTS

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.side = RegistryProvider(self)
        self.withdraw = self.side.withdraw

    def publish(self) -> None:
        self.side.publish(REGISTRY, self._address)

    def _address(self, relation: ops.Relation) -> tuple[str, int]:
        binding = self.model.get_binding(relation)
        addresses = binding.network.ingress_addresses if binding else []
        return (str(addresses[0]) if addresses else "", PORT)


class Requirer(Side):
    ENDPOINTS = REQUIRER_ENDPOINTS

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.side = RegistryRequirer(self)
        self.withdraw = self.side.withdraw

    def publish(self) -> None:
        self.side.publish(A, ARCHITECTURE)


def context(kind: type[Side]) -> testing.Context[Side]:
    place = "provides" if kind is Provider else "requires"
    endpoints = {name: {"interface": INTERFACE} for name in kind.ENDPOINTS}
    return testing.Context(
        kind,
        meta={"name": "aar" if kind is Provider else "ams", place: endpoints},
        config={"options": {"withdraw": {"type": "boolean", "default": False}}},
    )


def relation(
    endpoint: str,
    units: Mapping[int, ProviderData | RequirerData | dict[str, str]],
    *,
    number: int = 1,
    remote: str = "other",
    ours: Mapping[str, str] | None = None,
) -> testing.Relation:
    """A relation whose remote units say `units`."""
    bags = {
        unit: dict(said) if isinstance(said, dict) else {**juju(unit), **said.write()}
        for unit, said in units.items()
    }
    return testing.Relation(
        endpoint,
        INTERFACE,
        id=number,
        remote_app_name=remote,
        remote_units_data=bags,
        local_unit_data=dict(ours if ours is not None else juju(0)),
    )


def juju(unit: int) -> dict[str, str]:
    """What Juju itself puts in a unit's databag."""
    address = f"10.9.9.{unit}"
    return {
        "ingress-address": address,
        "egress-subnets": f"{address}/32",
        "private-address": address,
    }


def at(name: str, host: str, role: Role | None = None) -> ProviderData:
    return ProviderData(certificate(name), host, PORT, "", role)


def written(state: testing.State, number: int) -> dict[str, str]:
    """Our own unit's databag in that relation, without what Juju put there."""
    bag = state.get_relation(number).local_unit_data
    return {name: value for name, value in bag.items() if name not in juju(0)}


def wanted(*relations: testing.Relation, event: Any = None) -> Wanted:
    ctx = context(Provider)
    with ctx(event(ctx) if event else ctx.on.update_status(), state(*relations)) as manager:
        assert isinstance(manager.charm, Provider)
        return manager.charm.side.wanted()


@dataclass(frozen=True)
class Seen:
    """What the requirer's side says at one moment."""

    registry: Registry | None
    related: tuple[str, ...]
    conflict: bool
    wrong_pair: str | None
    faults: tuple[Fault, ...]


def seen(*relations: testing.Relation, event: Any = None) -> Seen:
    ctx = context(Requirer)
    with ctx(event(ctx) if event else ctx.on.update_status(), state(*relations)) as manager:
        assert isinstance(manager.charm, Requirer)
        side = manager.charm.side
        return Seen(side.registry(), side.related, side.conflict, side.wrong_pair, side.faults)


def state(*relations: testing.RelationBase, **more: Any) -> testing.State:
    return testing.State(relations=relations, **more)
