"""A fleet of registry and sites in a Juju model, as an operator sees it: by `juju`, `amc`, `aar`.

It knows commands and documented paths only, so the same tests run on any controller.
"""

from __future__ import annotations

import json
import shlex
import tarfile
import time
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import jubilant

from e2e import apk

T = TypeVar("T")

RELATIONS = {
    "studio": ("aar:publisher", "studio:registry-publisher"),
    "ams": ("aar:client", "ams:registry-client"),
    "edge": ("aar:client", "edge:registry-client"),
}
"""A publisher, and two clients of which one has two units."""

PEERS = "peers"
"""The relation among an application's units, which is always there."""

CLIENT_CERTIFICATE = "/var/snap/ams/common/registry/client.crt"
POLL = 0.5
"""Seconds between two looks at a condition."""


def eventually(look: Callable[[], T], within: float = 120.0) -> T:
    """Return what `look` gives once that is true; it may fail on the way, as commands do."""
    until = time.monotonic() + within
    while True:
        fault: Exception | None = None
        try:
            if found := look():
                return found
        except (jubilant.TaskError, jubilant.CLIError, KeyError, IndexError) as error:
            fault = error
        if time.monotonic() > until:
            raise AssertionError(f"not within {within:.0f} s: {look}") from fault
        time.sleep(POLL)


def package(folder: Path, name: str, edition: int = 0) -> Path:
    """Make an archive with a real application; the edition makes versions differ."""
    manifest = f"name: {name}\nversion: '1.{edition}'\ntags: [fleet]\ninstance-type: a4.3\n"
    path = folder / f"{name}-{edition}.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for member, content in (("manifest.yaml", manifest.encode()), ("app.apk", _apk())):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
    return path


def _apk() -> bytes:
    return apk.find().content


def has_relations(status: jubilant.Status, application: str) -> bool:
    """Whether an application has a relation to another one."""
    return any(endpoint != PEERS for endpoint in status.apps[application].relations)


class Fleet:
    """One registry `aar`; sites `studio` (publisher), `ams` and `edge` (clients)."""

    def __init__(self, juju: jubilant.Juju, charms: dict[str, Path]) -> None:
        self.juju = juju
        self.charms = charms

    def deploy(self) -> None:
        """Deploy and relate everything at once, and wait until it has settled."""
        self.juju.deploy(self.charms["aar"], "aar")
        for site, pair in RELATIONS.items():
            self.juju.deploy(self.charms["ams"], site, num_units=2 if site == "edge" else 1)
            self.juju.cli("add-relation", *pair)  # as the documentation has it
        self.settle()

    def restore(self) -> None:
        """Relate what isn't related, undo configuration, and wait until all is settled."""
        status = self.juju.status()
        for site, pair in RELATIONS.items():
            if not has_relations(status, site):
                self.juju.integrate(*pair)
        self.settle()

    def settle(self, *more: Callable[[jubilant.Status], bool], active: bool = True) -> None:
        """Wait until every agent is idle, and active unless said otherwise."""

        def settled(status: jubilant.Status) -> bool:
            calm = jubilant.all_agents_idle(status)
            well = jubilant.all_active(status) if active else True
            return calm and well and all(condition(status) for condition in more)

        self.juju.wait(settled, delay=0.3, successes=2)

    # What an operator asks

    def status_of(self, unit: str) -> tuple[str, str]:
        """Return a unit's workload status and its message."""
        found = self.juju.status().apps[unit.partition("/")[0]].units[unit].workload_status
        return found.current, found.message

    def units(self, *applications: str) -> list[str]:
        """Return the units of these applications, or of all sites."""
        apps = self.juju.status().apps
        return [unit for name in applications or RELATIONS for unit in sorted(apps[name].units)]

    def run(self, unit: str, *words: str) -> str:
        """Run a command as root on a unit's machine; return its output."""
        return self.juju.exec(shlex.join(words), unit=unit).stdout

    def amc(self, unit: str, *words: str) -> Any:
        """Run `amc … --format json` on a unit."""
        return json.loads(self.run(unit, "amc", *words, "--format", "json"))

    def config(self, unit: str) -> dict[str, Any]:
        """Return `amc config show`."""
        return self.amc(unit, "config", "show")["config"]

    def registry_of(self, unit: str) -> tuple[str, str, str]:
        """Return `registry.url`, `.fingerprint` and `.mode` of a unit."""
        shown = self.config(unit)
        return shown["registry.url"], shown["registry.fingerprint"], shown["registry.mode"]

    def trusted(self, *, revoked: bool = False) -> dict[str, tuple[str, str]]:
        """Return role and origin by fingerprint, as the registry lists them."""
        flags = ["--revoked"] if revoked else []
        rows = json.loads(self.run("aar/0", "aar", "trust", "list", "--format", "json", *flags))
        return {row["Fingerprint"]: (row["Role"], row["Origin"]) for row in rows}

    def fingerprint(self, unit: str) -> str:
        """Return the fingerprint of a site's unit, taken from its documented file."""
        script = f"openssl x509 -noout -fingerprint -sha256 -in {CLIENT_CERTIFICATE}"
        return self.run(unit, *script.split()).strip().rpartition("=")[2].replace(":", "").lower()

    def expected_trust(self) -> dict[str, str]:
        """Return the role by fingerprint that the relations call for."""
        return {
            self.fingerprint(unit): "publisher" if unit.startswith("studio/") else "client"
            for unit in self.units()
        }

    def address(self, unit: str = "aar/0") -> str:
        """Return a unit's public address."""
        return self.juju.status().apps[unit.partition("/")[0]].units[unit].public_address

    # What an operator does

    def publish(self, archive: Path, name: str, *, update: bool = False) -> None:
        """Create an application, or a version of it, on the publisher."""
        self.juju.scp(archive, f"studio/0:/tmp/{archive.name}")
        verb = ["update", name] if update else ["create"]
        self.run("studio/0", "amc", "application", *verb, f"/tmp/{archive.name}")

    def versions(self, unit: str, name: str) -> dict[int, str]:
        """Return the status of each version of an application on a unit."""
        shown = self.amc(unit, "application", "show", name)
        return {int(number): row["status"] for number, row in shown["versions"].items()}

    def arrived(self, units: Iterable[str], name: str, number: int) -> None:
        """Wait until a version is ready on each of the units."""
        for unit in units:
            eventually(lambda unit=unit: self.versions(unit, name).get(number) == "active")
            assert self.amc(unit, "application", "show", name)["status"] == "ready"

    def processes(self) -> dict[str, str]:
        """Return by unit the process that serves, and since when."""
        show = ["systemctl", "show", "-P", "MainPID", "-P", "ActiveEnterTimestampMonotonic"]
        found = {"aar/0": self.run("aar/0", *show, "aar.service")}
        return found | {unit: self.run(unit, *show, "ams.service") for unit in self.units()}
