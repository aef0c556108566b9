"""The charm's configuration, read into values, and the `conf/main.yaml` that follows from it.

Whether an option of AMS has a sensible value is for AMS to say. Here is only what the charm itself
needs to understand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aar_interface import Role
from aar_interface.addresses import Address
from aar_interface.relation import Registry
from shared_engines import Engines

CONFIGURATIONS = Path("/var/snap/ams/common/conf")
"""Where the settings of the service are, and what they name."""

PRIVILEGED_PORTS = 1024
"""Ports below it need a capability (ip(7))."""

REGISTRY_MODES = ("auto", "manual")
RELATED = ("registry.url", "registry.fingerprint", "registry.mode")
"""The options that a relation with a registry sets."""
MODES = {Role.CLIENT: "pull", Role.PUBLISHER: "push"}


class InvalidOption(ValueError):  # noqa: N818 - the name states the fault
    """An option can't be used; the message begins with the option's name."""


@dataclass(frozen=True)
class Options:
    """What `juju config ams` says."""

    port: int
    location: Address | None
    """A name or address, beside the machine's own, for the certificate of AMS."""
    log_level: str
    registry_mode: str
    config: Mapping[str, str]
    """Options of AMS by name, as `amc config set` takes them."""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Options:
        """Read the charm's configuration. Raises InvalidOption."""
        port = int(config["port"])
        if not 0 < port < 65536:
            raise InvalidOption(f"port: {port} is not a port: use 1 to 65535")
        location = str(config["location"]).strip()
        try:
            address = Address.parse(location) if location else None
        except ValueError as error:
            raise InvalidOption(f"location: {error}") from None
        mode = str(config["registry-mode"]).strip()
        if mode not in REGISTRY_MODES:
            raise InvalidOption(f"registry-mode: {mode[:40]!r} is none of auto, manual")
        return cls(
            port, address, str(config["log-level"]).strip(), mode, _lines(str(config["config"]))
        )

    @property
    def privileged(self) -> bool:
        """Whether the port is one that only a privileged process may bind."""
        return self.port < PRIVILEGED_PORTS

    def configuration(self, engines: Engines | None = None, folder: Path = CONFIGURATIONS) -> str:
        """Return the text of `conf/main.yaml`.

        `engines` are those that units share; their files are in `folder`.
        """
        http: dict[str, Any] = {"addr": f":{self.port}"}
        if self.location:
            http["names"] = [self.location.host]
        settings = {"http": http, "log": {"level": self.log_level}}
        if engines:
            settings |= engines.settings(folder, redirects=False)
        return "# Written by the charm: use juju config.\n" + yaml.safe_dump(settings)

    def for_registry(self, registry: Registry) -> dict[str, str]:
        """Return the options that a relation with this registry sets: those in RELATED."""
        mode = "manual" if self.registry_mode == "manual" else MODES[registry.role]
        # Sorted, so that it stays the same whichever unit spoke first.
        values = (",".join(sorted(registry.urls)), str(registry.certificate.fingerprint), mode)
        return dict(zip(RELATED, values, strict=True))


def _lines(text: str) -> dict[str, str]:
    """Read lines of `name=value`; blank ones and those that begin with # don't count."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.partition("=")  # a value may contain = itself
        name = name.strip()
        if not equals or not name:
            raise InvalidOption(f"config: line {number} is not name=value")
        if name in found:
            raise InvalidOption(f"config: {name[:80]} is set twice")
        found[name] = value.strip()
    return found
