"""Both sides of the relation under ops' own test double: what they write, and when.

What they read is in test_relation_reading.py; the rules are in tests/unit/test_interface_rules.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import ops
import pytest
from ops import testing

from aar_interface import Role
from aar_interface.databag import InvalidDatabag, ProviderData, RequirerData
from aar_interface.relation import (
    CLIENT,
    INTERFACE,
    PUBLISHER,
    REGISTRY_CLIENT,
    REGISTRY_PUBLISHER,
    Grant,
    Registry,
    RegistryProvider,
    RegistryRequirer,
)
from support.relations import (
    ARCHITECTURE,
    EVENTS,
    PORT,
    REGISTRY,
    REMOTE,
    A,
    B,
    Provider,
    Requirer,
    Side,
    at,
    context,
    juju,
    relation,
    seen,
    state,
    wanted,
    written,
)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    """Everything that would be handed to Juju's relation-set, in order."""
    seen: list[dict[str, str]] = []
    backend = ops.model._ModelBackend
    real = backend.update_relation_data

    def update(self: Any, *args: Any, data: Mapping[str, str], **more: Any) -> None:
        seen.append(dict(data))
        real(self, *args, data=data, **more)

    monkeypatch.setattr(backend, "update_relation_data", update)
    yield seen
    for bag in seen:
        assert bag, "an empty write is a process for nothing"


class TestProviderPublishes:
    def test_who_and_where_it_is_in_the_role_of_each_endpoint(self) -> None:
        ctx = context(Provider)
        networks = {
            testing.Network(CLIENT, ingress_addresses=["10.0.0.1"]),
            testing.Network(PUBLISHER, ingress_addresses=["fd00::2"]),
        }
        before = state(
            relation(CLIENT, {}, number=1),
            relation(CLIENT, {0: RequirerData(A)}, number=2, remote=REMOTE),
            relation(PUBLISHER, {}, number=3),
            networks=networks,
        )
        after = ctx.run(ctx.on.update_status(), before)
        client = ProviderData.at(REGISTRY, "10.0.0.1", PORT, Role.CLIENT)
        assert written(after, 1) == written(after, 2) == client.write()
        assert written(after, 3) == {
            "certificate": REGISTRY.pem,
            "fingerprint": str(REGISTRY.fingerprint),
            "ip": "fd00::2",
            "port": "3000",
            "role": "publisher",
            "url": "https://[fd00::2]:3000",
        }
        assert all(r.local_unit_data.keys() > juju(0).keys() for r in after.relations)
        assert not any(r.local_app_data for r in after.relations if hasattr(r, "local_app_data"))

    def test_not_where_it_is_while_juju_does_not_know(self) -> None:
        ctx = context(Provider)
        before = state(
            relation(CLIENT, {}), networks={testing.Network(CLIENT, ingress_addresses=[])}
        )
        bag = written(ctx.run(ctx.on.update_status(), before), 1)
        assert list(bag) == ["certificate", "fingerprint", "port", "role"]

    def test_only_what_differs(self, writes: list[dict[str, str]]) -> None:
        ctx = context(Provider)
        before = state(relation(CLIENT, {0: RequirerData(A)}), relation(PUBLISHER, {}, number=2))
        first = ctx.run(ctx.on.update_status(), before)
        assert [sorted(bag) for bag in writes] == [
            ["certificate", "fingerprint", "ip", "port", "role", "url"]
        ] * 2
        writes.clear()
        second = ctx.run(ctx.on.update_status(), first)
        assert not writes
        assert second.relations == first.relations
        moved = {
            testing.Network(name, ingress_addresses=["10.0.0.7"]) for name in (CLIENT, PUBLISHER)
        }
        after = ctx.run(ctx.on.update_status(), state(*second.relations, networks=moved))
        assert writes == [{"ip": "10.0.0.7", "url": "https://10.0.0.7:3000"}] * 2
        assert written(after, 2)["url"] == "https://10.0.0.7:3000"

    def test_what_is_left_of_another_release_is_set_right(self) -> None:
        """A field that we know and no longer say goes; what others put there stays."""
        ctx = context(Provider)
        ours = {"fingerprint": "of the PEM", "url": "https://old:1", "nagios": "x", **juju(0)}
        before = state(
            relation(CLIENT, {}, ours=ours),
            networks={testing.Network(CLIENT, ingress_addresses=[])},
        )
        bag = written(ctx.run(ctx.on.update_status(), before), 1)
        assert "url" not in bag
        assert bag["nagios"] == "x"
        assert bag["fingerprint"] == str(REGISTRY.fingerprint)

    def test_nothing_at_all_when_an_address_is_wrong(self, writes: list[dict[str, str]]) -> None:
        ctx = context(Provider)
        relations = (relation(CLIENT, {}), relation(PUBLISHER, {}, number=2))
        with ctx(ctx.on.update_status(), state(*relations)) as manager:
            assert isinstance(manager.charm, Provider)
            with pytest.raises(InvalidDatabag, match=r"^ip: 'a b' is not an IP address"):
                manager.charm.side.publish(
                    REGISTRY, lambda r: ("a b" if r.name == PUBLISHER else "10.0.0.1", PORT)
                )
            assert not writes


class TestRequirerPublishes:
    def test_who_it_is_in_the_role_of_each_endpoint(self, writes: list[dict[str, str]]) -> None:
        ctx = context(Requirer)
        before = state(
            relation(REGISTRY_CLIENT, {}, number=1),
            relation(REGISTRY_PUBLISHER, {0: ProviderData(REGISTRY)}, number=2),
        )
        after = ctx.run(ctx.on.update_status(), before)
        assert written(after, 1) == RequirerData(A, Role.CLIENT, ARCHITECTURE).write()
        assert written(after, 2) == RequirerData(A, Role.PUBLISHER, ARCHITECTURE).write()
        assert len(writes) == 2
        writes.clear()
        assert ctx.run(ctx.on.update_status(), after).relations == after.relations
        assert not writes

    def test_a_new_certificate_alone(self, writes: list[dict[str, str]]) -> None:
        ctx = context(Requirer)
        ours = {**juju(0), **RequirerData(B, Role.CLIENT, ARCHITECTURE).write()}
        ctx.run(ctx.on.update_status(), state(relation(REGISTRY_CLIENT, {}, ours=ours)))
        assert writes == [{"certificate": A.pem}]

    def test_nothing_that_is_no_architecture(self, writes: list[dict[str, str]]) -> None:
        ctx = context(Requirer)
        with ctx(ctx.on.update_status(), state(relation(REGISTRY_CLIENT, {}))) as manager:
            assert isinstance(manager.charm, Requirer)
            with pytest.raises(InvalidDatabag, match=r"^architecture: 'x86_64' is not one"):
                manager.charm.side.publish(A, "x86_64")
            assert not writes


class TestBothSides:
    SIDES = ((Provider, CLIENT, PUBLISHER), (Requirer, REGISTRY_CLIENT, REGISTRY_PUBLISHER))

    @pytest.mark.parametrize(("kind", "one", "two"), SIDES)
    def test_withdraw_takes_back_what_was_published_and_no_more(
        self, kind: type[Side], one: str, two: str, writes: list[dict[str, str]]
    ) -> None:
        ctx = context(kind)
        foreign = {"nagios": "x", **juju(0)}
        before = state(relation(one, {}, ours=foreign), relation(two, {}, number=2, ours=foreign))
        published = ctx.run(ctx.on.update_status(), before)
        assert len(written(published, 1)) > 1
        writes.clear()
        withdrawing = state(*published.relations, config={"withdraw": True})
        after = ctx.run(ctx.on.config_changed(), withdrawing)
        assert written(after, 1) == written(after, 2) == {"nagios": "x"}
        assert len(writes) == 2
        writes.clear()
        again = state(*after.relations, config={"withdraw": True})
        assert ctx.run(ctx.on.config_changed(), again).relations == after.relations
        assert not writes

    @pytest.mark.parametrize(("kind", "one", "two"), SIDES)
    @pytest.mark.parametrize("leader", [True, False])
    @pytest.mark.parametrize("name", EVENTS)
    def test_every_hook_of_a_relation_publishes_except_the_last(
        self, kind: type[Side], one: str, two: str, leader: bool, name: str
    ) -> None:
        ctx = context(kind)
        going, staying = relation(one, {0: {}}), relation(two, {0: {}}, number=2)
        event = getattr(ctx.on, f"relation_{name}")(going)
        after = ctx.run(event, state(going, staying, leader=leader))
        assert bool(written(after, 1)) is (name != "broken")
        assert written(after, 2)

    @pytest.mark.parametrize(("kind", "one", "two"), SIDES)
    def test_a_charm_without_relations(self, kind: type[Side], one: str, two: str) -> None:
        ctx = context(kind)
        for withdraw in (False, True):
            after = ctx.run(ctx.on.config_changed(), state(config={"withdraw": withdraw}))
            assert not after.relations
        assert set(kind.ENDPOINTS) == {one, two}

    def test_endpoints_of_other_names(self) -> None:
        class Mirror(ops.CharmBase):
            def __init__(self, framework: ops.Framework) -> None:
                super().__init__(framework)
                self.up = RegistryRequirer(self, {"upstream": Role.PUBLISHER})
                self.down = RegistryProvider(self, {"readers": Role.CLIENT})

        ctx = testing.Context(
            Mirror,
            meta={
                "name": "mirror",
                "requires": {"upstream": {"interface": INTERFACE}},
                "provides": {"readers": {"interface": INTERFACE}},
            },
        )
        relations = (
            relation("upstream", {0: at("registry", "10.0.0.1")}, number=1),
            relation("readers", {0: RequirerData(A, Role.CLIENT)}, number=2),
        )
        with ctx(ctx.on.update_status(), state(*relations)) as manager:
            registry = manager.charm.up.registry()
            assert registry
            assert (registry.certificate, registry.role) == (REGISTRY, Role.PUBLISHER)
            (grant,) = manager.charm.down.wanted().grants
            assert (grant.role, grant.origin) == (Role.CLIENT, "readers:2")

    def test_what_one_side_writes_the_other_reads(self) -> None:
        """A hook on either side, twice over: both know all that they need."""
        provider, requirer = context(Provider), context(Requirer)
        ours: dict[str, str] = juju(0)
        theirs: dict[str, str] = juju(1)
        for _ in range(2):
            there = relation(PUBLISHER, {0: theirs}, number=8, remote=REMOTE, ours=ours)
            out = provider.run(provider.on.update_status(), state(there))
            ours = dict(out.get_relation(8).local_unit_data)
            here = relation(REGISTRY_PUBLISHER, {0: ours}, number=3, ours=theirs)
            out = requirer.run(requirer.on.update_status(), state(here))
            theirs = dict(out.get_relation(3).local_unit_data)
        (grant,) = wanted(relation(PUBLISHER, {0: theirs}, number=8, remote=REMOTE)).grants
        assert grant == Grant(A, Role.PUBLISHER, "publisher:8", (f"{REMOTE}/0",), (ARCHITECTURE,))
        assert seen(relation(REGISTRY_PUBLISHER, {0: ours})).registry == Registry(
            REGISTRY, ("https://192.0.2.0:3000",), Role.PUBLISHER
        )
