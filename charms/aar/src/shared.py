"""What units share, as Juju brings it: the engines of two relations, the certificate among peers.

Plain classes over ops' model, as `aar_interface.relation`: no events, no status, no state of their
own. What the databags mean is `engines`', what follows from it `sharing`'s business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import ops

from engines import (
    BUCKET,
    DATABASE_NAME,
    DATABASE_SECRETS,
    STORAGE_SECRETS,
    Database,
    ObjectStorage,
    Unusable,
)

DATABASE, OBJECT_STORAGE, PEERS = "database", "object-storage", "peers"

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


def database(charm: ops.CharmBase) -> EngineRelation[Database]:
    """Return the relation with PostgreSQL."""
    request = {"database": DATABASE_NAME}
    return EngineRelation(charm, DATABASE, request, DATABASE_SECRETS, Database.read)


def object_storage(charm: ops.CharmBase) -> EngineRelation[ObjectStorage]:
    """Return the relation with S3."""
    request = {"bucket": BUCKET}
    return EngineRelation(charm, OBJECT_STORAGE, request, STORAGE_SECRETS, ObjectStorage.read)


class Peers:
    """What the units of the registry tell each other.

    The certificate's private key goes through a secret that the application owns. The fingerprint
    beside the secret's URI makes each rotation a change of the databag, so that every unit hears
    of it by a hook of its own.
    """

    _KIND, _SECRET_ID, _FINGERPRINT = "kind", "certificate-secret", "certificate-fingerprint"

    def __init__(self, charm: ops.CharmBase) -> None:
        self._charm = charm

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

    def tell(self, kind: str) -> None:
        """Tell the others which kind of store this unit has."""
        if (relation := self._relation) is not None:
            relation.data[self._charm.unit][self._KIND] = kind

    def told(self) -> dict[str, str]:
        """Return what the other units told; "" for one that hasn't yet."""
        relation = self._relation
        if relation is None:
            return {}
        return {unit.name: relation.data[unit].get(self._KIND, "") for unit in relation.units}

    def certificate(self) -> str | None:
        """Return the shared key and certificate, in PEM; None: there is none (yet)."""
        uri = self._uri
        if not uri:
            return None
        try:
            content = self._charm.model.get_secret(id=uri).get_content(refresh=True)
        except (ops.SecretNotFoundError, ops.ModelError):
            return None
        return content.get("pair")

    def share(self, pair: str, fingerprint: str) -> None:
        """Give the other units the key and certificate; for the leader."""
        relation = self._relation
        if relation is None:
            return
        bag = relation.data[self._charm.app]
        content = {"pair": pair}
        try:
            if not self._uri:
                raise ops.SecretNotFoundError
            self._charm.model.get_secret(id=self._uri).set_content(content)
        except ops.SecretNotFoundError:
            secret = self._charm.app.add_secret(
                content, description="Private key and certificate of the registry, for its units"
            )
            bag[self._SECRET_ID] = secret.id or ""
        bag[self._FINGERPRINT] = fingerprint

    @property
    def _uri(self) -> str:
        relation = self._relation
        return relation.data[self._charm.app].get(self._SECRET_ID, "") if relation else ""

    @property
    def _relation(self) -> ops.Relation | None:
        return self._charm.model.get_relation(PEERS)
