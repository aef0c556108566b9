"""The registry's charm: every event ends in the same state, and the status says what to do."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeRegistry
from ops import testing

import charm
from aar_interface import Certificate
from support.charm_source import action_defaults
from support.databags import certificate


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    fake = FakeRegistry(certificate("registry"), certificate("renewed"))
    monkeypatch.setattr(charm, "Registry", lambda service: fake)
    return fake


@pytest.fixture
def context() -> testing.Context[charm.AarCharm]:
    return testing.Context(charm.AarCharm, app_name="aar", unit_id=0)


def unit(name: str, mode: str, architecture: str = "amd64") -> dict[str, str]:
    """What a unit of AMS publishes."""
    return {
        "certificate": certificate(name).pem,
        "mode": mode,
        "architecture": architecture,
        "ingress-address": "192.0.2.50",
    }


def related(endpoint: str, units: dict[int, dict[str, str]], **more: Any) -> testing.Relation:
    return testing.Relation(endpoint, remote_units_data=units, **more)


CLIENTS = related(
    "client", {0: unit("one", "client"), 1: unit("two", "client")}, remote_app_name="ams", id=3
)
PUBLISHER = related("publisher", {0: unit("three", "publisher")}, remote_app_name="studio", id=4)
PEERS = testing.PeerRelation("peers", id=1)
BOTH = testing.State(relations={CLIENTS, PUBLISHER, PEERS})


def fingerprint(name: str) -> str:
    return str(certificate(name).fingerprint)


GRANTED = {
    fingerprint("one"): ("client", "juju:client:3", ()),
    fingerprint("two"): ("client", "juju:client:3", ()),
    fingerprint("three"): ("publisher", "juju:publisher:4", ("amd64",)),
}

EVENTS = {
    "install": lambda on: on.install(),
    "upgrade-charm": lambda on: on.upgrade_charm(),
    "config-changed": lambda on: on.config_changed(),
    "start": lambda on: on.start(),
    "update-status": lambda on: on.update_status(),
    "client-created": lambda on: on.relation_created(CLIENTS),
    "client-joined": lambda on: on.relation_joined(CLIENTS, remote_unit=1),
    "client-changed": lambda on: on.relation_changed(CLIENTS, remote_unit=1),
    "client-departed": lambda on: on.relation_departed(CLIENTS, remote_unit=7),
    "publisher-created": lambda on: on.relation_created(PUBLISHER),
    "publisher-changed": lambda on: on.relation_changed(PUBLISHER, remote_unit=0),
    "peers-created": lambda on: on.relation_created(PEERS),
    "peers-changed": lambda on: on.relation_changed(PEERS, remote_unit=1),
}


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_ends_in_the_same_state(
    event: str, context: testing.Context, registry: FakeRegistry
) -> None:
    """So neither the order of hooks nor a lost one matters."""
    out = context.run(EVENTS[event](context.on), BOTH)
    assert registry.rows == GRANTED
    assert out.unit_status == testing.ActiveStatus("")
    assert out.opened_ports == {testing.TCPPort(3000)}
    assert out.workload_version == "1.2.3"
    for relation in (CLIENTS, PUBLISHER):
        said = out.get_relation(relation.id).local_unit_data
        assert {k: said[k] for k in said.keys() - {"ingress-address", "egress-subnets"}} == {
            "certificate": certificate("registry").pem,
            "fingerprint": fingerprint("registry"),
            "ip": "192.0.2.0",
            "port": "3000",
            "role": relation.endpoint,
            "url": "https://192.0.2.0:3000",
        } | ({"private-address": said["private-address"]} if "private-address" in said else {})


def test_nothing_to_do_changes_nothing(context: testing.Context, registry: FakeRegistry) -> None:
    first = context.run(context.on.config_changed(), BOTH)
    rows, restarts = dict(registry.rows), registry.restarts
    second = context.run(context.on.update_status(), first)
    assert (registry.rows, registry.restarts) == (rows, restarts)
    assert second.relations == first.relations
    assert second.opened_ports == first.opened_ports


def test_what_goes_takes_exactly_its_own_trust_along(
    context: testing.Context, registry: FakeRegistry
) -> None:
    state = context.run(context.on.config_changed(), BOTH)
    registry.rows[fingerprint("four")] = ("client", "manual", ())

    smaller = dataclasses.replace(CLIENTS, remote_units_data={0: unit("one", "client")})
    state = testing.State(relations={smaller, PUBLISHER, PEERS})
    context.run(context.on.relation_departed(smaller, remote_unit=1, departing_unit=1), state)
    assert registry.rows.keys() == {fingerprint(name) for name in ("one", "three", "four")}

    context.run(context.on.relation_broken(smaller), state)
    assert registry.rows.keys() == {fingerprint(name) for name in ("three", "four")}

    context.run(context.on.relation_broken(PUBLISHER), testing.State(relations={PUBLISHER, PEERS}))
    assert registry.rows == {fingerprint("four"): ("client", "manual", ())}


def test_a_certificate_that_is_shown_twice_is_one_row(
    context: testing.Context, registry: FakeRegistry
) -> None:
    twice = related("client", {0: unit("one", "client"), 1: unit("one", "client")}, id=3)
    out = context.run(context.on.config_changed(), testing.State(relations={twice}))
    assert registry.rows == {fingerprint("one"): ("client", "juju:client:3", ())}
    assert isinstance(out.unit_status, testing.ActiveStatus)


def test_a_rotated_certificate_replaces_the_former(
    context: testing.Context, registry: FakeRegistry
) -> None:
    context.run(context.on.config_changed(), BOTH)
    rotated = dataclasses.replace(CLIENTS, remote_units_data={0: unit("four", "client")})
    context.run(
        context.on.relation_changed(rotated, remote_unit=0), testing.State(relations={rotated})
    )
    assert registry.rows.keys() == {fingerprint("four")}


# What is wrong between two applications


def test_the_wrong_pair_gets_no_trust_and_a_sentence(
    context: testing.Context, registry: FakeRegistry
) -> None:
    """The role comes from our endpoint; what the other side says only shows the mistake."""
    mistaken = related("client", {0: unit("one", "publisher")}, remote_app_name="ams", id=3)
    out = context.run(context.on.config_changed(), testing.State(relations={mistaken, PUBLISHER}))
    assert registry.rows.keys() == {fingerprint("three")}
    assert out.unit_status == testing.BlockedStatus(
        "ams is related to client as publisher: remove that relation and relate it to publisher "
        "instead"
    )


def test_no_trust_for_what_is_related_in_both_roles(
    context: testing.Context, registry: FakeRegistry
) -> None:
    also = related("publisher", {0: unit("one", "publisher")}, remote_app_name="ams", id=9)
    out = context.run(context.on.config_changed(), testing.State(relations={CLIENTS, also}))
    assert registry.rows.keys() == {fingerprint("two")}
    assert out.unit_status == testing.BlockedStatus(
        "ams is related as both client and publisher: remove one of client, publisher"
    )


def test_a_revoked_unit_is_named_and_stays_out(
    context: testing.Context, registry: FakeRegistry
) -> None:
    context.run(context.on.config_changed(), BOTH)
    registry.revoke(fingerprint("two"))
    for event in EVENTS.values():
        out = context.run(event(context.on), BOTH)
        assert fingerprint("two") not in registry.rows
        assert out.unit_status == testing.ActiveStatus("ams/1: this certificate was revoked")


def test_an_unusable_databag_costs_only_its_own_unit(
    context: testing.Context, registry: FakeRegistry
) -> None:
    bad = related(
        "client", {0: {"certificate": "nonsense"}, 1: unit("two", "client")}, remote_app_name="ams"
    )
    out = context.run(context.on.config_changed(), testing.State(relations={bad}))
    assert registry.rows.keys() == {fingerprint("two")}
    assert out.unit_status.message.startswith("ams/0 sent no usable certificate")


def test_a_unit_that_has_said_nothing_yet_is_no_fault(
    context: testing.Context, registry: FakeRegistry
) -> None:
    silent = related("client", {0: {}, 1: {"ingress-address": "192.0.2.9"}})
    out = context.run(context.on.config_changed(), testing.State(relations={silent}))
    assert not registry.rows
    assert out.unit_status == testing.ActiveStatus("")


# What is wrong with this unit


def test_only_the_oldest_unit_is_the_registry(
    context: testing.Context, registry: FakeRegistry
) -> None:
    state = context.run(context.on.config_changed(), BOTH)
    second = testing.Context(charm.AarCharm, app_name="aar", unit_id=10)
    peers = testing.PeerRelation("peers", id=1, peers_data={2: {}, 11: {}})
    out = second.run(
        second.on.relation_joined(peers, remote_unit=2),
        dataclasses.replace(state, relations={*(state.relations - {PEERS}), peers}),
    )
    assert not registry.rows
    assert "certificate" not in out.get_relation(CLIENTS.id).local_unit_data
    assert out.unit_status == testing.BlockedStatus(
        "aar/2 is the registry: integrate database and object-storage, so that units share one, "
        "or remove this unit"
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"port": 0}, "port: 0 is not a port: use 1 to 65535 (juju config)"),
        ({"port": 65536}, "port: 65536 is not a port: use 1 to 65535 (juju config)"),
        (
            {"location": "https://registry"},
            "location: 'https://registry' has no port from 1 to 65535 after its colon "
            "(juju config)",
        ),
        ({"storage-config": "a: ["}, "storage-config: not valid YAML at line 1 (juju config)"),
        (
            {"storage-config": "plain"},
            "storage-config: give keys and values, such as 'fs: {…}' (juju config)",
        ),
    ],
)
def test_an_option_that_cannot_be_used_changes_nothing(
    config: dict[str, Any], message: str, context: testing.Context, registry: FakeRegistry
) -> None:
    before = context.run(context.on.config_changed(), BOTH)
    options, restarts = registry.options, registry.restarts
    state = dataclasses.replace(before, config=config)
    out = context.run(context.on.config_changed(), state)
    assert out.unit_status == testing.BlockedStatus(message)
    assert (registry.options, registry.restarts) == (options, restarts)
    assert registry.rows == GRANTED
    assert out.relations == before.relations
    assert out.opened_ports == before.opened_ports


def test_what_the_registry_itself_refuses_is_said_as_it_says_it(
    context: testing.Context, registry: FakeRegistry
) -> None:
    registry.refuses_configuration = "log.level: use debug, info, warning or error"
    out = context.run(context.on.config_changed(), BOTH)
    assert out.unit_status == testing.BlockedStatus(
        "log.level: use debug, info, warning or error (juju config)"
    )
    assert "certificate" not in out.get_relation(3).local_unit_data


def test_a_registry_that_is_down_says_why(
    context: testing.Context, registry: FakeRegistry
) -> None:
    registry.refuses_to_start = "0.0.0.0:3000 is in use by another program"
    out = context.run(context.on.start(), BOTH)
    assert out.unit_status == testing.BlockedStatus(
        "the registry is down: 0.0.0.0:3000 is in use by another program"
    )
    registry.refuses_to_start = ""
    out = context.run(context.on.update_status(), out)
    assert out.unit_status == testing.ActiveStatus("")


# Options that can be used


@pytest.mark.parametrize(
    ("config", "url", "opened"),
    [
        ({"port": 3001}, "https://192.0.2.0:3001", 3001),
        ({"location": "registry.example.com"}, "https://registry.example.com:3000", 3000),
        ({"location": "203.0.113.7:443"}, "https://203.0.113.7:443", 3000),
        ({"location": "2001:db8::7", "port": 443}, "https://[2001:db8::7]:443", 443),
    ],
)
def test_every_related_site_hears_of_a_new_address(
    config: dict[str, Any],
    url: str,
    opened: int,
    context: testing.Context,
    registry: FakeRegistry,
) -> None:
    before = context.run(context.on.config_changed(), BOTH)
    out = context.run(context.on.config_changed(), dataclasses.replace(before, config=config))
    assert {out.get_relation(i).local_unit_data["url"] for i in (3, 4)} == {url}
    assert out.opened_ports == {testing.TCPPort(opened)}


def test_the_settings_follow_from_the_options(
    context: testing.Context, registry: FakeRegistry
) -> None:
    config = {
        "port": 443,
        "location": "registry.example.com",
        "log-level": "debug",
        "storage-config": "fs: {root-directory: /srv/aar}",
    }
    context.run(context.on.config_changed(), testing.State(config=config))
    assert registry.options
    assert registry.options.configuration() == (
        "# Written by the charm: use juju config.\n"
        "http:\n  addr: :443\n  names:\n  - registry.example.com\n"
        "log:\n  level: debug\n"
        "storage:\n  fs:\n    root-directory: /srv/aar\n"
    )
    assert registry.options.privileged
    assert registry.options.root_directory == Path("/srv/aar")


# Actions


def act(context: testing.Context, action: str, /, **parameters: Any) -> dict[str, Any]:
    """Run an action as Juju does, with the defaults that the charm declares."""
    defaults = action_defaults("aar", action)
    context.run(context.on.action(action, params=defaults | parameters), BOTH)
    assert context.action_results is not None
    return dict(context.action_results)


def test_trust_by_hand_is_not_the_relations(
    context: testing.Context, registry: FakeRegistry
) -> None:
    context.run(context.on.config_changed(), BOTH)
    answer = act(
        context,
        "trust-add",
        certificate=certificate("four").pem,
        publisher=True,
        architectures="arm64, amd64",
    )
    assert answer["result"] == f"Certificate {fingerprint('four')} is now trusted as publisher"
    row = ("publisher", "manual", ("arm64", "amd64"))
    assert registry.rows == {**GRANTED, fingerprint("four"): row}
    assert int(act(context, "list-trusted")["count"]) == 4


def test_a_relation_brings_back_what_was_only_removed(
    context: testing.Context, registry: FakeRegistry
) -> None:
    context.run(context.on.config_changed(), BOTH)
    act(context, "trust-remove", fingerprint=fingerprint("one"))
    assert registry.rows == GRANTED


def test_revoking_shows_at_once(context: testing.Context, registry: FakeRegistry) -> None:
    context.run(context.on.config_changed(), BOTH)
    state = context.run(
        context.on.action("revoke", params={"fingerprint": fingerprint("one"), "confirm": True}),
        BOTH,
    )
    assert fingerprint("one") not in registry.rows
    assert state.unit_status == testing.ActiveStatus("ams/0: this certificate was revoked")
    assert act(context, "list-trusted", revoked=True)["count"] == 1


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("revoke", {"fingerprint": fingerprint("one")}),
        ("delete-application", {"name": "game"}),
        ("rotate-certificate", {}),
    ],
)
def test_what_cannot_be_undone_wants_to_be_confirmed(
    name: str, parameters: dict[str, Any], context: testing.Context, registry: FakeRegistry
) -> None:
    context.run(context.on.config_changed(), BOTH)
    with pytest.raises(testing.ActionFailed, match="confirm=true"):
        act(context, name, **parameters, confirm=False)
    assert registry.rows == GRANTED
    assert registry.restarts == 1


def test_what_the_registry_refuses_is_the_failure_of_the_action(
    context: testing.Context, registry: FakeRegistry
) -> None:
    context.run(context.on.config_changed(), BOTH)
    with pytest.raises(testing.ActionFailed, match="certificate already exists"):
        act(context, "trust-add", certificate=certificate("one").pem)


def test_a_rotated_certificate_is_told_to_every_site(
    context: testing.Context, registry: FakeRegistry
) -> None:
    context.run(context.on.config_changed(), BOTH)
    state = context.run(context.on.action("rotate-certificate", params={"confirm": True}), BOTH)
    for relation in (3, 4):
        said = Certificate.parse(state.get_relation(relation).local_unit_data["certificate"])
        assert said == certificate("renewed")
    assert act(context, "get-certificate")["fingerprint"] == fingerprint("renewed")


def test_applications_are_listed_and_deleted(
    context: testing.Context, registry: FakeRegistry
) -> None:
    assert act(context, "list-applications")["applications"] == '[{"name": "game", "version": 0}]'
    answer = act(context, "delete-application", name="game", version=1, confirm=True)
    assert answer["result"] == "Removed game 1 None"


def test_the_registry_goes_with_its_unit(context: testing.Context, registry: FakeRegistry) -> None:
    state = context.run(context.on.config_changed(), testing.State())
    state = context.run(context.on.stop(), state)
    assert not registry.running
    context.run(context.on.remove(), state)
    assert registry.removed
