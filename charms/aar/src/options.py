"""The charm's configuration, read into values, and the `conf/main.yaml` that follows from it.

What the registry makes of its settings is the registry's business: `aar check-config` judges
them. Here is only what the charm itself needs to understand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aar_interface.addresses import Address
from shared_engines import Engines

CONFIGURATIONS = Path("/var/snap/aar/common/conf")
"""Where the registry's settings are, and what they name."""

PRIVILEGED_PORTS = 1024
"""Ports below it need a capability (ip(7))."""


class InvalidOption(ValueError):  # noqa: N818 - the name states the fault
    """An option can't be used; the message begins with the option's name."""


@dataclass(frozen=True)
class Options:
    """What `juju config aar` says."""

    port: int
    location: Address | None
    """What to advertise instead of the machine's own address."""
    log_level: str
    storage: Mapping[str, Any]
    """The section `storage` of the registry's settings."""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Options:
        """Read the charm's configuration. Raises InvalidOption."""
        port = int(config["port"])
        if not 0 < port < 65536:
            raise InvalidOption(f"port: {port} is not a port: use 1 to 65535")
        location = str(config["location"]).strip()
        try:
            storage = yaml.safe_load(str(config["storage-config"])) or {}
            address = Address.parse(location) if location else None
        except yaml.YAMLError as error:
            where = getattr(error, "problem_mark", None)
            line = f" at line {where.line + 1}" if where else ""
            raise InvalidOption(f"storage-config: not valid YAML{line}") from None
        except ValueError as error:
            raise InvalidOption(f"location: {error}") from None
        if not isinstance(storage, dict):
            raise InvalidOption("storage-config: give keys and values, such as 'fs: {…}'")
        return cls(port, address, str(config["log-level"]).strip(), storage)

    @property
    def privileged(self) -> bool:
        """Whether the port is one that only a privileged process may bind."""
        return self.port < PRIVILEGED_PORTS

    @property
    def root_directory(self) -> Path | None:
        """Where blobs are kept when that isn't the state root."""
        files = self.storage.get("fs")
        root = files.get("root-directory") if isinstance(files, dict) else None
        return Path(root) if isinstance(root, str) and Path(root).is_absolute() else None

    def configuration(
        self, *, ipv6: bool = False, engines: Engines | None = None, folder: Path = CONFIGURATIONS
    ) -> str:
        """Return the text of `conf/main.yaml`; `ipv6`: for a machine that is reached by IPv6.

        `engines` are those that units share; their files are in `folder`. Raises InvalidOption.
        """
        http: dict[str, Any] = {"addr": f"[::]:{self.port}" if ipv6 else f":{self.port}"}
        if self.location:
            http["names"] = [self.location.host]
        settings: dict[str, Any] = {"http": http, "log": {"level": self.log_level}}
        if engines and self.storage:
            raise InvalidOption("storage-config: empty it, since object-storage is related")
        if engines:
            settings |= engines.settings(folder, redirects=True)
        if self.storage:
            settings["storage"] = dict(self.storage)
        return "# Written by the charm: use juju config.\n" + yaml.safe_dump(settings)
