"""Several units as one site: who uses which store, and who writes what all of them share."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import KNOWN, FakeManager, Site
from ops import testing
from test_ams_charm import CLIENT, SET, fingerprint

import charm
from ams.settings import Settings
from options import Options
from regkit.settings import read
from shared_engines import DATABASE, OBJECT_STORAGE, Database, Engines, ObjectStorage, Store
from sharing import Run, Situation, decide
from support.databags import certificate
from support.engine_databags import POSTGRESQL, S3_INTEGRATOR

FOLDER = Path("/var/snap/ams/common/conf")
BOTH = frozenset({DATABASE, OBJECT_STORAGE})
_DATABASE, _STORAGE = Database.read(POSTGRESQL), ObjectStorage.read(S3_INTEGRATOR)
assert _DATABASE
assert _STORAGE
ENGINES = Engines(_DATABASE, _STORAGE)

USER = {"username": POSTGRESQL["username"], "password": POSTGRESQL["password"]}
CREDENTIALS = testing.Secret(USER, label="", owner=None)
POSTGRES = testing.Relation(
    "database",
    id=20,
    remote_app_name="postgresql",
    remote_app_data={"endpoints": "10.20.30.41:5432", "secret-user": CREDENTIALS.id},
)
BUCKET = testing.Relation(
    "object-storage",
    id=21,
    remote_app_name="s3-integrator",
    remote_app_data={**S3_INTEGRATOR, "tls-ca-chain": ""},
)
PEERS = testing.PeerRelation("peers", id=1, peers_data={1: {}, 2: {}})
MODEL = testing.Model(uuid="1a2b3c4d-0000-4000-8000-000000000000")


def state(*relations: Any, leader: bool = True, **more: Any) -> testing.State:
    known: dict[str, Any] = {
        "relations": {PEERS, *relations},
        "secrets": {CREDENTIALS},
        "leader": leader,
        "model": MODEL,
        "planned_units": 3,
    }
    return testing.State(**{**known, **more})


LEADER = state(CLIENT, POSTGRES, BUCKET)
FOLLOWER = state(CLIENT, POSTGRES, BUCKET, leader=False)


@pytest.fixture
def site() -> Site:
    """What the engines hold."""
    return Site()


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch, site: Site) -> FakeManager:
    fake = FakeManager(certificate("ams"), certificate("renewed"), site)
    monkeypatch.setattr(charm, "Manager", lambda service: fake)
    return fake


@pytest.fixture
def context() -> testing.Context[charm.AmsCharm]:
    return testing.Context(charm.AmsCharm, app_name="ams", unit_id=0)


def shown(out: testing.State) -> bool:
    """Whether the unit has shown its certificate to the registry."""
    return "certificate" in out.get_relation(CLIENT.id).local_unit_data


EVENTS = {
    "config-changed": lambda on: on.config_changed(),
    "update-status": lambda on: on.update_status(),
    "leader-elected": lambda on: on.leader_elected(),
    "secret-changed": lambda on: on.secret_changed(CREDENTIALS),
    "database-changed": lambda on: on.relation_changed(POSTGRES),
    "storage-created": lambda on: on.relation_created(BUCKET),
    "registry-changed": lambda on: on.relation_changed(CLIENT, remote_unit=0),
    "peers-departed": lambda on: on.relation_departed(PEERS, remote_unit=7, departing_unit=7),
}


@pytest.mark.parametrize("leader", [True, False])
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_ends_in_the_same_state(
    event: str, leader: bool, context: testing.Context, manager: FakeManager
) -> None:
    out = context.run(EVENTS[event](context.on), LEADER if leader else FOLLOWER)
    assert out.unit_status == testing.ActiveStatus("")
    assert shown(out), "each unit has a certificate of its own"
    assert manager.running
    assert manager.engines
    assert manager.engines.database.password == USER["password"]
    assert manager.show() == (KNOWN | SET if leader else KNOWN)
    again = context.run(context.on.update_status(), out)
    assert manager.restarts == 1
    assert again.relations == out.relations


def test_what_is_asked_for_is_no_other_application_s(
    context: testing.Context, manager: FakeManager
) -> None:
    out = context.run(context.on.config_changed(), LEADER)
    asked = out.get_relation(POSTGRES.id).local_app_data
    assert asked["database"] == "ams-1a2b3c4d"
    assert json.loads(asked["requested-secrets"]) == ["username", "password", "tls", "tls-ca"]
    assert out.get_relation(BUCKET.id).local_app_data["bucket"] == "ams-1a2b3c4d"
    assert manager.engines
    assert manager.engines.storage.prefix == "registry/ams-1a2b3c4d"
    assert manager.engines.database.name == "ams-1a2b3c4d"


def test_the_service_itself_takes_these_settings() -> None:
    defaults = {"port": 8444, "location": "", "log-level": "info", "config": ""}
    options = Options.read({**defaults, "registry-mode": "auto"})
    text = options.configuration(ENGINES)
    assert "redirect" not in yaml.safe_load(text)["storage"]["s3"]
    settings = read(io.BytesIO(text.encode()), "main.yaml", Settings)
    assert settings.storage.s3
    assert settings.storage.s3.bucket == S3_INTEGRATOR["bucket"]


def test_only_the_leader_writes_what_all_share(
    context: testing.Context, manager: FakeManager, site: Site
) -> None:
    """A unit that hasn't heard of the registry yet must not take it from the others."""
    context.run(context.on.config_changed(), LEADER)
    late = state(POSTGRES, BUCKET, leader=False, config={"config": "registry.filter=late"})
    context.run(context.on.update_status(), late)
    assert manager.show() == KNOWN | SET
    assert site.certificates == {fingerprint("registry")}
    context.run(context.on.update_status(), state(POSTGRES, BUCKET))
    assert manager.show() == KNOWN
    assert not site.certificates


def test_a_leader_on_its_way_out_takes_nothing_along(
    manager: FakeManager, context: testing.Context
) -> None:
    context.run(context.on.config_changed(), LEADER)
    leaving = dataclasses.replace(LEADER, planned_units=2)
    out = context.run(
        context.on.relation_departed(CLIENT, remote_unit=0, departing_unit=0), leaving
    )
    ending = out.get_relation(CLIENT.id)
    context.run(context.on.relation_broken(ending), out)
    assert manager.show() == KNOWN | SET


def test_until_the_engines_are_there_no_registry_is_used(
    context: testing.Context, manager: FakeManager
) -> None:
    silent = dataclasses.replace(POSTGRES, remote_app_data={})
    out = context.run(context.on.config_changed(), state(CLIENT, silent, BUCKET))
    assert out.unit_status == testing.WaitingStatus("waiting for database and object-storage")
    assert manager.running
    assert not shown(out)
    assert manager.show() == KNOWN


@pytest.mark.parametrize("data", [True, False])
def test_with_one_of_both_it_says_which_is_missing(
    data: bool, context: testing.Context, manager: FakeManager
) -> None:
    manager.data = data
    out = context.run(context.on.config_changed(), state(CLIENT, POSTGRES))
    assert out.unit_status == testing.BlockedStatus(
        "database is related and object-storage isn't: integrate object-storage too, or remove "
        "database"
    )
    assert shown(out) is data, "a site that has something goes on"


def test_applications_of_its_own_are_not_left_behind(
    context: testing.Context, manager: FakeManager
) -> None:
    manager.data = True
    out = context.run(context.on.config_changed(), LEADER)
    assert out.unit_status == testing.BlockedStatus(
        "ams/0 has applications of its own, which database and object-storage lack: export and "
        "delete them here, then create them again; or remove both relations"
    )
    assert manager.engines is None
    assert manager.show() == KNOWN | SET
    manager.data = False
    out = context.run(context.on.update_status(), LEADER)
    assert manager.engines
    assert out.unit_status == testing.ActiveStatus("")


@pytest.mark.parametrize("gone", [{POSTGRES.id}, {BUCKET.id}, {POSTGRES.id, BUCKET.id}])
def test_engines_that_go_take_nothing_along(
    gone: set[int], context: testing.Context, manager: FakeManager
) -> None:
    before = context.run(context.on.config_changed(), LEADER)
    left = {relation for relation in before.relations if relation.id not in gone}
    out = context.run(context.on.update_status(), dataclasses.replace(before, relations=left))
    assert isinstance(out.unit_status, testing.BlockedStatus)
    assert out.unit_status.message.endswith("; nothing was deleted")
    assert not manager.running
    assert not shown(out)
    assert manager.show() == KNOWN | SET
    out = context.run(context.on.config_changed(), before)
    assert manager.running
    assert out.unit_status == testing.ActiveStatus("")


def test_a_database_that_is_down_is_no_fault_of_a_hook(
    context: testing.Context, manager: FakeManager
) -> None:
    context.run(context.on.config_changed(), LEADER)
    manager.engine_down = "the database doesn't answer: check that it runs"
    for given in (LEADER, state(POSTGRES, BUCKET)):
        out = context.run(context.on.update_status(), given)
        assert isinstance(out.unit_status, testing.BlockedStatus)
        assert "the database doesn't answer" in out.unit_status.message
    out = context.run(context.on.update_status(), FOLLOWER)
    assert out.unit_status == testing.ActiveStatus(
        "last sync failed: the database doesn't answer: check that it runs"
    )


def test_without_engines_each_unit_is_a_site_of_its_own(
    context: testing.Context, manager: FakeManager
) -> None:
    out = context.run(context.on.config_changed(), state(CLIENT, leader=False))
    assert out.unit_status == testing.ActiveStatus("")
    assert manager.show() == KNOWN | SET
    assert shown(out)


# The decision


def test_a_provider_that_cannot_be_understood_is_named() -> None:
    found = decide(Situation("ams/0", Store.EMPTY, BOTH, {DATABASE: "endpoints: names no host"}))
    assert found.run is Run.APART
    assert found.blocked == "database sent no usable endpoints: names no host"


def test_of_all_situations_none_loses_data() -> None:
    relations = (frozenset(), frozenset({DATABASE}), frozenset({OBJECT_STORAGE}), BOTH)
    for store, related, engines in itertools.product(Store, relations, (ENGINES, None)):
        ready = engines if related == BOTH else None
        found = decide(Situation("ams/0", store, related, engines=ready))
        if store is Store.OWN:
            assert found.run is Run.ALONE
        if store is Store.SHARED:
            assert found.run in (Run.SHARED, Run.STOPPED)
        if found.run is Run.SHARED:
            assert related == BOTH
        if found.run in (Run.STOPPED, Run.APART):
            assert found.blocked or found.waiting
