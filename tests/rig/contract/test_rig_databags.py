"""Databags: what is seen, written and flushed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rig.contract.world import Run, World


@pytest.mark.parametrize(
    ("series", "keys"),
    [
        ("3.6", {"ingress-address", "egress-subnets", "private-address"}),
        ("4.0", {"ingress-address", "egress-subnets"}),
    ],
)
def test_a_unit_bag_holds_the_address_on_entering_scope(
    tmp_path: Path, series: str, keys: set[str]
) -> None:
    world = World(tmp_path, series=series)
    seen = {}

    def code(run: Run) -> None:
        if run.name == "db-relation-created":
            seen.update(run.json("relation-get", "-", run.unit))

    world.code["db"] = code
    world.provider()
    world.requirer()
    world.ok("integrate", "db", "web")
    world.settle()
    assert set(seen) == keys
    assert seen["egress-subnets"] == seen["ingress-address"] + "/32"


def test_the_other_side_may_see_a_unit_before_its_own_created_ran(world: World) -> None:
    world.provider()
    world.requirer()
    world.settle()
    world.ok("integrate", "db", "web")
    world.step("db/0")  # in scope, relation-created not run yet
    assert "db-relation-created" not in world.hooks("db/0")
    world.settle_unit("web/0")
    assert world.hooks("web/0")[-1] == "database-relation-changed"


@pytest.mark.parametrize("code", [0, 1])
def test_flush_on_success_only(related: World, code: int) -> None:
    def charm(run: Run) -> int:
        if run.name == "config-changed":
            run.tool("relation-set", "-r", "db:1", "a=1")
            run.tool("relation-set", "--app", "-r", "ring:0", "b=2")
            run.tool("state-set", "c=3")
            run.tool("open-port", "8080")
            run.tool("secret-add", "key=value", "--label", "kept")
            run.tool("status-set", "waiting", "for rain")
            run.tool("application-version-set", "7")
            run.tool("juju-log", "said")
            assert run.json("relation-get", "-r", "db:1", "a", run.unit) == "1"
            assert run.json("relation-get", "-r", "ring:0", "--app", "b") == "2"
            assert run.json("state-get") == {"c": "3"}
            return code
        return 0

    related.code["db"] = charm
    related.ok("trust", "db")
    related.settle_unit("db/0")
    unit = related.unit("db/0")
    kept = code == 0
    assert (unit.ports == {"8080/tcp"}, unit.state == {"c": "3"}) == (kept, kept)
    assert bool(related.controller.secrets) is kept
    _, out, _ = related.command("web/0", "relation-get -r database:1 a db/0")
    assert out == ("1\n" if kept else "")
    _, out, _ = related.command("db/1", "relation-get -r ring:0 --app b db")
    assert out == ("2\n" if kept else "")
    # Effective at once, whatever the hook does:
    assert unit.workload.message == "for rain" and unit.app.version == "7"
    assert "INFO said" in related.ok("debug-log", "--limit", "50")


def test_leadership_is_checked_again_at_commit(related: World) -> None:
    def charm(run: Run) -> None:
        if run.name == "config-changed" and run.unit == "db/0":
            run.tool("relation-set", "--app", "-r", "db:1", "a=1")
            unit.app.leader = related.unit("db/1")

    unit = related.unit("db/0")
    related.code["db"] = charm
    related.ok("trust", "db")
    related.settle_unit("db/0")
    assert unit.uniter.local.failure
    _, out, _ = related.command("web/0", "relation-get -r database:1 --app a db")
    assert out == ""


def test_values_are_strings_an_empty_one_deletes_and_files_are_yaml(related: World) -> None:
    command = related.command
    assert command("db/0", "relation-set -r db:1 --file -", "a: one\nb: ''\nc: '3'\n")[0] == 0
    assert command("db/0", "relation-set -r db:1 c=")[0] == 0
    _, out, _ = command("web/0", "relation-get -r database:1 - db/0 --format=json")
    bag = json.loads(out)
    assert bag["a"] == "one" and not {"b", "c"} & set(bag)
    code, _, err = command("db/0", "relation-set -r db:1 --file -", "n: 3\n")
    assert code and "3" in err


def test_reading_what_is_missing(related: World) -> None:
    assert related.command("web/0", "relation-get -r database:1 nothing db/0") == (0, "", "")
    line = "relation-get -r database:1 nothing db/0 --format=json"
    assert related.command("web/0", line) == (0, "null\n", "")
    code, _, err = related.command("web/0", "relation-get -r database:1 -")
    assert code and "no unit or application specified" in err
    code, _, err = related.command("web/0", "relation-get -r database:9 -")
    assert code == 2 and "relation not found" in err
    code, _, err = related.command("web/0", "relation-get -r database:1 - db/7")
    assert code and "settings not found" in err


def test_app_bags_and_leadership(related: World) -> None:
    command = related.command
    code, _, err = command("db/1", "relation-set --app -r db:1 a=1")
    assert code and "cannot write relation settings" in err
    code, _, err = command("db/1", "relation-get --app -r db:1 - db")
    assert code and "permission denied" in err
    assert command("db/0", "relation-get --app -r db:1 - db")[0] == 0
    assert command("db/1", "relation-get --app -r ring:0 - db")[0] == 0  # peers may read
    assert command("db/0", "is-leader")[1] == "True\n"
    assert command("db/1", "is-leader --format=json")[1] == "false\n"


def test_a_unit_cannot_read_its_sibling_outside_of_peers(related: World) -> None:
    assert related.command("db/0", "relation-get -r ring:0 - db/1")[0] == 0
    assert related.command("db/0", "relation-get -r db:1 - db/1")[0] != 0


def test_departed_and_broken_views(related: World) -> None:
    seen = {}

    def charm(run: Run) -> None:
        if run.name == "database-relation-departed":
            remote = run.environment["JUJU_REMOTE_UNIT"]
            seen[remote] = (
                run.json("relation-list"),
                run.json("relation-get", "ingress-address", remote),
            )
        if run.name == "database-relation-broken":
            seen["broken"] = (
                run.json("relation-ids", "database"),
                run.json("relation-list"),
                run.environment["JUJU_REMOTE_UNIT"],
                run.raw("relation-set", "late=1")[0],
            )

    related.code["web"] = charm
    related.ok("remove-relation", "db", "web")
    related.settle()
    assert seen["db/0"] == (["db/1"], related.unit("db/0").address)
    assert seen["db/1"][0] == []
    assert seen["broken"] == ([], [], "", 0)


def test_hook_defaults_to_its_own_relation_and_remote(related: World) -> None:
    seen = []

    def charm(run: Run) -> None:
        if run.name == "database-relation-changed":
            seen.append((run.json("relation-get")["ingress-address"], run.json("relation-ids")))

    related.code["web"] = charm
    related.command("db/1", "relation-set -r db:1 x=1")
    related.settle()
    assert seen == [(related.unit("db/1").address, ["database:1"])]
