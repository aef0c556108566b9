"""A registry in memory with the verbs of the real one; it refuses what the real one refuses."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aar_interface import Certificate
from machine_service import CommandFailed, InvalidConfiguration, MachineServiceError, NotRunning
from options import Options
from registry import Refusal, Registry
from shared_engines import Engines


class FakeRegistry:
    """What a unit's machine holds. It outlives the charm object, as a machine does."""

    def __init__(self, certificate: Certificate, renewed: Certificate) -> None:
        self._certificates = [certificate, renewed]
        self.engines: Engines | None = None
        self.data = False
        self.engine_down = ""
        self.installed_from: Path | None = None
        self.options: Options | None = None
        self.restarts = 0
        self.running = False
        self.removed = False
        self.rows: dict[str, tuple[str, str, tuple[str, ...]]] = {}
        """Fingerprint: role, origin (`manual` or `juju:…`), architectures."""
        self.revoked: set[str] = set()
        self.refuses_configuration = ""
        self.refuses_to_start = ""

    def install(self, wheels: Path) -> None:
        self.installed_from = wheels

    def run_as(self, options: Options, *, ipv6: bool, engines: Engines | None = None) -> None:
        assert self.installed_from, "run before it was installed"
        assert not ipv6
        options.configuration(engines=engines)  # refuses what doesn't go together
        if self.refuses_configuration:
            raise InvalidConfiguration(self.refuses_configuration)
        assert engines or not self.engines, "from shared engines back to an empty store"
        assert not (engines and self.data and not self.engines), "away from a store with data"
        changed = (options, engines) != (self.options, self.engines)
        self.options, self.engines = options, engines
        if self.refuses_to_start:
            self.running = False
            raise NotRunning(self.refuses_to_start)
        self.restarts += changed or not self.running
        self.running = True

    def migrate(self, options: Options, engines: Engines, *, ipv6: bool) -> str:
        assert self.data and not self.engines
        self.data = False
        self.run_as(options, ipv6=ipv6, engines=engines)
        return "Moved\n"

    @property
    def is_shared(self) -> bool:
        return self.engines is not None

    def has_data(self) -> bool:
        assert self.installed_from
        return self.data or any(row[1] == "manual" for row in self.rows.values())

    @property
    def is_running(self) -> bool:
        return self.running

    def version(self) -> str:
        assert self.installed_from
        return "1.2.3"

    def certificate(self) -> Certificate:
        assert self.restarts, "there is none before the first start"
        return self._certificates[0]

    def key_and_certificate(self) -> str:
        return f"key of {self.certificate().fingerprint}\n{self.certificate().pem}"

    def take_certificate(self, pair: str) -> None:
        assert self.installed_from
        key, _, pem = pair.partition("\n")
        taken = Certificate.parse(pem)
        assert key == f"key of {taken.fingerprint}"
        self._certificates[0] = taken

    def rotate_certificate(self) -> Certificate:
        del self._certificates[0]
        return self._certificates[0]

    def trust_exactly(self, wanted: Iterable[Mapping[str, Any]]) -> tuple[Refusal, ...]:
        assert self.installed_from
        if self.engine_down:
            raise CommandFailed(self.engine_down)
        kept = {fp: row for fp, row in self.rows.items() if row[1] == "manual"}
        refused = []
        for row in wanted:
            assert row.keys() == {"certificate", "role", "origin", "architectures"}
            fingerprint = str(Certificate.parse(row["certificate"]).fingerprint)
            if fingerprint in self.revoked:
                refused.append(Refusal(fingerprint, "this certificate was revoked"))
            else:
                origin = f"juju:{row['origin']}"
                kept.setdefault(fingerprint, (row["role"], origin, tuple(row["architectures"])))
        self.rows = kept
        return tuple(refused)

    def trusted(self, *, revoked: bool = False) -> list[dict[str, Any]]:
        return [{"Fingerprint": fp} for fp in sorted(self.revoked if revoked else self.rows)]

    def trust(self, certificate: str, *, publisher: bool, architectures: Iterable[str]) -> str:
        fingerprint = str(Certificate.parse(certificate).fingerprint)
        if fingerprint in self.rows:
            raise MachineServiceError("certificate already exists")
        role = "publisher" if publisher else "client"
        self.rows[fingerprint] = (role, "manual", tuple(architectures))
        return f"Certificate {fingerprint} is now trusted as {role}\n"

    def distrust(self, fingerprint: str) -> str:
        if fingerprint not in self.rows:
            raise MachineServiceError("no certificate has a fingerprint that begins with it")
        del self.rows[fingerprint]
        return "removed\n"

    def revoke(self, fingerprint: str) -> str:
        del self.rows[fingerprint]
        self.revoked.add(fingerprint)
        return "revoked\n"

    def applications(self) -> list[dict[str, Any]]:
        return [{"name": "game", "version": 0}]

    def delete(self, name: str, version: int | None, architecture: str | None) -> str:
        return f"Removed {name} {version} {architecture}\n"

    def stop(self) -> None:
        self.running = False

    def remove(self) -> None:
        assert not self.running
        self.removed = True


def signatures(kind: type) -> dict[str, str]:
    """Public verbs and predicates with their parameters."""
    return {
        name: str(inspect.signature(member)) if callable(member) else "property"
        for name, member in vars(kind).items()
        if not name.startswith("_")
    }


assert signatures(FakeRegistry) == signatures(Registry), "the fake is out of date"
