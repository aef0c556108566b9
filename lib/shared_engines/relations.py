"""The engines of two relations, and the units that share them, as Juju brings them.

Plain classes over ops' model, as `aar_interface.relation`: no events, no status, no state of their
own. What the databags mean is `values`' business, what follows from it the charms'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import ops

from shared_engines.values import (
    DATABASE,
    DATABASE_SECRETS,
    OBJECT_STORAGE,
    STORAGE_SECRETS,
    Database,
    Engines,
    ObjectStorage,
    Unusable,
)

_SECRET = re.compile(r"secret:(//[0-9a-f-]{36}/)?[0-9a-z]{20}")
"""A secret's URI, also another model's (Juju, core/secrets)."""

_Engine = TypeVar("_Engine", Database, ObjectStorage)


class EngineRelation(Generic[_Engine]):
    """One endpoint by which an engine is required."""

    def __init__(
        self,
        charm: ops.CharmBase,
        endpoint: str,
        request: Mapping[str, str],
        secrets: Mapping[str, tuple[str, ...]],
        parse: Callable[[Mapping[str, str]], _Engine | None],
    ) -> None:
        """`request` is what to ask for; `secrets` which fields hold a secret, and what of it."""
        self._charm = charm
        self._endpoint = endpoint
        self._secrets = secrets
        wanted = [name for names in secrets.values() for name in names]
        self._request = {**request, "requested-secrets": json.dumps(wanted)}
        self._parse = parse

    @property
    def related(self) -> bool:
        """Whether there is a relation that isn't ending."""
        return self._relation is not None

    def request(self) -> None:
        """Say what we want; the leader says it for all units."""
        relation = self._relation
        if relation is not None and self._charm.unit.is_leader():
            relation.data[self._charm.app].update(self._request)

    def read(self) -> _Engine | None:
        """Return the engine, or None while the provider hasn't said all of it.

        Raises Unusable when it said something else.
        """
        relation = self._relation
        if relation is None or relation.app is None:
            return None
        bag = dict(relation.data[relation.app])
        for name, wanted in self._secrets.items():
            if uri := bag.get(name, "").strip():
                content = self._content(name, uri)
                if content is None:
                    return None
                bag |= {key: content[key] for key in wanted if key in content}
        return self._parse(bag)

    def _content(self, name: str, uri: str) -> dict[str, str] | None:
        if not _SECRET.fullmatch(uri):
            raise Unusable(f"{name}: not a secret's URI")
        try:
            return self._charm.model.get_secret(id=uri).get_content(refresh=True)
        except (ops.SecretNotFoundError, ops.ModelError):
            return None  # not granted yet, or no more: the provider is about to say another

    @property
    def _relation(self) -> ops.Relation | None:
        relations = self._charm.model.relations[self._endpoint]
        return next((r for r in sorted(relations, key=lambda r: r.id) if r.active), None)


class Shared:
    """Both of them: what is asked for, and what is there.

    Providers often serve several applications. So what ours has there bears a name that no other
    has, in whatever model; a provider may give another, and objects are below a prefix of it.
    """

    def __init__(self, charm: ops.CharmBase) -> None:
        self._name = name = f"{charm.app.name}-{charm.model.uuid[:8]}"

        def read_database(bag: Mapping[str, str]) -> Database | None:
            return Database.read({**bag, "database": bag.get("database") or name})

        self._database = EngineRelation(
            charm, DATABASE, {"database": name}, DATABASE_SECRETS, read_database
        )
        self._storage = EngineRelation(
            charm, OBJECT_STORAGE, {"bucket": name}, STORAGE_SECRETS, ObjectStorage.read
        )

    def request(self) -> None:
        """Say to both providers what we want."""
        self._database.request()
        self._storage.request()

    @property
    def related(self) -> frozenset[str]:
        """Which of DATABASE, OBJECT_STORAGE are related."""
        relations = {DATABASE: self._database, OBJECT_STORAGE: self._storage}
        return frozenset(name for name, relation in relations.items() if relation.related)

    def read(self) -> tuple[Engines | None, dict[str, str]]:
        """Return both engines, once both providers have said all.

        Also, by endpoint, what is wrong with what its provider said.
        """
        unusable, server, bucket = {}, None, None
        try:
            server = self._database.read()
        except Unusable as error:
            unusable[DATABASE] = str(error)
        try:
            bucket = self._storage.read()
        except Unusable as error:
            unusable[OBJECT_STORAGE] = str(error)
        if not server or not bucket:
            return None, unusable
        return Engines(server, bucket).below(self._name), unusable


class Units:
    """The units of the application, by the relation among them."""

    def __init__(self, charm: ops.CharmBase, endpoint: str) -> None:
        self._charm = charm
        self._endpoint = endpoint

    @property
    def units(self) -> frozenset[str]:
        """The names of all units, ours among them."""
        relation = self._relation
        others = relation.units if relation else ()
        return frozenset(unit.name for unit in {self._charm.unit, *others})

    @property
    def leaving(self) -> bool:
        """Whether one of `units` is on its way out: it may be this one (goal-state)."""
        return self._charm.app.planned_units() < len(self.units)

    def speaks_for_all(self, event: ops.EventBase | None) -> bool:
        """Whether this unit is to write what all units share, when `event` has come.

        The leader does, since units see a relation change at different times, and each would undo
        what another, further on, has just done. A unit on its way out sees its relations end one
        by one, which nobody meant, so a leader says nothing while any unit leaves; the leader that
        stays hears of the departure, and makes up for it.
        """
        departing = event.departing_unit if isinstance(event, ops.RelationDepartedEvent) else None
        leads = self._charm.unit.is_leader()
        return leads and departing != self._charm.unit and not self.leaving

    @property
    def _relation(self) -> ops.Relation | None:
        return self._charm.model.get_relation(self._endpoint)
