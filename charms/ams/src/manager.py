"""The management service on this machine, as verbs: install, configure, and what `amc` tells.

It knows the service's paths and command lines, and nothing of Juju.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aar_interface import Certificate, InvalidCertificate
from machine_service import CommandFailed, MachineService, MachineServiceError, Program
from options import Options
from shared_engines import Engines, names_a_server

PROGRAM = Program(
    name="ams",
    commands=("ams", "amc"),
    home=Path("/var/snap/ams/common"),
    home_variable="AMS_HOME",
    description="Application management service",
    serve=("ams", "serve"),
    shared=("server",),
)
"""The state root is the path that the documentation names, also on a unit without snaps."""

SETTINGS = Path("conf/main.yaml")
CERTIFICATE = Path("registry/client.crt")
OPTIONS_OWNER = "juju-config"
RELATION_OWNER = "juju-relation"
"""Two owners, so that a fault in the one doesn't hold up the other."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's names for the machines that the charm is packed for."""


class Manager:
    """The management service of this machine."""

    def __init__(self, service: MachineService) -> None:
        self._service = service

    def install(self, wheels: Path) -> None:
        """Bring the bundled release onto the machine."""
        self._service.install(wheels)

    def run_as(self, options: Options, engines: Engines | None = None) -> None:
        """Run with these options; restart only if that changes anything.

        `engines` are those that units share. Raises InvalidConfiguration, which leaves a running
        service as it is, and NotRunning.
        """
        self._service.configure(
            options.configuration(engines),
            beside=engines.files if engines else {},
            low_port=options.privileged,
        )
        self._service.ensure_running()

    @property
    def is_shared(self) -> bool:
        """Whether its settings name a database that other units use too."""
        try:
            return names_a_server((self._home / SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False

    def has_data(self) -> bool:
        """Whether anything would be missed without this store: an application of its own.

        What came from a registry comes again. A service that can't be asked may have some.
        """
        if not (self._home / SETTINGS).exists():
            return False
        try:
            return not all(row["immutable"] for row in self.applications())
        except CommandFailed:
            return True

    @property
    def is_running(self) -> bool:
        """Whether the service answers."""
        return self._service.is_running

    def version(self) -> str:
        """Return the release's version."""
        return self._service.version()

    @property
    def architecture(self) -> str:
        """Debian's name of this machine's architecture."""
        return ARCHITECTURES[platform.machine()]

    def certificate(self) -> Certificate:
        """Return the certificate that a registry knows this service by."""
        path = self._home / CERTIFICATE
        try:
            return Certificate.parse(path.read_bytes())
        except (OSError, InvalidCertificate) as error:
            raise MachineServiceError(f"{path} can't be used: {error}") from error

    def rotate_certificate(self) -> Certificate:
        """Have the service make a new key and certificate; the old pair is deleted."""
        # The service's own command, which acts as its user: the folder is that user's, and what
        # root would remove there might be a link to anything.
        answer = self._service.run("ams", "certificate", "rotate", "--yes", "--format", "json")
        return Certificate.parse(json.loads(answer)["certificate"])

    def set_options(self, options: Mapping[str, str]) -> None:
        """Set exactly these of the operator's options. Raises CommandFailed, changing nothing."""
        self._apply(OPTIONS_OWNER, options, ())

    def follow(self, options: Mapping[str, str], registry: Certificate | None) -> None:
        """Set exactly these options for the related registry, and trust its certificate."""
        self._apply(RELATION_OWNER, options, [registry.pem] if registry else ())

    def sync(self, *, dry_run: bool, allow_deletions: bool) -> str:
        """Synchronise with the registry now; return the report."""
        flags = ["--dry-run"] if dry_run else []
        flags += ["--allow-deletions"] if allow_deletions else []
        return self._amc("registry", "sync", *flags, timeout=3600)

    def registry_status(self) -> dict[str, Any]:
        """Return how the synchronisation stands."""
        return self._json("registry", "status")

    def applications(self) -> list[dict[str, Any]]:
        """Return the applications."""
        return self._json("application", "list")

    def stop(self) -> None:
        """Stop serving."""
        self._service.stop()

    def remove(self) -> None:
        """Take the service off the machine; its data stay."""
        self._service.remove(keep_data=True)

    @property
    def _home(self) -> Path:
        return self._service.root / PROGRAM.home.relative_to("/")

    def _apply(self, owner: str, options: Mapping[str, str], certificates: Iterable[str]) -> None:
        document = {"config": dict(options), "certificates": list(certificates)}
        self._json("config", "apply", "--owner", owner, "-", input=json.dumps(document))

    def _json(self, *arguments: str, input: str | None = None) -> Any:
        return json.loads(self._amc(*arguments, "--format", "json", input=input))

    def _amc(self, *arguments: str, input: str | None = None, timeout: float = 120) -> str:
        # Root may have chosen another service as the one that its amc talks to.
        where = ("--remote", "local")
        return self._service.run("amc", *where, *arguments, input=input, timeout=timeout)
