"""What an operator does with the charms day by day, on a registry with a publisher and clients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jubilant
import pytest

from support.databags import certificate
from support.fleet import RELATIONS, Fleet, eventually, has_relations, package

CLIENTS = ("ams", "edge")


def test_one_relation_does_it_all(fleet: Fleet) -> None:
    """The registry is configured on each unit, and trusts each, in the role of its endpoint."""
    pinned = fleet.run(
        "aar/0", "openssl", "x509", "-noout", "-fingerprint", "-sha256",
        "-in", "/var/snap/aar/common/certs/server.crt",
    )  # fmt: skip
    fingerprint = pinned.strip().rpartition("=")[2].replace(":", "").lower()
    for unit in fleet.units():
        mode = "push" if unit.startswith("studio/") else "pull"
        expected = (f"https://{fleet.address()}:3000", fingerprint, mode)
        assert fleet.registry_of(unit) == expected
    trusted = fleet.trusted()
    assert {fp: role for fp, (role, _) in trusted.items()} == fleet.expected_trust()
    assert all(origin.startswith("juju:") for _, origin in trusted.values())
    assert fleet.juju.status().apps["aar"].units["aar/0"].open_ports == ["3000/tcp"]


def test_a_published_application_is_ready_on_every_client(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish(package(tmp_path, "settings"), "settings")
    fleet.arrived(fleet.units(*CLIENTS), "settings", 0)


def test_amc_needs_no_sudo_on_its_machine(fleet: Fleet) -> None:
    assert "registry.url: https://" in fleet.juju.ssh("ams/0", "amc config show")


def test_the_port_converges(fleet: Fleet, tmp_path: Path) -> None:
    fleet.juju.config("aar", {"port": 3001})
    url = f"https://{fleet.address()}:3001"
    for unit in fleet.units():
        eventually(lambda unit=unit: fleet.registry_of(unit)[0] == url)
    fleet.publish(package(tmp_path, "moved"), "moved")
    fleet.arrived(fleet.units(*CLIENTS), "moved", 0)
    fleet.settle(lambda status: status.apps["aar"].units["aar/0"].open_ports == ["3001/tcp"])
    fleet.juju.config("aar", {"port": 3000})
    for unit in fleet.units():
        eventually(lambda unit=unit: fleet.registry_of(unit)[0].endswith(":3000"))


def test_an_option_that_cannot_be_used_is_told_and_changes_nothing(fleet: Fleet) -> None:
    before = fleet.processes()
    fleet.juju.config("aar", {"port": 70000})
    fleet.juju.config("ams", {"config": "registry.update_interval=soon"})
    blocked = lambda status: jubilant.all_blocked(status, "aar", "ams")  # noqa: E731
    fleet.settle(blocked, active=False)
    assert "port: 70000 is not a port" in fleet.status_of("aar/0")[1]
    assert "registry.update_interval" in fleet.status_of("ams/0")[1]
    assert fleet.processes() == before
    fleet.juju.config("aar", reset=["port"])
    fleet.juju.config("ams", {"config": "registry.update_interval=5m\nregistry.filter=fleet"})
    fleet.settle()
    shown = fleet.config("ams/0")
    assert (shown["registry.update_interval"], shown["registry.filter"]) == ("5m", "fleet")
    assert fleet.processes() == before
    fleet.juju.config("ams", reset=["config"])
    fleet.settle()
    assert fleet.config("ams/0")["registry.filter"] == ""


def test_a_unit_that_comes_is_trusted_and_one_that_goes_is_not(fleet: Fleet) -> None:
    fleet.juju.add_unit("edge")
    fleet.settle(lambda status: len(status.apps["edge"].units) == 3)
    newest = fleet.units("edge")[-1]
    assert fleet.trusted().keys() == fleet.expected_trust().keys()
    fleet.arrived([newest], "settings", 0)

    leader = next(
        name for name, unit in fleet.juju.status().apps["edge"].units.items() if unit.leader
    )
    fleet.juju.remove_unit(leader)
    fleet.settle(lambda status: len(status.apps["edge"].units) == 2)
    assert {fp: role for fp, (role, _) in fleet.trusted().items()} == fleet.expected_trust()


def test_new_certificates_are_followed(fleet: Fleet, tmp_path: Path) -> None:
    before = fleet.fingerprint("ams/0")
    told = fleet.juju.run("ams/0", "rotate-certificate", {"confirm": True})
    fleet.settle()
    assert told.results["fingerprint"] == fleet.fingerprint("ams/0") != before
    assert fleet.trusted().keys() == fleet.expected_trust().keys()

    told = fleet.juju.run("aar/0", "rotate-certificate", {"confirm": True})
    fleet.settle()
    for unit in fleet.units():
        assert fleet.registry_of(unit)[1] == told.results["fingerprint"]
        trusted = [row["fingerprint"] for row in fleet.amc(unit, "config", "trust", "list")]
        assert trusted == [told.results["fingerprint"]]
    fleet.publish(package(tmp_path, "settings", 1), "settings", update=True)
    fleet.arrived(fleet.units(*CLIENTS), "settings", 1)


def test_an_upgrade_keeps_the_data(fleet: Fleet) -> None:
    trusted = fleet.trusted()
    for name in ("aar", *RELATIONS):
        charm = fleet.charms["aar" if name == "aar" else "ams"]
        fleet.juju.refresh(name, path=charm)
    fleet.settle()
    assert fleet.trusted() == trusted
    for unit in fleet.units(*CLIENTS):
        assert fleet.versions(unit, "settings") == {0: "active", 1: "active"}


def test_a_revoked_unit_is_named_and_no_hook_brings_it_back(fleet: Fleet) -> None:
    unit = fleet.units("edge")[-1]
    fingerprint = fleet.fingerprint(unit)
    with pytest.raises(jubilant.TaskError, match="confirm"):
        fleet.juju.run("aar/0", "revoke", {"fingerprint": fingerprint, "confirm": False})
    fleet.juju.run("aar/0", "revoke", {"fingerprint": fingerprint, "confirm": True})
    fleet.settle()
    for change in ({"log-level": "debug"}, {"log-level": "info"}):
        fleet.juju.config("aar", change)
        fleet.juju.config("edge", change)
        fleet.settle()
        status, message = fleet.status_of("aar/0")
        assert (status, unit in message, "revoked" in message) == ("active", True, True)
        assert fingerprint not in fleet.trusted()
    fleet.juju.remove_relation(*RELATIONS["edge"])
    fleet.settle(lambda status: not has_relations(status, "edge"))
    fleet.juju.integrate(*RELATIONS["edge"])
    fleet.settle()
    assert fingerprint not in fleet.trusted()
    assert fingerprint in fleet.trusted(revoked=True)

    fleet.juju.run(unit, "rotate-certificate", {"confirm": True})
    fleet.settle(lambda status: status.apps["aar"].units["aar/0"].workload_status.message == "")
    assert fleet.fingerprint(unit) in fleet.trusted()
    assert fingerprint in fleet.trusted(revoked=True)


def test_the_end_of_a_relation_takes_exactly_its_own(fleet: Fleet) -> None:
    """What was trusted and set by hand survives, and so do imported applications."""
    fleet.juju.run("aar/0", "trust-add", {"certificate": certificate("by-hand").pem})
    manual = {fp for fp, (_, origin) in fleet.trusted().items() if origin == "manual"}
    assert len(manual) == 1
    fleet.run("ams/0", "amc", "config", "set", "registry.update_interval", "7m")
    with pytest.raises(jubilant.TaskError, match="juju"):
        fleet.run("ams/0", "amc", "config", "set", "registry.mode", "push")

    for pair in RELATIONS.values():
        fleet.juju.remove_relation(*pair)
    fleet.settle(lambda status: not any(has_relations(status, site) for site in RELATIONS))

    assert fleet.trusted().keys() == manual
    for unit in fleet.units():
        assert fleet.registry_of(unit) == ("", "", "pull")
        assert fleet.amc(unit, "config", "trust", "list") == []
    assert fleet.config("ams/0")["registry.update_interval"] == "7m"
    for unit in fleet.units(*CLIENTS):
        assert set(fleet.versions(unit, "settings").values()) == {"active"}
    fleet.run("ams/0", "amc", "config", "set", "registry.update_interval", "1h")
    fleet.juju.run("aar/0", "trust-remove", {"fingerprint": manual.pop()})


def test_across_models(
    fleet: Fleet, new_model: Callable[[], jubilant.Juju], charms: dict[str, Path]
) -> None:
    fleet.juju.offer("aar", endpoint="client", name="aar-client")
    far = Fleet(new_model(), charms)
    far.juju.deploy(charms["ams"], "ams")
    far.juju.consume(f"{fleet.juju.model}.aar-client", "registry", owner="admin")
    pair = ("ams:registry-client", "registry:client")
    far.juju.integrate(*pair)
    try:
        far.settle()
        joined = far.fingerprint("ams/0")
        eventually(lambda: joined in fleet.trusted())
        assert far.registry_of("ams/0")[0] == f"https://{fleet.address()}:3000"
        far.arrived(["ams/0"], "settings", 0)
    finally:
        far.juju.remove_relation(*pair)
    eventually(lambda: joined not in fleet.trusted())
    far.settle()
    assert far.registry_of("ams/0") == ("", "", "pull")
