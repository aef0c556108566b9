"""The charm of the management service: it configures what the relation asks for, and undoes it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from fakes import KNOWN, FakeManager
from ops import testing

import charm
from support.charm_source import action_defaults
from support.databags import certificate


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> FakeManager:
    fake = FakeManager(certificate("ams"), certificate("renewed"))
    monkeypatch.setattr(charm, "Manager", lambda service: fake)
    return fake


@pytest.fixture
def context() -> testing.Context[charm.AmsCharm]:
    return testing.Context(charm.AmsCharm, app_name="ams", unit_id=0)


def fingerprint(name: str) -> str:
    return str(certificate(name).fingerprint)


def unit(name: str, address: str, role: str | None = None) -> dict[str, str]:
    """What a unit of a registry publishes; the reference's names no role."""
    said = {
        "certificate": certificate(name).pem,
        "fingerprint": "not looked at",
        "ip": address,
        "port": "3000",
        "url": f"https://{address}:3000",
    }
    return {**said, "role": role} if role else said


def related(endpoint: str, units: dict[int, dict[str, str]], **more: Any) -> testing.Relation:
    name = more.pop("remote_app_name", "aar")
    return testing.Relation(endpoint, remote_units_data=units, remote_app_name=name, **more)


CLIENT = related("registry-client", {0: unit("registry", "192.0.2.7", "client")}, id=3)
PUBLISHER = related("registry-publisher", {0: unit("registry", "192.0.2.7", "publisher")}, id=4)
AS_CLIENT = testing.State(relations={CLIENT})
SET = {
    "registry.url": "https://192.0.2.7:3000",
    "registry.fingerprint": fingerprint("registry"),
    "registry.mode": "pull",
}

EVENTS = {
    "install": lambda on: on.install(),
    "upgrade-charm": lambda on: on.upgrade_charm(),
    "config-changed": lambda on: on.config_changed(),
    "start": lambda on: on.start(),
    "update-status": lambda on: on.update_status(),
    "created": lambda on: on.relation_created(CLIENT),
    "joined": lambda on: on.relation_joined(CLIENT, remote_unit=0),
    "changed": lambda on: on.relation_changed(CLIENT, remote_unit=0),
    "departed": lambda on: on.relation_departed(CLIENT, remote_unit=7),
}


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_ends_in_the_same_state(
    event: str, context: testing.Context, manager: FakeManager
) -> None:
    """So neither the order of hooks nor a lost one matters."""
    out = context.run(EVENTS[event](context.on), AS_CLIENT)
    assert manager.show() == KNOWN | SET
    assert manager.certificates == {fingerprint("registry")}
    said = out.get_relation(3).local_unit_data
    assert {key: said[key] for key in ("architecture", "certificate", "mode")} == {
        "architecture": "amd64",
        "certificate": certificate("ams").pem,
        "mode": "client",
    }
    assert out.unit_status == testing.ActiveStatus("")
    assert out.opened_ports == {testing.TCPPort(8444)}
    assert out.workload_version == "1.2.3"


def test_nothing_to_do_changes_nothing(context: testing.Context, manager: FakeManager) -> None:
    first = context.run(context.on.config_changed(), AS_CLIENT)
    shown, restarts = manager.show(), manager.restarts
    second = context.run(context.on.update_status(), first)
    assert (manager.show(), manager.restarts) == (shown, restarts)
    assert second.relations == first.relations


def test_a_publisher_pushes(context: testing.Context, manager: FakeManager) -> None:
    out = context.run(context.on.config_changed(), testing.State(relations={PUBLISHER}))
    assert manager.show()["registry.mode"] == "push"
    assert out.get_relation(4).local_unit_data["mode"] == "publisher"


def test_the_end_of_the_relation_undoes_exactly_what_it_set(
    context: testing.Context, manager: FakeManager
) -> None:
    manager.by_hand = {"registry.url": "https://by-hand:3000", "registry.filter": "kiosk"}
    context.run(context.on.config_changed(), AS_CLIENT)
    assert manager.show() == KNOWN | SET | {"registry.filter": "kiosk"}
    out = context.run(context.on.relation_broken(CLIENT), AS_CLIENT)
    assert manager.show() == KNOWN | manager.by_hand
    assert not manager.certificates
    assert out.unit_status == testing.ActiveStatus("")


def test_it_follows_a_registry_that_moves_and_renews_its_certificate(
    context: testing.Context, manager: FakeManager
) -> None:
    context.run(context.on.config_changed(), AS_CLIENT)
    moved = dataclasses.replace(CLIENT, remote_units_data={0: unit("another", "192.0.2.8")})
    context.run(
        context.on.relation_changed(moved, remote_unit=0), testing.State(relations={moved})
    )
    assert manager.show()["registry.url"] == "https://192.0.2.8:3000"
    assert manager.certificates == {fingerprint("another")}


def test_of_several_units_the_oldest_is_the_registry(
    context: testing.Context, manager: FakeManager
) -> None:
    units = {
        10: unit("another", "192.0.2.10"),
        9: unit("registry", "192.0.2.9"),
        12: unit("registry", "192.0.2.12"),
    }
    out = context.run(
        context.on.config_changed(), testing.State(relations={related("registry-client", units)})
    )
    urls = "https://192.0.2.12:3000,https://192.0.2.9:3000"  # sorted
    assert manager.show()["registry.url"] == urls
    assert out.unit_status == testing.ActiveStatus(
        "another registry is offered by aar/10: not used"
    )


# What is wrong with the relation


def test_both_roles_at_once_is_a_sentence_and_no_trust(
    context: testing.Context, manager: FakeManager
) -> None:
    before = context.run(context.on.config_changed(), AS_CLIENT)
    both = dataclasses.replace(before, relations={before.get_relation(3), PUBLISHER})
    out = context.run(context.on.relation_created(PUBLISHER), both)
    assert out.unit_status == testing.BlockedStatus(
        "related as both client and publisher: remove one of registry-client, registry-publisher"
    )
    assert manager.show() == KNOWN
    assert not manager.certificates
    for relation in out.relations:
        assert not {"certificate", "mode"} & relation.local_unit_data.keys()

    left = context.run(
        context.on.relation_broken(CLIENT), dataclasses.replace(out, relations={CLIENT, PUBLISHER})
    )
    assert manager.show()["registry.mode"] == "push"
    assert left.unit_status == testing.ActiveStatus("")


@pytest.mark.parametrize(
    ("endpoint", "role", "instead"),
    [
        ("registry-client", "publisher", "registry-publisher"),
        ("registry-publisher", "client", "registry-client"),
    ],
)
def test_the_wrong_pair_sets_nothing(
    endpoint: str, role: str, instead: str, context: testing.Context, manager: FakeManager
) -> None:
    mistaken = related(endpoint, {0: unit("registry", "192.0.2.7", role)})
    out = context.run(context.on.config_changed(), testing.State(relations={mistaken}))
    assert manager.show() == KNOWN
    assert out.unit_status == testing.BlockedStatus(
        f"{endpoint} is related to the registry's endpoint for the other role: remove that "
        f"relation and relate {instead} instead"
    )


def test_until_the_registry_speaks_it_waits(
    context: testing.Context, manager: FakeManager
) -> None:
    silent = related("registry-client", {0: {}})
    out = context.run(context.on.config_changed(), testing.State(relations={silent}))
    assert out.unit_status == testing.WaitingStatus("waiting for the registry on registry-client")
    assert manager.show() == KNOWN


def test_an_unusable_databag_is_named(context: testing.Context, manager: FakeManager) -> None:
    bad = related("registry-client", {0: unit("registry", "192.0.2.7") | {"certificate": "x"}})
    out = context.run(context.on.config_changed(), testing.State(relations={bad}))
    assert isinstance(out.unit_status, testing.BlockedStatus)
    assert out.unit_status.message.startswith("aar/0 sent no usable certificate")
    assert manager.show() == KNOWN


def test_a_registry_that_ams_refuses_is_a_sentence(
    context: testing.Context, manager: FakeManager
) -> None:
    manager.refuses_certificates = "the certificate expired on 2026-01-01"
    out = context.run(context.on.config_changed(), AS_CLIENT)
    assert out.unit_status == testing.BlockedStatus(
        "the registry of the relation can't be used: the certificate expired on 2026-01-01"
    )


def test_a_sync_that_fails_is_told_without_alarm(
    context: testing.Context, manager: FakeManager
) -> None:
    manager.last_error = "the registry refuses this certificate"
    out = context.run(context.on.update_status(), AS_CLIENT)
    assert out.unit_status == testing.ActiveStatus(
        "last sync failed: the registry refuses this certificate"
    )
    out = context.run(context.on.update_status(), testing.State())
    assert out.unit_status == testing.ActiveStatus("")


# Options


def test_options_are_lines_whose_values_may_hold_anything(
    context: testing.Context, manager: FakeManager
) -> None:
    config = "\n# polling\nregistry.update_interval = 5m\nregistry.filter=a=b,c\n\n"
    state = testing.State(relations={CLIENT}, config={"config": config})
    context.run(context.on.config_changed(), state)
    chosen = {"registry.update_interval": "5m", "registry.filter": "a=b,c"}
    assert manager.show() == KNOWN | SET | chosen
    context.run(context.on.config_changed(), AS_CLIENT)
    assert manager.show() == KNOWN | SET


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"port": 0}, "port: 0 is not a port: use 1 to 65535"),
        ({"registry-mode": "push"}, "registry-mode: 'push' is none of auto, manual"),
        ({"config": "registry.filter"}, "config: line 1 is not name=value"),
        ({"config": "\n=x"}, "config: line 2 is not name=value"),
        ({"config": "a=1\na=2"}, "config: a is set twice"),
        (
            {"location": "a b"},
            "location: 'a b' is neither a host name nor an IP address",
        ),
    ],
)
def test_an_option_that_cannot_be_used_changes_nothing(
    config: dict[str, Any], message: str, context: testing.Context, manager: FakeManager
) -> None:
    before = context.run(context.on.config_changed(), AS_CLIENT)
    shown, restarts = manager.show(), manager.restarts
    out = context.run(context.on.config_changed(), dataclasses.replace(before, config=config))
    assert out.unit_status == testing.BlockedStatus(f"{message} (juju config)")
    assert (manager.show(), manager.restarts) == (shown, restarts)
    assert out.relations == before.relations


def test_an_option_that_ams_refuses_does_not_hold_up_the_relation(
    context: testing.Context, manager: FakeManager
) -> None:
    state = testing.State(relations={CLIENT}, config={"config": "registry.nonsense=1"})
    out = context.run(context.on.config_changed(), state)
    assert out.unit_status == testing.BlockedStatus(
        "'registry.nonsense' is not an option: 'amc config show' lists them all (juju config)"
    )
    assert manager.show() == KNOWN | SET


def test_what_the_relation_sets_is_not_the_operators_meanwhile(
    context: testing.Context, manager: FakeManager
) -> None:
    config = {"config": "registry.url=https://mine:3000\nregistry.filter=kiosk"}
    alone = testing.State(config=config)
    context.run(context.on.config_changed(), alone)
    assert manager.show()["registry.url"] == "https://mine:3000"

    out = context.run(
        context.on.relation_created(CLIENT), dataclasses.replace(alone, relations={CLIENT})
    )
    assert out.unit_status == testing.BlockedStatus(
        "config: registry.url: the relation sets it, remove it here (juju config)"
    )
    assert manager.show() == KNOWN | SET | {"registry.filter": "kiosk"}

    context.run(context.on.relation_broken(CLIENT), dataclasses.replace(alone, relations={CLIENT}))
    assert manager.show()["registry.url"] == "https://mine:3000"


def test_the_operator_may_keep_the_sync_to_himself(
    context: testing.Context, manager: FakeManager
) -> None:
    state = testing.State(relations={CLIENT}, config={"registry-mode": "manual"})
    context.run(context.on.config_changed(), state)
    assert manager.show() == KNOWN | SET | {"registry.mode": "manual"}


def test_the_settings_follow_from_the_options(
    context: testing.Context, manager: FakeManager
) -> None:
    config = {"port": 443, "location": "ams.example.com:8444", "log-level": "debug"}
    context.run(context.on.config_changed(), testing.State(config=config))
    assert manager.options
    assert manager.options.privileged
    assert manager.options.configuration() == (
        "# Written by the charm: use juju config.\n"
        "http:\n  addr: :443\n  names:\n  - ams.example.com\nlog:\n  level: debug\n"
    )


@pytest.mark.parametrize(
    ("attribute", "status"),
    [
        ("refuses_configuration", "http.addr: bad (juju config)"),
        ("refuses_to_start", "the service is down: http.addr: bad"),
    ],
)
def test_a_service_that_is_down_says_why(
    attribute: str, status: str, context: testing.Context, manager: FakeManager
) -> None:
    setattr(manager, attribute, "http.addr: bad")
    out = context.run(context.on.start(), AS_CLIENT)
    assert out.unit_status == testing.BlockedStatus(status)
    setattr(manager, attribute, "")
    out = context.run(context.on.update_status(), out)
    assert out.unit_status == testing.ActiveStatus("")
    assert manager.show() == KNOWN | SET


# Actions


def act(context: testing.Context, action: str, /, **parameters: Any) -> dict[str, Any]:
    """Run an action as Juju does, with the defaults that the charm declares."""
    defaults = action_defaults("ams", action)
    context.run(context.on.action(action, params=defaults | parameters), AS_CLIENT)
    assert context.action_results is not None
    return dict(context.action_results)


def test_the_operator_asks_and_gets_answers(
    context: testing.Context, manager: FakeManager
) -> None:
    with pytest.raises(testing.ActionFailed, match=r"registry\.url is not set"):
        act(context, "sync-now")
    context.run(context.on.config_changed(), AS_CLIENT)
    assert act(context, "sync-now", **{"dry-run": True})["report"] == "Nothing to do"
    assert manager.synced == [(True, False)]
    assert act(context, "list-applications") == {
        "count": 1,
        "applications": '[{"name": "game"}]',
    }
    status = act(context, "registry-status")
    assert (status["url"], status["mode"]) == (SET["registry.url"], "pull")
    shown = act(context, "get-registry-certificate")
    assert shown["fingerprint"] == fingerprint("ams")


def test_a_new_certificate_is_shown_to_the_registry_at_once(
    context: testing.Context, manager: FakeManager
) -> None:
    before = context.run(context.on.config_changed(), AS_CLIENT)
    with pytest.raises(testing.ActionFailed, match="confirm=true"):
        act(context, "rotate-certificate", confirm=False)
    out = context.run(context.on.action("rotate-certificate", params={"confirm": True}), before)
    said = out.get_relation(3).local_unit_data
    assert said["certificate"] == certificate("renewed").pem


def test_the_service_goes_with_its_unit(context: testing.Context, manager: FakeManager) -> None:
    state = context.run(context.on.config_changed(), testing.State())
    state = context.run(context.on.stop(), state)
    assert not manager.running
    context.run(context.on.remove(), state)
    assert manager.removed
