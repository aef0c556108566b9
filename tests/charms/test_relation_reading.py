"""Both sides of the relation under ops' own test double: which relations and units count.

The rules themselves are tested in tests/unit/test_interface_rules.py; here is what Juju adds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import ops
import pytest
from ops import testing

from aar_interface import Role
from aar_interface.databag import ProviderData, RequirerData
from aar_interface.relation import (
    CLIENT,
    INTERFACE,
    PUBLISHER,
    REGISTRY_CLIENT,
    REGISTRY_PUBLISHER,
    Fault,
    Grant,
    Registry,
    Wanted,
    WrongPair,
)
from support.databags import certificate
from support.relations import (
    REGISTRY,
    REMOTE,
    A,
    B,
    Provider,
    at,
    context,
    juju,
    relation,
    seen,
    state,
    wanted,
    written,
)


def client(name: str = "a") -> RequirerData:
    return RequirerData(certificate(name), Role.CLIENT, "amd64")


class TestWanted:
    def test_nothing_before_anybody_speaks(self) -> None:
        assert wanted() == Wanted()
        assert wanted(relation(CLIENT, {})) == Wanted()
        assert wanted(relation(CLIENT, {0: juju(0), 1: {}})) == Wanted()

    def test_units_are_taken_by_number(self) -> None:
        units = {10: client(), 9: client(), 2: client("b"), 0: RequirerData()}
        assert wanted(relation(CLIENT, units, remote="ams")).grants == (
            Grant(B, Role.CLIENT, "client:1", ("ams/2",)),
            Grant(A, Role.CLIENT, "client:1", ("ams/9", "ams/10")),
        )

    def test_several_units_and_models_with_one_certificate(self) -> None:
        """The reference's charm fails when one certificate appears twice."""
        found = wanted(
            relation(CLIENT, {0: client(), 1: client()}, number=7, remote=REMOTE),
            relation(CLIENT, {0: client()}, number=4, remote="ams"),
        )
        assert found == Wanted(
            (Grant(A, Role.CLIENT, "client:4", ("ams/0", f"{REMOTE}/0", f"{REMOTE}/1")),)
        )

    def test_the_role_is_never_the_remote_sides(self) -> None:
        """`mode: publisher` on our client endpoint grants nothing, least of all writing."""
        found = wanted(
            relation(CLIENT, {0: RequirerData(A, Role.PUBLISHER), 1: RequirerData(B)}, number=5)
        )
        assert found == Wanted(
            (Grant(B, Role.CLIENT, "client:5", ("other/1",)),),
            (WrongPair("other", Role.PUBLISHER, CLIENT, "client:5", ("other/0",)),),
        )

    def test_the_fields_of_the_other_side_of_the_interface_give_nothing(self) -> None:
        bag = {"certificate": A.pem, "role": "publisher", "roles": "publisher", "admin": "true"}
        (grant,) = wanted(relation(CLIENT, {0: bag})).grants
        assert grant.role is Role.CLIENT

    def test_both_roles(self) -> None:
        found = wanted(
            relation(PUBLISHER, {0: RequirerData(A, Role.PUBLISHER)}, number=1, remote=REMOTE),
            relation(CLIENT, {0: client(), 1: client("b")}, number=2, remote="ams"),
        )
        assert found == Wanted(
            (Grant(B, Role.CLIENT, "client:2", ("ams/1",)),), both_roles=("ams", REMOTE)
        )

    def test_a_bad_databag_is_that_units_fault_alone(self) -> None:
        units = {0: {"certificate": "x"}, 1: client(), 2: {"mode": "admin", "certificate": B.pem}}
        found = wanted(relation(CLIENT, units, remote="ams"))
        assert [grant.units for grant in found.grants] == [("ams/1",)]
        assert found.faults == (
            Fault("ams/0", "certificate: this is not an X.509 certificate"),
            Fault("ams/2", "mode: 'admin' is not client or publisher"),
        )

    def test_a_relation_that_breaks_does_not_count(self) -> None:
        going = relation(CLIENT, {}, number=1)
        staying = relation(CLIENT, {0: client("b")}, number=2)
        found = wanted(going, staying, event=lambda ctx: ctx.on.relation_broken(going))
        assert [grant.origin for grant in found.grants] == ["client:2"]

    def test_a_relation_that_is_gone_does_not_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Juju may still list it, while nothing more can be known of it."""
        ctx = context(Provider)
        with ctx(ctx.on.update_status(), state()) as manager:
            backend = type(manager.charm.model._backend)
        real = backend.relation_list

        def relation_list(self: Any, number: int, **more: Any) -> list[str]:
            if number == 1:
                raise ops.model.RelationNotFoundError
            return real(self, number, **more)

        monkeypatch.setattr(backend, "relation_list", relation_list)
        gone = relation(CLIENT, {0: client("a")}, number=1)
        staying = relation(CLIENT, {0: client("b")}, number=2)
        assert [grant.origin for grant in wanted(gone, staying).grants] == ["client:2"]
        after = ctx.run(ctx.on.update_status(), state(gone, staying))
        assert not written(after, 1)
        assert written(after, 2)

    def test_a_breaking_relation_ends_both_roles(self) -> None:
        going = relation(PUBLISHER, {0: RequirerData(A, Role.PUBLISHER)}, number=1)
        staying = relation(CLIENT, {0: client()}, number=2)
        assert wanted(going, staying).both_roles == ("other",)
        found = wanted(going, staying, event=lambda ctx: ctx.on.relation_broken(going))
        assert found == Wanted((Grant(A, Role.CLIENT, "client:2", ("other/0",)),))

    def test_a_unit_that_departs_does_not_count(self) -> None:
        """Juju no longer lists it, though its databag can still be read."""
        left = relation(CLIENT, {1: client("b")}, remote="ams")
        found = wanted(left, event=lambda ctx: ctx.on.relation_departed(left, remote_unit=0))
        assert [grant.units for grant in found.grants] == [("ams/1",)]

    def test_a_new_certificate_takes_the_place_of_the_old(self) -> None:
        before, after = ({0: client(name)} for name in "ab")
        assert [g.certificate for g in wanted(relation(CLIENT, before)).grants] == [A]
        assert [g.certificate for g in wanted(relation(CLIENT, after)).grants] == [B]


def permuted(parts: list[testing.Relation]) -> Iterator[tuple[testing.Relation, ...]]:
    """The same relations in every order, each with its units in two orders."""
    for order in itertools.permutations(parts):
        yield order
        yield tuple(
            testing.Relation(
                r.endpoint,
                INTERFACE,
                id=r.id,
                remote_app_name=r.remote_app_name,
                remote_units_data=dict(sorted(r.remote_units_data.items(), reverse=True)),
                local_unit_data=r.local_unit_data,
            )
            for r in order
        )


def test_no_order_of_relations_or_units_changes_what_is_wanted() -> None:
    parts = [
        relation(CLIENT, {0: client(), 1: client("b"), 2: {"mode": "x"}}, number=1),
        relation(CLIENT, {0: client("c"), 1: client("c")}, number=2, remote=REMOTE),
        relation(PUBLISHER, {0: RequirerData(B), 1: RequirerData(A, Role.CLIENT)}, number=3),
    ]
    found = {wanted(*order) for order in permuted(parts)}
    assert len(found) == 1


class TestRegistry:
    def test_waiting(self) -> None:
        assert seen().registry is None
        assert seen().related == ()
        for units in ({}, {0: {}}, {0: juju(0)}, {0: ProviderData(REGISTRY)}):
            now = seen(relation(REGISTRY_CLIENT, units))
            assert now.registry is None
            assert now.related == (REGISTRY_CLIENT,)
            assert (now.conflict, now.wrong_pair, now.faults) == (False, None, ())

    @pytest.mark.parametrize(
        ("endpoint", "role"),
        [(REGISTRY_CLIENT, Role.CLIENT), (REGISTRY_PUBLISHER, Role.PUBLISHER)],
    )
    def test_the_role_is_our_endpoints(self, endpoint: str, role: Role) -> None:
        for said in (None, role):
            now = seen(relation(endpoint, {0: at("registry", "10.0.0.1", said)}))
            assert now.registry == Registry(REGISTRY, ("https://10.0.0.1:3000",), role)
            assert now.related == (endpoint,)

    def test_the_lowest_unit_decides_and_its_like_add_urls(self) -> None:
        units = {
            10: at("a", "10.0.0.10"),
            9: at("b", "10.0.0.9"),
            2: at("a", "10.0.0.2"),
            1: ProviderData(B),
        }
        now = seen(relation(REGISTRY_CLIENT, units, remote="aar"))
        assert now.registry == Registry(
            A, ("https://10.0.0.2:3000", "https://10.0.0.10:3000"), Role.CLIENT, ("aar/9",)
        )

    def test_the_oldest_of_several_registries_stays(self) -> None:
        now = seen(
            relation(REGISTRY_CLIENT, {0: at("b", "10.0.0.2")}, number=4, remote="a-registry"),
            relation(REGISTRY_CLIENT, {3: at("a", "10.0.0.1")}, number=2, remote="z-registry"),
        )
        assert now.registry == Registry(
            A, ("https://10.0.0.1:3000",), Role.CLIENT, ("a-registry/0",)
        )

    def test_both_endpoints_are_a_conflict(self) -> None:
        one = relation(REGISTRY_CLIENT, {0: at("a", "10.0.0.1")}, number=1)
        two = relation(REGISTRY_PUBLISHER, {}, number=2)
        now = seen(two, one)
        assert (now.conflict, now.registry) == (True, None)
        assert now.related == (REGISTRY_CLIENT, REGISTRY_PUBLISHER)
        after = seen(one, two, event=lambda ctx: ctx.on.relation_broken(two))
        assert (after.conflict, after.related) == (False, (REGISTRY_CLIENT,))
        assert after.registry
        assert after.registry.role is Role.CLIENT

    @pytest.mark.parametrize(
        ("endpoint", "role"),
        [(REGISTRY_CLIENT, Role.PUBLISHER), (REGISTRY_PUBLISHER, Role.CLIENT)],
    )
    def test_a_wrong_pair(self, endpoint: str, role: Role) -> None:
        """Noticed as soon as the role is said, and not used even when all is there."""
        for said in (ProviderData(role=role), at("a", "10.0.0.1", role)):
            now = seen(relation(endpoint, {0: said}))
            assert (now.wrong_pair, now.registry) == (endpoint, None)

    def test_a_bad_databag_is_that_units_fault_alone(self) -> None:
        bad = {"certificate": B.pem, "url": "https://10.0.0.1:3000,https://evil.example"}
        now = seen(relation(REGISTRY_CLIENT, {0: bad, 1: at("a", "10.0.0.2")}, remote="aar"))
        assert now.registry == Registry(A, ("https://10.0.0.2:3000",), Role.CLIENT)
        (fault,) = now.faults
        assert fault.unit == "aar/0"
        assert fault.message.startswith("url: 'https://10.0.0.1:3000,https://evil.example' is not")

    def test_it_goes_with_its_relation_and_its_units(self) -> None:
        going = relation(REGISTRY_CLIENT, {0: at("a", "10.0.0.1")})
        broken = seen(going, event=lambda ctx: ctx.on.relation_broken(going))
        assert (broken.registry, broken.related) == (None, ())
        left = relation(REGISTRY_CLIENT, {1: at("a", "10.0.0.2")})
        now = seen(left, event=lambda ctx: ctx.on.relation_departed(left, remote_unit=0))
        assert now.registry == Registry(A, ("https://10.0.0.2:3000",), Role.CLIENT)

    def test_rotation_and_a_new_address_converge(self) -> None:
        """Half-way, the lowest unit decides; in the end all agree again."""
        steps: list[dict[int, ProviderData]] = [
            {0: at("a", "10.0.0.1"), 1: at("a", "10.0.0.2")},
            {0: at("b", "10.0.0.1"), 1: at("a", "10.0.0.2")},
            {0: at("b", "10.0.0.1"), 1: at("b", "10.0.0.2")},
            {0: at("b", "10.0.0.7"), 1: at("b", "10.0.0.2")},
        ]
        found = [seen(relation(REGISTRY_CLIENT, step, remote="aar")).registry for step in steps]
        first, second = "https://10.0.0.1:3000", "https://10.0.0.2:3000"
        assert found == [
            Registry(A, (first, second), Role.CLIENT),
            Registry(B, (first,), Role.CLIENT, ("aar/1",)),
            Registry(B, (first, second), Role.CLIENT),
            Registry(B, ("https://10.0.0.7:3000", second), Role.CLIENT),
        ]

    def test_what_juju_says_of_addresses_is_not_read(self) -> None:
        bag = {**juju(0), "certificate": A.pem, "port": "3000"}
        assert seen(relation(REGISTRY_CLIENT, {0: bag})).registry is None


def test_no_order_of_relations_or_units_changes_the_registry() -> None:
    parts = [
        relation(REGISTRY_CLIENT, {0: ProviderData(A), 1: at("b", "10.0.0.1")}, number=1),
        relation(REGISTRY_CLIENT, {9: at("a", "10.0.0.2"), 10: at("b", "10.0.0.3")}, number=2),
        relation(REGISTRY_CLIENT, {0: {"url": "x"}, 1: at("b", "10.0.0.4")}, number=3),
    ]
    found = {seen(*order) for order in permuted(parts)}
    (now,) = found
    assert now.registry
    assert now.registry.urls == tuple(f"https://10.0.0.{n}:3000" for n in (1, 3, 4))
