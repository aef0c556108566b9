"""Mistakes in relating: a sentence that says what to do, and no trust until it is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jubilant
import pytest

from support.fleet import Fleet, has_relations


@pytest.fixture(scope="module")
def pair(new_model: Callable[[], jubilant.Juju], charms: dict[str, Path]) -> Fleet:
    """A registry and one site, not related."""
    fleet = Fleet(new_model(), charms)
    fleet.juju.deploy(charms["aar"], "aar")
    fleet.juju.deploy(charms["ams"], "ams")
    fleet.settle()
    return fleet


def related(fleet: Fleet, *pairs: tuple[str, str]) -> None:
    for pair in pairs:
        fleet.juju.integrate(*pair)
    fleet.settle(active=False)


def unrelated(fleet: Fleet, *pairs: tuple[str, str]) -> None:
    for pair in pairs:
        fleet.juju.remove_relation(*pair)
    fleet.settle(lambda status: not has_relations(status, "ams"))


@pytest.mark.parametrize(
    ("pair_", "here", "there"),
    [
        (
            ("aar:client", "ams:registry-publisher"),
            "ams is related to client as publisher: remove that relation and relate it to "
            "publisher instead",
            "registry-publisher is related to the registry's endpoint for the other role: remove "
            "that relation and relate registry-client instead",
        ),
        (
            ("aar:publisher", "ams:registry-client"),
            "ams is related to publisher as client: remove that relation and relate it to client "
            "instead",
            "registry-client is related to the registry's endpoint for the other role: remove "
            "that relation and relate registry-publisher instead",
        ),
    ],
    ids=["publisher-as-client", "client-as-publisher"],
)
def test_the_wrong_pair(pair: Fleet, pair_: tuple[str, str], here: str, there: str) -> None:
    related(pair, pair_)
    assert pair.status_of("aar/0") == ("blocked", here)
    assert pair.status_of("ams/0") == ("blocked", there)
    assert pair.trusted() == {}
    assert pair.registry_of("ams/0") == ("", "", "pull")
    unrelated(pair, pair_)


def test_both_roles(pair: Fleet) -> None:
    client = ("aar:client", "ams:registry-client")
    publisher = ("aar:publisher", "ams:registry-publisher")
    related(pair, client, publisher)
    assert pair.status_of("ams/0") == (
        "blocked",
        "related as both client and publisher: remove one of registry-client, registry-publisher",
    )
    assert pair.trusted() == {}
    assert pair.registry_of("ams/0") == ("", "", "pull")

    pair.juju.remove_relation(*client)
    pair.settle()
    assert [role for role, _ in pair.trusted().values()] == ["publisher"]
    assert pair.registry_of("ams/0")[2] == "push"
    unrelated(pair, publisher)


def test_a_second_registry_in_the_application(pair: Fleet) -> None:
    """Each unit would hold a store of its own, so the later one says so and serves nobody."""
    related(pair, ("aar:client", "ams:registry-client"))
    url = pair.registry_of("ams/0")[0]
    pair.juju.add_unit("aar")
    pair.settle(lambda status: len(status.apps["aar"].units) == 2, active=False)
    assert pair.status_of("aar/1")[0] == "blocked"
    assert "aar/0 is the registry" in pair.status_of("aar/1")[1]
    assert pair.registry_of("ams/0")[0] == url
    pair.juju.remove_unit("aar/1")
    pair.settle(lambda status: len(status.apps["aar"].units) == 1)
    unrelated(pair, ("aar:client", "ams:registry-client"))
