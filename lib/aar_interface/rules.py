"""What follows from the databags of an `aar` relation: whom to trust, which registry to use.

Pure functions from what every remote unit says to the whole outcome, in an order that follows from
their input's. Reading databags and finding relations is left to `aar_interface.relation`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from aar_interface.certificates import Certificate
from aar_interface.databag import ProviderData, RequirerData
from aar_interface.roles import Role

MAX_URLS = 8
"""How many URLs of one registry are used: as many of the longest names fit `registry.url`."""


class Fault(NamedTuple):
    """A remote unit's databag that can't be used. `message` names the field, on one line."""

    unit: str
    message: str


@dataclass(frozen=True)
class Member:
    """One unit of a requirer in one relation: `origin` is "client:3", `role` our endpoint's."""

    unit: str
    origin: str
    role: Role
    data: RequirerData

    @property
    def application(self) -> str:
        """The remote application's name; `remote-<32 hex>` when it is in another model."""
        return self.unit.rpartition("/")[0]

    @property
    def endpoint(self) -> str:
        """Our endpoint's name."""
        return self.origin.rpartition(":")[0]


class WrongPair(NamedTuple):
    """A relation whose remote side stands for another role than our endpoint does.

    `application` is the remote one, `remote_role` what it says, `endpoint` ours, `origin` our
    name of the relation ("client:3"), `units` the remote units that say so.
    """

    application: str
    remote_role: Role
    endpoint: str
    origin: str
    units: tuple[str, ...]


@dataclass(frozen=True)
class Grant:
    """One certificate to trust. `units` show it; the first of them came by relation `origin`.

    `architectures`, sorted, are those that a publisher may push; empty: all. They are limited only
    when each of the units names its own, and always empty for a client.
    """

    certificate: Certificate
    role: Role
    origin: str
    units: tuple[str, ...]
    architectures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """All that the relations of a registry ask for.

    `both_roles` are the remote applications whose certificate asks for both roles, sorted; such a
    certificate gets no grant.
    """

    grants: tuple[Grant, ...] = ()
    wrong_pairs: tuple[WrongPair, ...] = ()
    both_roles: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def trust_wanted(members: Iterable[Member], faults: Iterable[Fault] = ()) -> Wanted:
    """Make the wanted trust of what single units ask for; the result keeps their order.

    A member without a certificate isn't mentioned: it is about to speak. A member of a wrong pair
    gets nothing, and neither does a certificate that asks for both roles: which one was meant is
    the operator's to say.
    """
    groups: dict[Certificate, list[Member]] = {}
    pairs: dict[tuple[str, Role], list[Member]] = {}
    for member in members:
        mode = member.data.mode
        if mode is not None and mode is not member.role:
            pairs.setdefault((member.origin, mode), []).append(member)
        elif member.data.certificate:
            groups.setdefault(member.data.certificate, []).append(member)
    grants: list[Grant] = []
    both: set[str] = set()
    for certificate, group in groups.items():
        if len({member.role for member in group}) > 1:
            both.update(member.application for member in group)
        else:
            grants.append(_grant(certificate, group))
    wrong = tuple(
        WrongPair(group[0].application, mode, group[0].endpoint, origin, _units(group))
        for (origin, mode), group in pairs.items()
    )
    return Wanted(tuple(grants), wrong, tuple(sorted(both)), tuple(dict.fromkeys(faults)))


def _grant(certificate: Certificate, group: list[Member]) -> Grant:
    role, origin = group[0].role, group[0].origin
    architectures = {member.data.architecture for member in group}
    # A unit that names none (the reference's don't) may push what it is built for, as before.
    limited = role.may_write and "" not in architectures
    limits = tuple(sorted(architectures)) if limited else ()
    return Grant(certificate, role, origin, _units(group), limits)


def _units(members: Iterable[Member]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(member.unit for member in members))


@dataclass(frozen=True)
class Offer:
    """One unit of a provider in one relation: `endpoint` and `role` are ours."""

    unit: str
    endpoint: str
    role: Role
    data: ProviderData

    @property
    def mispaired(self) -> bool:
        """Whether the provider's endpoint stands for another role than ours."""
        return self.data.role is not None and self.data.role is not self.role


@dataclass(frozen=True)
class Registry:
    """One registry to use in `role`: pin `certificate`, ask any of `urls`, at most MAX_URLS.

    `others` are the units that offer another certificate: another registry, or the same one
    half-way through a rotation.
    """

    certificate: Certificate
    urls: tuple[str, ...]
    role: Role
    others: tuple[str, ...] = ()


def registry_to_use(offers: Iterable[Offer]) -> Registry | None:
    """Choose a registry: the certificate of the first offer that says both who and where it is.

    Offers that show the same certificate add their URLs. Mispaired ones don't count. None when no
    offer is complete yet.
    """
    complete = [
        (offer, offer.data.certificate, url)
        for offer in offers
        if not offer.mispaired and offer.data.certificate and (url := offer.data.endpoint)
    ]
    if not complete:
        return None
    first, certificate, _ = complete[0]
    urls = dict.fromkeys(url for _, shown, url in complete if shown == certificate)
    others = dict.fromkeys(offer.unit for offer, shown, _ in complete if shown != certificate)
    return Registry(certificate, tuple(urls)[:MAX_URLS], first.role, tuple(others))
