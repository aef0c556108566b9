"""What breaks under a fleet, done for real on the rig's machines: each converges by itself."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from rig.client import Rig
from support.fleet import RELATIONS, Fleet, eventually, has_relations, package

CLIENTS = ("ams", "edge")
SEEDS = range(int(os.environ.get("RIG_SEEDS", "20")))


def whole(fleet: Fleet) -> None:
    """Assert that trust and configuration are exactly what the relations call for."""
    assert {fp: role for fp, (role, _) in fleet.trusted().items()} == fleet.expected_trust()
    for unit in fleet.units():
        mode = "push" if unit.startswith("studio/") else "pull"
        url, _, actual = fleet.registry_of(unit)
        assert (url, actual) == (f"https://{fleet.address()}:3000", mode)
        assert len(fleet.amc(unit, "config", "trust", "list")) == 1


def test_a_hook_with_nothing_to_do_changes_and_restarts_nothing(fleet: Fleet, rig: Rig) -> None:
    units = ["aar/0", *fleet.units()]
    fleet.settle()
    before, processes = rig.timings("update-status"), fleet.processes()
    for unit in units:
        rig.update_status(unit)
        fleet.settle()
    after = rig.timings("update-status")
    assert after["runs"] - before["runs"] >= len(units)
    assert after["idle-runs"] - before["idle-runs"] == after["runs"] - before["runs"]
    assert fleet.processes() == processes
    for unit in ("aar/0", "ams/0"):
        print(f"median hook with nothing to do, {unit}: "
              f"{rig.timings('update-status', unit)['idle-median']:.2f} s")  # fmt: skip


@pytest.mark.parametrize("hard", [False, True])
def test_rebooted_machines(fleet: Fleet, rig: Rig, hard: bool, tmp_path: Path) -> None:
    for unit in ("aar/0", "ams/0"):
        rig.reboot(unit, hard=hard)
    fleet.settle()
    whole(fleet)
    fleet.publish(package(tmp_path, f"rebooted{hard:d}"), f"rebooted{hard:d}")
    fleet.arrived(fleet.units(*CLIENTS), f"rebooted{hard:d}", 0)


def test_killed_services(fleet: Fleet, rig: Rig, tmp_path: Path) -> None:
    before = fleet.processes()
    rig.kill_service("aar/0", "aar.service")
    rig.kill_service("edge/0" if "edge/0" in before else fleet.units("edge")[0], "ams.service")
    eventually(lambda: "active" in fleet.run("aar/0", "systemctl", "is-active", "aar.service"))
    fleet.publish(package(tmp_path, "killed"), "killed")
    fleet.arrived(fleet.units(*CLIENTS), "killed", 0)
    whole(fleet)


def test_a_partition_that_heals(fleet: Fleet, rig: Rig, tmp_path: Path) -> None:
    rig.partition("ams/0")
    fleet.publish(package(tmp_path, "parted"), "parted")
    fleet.arrived(fleet.units("edge"), "parted", 0)
    names = [row["name"] for row in fleet.amc("ams/0", "application", "list")]
    assert "parted" not in names
    rig.heal("ams/0")
    fleet.arrived(["ams/0"], "parted", 0)
    fleet.settle()
    whole(fleet)


@pytest.mark.parametrize("calls", [0, 2, 5])
def test_hooks_that_fail_half_way(fleet: Fleet, rig: Rig, calls: int) -> None:
    for pair in RELATIONS.values():
        fleet.juju.remove_relation(*pair)
    fleet.settle(lambda status: not any(has_relations(status, site) for site in RELATIONS))
    rig.fail_hook("aar/0", "client-relation-changed", after_calls=calls)
    rig.fail_hook("ams/0", "registry-client-relation-changed", after_calls=calls)
    for pair in RELATIONS.values():
        fleet.juju.integrate(*pair)
    fleet.settle()
    whole(fleet)


def test_an_address_that_changes(fleet: Fleet, rig: Rig, tmp_path: Path) -> None:
    address = rig.change_address("aar/0")
    for unit in fleet.units():
        eventually(lambda unit=unit: fleet.registry_of(unit)[0] == f"https://{address}:3000")
    fleet.settle()
    whole(fleet)
    fleet.publish(package(tmp_path, "addressed"), "addressed")
    fleet.arrived(fleet.units(*CLIENTS), "addressed", 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_order_of_hooks_ends_the_same(fleet: Fleet, rig: Rig, seed: int) -> None:
    rig.reseed(seed)
    shuffled = random.Random(seed).sample(sorted(RELATIONS), len(RELATIONS))
    for site in shuffled:
        fleet.juju.remove_relation(*RELATIONS[site])
    if seed % 2:  # half of them meet the end of the former relation still on its way
        fleet.settle(lambda status: not any(has_relations(status, site) for site in RELATIONS))
    for site in reversed(shuffled):
        eventually(lambda site=site: fleet.juju.integrate(*RELATIONS[site]) is None)
    fleet.settle()
    whole(fleet)
