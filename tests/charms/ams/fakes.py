"""A management service in memory with the verbs of the real one; it refuses what that refuses."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aar_interface import Certificate
from machine_service import (
    CommandFailed,
    InvalidConfiguration,
    MachineServiceError,
    NotRunning,
)
from manager import Manager
from options import Options
from shared_engines import Engines

KNOWN = {
    "registry.url": "",
    "registry.fingerprint": "",
    "registry.mode": "pull",
    "registry.update_interval": "1h",
    "registry.filter": "",
    "application.max_published_versions": "3",
}


class Site:
    """What the database of a service holds."""

    def __init__(self) -> None:
        self.managed: dict[str, dict[str, str]] = {"juju-config": {}, "juju-relation": {}}
        self.certificates: set[str] = set()
        """Fingerprints of what a relation has AMS trust."""


class FakeManager:
    """What a unit's machine holds. It outlives the charm object, as a machine does."""

    def __init__(
        self, certificate: Certificate, renewed: Certificate, shared: Site | None = None
    ) -> None:
        """`shared` is what the engines hold, which other units have too."""
        self._certificates = [certificate, renewed]
        self._own, self._shared = Site(), shared or Site()
        self.engines: Engines | None = None
        self.data = False
        self.engine_down = ""
        self.installed_from: Path | None = None
        self.options: Options | None = None
        self.restarts = 0
        self.running = False
        self.removed = False
        self.by_hand: dict[str, str] = {}
        self.refuses_configuration = ""
        self.refuses_to_start = ""
        self.refuses_certificates = ""
        self.last_error: str | None = None
        self.synced: list[tuple[bool, bool]] = []

    @property
    def site(self) -> Site:
        """What the service works on."""
        return self._shared if self.engines else self._own

    @property
    def managed(self) -> dict[str, dict[str, str]]:
        """Options by their owner."""
        return self.site.managed

    @property
    def certificates(self) -> set[str]:
        """Whom a relation has AMS trust."""
        return self.site.certificates

    def show(self) -> dict[str, str]:
        """What `amc config show` shows."""
        return KNOWN | self.by_hand | self.managed["juju-config"] | self.managed["juju-relation"]

    def install(self, wheels: Path) -> None:
        self.installed_from = wheels

    def run_as(self, options: Options, engines: Engines | None = None) -> None:
        assert self.installed_from, "run before it was installed"
        if self.refuses_configuration:
            raise InvalidConfiguration(self.refuses_configuration)
        assert engines or not self.engines, "from shared engines back to an empty store"
        assert not (engines and self.data and not self.engines), "away from a store with data"
        served = options.configuration(engines)
        changed = self.options is None or served != self.options.configuration(self.engines)
        self.options, self.engines = options, engines
        if self.refuses_to_start:
            self.running = False
            raise NotRunning(self.refuses_to_start)
        self.restarts += changed or not self.running
        self.running = True

    @property
    def is_shared(self) -> bool:
        return self.engines is not None

    def has_data(self) -> bool:
        assert self.installed_from
        return self.data

    @property
    def is_running(self) -> bool:
        return self.running

    def version(self) -> str:
        assert self.installed_from
        return "1.2.3"

    @property
    def architecture(self) -> str:
        return "amd64"

    def certificate(self) -> Certificate:
        assert self.restarts, "there is none before the first start"
        return self._certificates[0]

    def rotate_certificate(self) -> Certificate:
        del self._certificates[0]
        return self._certificates[0]

    def set_options(self, options: Mapping[str, str]) -> None:
        self._manage("juju-config", options)

    def follow(self, options: Mapping[str, str], registry: Certificate | None) -> None:
        assert bool(options) == bool(registry)
        if registry and self.refuses_certificates:
            raise CommandFailed(self.refuses_certificates)
        self._manage("juju-relation", options)
        self.site.certificates = {str(registry.fingerprint)} if registry else set()

    def _manage(self, owner: str, options: Mapping[str, str]) -> None:
        assert self.running, "amc has nobody to talk to"
        if self.engine_down:
            raise CommandFailed(self.engine_down)
        for name in options:
            if name not in KNOWN:
                raise CommandFailed(f"{name!r} is not an option: 'amc config show' lists them all")
            for other, names in self.managed.items():
                if other != owner and name in names:
                    raise CommandFailed(f"{name} is managed by {other}")
        self.managed[owner] = dict(options)

    def sync(self, *, dry_run: bool, allow_deletions: bool) -> str:
        if not self.managed["juju-relation"]:
            raise MachineServiceError("registry.url is not set")
        self.synced.append((dry_run, allow_deletions))
        return "Nothing to do\n"

    def registry_status(self) -> dict[str, Any]:
        if self.engine_down:
            raise CommandFailed(self.engine_down)
        shown = self.show()
        return {
            "url": shown["registry.url"],
            "mode": shown["registry.mode"],
            "last_success": None,
            "last_error": self.last_error,
        }

    def applications(self) -> list[dict[str, Any]]:
        return [{"name": "game"}]

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


assert signatures(FakeManager).items() >= signatures(Manager).items(), "the fake is out of date"
