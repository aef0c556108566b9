"""The order of hooks, as Juju 3.6 and 4.0 have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rig.contract.world import Run, World


def shown(events) -> list[str]:
    return [f"{e.name} {e.remote}".strip() for e in events]


def test_deploy_runs_install_created_elected_config_start(world: World) -> None:
    world.provider()
    assert shown(world.settle()) == [
        "install",
        "ring-relation-created",
        "leader-elected",
        "config-changed",
        "start",
    ]


def test_only_the_leader_is_elected_and_peers_come_after_start(world: World) -> None:
    world.provider(units=2)
    world.settle()
    assert world.hooks("db/1") == [
        "install",
        "ring-relation-created",
        "config-changed",
        "start",
        "ring-relation-joined",
        "ring-relation-changed",
    ]
    assert "leader-elected" in world.hooks("db/0")


def test_during_install_the_unit_is_in_no_relation(world: World) -> None:
    seen = {}

    def code(run: Run) -> None:
        if run.name in ("install", "start"):
            seen[run.name] = run.json("relation-ids", "ring")

    world.code["db"] = code
    world.provider()
    world.settle()
    assert seen == {"install": [], "start": ["ring:0"]}


def test_relation_made_before_start_is_created_before_config(world: World) -> None:
    world.provider()
    world.requirer()
    world.ok("integrate", "db", "web")
    world.settle()
    hooks = world.hooks("web/0")
    assert hooks.index("database-relation-created") < hooks.index("config-changed")
    assert hooks.index("start") < hooks.index("database-relation-joined")


def test_joined_is_followed_at_once_by_changed_of_that_unit(world: World) -> None:
    world.provider(units=3)
    world.requirer()
    world.settle()
    world.ok("integrate", "db", "web")
    world.settle()
    events = [e for e in shown(e for e in world.events if e.unit == "web/0") if "database" in e]
    assert events == [
        "database-relation-created",
        *(f"database-relation-{kind} db/{n}" for n in range(3) for kind in ("joined", "changed")),
    ]


def test_late_joiner_sees_a_written_app_bag_before_any_unit(world: World) -> None:
    def charm(run: Run) -> None:
        if run.name == "db-relation-created":
            run.tool("relation-set", "--app", "x=1")

    world.code["db"] = charm
    world.provider()
    world.requirer()
    world.settle()
    world.ok("relate", "db", "web")
    world.settle_unit("db/0")
    world.settle()
    first = [e for e in shown(e for e in world.events if e.unit == "web/0") if "database" in e]
    assert first[:3] == [
        "database-relation-created",
        "database-relation-changed",
        "database-relation-joined db/0",
    ]


def test_app_bag_never_written_makes_no_event(world: World) -> None:
    world.provider()
    world.requirer()
    world.ok("integrate", "db", "web")
    world.settle()
    assert not [e for e in world.events if e.name.endswith("relation-changed") and not e.remote]


def test_writes_coalesce_and_an_unchanged_write_is_nothing(world: World) -> None:
    world.provider()
    world.requirer()
    world.ok("integrate", "db", "web")
    world.settle()
    for value in ("1", "2", "3"):
        assert world.command("db/0", f"relation-set -r db:1 key={value}")[0] == 0
    assert shown(world.settle_unit("web/0")) == ["database-relation-changed db/0"]
    assert world.command("db/0", "relation-set -r db:1 key=3")[0] == 0
    assert world.settle() == []


def test_who_gets_changed(world: World) -> None:
    world.provider(units=2)
    world.requirer(units=2)
    world.ok("integrate", "db", "web")
    world.settle()
    world.command("db/0", "relation-set -r db:1 a=1")
    assert sorted((e.unit, e.remote) for e in world.settle()) == [
        ("web/0", "db/0"),
        ("web/1", "db/0"),
    ]
    world.command("db/0", "relation-set --app -r db:1 a=1")
    assert sorted((e.unit, e.remote) for e in world.settle()) == [("web/0", ""), ("web/1", "")]
    world.command("db/0", "relation-set -r ring:0 a=1")
    assert [(e.unit, e.remote) for e in world.settle()] == [("db/1", "db/0")]
    world.command("db/0", "relation-set --app -r ring:0 a=1")
    assert sorted((e.unit, e.remote) for e in world.settle()) == [("db/0", ""), ("db/1", "")]


def test_remove_relation_departs_then_breaks_on_both_sides(world: World) -> None:
    world.provider(units=2)
    world.requirer()
    world.ok("integrate", "db", "web")
    world.settle()
    world.ok("remove-relation", "db", "web")
    events = world.settle()
    assert shown(e for e in events if e.unit == "web/0") == [
        "database-relation-departed db/0",
        "database-relation-departed db/1",
        "database-relation-broken",
    ]
    assert shown(e for e in events if e.unit == "db/1") == [
        "db-relation-departed web/0",
        "db-relation-broken",
    ]
    departing = {
        e.unit: e.environment["JUJU_DEPARTING_UNIT"] for e in events if "departed" in e.name
    }
    assert departing == {"web/0": "db/1", "db/0": "web/0", "db/1": "web/0"}
    assert "db" not in world.status()["applications"]["db"]["relations"]
    world.ok("integrate", "db", "web")
    assert world.settle()[-1].environment["JUJU_RELATION_ID"].endswith(":2")


def test_remove_unit_departs_breaks_peers_last_then_stops(world: World) -> None:
    world.provider(units=2)
    world.requirer()
    world.ok("integrate", "db", "web")
    world.settle()
    world.ok("remove-unit", "--no-prompt", "db/0")
    events = world.settle()
    dying = [e for e in events if e.unit == "db/0"]
    assert shown(dying) == [
        "db-relation-departed web/0",
        "db-relation-broken",
        "ring-relation-departed db/1",
        "stop",
        "remove",
    ]
    assert {e.environment["JUJU_DEPARTING_UNIT"] for e in dying if "departed" in e.name} == {
        "db/0"
    }
    web = [e for e in events if e.unit == "web/0"]
    assert shown(web) == ["database-relation-departed db/0"]
    assert web[0].environment["JUJU_DEPARTING_UNIT"] == "db/0"
    assert shown(e for e in events if e.unit == "db/1") == [
        "ring-relation-departed db/0",
        "leader-elected",
    ]
    assert list(world.status()["applications"]["db"]["units"]) == ["db/1"]


@pytest.mark.parametrize(("series", "at_once"), [("3.6", True), ("4.0", False)])
def test_when_others_see_a_dying_unit_depart(tmp_path: Path, series: str, at_once: bool) -> None:
    world = World(tmp_path, series=series)
    world.provider()
    world.requirer()
    world.ok("integrate", "db", "web")
    world.settle()
    world.ok("remove-unit", "--no-prompt", "db/0")
    assert bool(world.settle_unit("web/0")) is at_once
    world.settle()
    assert world.hooks("web/0")[-1] == "database-relation-departed"


def test_remove_application_breaks_everything(world: World) -> None:
    world.provider(units=2)
    world.requirer()
    world.ok("integrate", "db", "web")
    world.settle()
    world.ok("remove-application", "--no-prompt", "db")
    world.settle()
    assert world.hooks("web/0")[-3:] == [
        "database-relation-departed",
        "database-relation-departed",
        "database-relation-broken",
    ]
    status = world.status()
    assert list(status["applications"]) == ["web"] and list(status["machines"]) == ["2"]
    assert "ring-relation-broken" not in world.hooks("db/0")


def test_refresh_upgrades_configures_then_creates(world: World) -> None:
    world.provider()
    world.settle()
    new = world.charm(
        "db",
        provides={"db": {"interface": "sql"}},
        peers={"ring": {"interface": "r"}, "more": {"interface": "r"}},
    )
    world.ok("refresh", "db", "--path", new)
    assert shown(world.settle()) == ["upgrade-charm", "config-changed", "more-relation-created"]
    assert world.installed == [("unit-db-0", "db"), ("unit-db-0", "db")]
    assert world.status()["applications"]["db"]["charm-rev"] == 1


def test_config_changed_fires_for_changes_only(world: World) -> None:
    world.provider(config={"port": {"type": "int", "default": 1}})
    world.settle()
    world.ok("config", "db", "port=1")
    assert world.settle() == []
    world.ok("config", "db", "port=2")
    world.ok("config", "db", "port=3")
    assert shown(world.settle()) == ["config-changed"]
    world.ok("trust", "db")
    assert shown(world.settle()) == ["config-changed"]


def test_address_change_rewrites_databags(world: World) -> None:
    world.provider()
    world.requirer()
    world.ok("integrate", "db", "web")
    world.settle()
    world.unit("db/0").machine.host.set_address("10.77.9.9")
    events = world.settle()
    assert shown(events) == ["config-changed", "database-relation-changed db/0"]
    code, out, _ = world.command("web/0", "relation-get -r database:1 ingress-address db/0")
    assert (code, out) == (0, "10.77.9.9\n")


def test_reboot_runs_start_again(world: World) -> None:
    world.provider()
    world.settle()
    world.unit("db/0").uniter.reboot()
    assert shown(world.settle()) == ["start"]
    assert world.settle() == []


def test_update_status_every_five_minutes(world: World) -> None:
    world.provider()
    world.settle()
    world.clock.advance(299)
    assert world.settle() == []
    world.clock.advance(1)
    assert shown(world.settle()) == ["update-status"]


def test_relations_are_shuffled_by_seed_and_peers_come_last(tmp_path: Path) -> None:
    orders = set()
    for seed in range(20):
        folder = tmp_path / str(seed)
        folder.mkdir()
        world = World(folder, seed)
        world.provider(units=2)
        for name in ("a", "b", "c"):
            world.requirer(name)
            world.ok("integrate", "db", name)
        while "start" not in world.hooks("db/0"):
            world.step("db/0")
        for unit in ("db/1", "a/0", "b/0", "c/0"):
            while "start" not in world.hooks(unit):
                world.step(unit)
        joined = [e.remote for e in world.settle_unit("db/0") if e.name.endswith("joined")]
        assert joined[-1] == "db/1"
        orders.add(tuple(joined))
    assert len(orders) > 3


def test_the_same_seed_gives_the_same_order_and_reseeding_another(tmp_path: Path) -> None:
    def order(name: str, seed: int) -> list[str]:
        folder = tmp_path / name
        folder.mkdir()
        world = World(folder, seed)
        world.provider(units=3)
        for app in ("a", "b", "c"):
            world.requirer(app)
            world.ok("integrate", "db", app)
        world.settle()
        return [f"{e.unit} {e.name} {e.remote}" for e in world.events]

    first = order("first", 7)
    assert order("second", 7) == first
    assert order("third", 8) != first


def test_missing_hook_counts_as_success(world: World) -> None:
    world.ok("deploy", world.charm("bare", files=["hooks/start"]))
    assert shown(world.settle()) == ["start"]
    assert (
        world.status()["applications"]["bare"]["units"]["bare/0"]["workload-status"]["current"]
        == "unknown"
    )


def test_actions_before_commands_before_pending_hooks(world: World) -> None:
    world.provider(actions={"act": {}}, config={"port": {"type": "int", "default": 1}})
    world.settle()
    world.ok("config", "db", "port=2")
    model, unit = world.controller.models["m"], world.unit("db/0")
    ran = []
    world.code["db"] = lambda run: ran.append(run.environment.get("JUJU_ACTION_NAME") or run.name)
    with world.controller.changed:
        world.controller.add_task(model, unit, "juju-exec", {}, "true")
        world.controller.add_task(model, unit, "act", {})
    world.settle()
    assert ran == ["act", "juju-exec", "config-changed"]
