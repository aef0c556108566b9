"""The registry on this machine, as verbs: install, configure, trust, and what its commands tell.

It knows the service's paths and command lines, and nothing of Juju.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aar_interface import Certificate, InvalidCertificate
from machine_service import CommandFailed, MachineService, MachineServiceError, Program
from options import CONFIGURATIONS, Options
from shared_engines import Engines, names_a_server

PROGRAM = Program(
    name="aar",
    commands=("aar",),
    home=Path("/var/snap/aar/common"),
    home_variable="AAR_HOME",
    description="Application registry",
    serve=("aar", "serve"),
)
"""The state root is the path that the documentation names, also on a unit without snaps."""

CERTIFICATE = Path("certs/server.crt")
SETTINGS = Path("conf/main.yaml")
MIGRATION_SECONDS = 24 * 3600
"""However long it takes: it may be begun again where it ended."""
OWNER = "juju"
"""Whose rows of the trust store are the relations'."""


@dataclass(frozen=True)
class Refusal:
    """A certificate that the registry doesn't trust, though a relation asks for it."""

    fingerprint: str
    message: str


class Registry:
    """The registry of this machine."""

    def __init__(self, service: MachineService) -> None:
        self._service = service

    def install(self, wheels: Path) -> None:
        """Bring the bundled release onto the machine."""
        self._service.install(wheels)

    def run_as(self, options: Options, *, ipv6: bool, engines: Engines | None = None) -> None:
        """Run with these options; restart only if that changes anything.

        `engines` are those that units share. Raises InvalidOption and InvalidConfiguration, which
        leave a running registry as it is, and NotRunning.
        """
        root = None if engines else options.root_directory
        self._service.configure(
            options.configuration(ipv6=ipv6, engines=engines),
            beside=engines.files if engines else {},
            writable=[root] if root else [],
            low_port=options.privileged,
        )
        self._service.ensure_running()

    def migrate(self, options: Options, engines: Engines, *, ipv6: bool) -> str:
        """Move all that this registry holds to these engines, and serve from there.

        It serves while files are copied, and not while the rest follows. What was moved from
        stays. Return what the registry says. Raises CommandFailed, and then serves as before.
        """
        self._service.configure(options.configuration(ipv6=ipv6), beside=engines.files)
        folder = Path(tempfile.mkdtemp(prefix="aar-migrate-"))  # root's alone: it holds secrets
        try:
            target = folder / "engines.yaml"
            target.touch(mode=0o600)
            target.write_text(
                yaml.safe_dump(engines.settings(CONFIGURATIONS, redirects=True)), encoding="utf-8"
            )
            command = ("migrate", "--keep-config", "--to", str(target))
            if self._service.is_running:
                # It ends with the advice to stop: by then most is copied.
                with contextlib.suppress(CommandFailed):
                    self._service.run("aar", *command, timeout=MIGRATION_SECONDS)
                self._service.stop()
            said = self._service.run("aar", *command, timeout=MIGRATION_SECONDS)
        except CommandFailed:
            self._service.ensure_running()
            raise
        finally:
            shutil.rmtree(folder)
        self.run_as(options, ipv6=ipv6, engines=engines)
        return said.partition("\n")[0]  # what follows is for those who do the rest by hand

    @property
    def is_shared(self) -> bool:
        """Whether its settings name a database that other units use too."""
        try:
            return names_a_server((self._home / SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False

    def has_data(self) -> bool:
        """Whether anything would be missed without this store.

        That is whatever was ever pushed, deleted versions included, whom an operator trusts, and
        who was revoked. What relations asked for isn't: they still do.
        """
        if not (self._home / SETTINGS).exists():
            return False
        _, _, changes = self._json("status")["cursor"].rpartition(":")
        manual = any(row["Origin"] == "manual" for row in self.trusted())
        return changes != "0" or manual or bool(self.trusted(revoked=True))

    @property
    def is_running(self) -> bool:
        """Whether the registry answers."""
        return self._service.is_running

    def version(self) -> str:
        """Return the release's version."""
        return self._service.version()

    def certificate(self) -> Certificate:
        """Return the certificate that the registry is known by, made at its first start."""
        path = self._home / CERTIFICATE
        try:
            return Certificate.parse(path.read_bytes())
        except (OSError, InvalidCertificate) as error:
            raise MachineServiceError(f"{path} can't be used: {error}") from error

    def key_and_certificate(self) -> str:
        """Return both, in PEM, for another unit. It is secret."""
        return self._service.run("aar", "certificate", "export")

    def take_certificate(self, pair: str) -> None:
        """Be known by this certificate, with its key; nothing changes when it is already."""
        _, begin, rest = pair.partition("-----BEGIN CERTIFICATE-----")
        with contextlib.suppress(InvalidCertificate, MachineServiceError):
            if Certificate.parse(begin + rest) == self.certificate():
                return
        self._json("certificate", "import", "-", input=pair)

    def rotate_certificate(self) -> Certificate:
        """Have the registry make a new key and certificate; the old pair is deleted."""
        return Certificate.parse(self._json("certificate", "rotate", "--yes")["certificate"])

    def trust_exactly(self, wanted: Iterable[Mapping[str, Any]]) -> tuple[Refusal, ...]:
        """Make the relations' rows of the trust store exactly these; return what was refused.

        Each has `certificate`, `role`, `origin` and `architectures`. Rows that an operator added
        stay, and what was revoked stays revoked.
        """
        answer = self._json(
            "trust", "apply", "--owner", OWNER, "-", input=json.dumps({"trusted": [*wanted]})
        )
        return tuple(Refusal(row["fingerprint"], row["message"]) for row in answer["refused"])

    def trusted(self, *, revoked: bool = False) -> list[dict[str, Any]]:
        """Return the trusted certificates, or the revoked ones."""
        return self._json("trust", "list", *(["--revoked"] if revoked else []))

    def trust(self, certificate: str, *, publisher: bool, architectures: Iterable[str]) -> str:
        """Trust a certificate by hand; return what the registry says to it."""
        flags = ["--publisher"] if publisher else []
        for architecture in architectures:
            flags += ["--architecture", architecture]
        return self._service.run("aar", "trust", "add", "--quiet", *flags, input=certificate)

    def distrust(self, fingerprint: str) -> str:
        """Remove a certificate from the trust store."""
        return self._service.run("aar", "trust", "remove", "--", fingerprint)

    def revoke(self, fingerprint: str) -> str:
        """Revoke a certificate and its key for ever."""
        return self._service.run("aar", "trust", "revoke", "--yes", "--", fingerprint)

    def applications(self) -> list[dict[str, Any]]:
        """Return the applications' versions."""
        return self._json("application", "list")

    def delete(self, name: str, version: int | None, architecture: str | None) -> str:
        """Delete an application, one version of it, or one architecture of that."""
        which = [str(part) for part in (version, architecture) if part is not None]
        return self._service.run("aar", "application", "delete", "--yes", "--", name, *which)

    def stop(self) -> None:
        """Stop serving."""
        self._service.stop()

    def remove(self) -> None:
        """Take the registry off the machine; its data stay."""
        self._service.remove(keep_data=True)

    @property
    def _home(self) -> Path:
        return self._service.root / PROGRAM.home.relative_to("/")

    def _json(self, *arguments: str, input: str | None = None) -> Any:
        return json.loads(self._service.run("aar", *arguments, "--format", "json", input=input))
