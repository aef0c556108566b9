"""The two sides of the `aar` relation, as a charm uses them: publish, withdraw, read.

Plain classes over ops' model: no events, no status, no state of their own. A charm observes what
it likes, calls `publish` and reads the whole outcome; what it does with that, and what it tells
the operator, is its own business. Every databag is a unit databag, so leadership doesn't matter;
a relation that is breaking doesn't count.

Only charms import this module: it is the one of this package that needs ops. What follows from
the databags is decided in `aar_interface.rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar

import ops

from aar_interface.certificates import Certificate
from aar_interface.databag import (
    PROVIDER_FIELDS,
    REQUIRER_FIELDS,
    InvalidDatabag,
    ProviderData,
    RequirerData,
)
from aar_interface.roles import Role
from aar_interface.rules import (
    Fault,
    Grant,
    Member,
    Offer,
    Registry,
    Wanted,
    WrongPair,
    registry_to_use,
    trust_wanted,
)

__all__ = [
    "CLIENT",
    "INTERFACE",
    "PROVIDER_ENDPOINTS",
    "PUBLISHER",
    "REGISTRY_CLIENT",
    "REGISTRY_PUBLISHER",
    "REQUIRER_ENDPOINTS",
    "Fault",
    "Grant",
    "InvalidDatabag",
    "Member",
    "Registry",
    "RegistryProvider",
    "RegistryRequirer",
    "Wanted",
    "WrongPair",
]

INTERFACE = "aar"
CLIENT, PUBLISHER = "client", "publisher"
REGISTRY_CLIENT, REGISTRY_PUBLISHER = "registry-client", "registry-publisher"

PROVIDER_ENDPOINTS: Mapping[str, Role] = MappingProxyType(
    {CLIENT: Role.CLIENT, PUBLISHER: Role.PUBLISHER}
)
REQUIRER_ENDPOINTS: Mapping[str, Role] = MappingProxyType(
    {REGISTRY_CLIENT: Role.CLIENT, REGISTRY_PUBLISHER: Role.PUBLISHER}
)
"""What each endpoint stands for. A role comes from here, never from a peer."""

_Data = TypeVar("_Data")


class RegistryProvider:
    """The registry's side: publishes where it is, reads whom to trust."""

    def __init__(
        self, charm: ops.CharmBase, endpoints: Mapping[str, Role] = PROVIDER_ENDPOINTS
    ) -> None:
        self.endpoints = endpoints
        self._relations = _Relations(charm, endpoints)

    def publish(
        self, certificate: Certificate, address: Callable[[ops.Relation], tuple[str, int]]
    ) -> None:
        """Say in every relation that the registry with `certificate` answers at `address`.

        `address` gives host (an IP address or a name; "" while it isn't known) and port, as that
        relation's remote side reaches them. Writes only what differs. Raises InvalidDatabag, and
        writes nothing at all, for an address that no client could use.
        """
        said = [
            (relation, ProviderData.at(certificate, *address(relation), role).write())
            for relation, role in self._relations
        ]
        for relation, bag in said:
            self._relations.write(relation, PROVIDER_FIELDS, bag)

    def withdraw(self) -> None:
        """Remove from every relation what `publish` wrote, and nothing else."""
        for relation, _ in self._relations:
            self._relations.write(relation, PROVIDER_FIELDS, {})

    def wanted(self) -> Wanted:
        """Read every relation and say whom the registry shall trust, from scratch.

        A unit that hasn't published a certificate yet isn't mentioned. A wrong pair, a certificate
        in both roles and a databag that can't be used get no grant, and are told apart.
        """
        said, faults = self._relations.read(RequirerData.read)
        members = [
            Member(unit, f"{relation.name}:{relation.id}", role, data)
            for relation, role, unit, data in said
        ]
        return trust_wanted(members, faults)


class RegistryRequirer:
    """The management service's side: publishes who it is, reads which registry to use."""

    def __init__(
        self, charm: ops.CharmBase, endpoints: Mapping[str, Role] = REQUIRER_ENDPOINTS
    ) -> None:
        self.endpoints = endpoints
        self._relations = _Relations(charm, endpoints)

    def publish(self, certificate: Certificate, architecture: str) -> None:
        """Say in every relation who we are, and which architecture (Debian's name) we run on.

        `mode` is what the relation's endpoint stands for. Writes only what differs. Raises
        InvalidDatabag, and writes nothing at all, for what is no architecture.
        """
        said = [
            (relation, RequirerData.of(certificate, role, architecture).write())
            for relation, role in self._relations
        ]
        for relation, bag in said:
            self._relations.write(relation, REQUIRER_FIELDS, bag)

    def withdraw(self) -> None:
        """Remove from every relation what `publish` wrote, and nothing else."""
        for relation, _ in self._relations:
            self._relations.write(relation, REQUIRER_FIELDS, {})

    def registry(self) -> Registry | None:
        """Say which registry to use, or None: not related, not ready, or in `conflict`.

        Units count in the order of their relation, application and number: the first one that says
        both who and where it is decides, and the others that show its certificate add their URLs.
        Units of a wrong pair and those in `faults` don't count.
        """
        return None if self.conflict else registry_to_use(self._read()[0])

    @property
    def related(self) -> tuple[str, ...]:
        """Our endpoints that have a live relation, whether or not the other side has spoken."""
        return tuple(dict.fromkeys(relation.name for relation, _ in self._relations))

    @property
    def conflict(self) -> bool:
        """Whether more than one endpoint is related: one of them has to go."""
        return len(self.related) > 1

    @property
    def wrong_pair(self) -> str | None:
        """Our endpoint whose provider says that it is for another role, or None."""
        return next((offer.endpoint for offer in self._read()[0] if offer.mispaired), None)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The remote units whose databag can't be used, in the order of `registry`."""
        return tuple(dict.fromkeys(self._read()[1]))

    def _read(self) -> tuple[list[Offer], list[Fault]]:
        said, faults = self._relations.read(ProviderData.read)
        return [Offer(unit, relation.name, role, data) for relation, role, unit, data in said], (
            faults
        )


class _Relations:
    """The live relations of a charm's endpoints, each with our role in it.

    In a fixed order: by endpoint, then the oldest first, whatever hooks have run.
    """

    def __init__(self, charm: ops.CharmBase, roles: Mapping[str, Role]) -> None:
        self._charm = charm
        self._roles = roles

    def __iter__(self) -> Iterator[tuple[ops.Relation, Role]]:
        for endpoint, role in self._roles.items():
            for relation in sorted(self._charm.model.relations[endpoint], key=lambda r: r.id):
                if relation.active:
                    yield relation, role

    def read(
        self, parse: Callable[[Mapping[str, str]], _Data]
    ) -> tuple[list[tuple[ops.Relation, Role, str, _Data]], list[Fault]]:
        """Parse every remote unit's databag; the unit is named by its full name."""
        said: list[tuple[ops.Relation, Role, str, _Data]] = []
        faults: list[Fault] = []
        for relation, role in self:
            for unit in sorted(relation.units, key=_by_number):
                try:
                    said.append((relation, role, unit.name, parse(relation.data[unit])))
                except InvalidDatabag as error:
                    faults.append(Fault(unit.name, str(error)))
        return said, faults

    def write(self, relation: ops.Relation, fields: Iterable[str], bag: Mapping[str, str]) -> None:
        """Make our `fields` in `relation` exactly `bag`; ops sends what differs, if anything."""
        relation.data[self._charm.unit].update({field: bag.get(field, "") for field in fields})


def _by_number(unit: ops.Unit) -> tuple[str, int]:
    """Sort by application and number: aar/10 comes after aar/9."""
    application, _, number = unit.name.rpartition("/")
    return application, int(number)
