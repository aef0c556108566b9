"""What the units of the registry tell each other, as Juju brings it.

A plain class over ops' model, as `aar_interface.relation`: no events, no status, no state of its
own. What follows from it is `sharing`'s business.
"""

from __future__ import annotations

import ops

from shared_engines.relations import Units

PEERS = "peers"


class Peers(Units):
    """What the units of the registry tell each other.

    The certificate's private key goes through a secret that the application owns. The fingerprint
    beside the secret's URI makes each rotation a change of the databag, so that every unit hears
    of it by a hook of its own.
    """

    _KIND, _SECRET_ID, _FINGERPRINT = "kind", "certificate-secret", "certificate-fingerprint"

    def __init__(self, charm: ops.CharmBase) -> None:
        super().__init__(charm, PEERS)

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
