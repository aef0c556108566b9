"""Whom to trust and which registry to use, from what the units of a relation say."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aar_interface import Role
from aar_interface.databag import ProviderData, RequirerData
from aar_interface.rules import (
    MAX_URLS,
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
from support.databags import certificate

A, B = certificate("a"), certificate("b")
CLIENT, PUBLISHER = Role.CLIENT, Role.PUBLISHER


def member(
    unit: str,
    role: Role,
    data: RequirerData,
    relation: int = 1,
) -> Member:
    return Member(unit, f"{role}:{relation}", role, data)


class TestTrustWanted:
    def test_nothing_wants_nothing(self) -> None:
        assert trust_wanted([]) == Wanted()

    def test_each_certificate_gets_its_endpoints_role(self) -> None:
        wanted = trust_wanted(
            [
                member("site/0", CLIENT, RequirerData(A, CLIENT, "arm64"), 3),
                member("vendor/0", PUBLISHER, RequirerData(B, PUBLISHER, "amd64"), 4),
            ]
        )
        assert wanted == Wanted(
            (
                Grant(A, CLIENT, "client:3", ("site/0",)),
                Grant(B, PUBLISHER, "publisher:4", ("vendor/0",), ("amd64",)),
            )
        )

    def test_who_has_not_spoken_is_not_mentioned(self) -> None:
        said = [RequirerData(), RequirerData(mode=CLIENT), RequirerData(architecture="amd64")]
        assert trust_wanted(member("a/0", CLIENT, data) for data in said) == Wanted()

    def test_a_side_that_says_no_mode_gets_our_role(self) -> None:
        (grant,) = trust_wanted([member("a/0", PUBLISHER, RequirerData(A))]).grants
        assert grant.role is PUBLISHER

    def test_one_certificate_of_several_units_and_relations_is_one_grant(self) -> None:
        data = RequirerData(A, CLIENT)
        wanted = trust_wanted(
            [
                member("a/0", CLIENT, data, 2),
                member("a/1", CLIENT, data, 2),
                member("b/0", CLIENT, RequirerData(B), 2),
                member("c/0", CLIENT, data, 5),
                member("a/0", CLIENT, data, 5),
            ]
        )
        assert wanted.grants == (
            Grant(A, CLIENT, "client:2", ("a/0", "a/1", "c/0")),
            Grant(B, CLIENT, "client:2", ("b/0",)),
        )

    def test_a_wrong_pair_gets_nothing(self) -> None:
        """Also before it shows a certificate; the relation is named once for all its units."""
        wanted = trust_wanted(
            [
                member("a/0", PUBLISHER, RequirerData(A, CLIENT), 7),
                member("a/1", PUBLISHER, RequirerData(None, CLIENT), 7),
                member("a/2", PUBLISHER, RequirerData(B, PUBLISHER), 7),
            ]
        )
        assert wanted == Wanted(
            (Grant(B, PUBLISHER, "publisher:7", ("a/2",)),),
            (WrongPair("a", CLIENT, "publisher", "publisher:7", ("a/0", "a/1")),),
        )

    def test_a_certificate_in_both_roles_gets_neither(self) -> None:
        wanted = trust_wanted(
            [
                member("z/0", CLIENT, RequirerData(A, CLIENT), 1),
                member("c/0", CLIENT, RequirerData(B, CLIENT), 2),
                member("a/0", PUBLISHER, RequirerData(A, PUBLISHER), 3),
            ]
        )
        assert wanted == Wanted((Grant(B, CLIENT, "client:2", ("c/0",)),), both_roles=("a", "z"))

    def test_a_wrong_pair_does_not_spoil_the_right_one(self) -> None:
        wanted = trust_wanted(
            [
                member("a/0", CLIENT, RequirerData(A, CLIENT)),
                member("a/0", PUBLISHER, RequirerData(A, CLIENT)),
            ]
        )
        assert [grant.role for grant in wanted.grants] == [CLIENT]
        assert not wanted.both_roles

    @pytest.mark.parametrize(
        ("named", "limits"),
        [
            (["amd64"], ("amd64",)),
            (["arm64", "amd64", "arm64"], ("amd64", "arm64")),
            (["amd64", ""], ()),
            ([""], ()),
        ],
    )
    def test_architectures_limit_when_every_unit_names_one(
        self, named: list[str], limits: tuple[str, ...]
    ) -> None:
        members = [
            member(f"a/{number}", PUBLISHER, RequirerData(A, architecture=name))
            for number, name in enumerate(named)
        ]
        assert trust_wanted(members).grants[0].architectures == limits

    def test_faults_are_told_once(self) -> None:
        fault = Fault("a/0", "certificate: this is not an X.509 certificate")
        assert trust_wanted([], [fault, fault]).faults == (fault,)


def offer(unit: str, data: ProviderData, role: Role = CLIENT) -> Offer:
    return Offer(unit, f"registry-{role}", role, data)


def at(name: str, host: str, role: Role | None = None) -> ProviderData:
    return ProviderData(certificate(name), host, 3000, "", role)


class TestRegistryToUse:
    @pytest.mark.parametrize(
        "data",
        [
            ProviderData(),
            ProviderData(A),
            ProviderData(A, "10.0.0.1"),
            ProviderData(None, "10.0.0.1", 3000, "https://10.0.0.1:3000"),
        ],
    )
    def test_half_an_offer_is_none(self, data: ProviderData) -> None:
        assert registry_to_use([]) is None
        assert registry_to_use([offer("aar/0", data)]) is None
        whole = offer("aar/1", at("b", "10.0.0.2"))
        assert registry_to_use([offer("aar/0", data), whole]) == Registry(
            B, ("https://10.0.0.2:3000",), CLIENT
        )

    def test_units_of_one_registry_add_their_urls(self) -> None:
        offers = [
            offer("aar/0", at("a", "10.0.0.1", PUBLISHER), PUBLISHER),
            offer("aar/1", at("b", "10.0.0.2"), PUBLISHER),
            offer("aar/2", at("a", "10.0.0.3"), PUBLISHER),
            offer("aar/3", at("a", "10.0.0.1"), PUBLISHER),
            offer("aar/3", at("b", "10.0.0.4"), PUBLISHER),
            offer("aar/3", at("b", "10.0.0.5"), PUBLISHER),
        ]
        assert registry_to_use(offers) == Registry(
            A, ("https://10.0.0.1:3000", "https://10.0.0.3:3000"), PUBLISHER, ("aar/1", "aar/3")
        )

    def test_a_wrong_pair_does_not_count(self) -> None:
        wrong = offer("aar/0", at("a", "10.0.0.1", PUBLISHER))
        assert wrong.mispaired
        assert registry_to_use([wrong]) is None
        right = offer("other/0", at("b", "10.0.0.2", CLIENT))
        registry = registry_to_use([wrong, right])
        assert registry
        assert (registry.certificate, registry.others) == (B, ())

    def test_not_more_urls_than_the_option_takes(self) -> None:
        offers = [offer(f"aar/{n}", at("a", f"10.0.0.{n}")) for n in range(MAX_URLS + 5)]
        registry = registry_to_use(offers)
        assert registry
        assert registry.urls == tuple(f"https://10.0.0.{n}:3000" for n in range(MAX_URLS))

    def test_the_longest_urls_fit_the_option(self) -> None:
        """Whatever a provider says, setting `registry.url` to it is no error."""
        from ams.options import OPTIONS  # noqa: PLC0415

        host = ".".join(["a" * 61] * 4)
        offers = [
            offer(f"aar/{n}", ProviderData.at(A, f"{n}.{host}", 65535, CLIENT))
            for n in range(MAX_URLS)
        ]
        registry = registry_to_use(offers)
        assert registry
        option = OPTIONS["registry.url"]
        assert option.parse(",".join(registry.urls)) == registry.urls


DATA = st.builds(
    RequirerData,
    certificate=st.sampled_from([A, B, None]),
    mode=st.sampled_from([*Role, None]),
    architecture=st.sampled_from(["", "amd64"]),
)
MEMBERS = st.lists(
    st.builds(
        member,
        st.sampled_from(["a/0", "a/1", "b/0"]),
        st.sampled_from(Role),
        DATA,
        st.integers(1, 3),
    ),
    max_size=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MEMBERS)
def test_no_trust_but_what_an_endpoint_stands_for(members: list[Member]) -> None:
    """Whatever the remote sides say: a role is that of our endpoint, or nothing is granted."""
    wanted = trust_wanted(members)
    assert len({grant.certificate for grant in wanted.grants}) == len(wanted.grants)
    for grant in wanted.grants:
        shown = [m for m in members if m.data.certificate == grant.certificate]
        agreeing = [m for m in shown if m.data.mode in (None, m.role)]
        assert {m.role for m in agreeing} == {grant.role}
        assert {m.unit for m in agreeing} == set(grant.units)
