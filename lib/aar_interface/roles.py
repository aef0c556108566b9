"""What a trusted certificate may do at the registry."""

from __future__ import annotations

from enum import Enum


class Role(str, Enum):
    """The role that the registry gives to a certificate.

    The values are those of the relation databag (`mode`) and of `aar trust list`. A role always
    comes from our own side (the endpoint's name, the operator's flag), never from the peer.
    """

    CLIENT = "client"
    PUBLISHER = "publisher"

    def __str__(self) -> str:
        return self.value

    @property
    def may_write(self) -> bool:
        """Whether the role may change what the registry holds."""
        return self is Role.PUBLISHER
