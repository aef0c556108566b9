"""How a unit is to run, alone or on shared engines: the whole table."""

from __future__ import annotations

import itertools

import pytest

from shared_engines import (
    DATABASE,
    OBJECT_STORAGE,
    Database,
    Engines,
    ObjectStorage,
    Store,
)
from sharing import Run, Situation, decide
from support.engine_databags import POSTGRESQL, S3_INTEGRATOR

BOTH = frozenset({DATABASE, OBJECT_STORAGE})
_DATABASE, _STORAGE = Database.read(POSTGRESQL), ObjectStorage.read(S3_INTEGRATOR)
assert _DATABASE
assert _STORAGE
ENGINES = Engines(_DATABASE, _STORAGE)
UNITS = frozenset({"aar/2", "aar/10"})


def at(unit: str = "aar/2", **more) -> Situation:
    known = {"units": UNITS, "leader": False, "store": Store.EMPTY}
    return Situation(unit=unit, **{**known, **more})


def ready(unit: str = "aar/2", **more) -> Situation:
    return at(unit, **{"related": BOTH, "engines": ENGINES, **more})


@pytest.mark.parametrize("store", [Store.EMPTY, Store.OWN])
def test_alone_the_first_unit_serves(store: Store) -> None:
    first, second = decide(at(store=store)), decide(at("aar/10", store=store))
    assert (first.run, first.blocked, first.waiting) == (Run.ALONE, "", "")
    assert second.run is Run.APART
    assert second.blocked == (
        "aar/2 is the registry: integrate database and object-storage, so that units share one, "
        "or remove this unit"
    )


@pytest.mark.parametrize("endpoint", sorted(BOTH))
def test_one_of_both_is_not_enough(endpoint: str) -> None:
    (other,) = BOTH - {endpoint}
    related = frozenset({endpoint})
    sentence = f"{endpoint} is related and {other} isn't: integrate {other} too"
    runs = {
        (Store.EMPTY, "aar/2"): Run.STOPPED,
        (Store.EMPTY, "aar/10"): Run.STOPPED,
        (Store.OWN, "aar/2"): Run.ALONE,
        (Store.OWN, "aar/10"): Run.APART,
    }
    for (store, unit), run in runs.items():
        found = decide(at(unit, store=store, related=related))
        assert (found.run, found.blocked) == (run, f"{sentence}, or remove {endpoint}")
    found = decide(at(store=Store.SHARED, related=related))
    assert (found.run, found.blocked) == (Run.STOPPED, f"{sentence}; nothing was deleted")


def test_gone_engines_leave_no_empty_registry_behind() -> None:
    for unit in UNITS:
        found = decide(at(unit, store=Store.SHARED, leader=unit == "aar/2"))
        assert found.run is Run.STOPPED
        assert "integrate database and object-storage again; nothing was deleted" in found.blocked


def test_while_providers_are_silent_nothing_changes() -> None:
    for store, run in [
        (Store.EMPTY, Run.STOPPED),
        (Store.OWN, Run.ALONE),
        (Store.SHARED, Run.SHARED),
    ]:
        found = decide(at(store=store, related=BOTH))
        assert (found.run, found.waiting) == (run, "waiting for database and object-storage")
        assert not found.blocked


def test_a_provider_that_cannot_be_understood_is_named() -> None:
    found = decide(at(related=BOTH, unusable={DATABASE: "endpoints: names no host"}))
    assert found.run is Run.STOPPED
    assert found.blocked == "database sent no usable endpoints: names no host"


@pytest.mark.parametrize("leader", [True, False])
def test_data_of_its_own_are_never_left_behind(leader: bool) -> None:
    found = decide(ready(store=Store.OWN, leader=leader, certificate=True))
    assert found.run is Run.ALONE
    assert found.blocked.endswith("juju run aar/2 migrate moves them there")


def test_the_leader_goes_first_once_all_have_said_that_they_hold_nothing() -> None:
    waiting = {
        "": "waiting for aar/10 to say whether it has data",
        "own": "waiting for aar/10, whose data must be moved",
    }
    for said, sentence in waiting.items():
        found = decide(ready(leader=True, told={"aar/10": said}))
        assert (found.run, found.waiting) == (Run.STOPPED, sentence)
    for said in ("empty", "shared"):
        found = decide(ready(leader=True, told={"aar/10": said}))
        assert (found.run, found.waiting, found.blocked) == (Run.SHARED, "", "")
    # Once the state is shared, a unit that is new has nothing to say.
    assert decide(ready(leader=True, certificate=True, told={"aar/10": ""})).run is Run.SHARED
    told = {"aar/10": "shared", "aar/11": ""}
    assert decide(ready(leader=True, told=told)).run is Run.SHARED


def test_the_others_follow_with_the_shared_certificate() -> None:
    found = decide(ready("aar/10"))
    assert (found.run, found.waiting) == (Run.STOPPED, "waiting for the shared certificate")
    found = decide(ready("aar/10", certificate=True))
    assert (found.run, found.waiting, found.blocked) == (Run.SHARED, "", "")
    found = decide(ready("aar/10", store=Store.SHARED))  # one whose data were just moved
    assert (found.run, found.waiting) == (Run.SHARED, "waiting for the shared certificate")
    assert decide(ready("aar/10", store=Store.SHARED, leader=True)).waiting == ""


def test_of_all_situations_none_loses_data() -> None:
    """Own data are never exchanged for other, shared ones never for an empty store."""
    relations = (frozenset(), frozenset({DATABASE}), frozenset({OBJECT_STORAGE}), BOTH)
    said = ({}, {"aar/10": ""}, {"aar/10": "own"}, {"aar/10": "shared"})
    for store, related, leader, certificate, engines, told, unit in itertools.product(
        Store, relations, (True, False), (True, False), (ENGINES, None), said, sorted(UNITS)
    ):
        found = decide(
            at(
                unit,
                store=store,
                related=related,
                leader=leader,
                certificate=certificate,
                engines=engines if related == BOTH else None,
                told=told,
            )
        )
        if store is Store.OWN:
            assert found.run in (Run.ALONE, Run.APART)
        if store is Store.SHARED:
            assert found.run in (Run.SHARED, Run.STOPPED)
        if found.run is Run.SHARED:
            assert related == BOTH
        if found.run is Run.STOPPED:
            assert found.blocked or found.waiting
