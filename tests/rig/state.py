"""The model's state: applications, units, machines, relations and their databags.

Plain data and the questions one can ask of it. What a unit does next is uniter.py's matter, what
an operator may change is juju_*.py's.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rig.charms import Charm, Endpoint
from rig.errors import JujuError

if TYPE_CHECKING:
    from rig.hosts import Host
    from rig.uniter import Uniter


@dataclasses.dataclass(frozen=True)
class Dialect:
    """What differs between the Juju versions that the rig knows."""

    version: str
    private_address: bool  # a unit's bag holds `private-address` on entering scope
    departs_at_once: bool  # others see a dying unit depart before it has left scope

    @classmethod
    def of(cls, series: str) -> Dialect:
        """Dialect of "3.6" or "4.0"."""
        known = {"3.6": cls("3.6.28", True, True), "4.0": cls("4.0.15", False, False)}
        if series not in known:
            raise JujuError(f"the rig speaks Juju {' and '.join(known)}, not {series}")
        return known[series]


@dataclasses.dataclass(frozen=True)
class Status:
    """One status value; `since` is aware UTC."""

    current: str
    message: str
    since: datetime.datetime


@dataclasses.dataclass(eq=False)
class Bag:
    """One databag; `version` counts effective writes, 0 means never written."""

    data: dict[str, str] = dataclasses.field(default_factory=dict)
    version: int = 0

    def replace(self, data: dict[str, str]) -> bool:
        """Store `data`; False when nothing changed."""
        if data == self.data:
            return False
        self.data, self.version = dict(data), self.version + 1
        return True


@dataclasses.dataclass(eq=False)
class Machine:
    """One machine of the model and the host that stands for it."""

    number: int
    host: Host
    status: str = "pending"


@dataclasses.dataclass(eq=False)
class Application:
    """One application; `settings` are the options that an operator set."""

    model: str
    name: str
    charm: Charm
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    units: dict[str, Unit] = dataclasses.field(default_factory=dict)
    next_unit: int = 0
    revision: int = 0
    leader: Unit | None = None
    version: str = ""
    status: Status | None = None
    exposed: bool = False
    trusted: bool = False
    dying: bool = False
    force_upgrade: bool = False

    def options(self) -> dict[str, Any]:
        """All options that have a value."""
        return {**self.charm.defaults(), **self.settings}


@dataclasses.dataclass(eq=False)
class Unit:
    """One unit. `uniter` is its agent, which holds what the unit has seen of the model."""

    app: Application
    number: int
    machine: Machine
    workload: Status
    agent_status: Status
    ports: set[str] = dataclasses.field(default_factory=set)
    state: dict[str, str] = dataclasses.field(default_factory=dict)
    dying: bool = False
    dead: bool = False
    workload_set: bool = False
    uniter: Uniter = dataclasses.field(init=False)

    @property
    def name(self) -> str:
        """As its own model names it: `app/N`."""
        return f"{self.app.name}/{self.number}"

    @property
    def tag(self) -> str:
        """As directories and logs name it: `unit-app-N`."""
        return f"unit-{self.app.name}-{self.number}"

    @property
    def address(self) -> str:
        """The machine's IPv4 address, without prefix length."""
        return self.machine.host.address

    @property
    def is_leader(self) -> bool:
        """Whether the model holds this unit to be the leader now."""
        return self.app.leader is self


@dataclasses.dataclass(eq=False)
class Side:
    """One end of a relation. Ids and names are per model, so each side has its own."""

    app: Application
    endpoint: Endpoint
    id: int
    seen_as: str  # what the other side calls this application

    @property
    def key(self) -> str:
        """`endpoint:id`, as JUJU_RELATION_ID gives it."""
        return f"{self.endpoint.name}:{self.id}"


@dataclasses.dataclass(eq=False)
class Relation:
    """A relation within a model, across two, or among peers (then it has one side)."""

    sides: tuple[Side, ...]
    cross_model: bool = False
    dying: bool = False
    members: dict[Unit, None] = dataclasses.field(default_factory=dict)
    unit_bags: dict[Unit, Bag] = dataclasses.field(default_factory=dict)
    app_bags: dict[Application, Bag] = dataclasses.field(default_factory=dict)

    @property
    def is_peer(self) -> bool:
        """Whether the application is related to itself."""
        return len(self.sides) == 1

    def side(self, app: Application) -> Side:
        """The end that `app` is at."""
        return next(s for s in self.sides if s.app is app)

    def other(self, app: Application) -> Side:
        """The end that `app` talks to; its own one among peers."""
        return next((s for s in self.sides if s.app is not app), self.sides[0])

    def has(self, app: Application) -> bool:
        """Whether `app` is at one of the ends."""
        return any(s.app is app for s in self.sides)

    def name_of(self, unit: Unit, reader: Application) -> str:
        """The name of `unit` as `reader`'s units see it."""
        if unit.app is reader:
            return unit.name
        return f"{self.side(unit.app).seen_as}/{unit.number}"

    def app_seen_by(self, reader: Application) -> str:
        """The name of the remote application as `reader` sees it."""
        return reader.name if self.is_peer else self.other(reader).seen_as

    def remote_members(self, unit: Unit, dialect: Dialect) -> list[Unit]:
        """Units in scope that `unit` should know of now, sorted by the name it sees."""
        remote = self.other(unit.app).app
        found = [
            m
            for m in self.members
            if m is not unit
            and m.app is remote
            and not self.dying
            and not (m.dying and dialect.departs_at_once)
        ]
        return sorted(found, key=lambda m: self.name_of(m, unit.app))

    def find_unit(self, name: str, reader: Unit) -> Unit | None:
        """The unit that `reader` calls `name`, if it ever was in this relation."""
        return next((u for u in self.unit_bags if self.name_of(u, reader.app) == name), None)

    def app_bag(self, app: Application) -> Bag:
        """The application databag of `app`."""
        return self.app_bags.setdefault(app, Bag())

    def enter(self, unit: Unit, dialect: Dialect) -> None:
        """`unit` is in scope from here on, with a databag that holds its address."""
        self.members[unit] = None
        self.unit_bags.setdefault(unit, Bag()).replace(network_settings(unit, dialect))

    def leave(self, unit: Unit) -> None:
        """`unit` is out of scope; its databag stays readable while the relation lives."""
        self.members.pop(unit, None)


def network_settings(unit: Unit, dialect: Dialect) -> dict[str, str]:
    """What Juju itself writes in a unit's databag."""
    settings = {"ingress-address": unit.address, "egress-subnets": f"{unit.address}/32"}
    if dialect.private_address:
        settings["private-address"] = unit.address
    return settings


@dataclasses.dataclass(eq=False)
class Offer:
    """Endpoints of an application that other models may relate to."""

    name: str
    app: Application
    endpoints: tuple[str, ...]


@dataclasses.dataclass(eq=False)
class RemoteApplication:
    """What `juju consume` made: another model's offer under a local alias."""

    alias: str
    offer: Offer
    url: str
    consumer_name: str  # `remote-<32 hex>`: what the offering side calls the consumer


@dataclasses.dataclass(eq=False)
class Model:
    """One model."""

    name: str
    uuid: str
    dialect: Dialect
    seed: int
    apps: dict[str, Application] = dataclasses.field(default_factory=dict)
    machines: dict[int, Machine] = dataclasses.field(default_factory=dict)
    offers: dict[str, Offer] = dataclasses.field(default_factory=dict)
    remotes: dict[str, RemoteApplication] = dataclasses.field(default_factory=dict)
    relations: list[Relation] = dataclasses.field(default_factory=list)
    config: dict[str, str] = dataclasses.field(default_factory=dict)
    next_machine: int = 0
    next_relation: int = 0
    next_task: int = 1

    def units(self) -> Iterator[Unit]:
        """All units of all applications."""
        for app in self.apps.values():
            yield from app.units.values()

    def app(self, name: str) -> Application:
        """The application called `name`; JujuError when there is none."""
        if name not in self.apps:
            raise JujuError(f'application "{name}" not found')
        return self.apps[name]

    def unit(self, name: str) -> Unit:
        """The unit called `app/N` or `app/leader`; JujuError when there is none."""
        app_name, _, number = name.partition("/")
        app = self.apps.get(app_name)
        found = app and (app.leader if number == "leader" else app.units.get(name))
        if not found:
            raise JujuError(f'unit "{name}" not found')
        return found

    def machine(self, number: str) -> Machine:
        """The machine with this number; JujuError when there is none."""
        if not number.isdigit() or int(number) not in self.machines:
            raise JujuError(f"machine {number} not found")
        return self.machines[int(number)]

    def relation_id(self) -> int:
        """A number for a new relation, never used before in this model."""
        self.next_relation += 1
        return self.next_relation - 1

    def relations_of(self, app: Application) -> list[Relation]:
        """Relations that `app` is at one end of."""
        return [r for r in self.relations if r.has(app)]
