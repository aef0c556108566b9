"""Several units of the registry on one PostgreSQL and one radosgw, and what breaks under them.

The tests are one story over one model, in this order. Publisher and clients are related, and a
load of small versions is published all the time: none that was acknowledged may be lost. Times
until all is well again are printed, never judged.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jubilant
import pytest

from rig import engines
from rig.client import Rig, running_here
from support.fleet import Fleet, eventually, package

pytestmark = pytest.mark.skipif(not running_here(), reason="the engines' charms are the rig's")

SITES = {
    "studio": ("aar:publisher", "studio:registry-publisher"),
    "ams": ("aar:client", "ams:registry-client"),
    "edge": ("aar:client", "edge:registry-client"),
}
CLIENTS = ("ams", "edge")
GATEWAY, DATABASE = "engine-rgw.service", "postgresql@15-main.service"


class Units(Fleet):
    """A fleet whose registry has several units."""

    def deploy(self) -> None:
        self.juju.deploy(engines.charm("postgresql"), "postgresql")
        self.juju.deploy(engines.charm("radosgw"), "radosgw")
        self.juju.deploy(self.charms["aar"], "aar", num_units=3)
        self.juju.integrate("aar:database", "postgresql:database")
        self.juju.integrate("aar:object-storage", "radosgw:s3-credentials")
        for site, pair in SITES.items():
            self.juju.deploy(self.charms["ams"], site)
            self.juju.integrate(*pair)
        self.settle()

    def sites(self) -> list[str]:
        return self.units(*SITES)

    def registries(self) -> list[str]:
        return self.units("aar")

    def certificates(self) -> set[str]:
        """The fingerprints of the certificates that the units of the registry serve with."""
        shown = (self.run(unit, "aar", "certificate", "show") for unit in self.registries())
        return {text.split()[1] for text in shown}

    def held(self, unit: str) -> set[tuple[str, int]]:
        """The versions that a site holds, ready for use."""
        rows = self.amc(unit, "application", "list")
        return {
            (row["name"], number)
            for row in rows
            for number, status in self.versions(unit, row["name"]).items()
            if status == "active"
        }

    def listed(self, unit: str) -> set[str]:
        """The applications that a unit of the registry lists."""
        rows = json.loads(self.run(unit, "aar", "application", "list", "--format", "json"))
        return {row["name"] for row in rows}

    def leader(self) -> str:
        units = self.juju.status().apps["aar"].units
        return next(name for name, unit in units.items() if unit.leader)


class Load:
    """Publishes small versions one after the other, for as long as it runs.

    A version counts as acknowledged once the publisher says that it has pushed it.
    """

    def __init__(self, fleet: Units, folder: Path) -> None:
        self._fleet = fleet
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.published: list[str] = []
        self.fault: BaseException | None = None

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(120)

    def _run(self) -> None:
        number = 0
        try:
            while not self._stop.is_set():
                name = f"load{number}"
                archive = package(self._folder, name)
                self._fleet.publish(archive, name)
                self.published.append(name)
                archive.unlink()
                number += 1
                self._stop.wait(2)
        except BaseException as fault:  # told by the test that waits for it
            self.fault = fault
            raise

    def goes_on(self) -> None:
        """Wait until two more versions were published."""
        wanted = len(self.published) + 2
        eventually(lambda: self.fault is not None or len(self.published) >= wanted)
        assert self.fault is None, self.fault


@pytest.fixture(scope="module")
def fleet(charms: dict[str, Path]) -> Iterator[Units]:
    juju = jubilant.Juju(wait_timeout=900)
    juju.add_model("units")
    try:
        fleet = Units(juju, charms)
        begun = time.monotonic()
        fleet.deploy()
        print(f"deployed and settled: {time.monotonic() - begun:.0f} s")
        yield fleet
    finally:
        juju.destroy_model("units", force=True)


@pytest.fixture(scope="module")
def rig(fleet: Units) -> Rig:
    return Rig(fleet.juju.model)


@pytest.fixture(scope="module")
def load(fleet: Units, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    with Load(fleet, tmp_path_factory.mktemp("load")) as load:
        yield load


def timed(what: str, look: Callable[[], object], within: float = 180.0) -> None:
    """Wait until `look` is true, and print how long that took."""
    begun = time.monotonic()
    eventually(look, within)
    print(f"{what}: {time.monotonic() - begun:.1f} s")


def arrives(fleet: Units, folder: Path, name: str, units: list[str] | None = None) -> None:
    """Publish a version, and wait until it is on these clients, or on all."""
    fleet.publish(package(folder, name), name)
    for unit in units or fleet.units(*CLIENTS):
        timed(f"  {name} on {unit}", lambda unit=unit: (name, 0) in fleet.held(unit))


def test_every_unit_serves_one_registry(fleet: Units, tmp_path: Path) -> None:
    addresses = [fleet.address(unit) for unit in fleet.registries()]
    urls = ",".join(sorted(f"https://{address}:3000" for address in addresses))
    assert len(fleet.certificates()) == 1
    for unit in fleet.sites():
        assert fleet.registry_of(unit)[:2] == (urls, *fleet.certificates())
    for unit in fleet.registries():
        assert fleet.status_of(unit) == ("active", "")
        rows = json.loads(fleet.run(unit, "aar", "trust", "list", "--format", "json"))
        assert len(rows) == len(fleet.sites())
        # What the charm wrote is nobody else's to read.
        mode = fleet.run(unit, "stat", "-c", "%a %U:%G", "/var/snap/aar/common/conf/main.yaml")
        assert mode.split() == ["640", "root:aar"]
    arrives(fleet, tmp_path, "first")
    for unit in fleet.registries():
        assert "first" in fleet.listed(unit)


def test_a_unit_is_killed(fleet: Units, rig: Rig, load: Load, tmp_path: Path) -> None:
    load.goes_on()
    victim = fleet.registries()[0]
    fleet.run(victim, "systemctl", "kill", "--signal=KILL", "aar.service")
    fleet.run(victim, "systemctl", "stop", "aar.service")
    arrives(fleet, tmp_path, "killed")
    load.goes_on()
    fleet.run(victim, "systemctl", "start", "aar.service")


def test_the_database_is_killed(fleet: Units, rig: Rig, load: Load, tmp_path: Path) -> None:
    rig.kill_service("postgresql/0", DATABASE)
    fleet.publish(package(tmp_path, "meanwhile"), "meanwhile")  # a site goes on by itself
    fleet.run("postgresql/0", "systemctl", "restart", DATABASE)
    for unit in fleet.units(*CLIENTS):
        timed(
            f"  after PostgreSQL, {unit}", lambda unit=unit: ("meanwhile", 0) in fleet.held(unit)
        )
    load.goes_on()


def test_the_gateway_is_killed(fleet: Units, rig: Rig, load: Load, tmp_path: Path) -> None:
    rig.kill_service("radosgw/0", GATEWAY)
    fleet.publish(package(tmp_path, "stored"), "stored")
    fleet.run("radosgw/0", "systemctl", "restart", GATEWAY)
    for unit in fleet.units(*CLIENTS):
        timed(f"  after radosgw, {unit}", lambda unit=unit: ("stored", 0) in fleet.held(unit))
    load.goes_on()


def test_a_unit_is_cut_off(fleet: Units, rig: Rig, load: Load, tmp_path: Path) -> None:
    victim = fleet.registries()[1]
    rig.partition(victim)
    arrives(fleet, tmp_path, "parted")
    load.goes_on()
    rig.heal(victim)
    timed(f"  {victim} is back", lambda: "parted" in fleet.listed(victim))


def test_a_revocation_holds_on_every_unit(fleet: Units, load: Load) -> None:
    revoked = fleet.fingerprint("edge/0")
    fleet.juju.run(fleet.leader(), "revoke", {"fingerprint": revoked, "confirm": True})
    for unit in fleet.registries():
        timed(f"  revoked on {unit}", lambda unit=unit: refused(fleet, "edge/0", unit))
    assert not refused(fleet, "ams/0", fleet.registries()[0])


def test_units_come_and_go(fleet: Units, rig: Rig, load: Load, tmp_path: Path) -> None:
    fleet.juju.add_unit("aar")
    fleet.settle()
    assert len(fleet.certificates()) == 1
    assert refused(fleet, "edge/0", fleet.registries()[-1])
    leader = fleet.leader()
    fleet.juju.remove_unit(leader)
    fleet.settle(lambda status: leader not in status.apps["aar"].units)
    assert fleet.leader() != leader
    rows = json.loads(fleet.run(fleet.registries()[0], "aar", "trust", "list", "--format", "json"))
    assert len(rows) == len(fleet.sites()) - 1  # edge is revoked
    urls = {f"https://{fleet.address(unit)}:3000" for unit in fleet.registries()}
    for unit in fleet.sites():
        timed(
            f"  {unit} knows", lambda unit=unit: set(fleet.registry_of(unit)[0].split(",")) == urls
        )
    arrives(fleet, tmp_path, "moved", ["ams/0"])


def test_the_certificate_is_rotated_for_all(fleet: Units, load: Load, tmp_path: Path) -> None:
    before = fleet.certificates()
    fleet.juju.run(fleet.leader(), "rotate-certificate", {"confirm": True})
    fleet.settle()
    after = fleet.certificates()
    assert len(after) == 1
    assert not after & before
    for unit in fleet.units("studio", "ams"):
        assert fleet.registry_of(unit)[1] in after
    arrives(fleet, tmp_path, "rotated", ["ams/0"])


def test_nothing_that_was_acknowledged_is_lost(fleet: Units, load: Load) -> None:
    """All that was published is in the registry, on every unit, and on a client that syncs."""
    load.__exit__()
    assert load.fault is None, load.fault
    published = fleet.held("studio/0")
    assert {(name, 0) for name in load.published} <= published
    timed(f"  all {len(published)} versions on ams/0", lambda: fleet.held("ams/0") >= published)
    for unit in fleet.registries():
        assert fleet.listed(unit) == {name for name, _ in published}
    assert fleet.amc("studio/0", "registry", "status")["quarantined"] == []


def test_no_password_is_told_to_anybody(fleet: Units) -> None:
    unit = fleet.registries()[0]
    # Before the settings are read: what a command prints is logged.
    places = (
        subprocess.run(
            ["juju", "debug-log", "--model", str(fleet.juju.model), "--replay", "--no-tail"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout,
        fleet.run(unit, "journalctl", "-u", "aar.service", "--no-pager"),
        json.dumps(fleet.juju.cli("status", "--format", "json")),
        fleet.run(unit, "sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '"),
    )
    settings = fleet.run(unit, "cat", "/var/snap/aar/common/conf/main.yaml")
    password = settings.partition("postgresql://")[2].partition("@")[0].partition(":")[2]
    secret = settings.partition("secret-access-key: ")[2].splitlines()[0]
    assert len(password) > 20
    assert len(secret) > 20
    for place in places:
        assert password not in place
        assert secret not in place


def refused(fleet: Units, site: str, unit: str) -> bool:
    """Whether a unit of the registry refuses a site's certificate."""
    folder = "/var/snap/ams/common/registry"
    answer = fleet.run(
        site,
        *f"curl -sk --cert {folder}/client.crt --key {folder}/client.key".split(),
        f"https://{fleet.address(unit)}:3000/1.0/applications",
        *["-o", "/dev/null", "-w", "%{http_code}"],
    )
    return answer.strip() == "403"
