"""`conf/main.yaml` of the management service: what it must know before it opens its database.

What can be changed while it runs is an option instead (see `ams.options`).
"""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from regkit import settings
from regkit.settings import (
    Address,
    CertificateName,
    DatabaseUrl,
    ListenAddress,
    LogSettings,
    Section,
)
from regkit.storage import Storage

DEFAULT_ADDRESS = Address(host="0.0.0.0", port=8444)  # noqa: S104 - documented default
CONFIG_FILE = Path("conf/main.yaml")
SERVER_CERTIFICATE, SERVER_KEY = Path("server/ams.crt"), Path("server/ams.key")
"""Documented paths, under the state root."""
REGISTRY_CERTIFICATE, REGISTRY_KEY = Path("registry/client.crt"), Path("registry/client.key")
"""The service's identity towards the registry, likewise."""

_DEBIAN_NAMES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "armhf",
    "i686": "i386",
    "ppc64le": "ppc64el",
}
"""Debian's architecture names for what `uname -m` prints (https://wiki.debian.org/SupportedArchitectures)."""


def machine_architecture(machine: str | None = None) -> str:
    """Return this machine's architecture in Debian's names, such as amd64 or arm64."""
    machine = (machine or platform.machine()).lower()
    return _DEBIAN_NAMES.get(machine, machine)


def _architecture(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]{1,32}", text):
        raise ValueError(f"{text[:40]!r} is not an architecture: write it like amd64 or arm64")
    return text


class HttpSettings(Section):
    """`http`: where the API listens for remote clients."""

    addr: ListenAddress = DEFAULT_ADDRESS
    """Address and port to listen on, such as `192.168.178.46:8444`; port 0 is any free one."""
    names: tuple[CertificateName, ...] = ()
    """Names and addresses, beside this machine's own, for the certificate that is made."""


class DatabaseSettings(Section):
    """`database`: where metadata is kept."""

    url: DatabaseUrl | None = None
    """`sqlite:////srv/ams.db`, or `postgresql://user:password@host:5432/name?sslmode=require`; not
    given: SQLite in `data` of the state root."""


class Settings(Section):
    """The whole file."""

    http: HttpSettings = HttpSettings()
    database: DatabaseSettings = DatabaseSettings()
    storage: Storage = Storage()
    log: LogSettings = LogSettings()
    architecture: Annotated[str, AfterValidator(_architecture)] = Field(
        default_factory=machine_architecture
    )
    """That of the applications here, in Debian's names; not given: this machine's."""

    def database_url(self, home: Path) -> str:
        """Return the database's URL, given the state root."""
        return self.database.url or f"sqlite:///{home / 'data' / 'ams.db'}"

    def blob_root(self, home: Path) -> Path:
        """Return the folder of blobs, or what is on its way to a bucket, given the state root."""
        configured = self.storage.fs.root_directory
        return home / "data" if configured is None else home / configured


def load(home: Path) -> Settings:
    """Read the file under the state root `home`; raises Invalid with every fault."""
    return settings.load(home / CONFIG_FILE, Settings)
