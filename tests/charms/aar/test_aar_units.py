"""Several units on shared engines: who goes first, what each may do, what a change leads to."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from fakes import FakeRegistry
from ops import testing
from test_aar_charm import BOTH, CLIENTS, GRANTED, PUBLISHER, fingerprint

import charm
from aar_interface import Certificate
from support.databags import certificate
from support.engine_databags import POSTGRESQL, S3_INTEGRATOR

USER = {"username": POSTGRESQL["username"], "password": POSTGRESQL["password"]}
CREDENTIALS = testing.Secret(USER, label="", owner=None)
KEYS = {"access-key": S3_INTEGRATOR["access-key"], "secret-key": S3_INTEGRATOR["secret-key"]}

DATABASE = testing.Relation(
    "database",
    id=20,
    remote_app_name="postgresql",
    remote_app_data={
        "database": "aar",
        "endpoints": "10.20.30.41:5432",
        "secret-user": CREDENTIALS.id,
    },
)
STORAGE = testing.Relation(
    "object-storage",
    id=21,
    remote_app_name="s3-integrator",
    remote_app_data={**S3_INTEGRATOR, "tls-ca-chain": ""},
)


def pair_of(name: str) -> str:
    """What the fake registry exports."""
    return f"key of {fingerprint(name)}\n{certificate(name).pem}"


SHARED_PAIR = testing.Secret({"pair": pair_of("shared")}, owner="app")
OTHERS = {1: {"kind": "empty"}, 2: {"kind": "empty"}}
NEW = testing.PeerRelation("peers", id=1, peers_data=OTHERS)
GIVEN = dataclasses.replace(
    NEW,
    local_app_data={
        "certificate-secret": SHARED_PAIR.id,
        "certificate-fingerprint": fingerprint("shared"),
    },
)
ALL = {DATABASE, STORAGE, CLIENTS, PUBLISHER}
MODEL = testing.Model(uuid="1a2b3c4d-0000-4000-8000-000000000000")
NAME = "aar-1a2b3c4d"


def state(peers: testing.PeerRelation, *, leader: bool, **more: Any) -> testing.State:
    shared = {SHARED_PAIR} if peers.local_app_data else set()
    known: dict[str, Any] = {
        "relations": {*ALL, peers},
        "secrets": {CREDENTIALS, *shared},
        "leader": leader,
        "planned_units": 3,
        "model": MODEL,
    }
    return testing.State(**{**known, **more})


LEADER, FOLLOWER = state(GIVEN, leader=True), state(GIVEN, leader=False)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    fake = FakeRegistry(certificate("registry"), certificate("renewed"))
    monkeypatch.setattr(charm, "Registry", lambda service: fake)
    return fake


@pytest.fixture
def context() -> testing.Context[charm.AarCharm]:
    return testing.Context(charm.AarCharm, app_name="aar", unit_id=0)


def advertised(out: testing.State) -> set[str]:
    bags = [out.get_relation(relation.id).local_unit_data for relation in (CLIENTS, PUBLISHER)]
    return {
        str(Certificate.parse(bag["certificate"]).fingerprint)
        for bag in bags
        if "certificate" in bag
    }


EVENTS = {
    "config-changed": lambda on: on.config_changed(),
    "update-status": lambda on: on.update_status(),
    "leader-elected": lambda on: on.leader_elected(),
    "secret-changed": lambda on: on.secret_changed(CREDENTIALS),
    "database-created": lambda on: on.relation_created(DATABASE),
    "database-changed": lambda on: on.relation_changed(DATABASE),
    "storage-changed": lambda on: on.relation_changed(STORAGE),
    "client-changed": lambda on: on.relation_changed(CLIENTS, remote_unit=1),
    "peers-changed": lambda on: on.relation_changed(GIVEN, remote_unit=1),
}


@pytest.mark.parametrize("leader", [True, False])
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_ends_in_the_same_state(
    event: str, leader: bool, context: testing.Context, registry: FakeRegistry
) -> None:
    out = context.run(EVENTS[event](context.on), LEADER if leader else FOLLOWER)
    assert out.unit_status == testing.ActiveStatus("")
    assert advertised(out) == {fingerprint("shared")}
    assert registry.running
    assert registry.engines
    assert registry.engines.database.password == USER["password"]
    assert registry.engines.storage.prefix == f"registry/{NAME}"
    assert registry.rows == (GRANTED if leader else {})
    again = context.run(context.on.update_status(), out)
    assert registry.restarts == 1
    assert again.relations == out.relations


def test_what_is_asked_of_the_providers(context: testing.Context, registry: FakeRegistry) -> None:
    out = context.run(context.on.relation_created(DATABASE), LEADER)
    asked = out.get_relation(DATABASE.id).local_app_data
    assert asked["database"] == NAME
    assert json.loads(asked["requested-secrets"]) == ["username", "password", "tls", "tls-ca"]
    asked = out.get_relation(STORAGE.id).local_app_data
    assert asked["bucket"] == NAME
    assert json.loads(asked["requested-secrets"]) == ["access-key", "secret-key"]
    out = context.run(context.on.relation_created(DATABASE), FOLLOWER)
    assert not out.get_relation(DATABASE.id).local_app_data


def test_the_leader_shares_its_certificate_and_the_others_take_it(
    context: testing.Context, registry: FakeRegistry
) -> None:
    out = context.run(context.on.config_changed(), state(NEW, leader=True))
    assert advertised(out) == {fingerprint("registry")}
    told = out.get_relation(NEW.id).local_app_data
    assert told["certificate-fingerprint"] == fingerprint("registry")
    (secret,) = out.secrets - {CREDENTIALS}
    assert (secret.id, secret.owner) == (told["certificate-secret"], "app")
    assert secret.latest_content == {"pair": pair_of("registry")}
    assert not any("key of" in value for value in told.values())

    out = context.run(context.on.config_changed(), out)
    assert len(out.secrets) == 2, "once"


def test_a_unit_that_joins_waits_and_never_shows_a_certificate_of_its_own(
    context: testing.Context, registry: FakeRegistry
) -> None:
    out = context.run(context.on.config_changed(), state(NEW, leader=False))
    assert out.unit_status == testing.WaitingStatus("waiting for the shared certificate")
    assert not advertised(out)
    assert not registry.running
    assert out.get_relation(NEW.id).local_unit_data["kind"] == "empty"

    out = context.run(context.on.relation_changed(GIVEN, remote_unit=1), FOLLOWER)
    assert out.unit_status == testing.ActiveStatus("")
    assert advertised(out) == {fingerprint("shared")}
    assert out.get_relation(NEW.id).local_unit_data["kind"] == "shared"


def test_a_secret_that_cannot_be_read_yet_is_waited_for(
    context: testing.Context, registry: FakeRegistry
) -> None:
    unread = dataclasses.replace(FOLLOWER, secrets=set())
    out = context.run(context.on.config_changed(), unread)
    assert out.unit_status == testing.WaitingStatus("waiting for database and object-storage")
    assert not advertised(out)


def test_a_storage_whose_keys_are_in_a_secret(
    context: testing.Context, registry: FakeRegistry
) -> None:
    keys = testing.Secret(KEYS, owner=None)
    open_ones = {k: v for k, v in STORAGE.remote_app_data.items() if k not in KEYS}
    secret = dataclasses.replace(STORAGE, remote_app_data={**open_ones, "secret-extra": keys.id})
    relations = {*(ALL - {STORAGE}), GIVEN, secret}
    given = dataclasses.replace(
        LEADER, relations=relations, secrets={CREDENTIALS, SHARED_PAIR, keys}
    )
    context.run(context.on.config_changed(), given)
    assert registry.engines
    assert registry.engines.storage.secret_key == KEYS["secret-key"]


def test_a_changed_password_is_used_at_once(
    context: testing.Context, registry: FakeRegistry
) -> None:
    context.run(context.on.config_changed(), LEADER)
    changed = dataclasses.replace(CREDENTIALS, latest_content={**USER, "password": "another"})
    given = dataclasses.replace(LEADER, secrets={changed, SHARED_PAIR})
    context.run(context.on.secret_changed(changed), given)
    assert registry.engines
    assert registry.engines.database.password == "another"
    assert registry.restarts == 2


# Trust, which all units share


def test_only_the_leader_changes_the_trust_that_all_share(
    context: testing.Context, registry: FakeRegistry
) -> None:
    """A unit that hasn't heard of a site yet must not take its trust away again."""
    context.run(context.on.config_changed(), LEADER)
    late = dataclasses.replace(FOLLOWER, relations={DATABASE, STORAGE, GIVEN})
    context.run(context.on.update_status(), late)
    assert registry.rows == GRANTED
    less = dataclasses.replace(LEADER, relations={DATABASE, STORAGE, PUBLISHER, GIVEN})
    context.run(context.on.update_status(), less)
    assert registry.rows.keys() == {fingerprint("three")}


def test_a_leader_on_its_way_out_takes_no_trust_along(registry: FakeRegistry) -> None:
    context = testing.Context(charm.AarCharm, app_name="aar", unit_id=4)
    context.run(context.on.config_changed(), LEADER)
    nobody = dataclasses.replace(CLIENTS, remote_units_data={0: {}})
    leaving = dataclasses.replace(
        LEADER, relations={DATABASE, STORAGE, PUBLISHER, GIVEN, nobody}, planned_units=2
    )
    context.run(context.on.relation_departed(nobody, remote_unit=1, departing_unit=1), leaving)
    assert registry.rows == GRANTED
    context.run(context.on.relation_broken(nobody), leaving)
    assert registry.rows == GRANTED
    alone = dataclasses.replace(NEW, local_app_data=GIVEN.local_app_data, peers_data={})
    gone = dataclasses.replace(leaving, relations={DATABASE, STORAGE, PUBLISHER, alone, nobody})
    context.run(context.on.relation_departed(alone, remote_unit=1, departing_unit=4), gone)
    assert registry.rows == GRANTED


def test_the_leader_that_stays_makes_up_for_it(
    context: testing.Context, registry: FakeRegistry
) -> None:
    registry.rows = dict(GRANTED)
    fewer = dataclasses.replace(GIVEN, peers_data={1: {"kind": "shared"}})
    given = dataclasses.replace(
        LEADER, relations={DATABASE, STORAGE, PUBLISHER, fewer}, planned_units=2
    )
    registry.rows = dict(GRANTED)
    context.run(context.on.relation_departed(fewer, remote_unit=2, departing_unit=2), given)
    assert registry.rows.keys() == {fingerprint("three")}


def test_an_engine_that_is_down_is_no_fault_of_a_hook(
    context: testing.Context, registry: FakeRegistry
) -> None:
    context.run(context.on.config_changed(), LEADER)
    registry.engine_down = "the database doesn't answer: check that it runs"
    out = context.run(context.on.update_status(), LEADER)
    assert out.unit_status == testing.BlockedStatus(
        "the registry is down: the database doesn't answer: check that it runs"
    )
    assert registry.rows == GRANTED


def test_another_database_by_mistake_is_told_in_the_registrys_own_words(
    context: testing.Context, registry: FakeRegistry
) -> None:
    context.run(context.on.config_changed(), LEADER)
    said = "PostgreSQL (aar on 10.0.0.9:5432) holds no registry: … or begin anew by 'aar adopt'"
    registry.refuses_to_start = registry.engine_down = said
    out = context.run(context.on.relation_changed(DATABASE), LEADER)
    assert out.unit_status == testing.BlockedStatus(f"the registry is down: {said}")
    registry.refuses_to_start = registry.engine_down = ""
    out = context.run(context.on.update_status(), LEADER)
    assert out.unit_status == testing.ActiveStatus("")
    assert registry.rows == GRANTED


# The shared certificate changes


def test_rotating_is_the_leaders_and_reaches_the_others(
    context: testing.Context, registry: FakeRegistry
) -> None:
    before = context.run(context.on.config_changed(), LEADER)
    rotate = context.on.action("rotate-certificate", params={"confirm": True})
    out = context.run(rotate, before)
    assert advertised(out) == {fingerprint("renewed")}
    assert out.get_secret(id=SHARED_PAIR.id).latest_content == {"pair": pair_of("renewed")}
    told = out.get_relation(GIVEN.id).local_app_data
    assert told["certificate-fingerprint"] == fingerprint("renewed")
    assert told["certificate-secret"] == SHARED_PAIR.id

    other = FakeRegistry(certificate("shared"), certificate("never"))
    second = testing.Context(charm.AarCharm, app_name="aar", unit_id=1)
    charm.Registry = lambda service: other  # type: ignore[assignment] - restored by the fixture
    renewed = dataclasses.replace(SHARED_PAIR, latest_content={"pair": pair_of("renewed")})
    peers = dataclasses.replace(
        GIVEN, local_app_data=told, peers_data={0: {"kind": "shared"}, 2: {"kind": "shared"}}
    )
    given = dataclasses.replace(FOLLOWER, relations={*ALL, peers}, secrets={CREDENTIALS, renewed})
    out = second.run(second.on.relation_changed(peers), given)
    assert advertised(out) == {fingerprint("renewed")}


def test_another_unit_says_where_to_rotate(
    context: testing.Context, registry: FakeRegistry
) -> None:
    context.run(context.on.config_changed(), FOLLOWER)
    rotate = context.on.action("rotate-certificate", params={"confirm": True})
    with pytest.raises(testing.ActionFailed, match="juju run aar/leader rotate-certificate"):
        context.run(rotate, FOLLOWER)
    assert registry.certificate() == certificate("shared")


# Engines that go, or come late


def test_a_database_that_goes_takes_nothing_along(
    context: testing.Context, registry: FakeRegistry
) -> None:
    before = context.run(context.on.config_changed(), LEADER)
    out = context.run(context.on.relation_broken(before.get_relation(DATABASE.id)), before)
    assert out.unit_status == testing.BlockedStatus(
        "object-storage is related and database isn't: integrate database too; nothing was deleted"
    )
    assert not registry.running
    assert not advertised(out)
    assert registry.rows == GRANTED
    engines = registry.engines
    out = context.run(context.on.config_changed(), before)
    assert (registry.engines, registry.running) == (engines, True)
    assert out.unit_status == testing.ActiveStatus("")


def test_both_may_go_and_no_empty_registry_takes_their_place(
    context: testing.Context, registry: FakeRegistry
) -> None:
    before = context.run(context.on.config_changed(), LEADER)
    out = context.run(
        context.on.update_status(),
        dataclasses.replace(before, relations={CLIENTS, PUBLISHER, GIVEN}),
    )
    assert isinstance(out.unit_status, testing.BlockedStatus)
    assert "integrate database and object-storage again" in out.unit_status.message
    assert not registry.running


def test_a_registry_with_data_goes_on_until_they_are_moved(
    context: testing.Context, registry: FakeRegistry
) -> None:
    alone = testing.PeerRelation("peers", id=1)
    before = context.run(
        context.on.config_changed(), testing.State(relations={CLIENTS, PUBLISHER, alone})
    )
    registry.data = True
    out = context.run(
        context.on.relation_changed(DATABASE),
        dataclasses.replace(
            before,
            relations={*before.relations, DATABASE, STORAGE},
            secrets={CREDENTIALS},
            leader=True,
        ),
    )
    assert out.unit_status == testing.BlockedStatus(
        "aar/0 has data of its own, which database and object-storage lack: "
        "juju run aar/0 migrate moves them there"
    )
    assert registry.running
    assert registry.engines is None
    assert advertised(out) == {fingerprint("registry")}
    assert out.get_relation(alone.id).local_unit_data["kind"] == "own"
    assert registry.rows == GRANTED


def test_moved_data_are_served_by_all(context: testing.Context, registry: FakeRegistry) -> None:
    alone = testing.PeerRelation("peers", id=1)
    given = testing.State(
        relations={*ALL, alone}, secrets={CREDENTIALS}, leader=True, planned_units=1
    )
    context.run(context.on.config_changed(), testing.State(relations={alone}))
    registry.data = True
    out = context.run(context.on.action("migrate"), given)
    assert context.action_results == {"result": "Moved"}
    assert out.unit_status == testing.ActiveStatus("")
    assert registry.engines
    assert out.get_relation(alone.id).local_unit_data["kind"] == "shared"
    assert registry.rows == GRANTED
    with pytest.raises(testing.ActionFailed, match="nothing to move"):
        context.run(context.on.action("migrate"), out)


def test_nothing_is_moved_without_both_engines(
    context: testing.Context, registry: FakeRegistry
) -> None:
    context.run(context.on.config_changed(), BOTH)
    registry.data = True
    one = dataclasses.replace(BOTH, relations={*BOTH.relations, DATABASE}, secrets={CREDENTIALS})
    with pytest.raises(testing.ActionFailed, match="integrate database and object-storage first"):
        context.run(context.on.action("migrate"), one)
    assert registry.running
    assert registry.engines is None


def test_an_empty_registry_is_told_to_nobody_while_engines_are_on_their_way(
    context: testing.Context, registry: FakeRegistry
) -> None:
    alone = testing.PeerRelation("peers", id=1)
    before = context.run(
        context.on.config_changed(), testing.State(relations={CLIENTS, PUBLISHER, alone})
    )
    silent = dataclasses.replace(DATABASE, remote_app_data={})
    out = context.run(
        context.on.relation_created(silent),
        dataclasses.replace(before, relations={*before.relations, silent, STORAGE}, leader=True),
    )
    assert out.unit_status == testing.WaitingStatus("waiting for database and object-storage")
    assert not advertised(out)
    assert not registry.running


def test_what_cannot_be_used_is_said_without_secrets(
    context: testing.Context, registry: FakeRegistry
) -> None:
    bad = dataclasses.replace(
        DATABASE,
        remote_app_data={"endpoints": "a b", "username": "u", "password": "hunter2"},
    )
    forged = dataclasses.replace(DATABASE, remote_app_data={"secret-user": "--help"})
    for relation, sentence in (
        (bad, "database sent no usable endpoints: 'a b' is neither a host name nor an IP address"),
        (forged, "database sent no usable secret-user: not a secret's URI"),
    ):
        given = dataclasses.replace(LEADER, relations={relation, STORAGE, GIVEN})
        out = context.run(context.on.config_changed(), given)
        assert out.unit_status == testing.BlockedStatus(sentence)


def test_no_secret_is_logged(context: testing.Context, registry: FakeRegistry) -> None:
    for event in EVENTS.values():
        context.run(event(context.on), LEADER)
    logged = "\n".join(line.message for line in context.juju_log)
    for secret in (USER["password"], KEYS["secret-key"], "key of"):
        assert secret not in logged
