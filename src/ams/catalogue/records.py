"""What the catalogue gives to its callers: applications, versions, their status.

Plain values without I/O. The numbers of the status codes are those of the reference's API.
"""

from __future__ import annotations

import base64
import os
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from functools import cached_property
from typing import Any, Literal

from ams.catalogue.fields import INHIBIT, abi, effective
from regkit.oci.application import Key
from regkit.oci.digest import Digest

Origin = Literal["local", "registry"]


class ApplicationStatus(IntEnum):
    """`status_code` of an application."""

    ERROR = -1
    UNKNOWN = 0
    INITIALIZING = 1
    READY = 2
    DELETED = 3

    def __str__(self) -> str:
        return self.name.lower()


class VersionStatus(IntEnum):
    """`status_code` of a version. Ours are `created` until published, then `active`."""

    ERROR = -1
    UNKNOWN = 0
    INITIALIZING = 1
    CREATED = 2
    ACTIVE = 3
    DELETED = 4
    AVAILABLE = 5
    QUEUED = 6

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Version:
    """One immutable version of an application on this site."""

    number: int
    architecture: str
    digest: Digest
    """Of the OCI manifest: the identity of the content."""
    published: bool
    status: VersionStatus
    size: int
    """Bytes of all files."""
    manifest: dict[str, Any]
    """The parsed manifest.yaml."""
    error: str
    created: datetime
    imported: bool


class Described:
    """What is told of an application from its rows and the manifest that describes it."""

    origin: Origin
    fields: Mapping[str, Any]
    manifest: Mapping[str, Any]
    architecture: str

    @property
    def immutable(self) -> bool:
        """Whether the registry owns the application, so that nothing may be changed here."""
        return self.origin == "registry"

    @property
    def status(self) -> ApplicationStatus:
        """Always ready: a version is stored whole or not at all."""
        return ApplicationStatus.READY

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags."""
        return _texts(self.manifest.get("tags"))

    @property
    def addons(self) -> tuple[str, ...]:
        """Its addons."""
        return _texts(self.manifest.get("addons"))

    @property
    def instance_type(self) -> str:
        """Its instance type, or empty."""
        return _text(self.manifest.get("instance-type"))

    @property
    def boot_package(self) -> str:
        """The Android package that it starts, or empty."""
        return _text(self.manifest.get("boot-package"))

    @property
    def abi(self) -> str:
        """Android's name of the architecture that it is for."""
        return abi(self.architecture)

    @property
    def inhibits_updates(self) -> bool:
        """Whether it stays as it is when what it is based on changes."""
        return self.fields.get(INHIBIT) is True


@dataclass(frozen=True)
class Summary(Described):
    """An application without its versions: enough to choose it by."""

    id: str
    name: str
    origin: Origin
    vm: bool
    published: bool
    architecture: str
    manifest: Mapping[str, Any]
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Application(Described):
    """One application with all its versions, oldest first; there is always at least one."""

    id: str
    name: str
    origin: Origin
    vm: bool
    created: datetime
    updated: datetime
    versions: tuple[Version, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What was set over the newest version's manifest (see `ams.catalogue.fields`)."""

    @cached_property
    def manifest(self) -> Mapping[str, Any]:  # type: ignore[override] - made, not stored
        """What describes the application: the newest manifest, and what was set over it."""
        return effective(self.latest.manifest, self.fields)

    @property
    def architecture(self) -> str:  # type: ignore[override]
        """That of the newest version."""
        return self.latest.architecture

    @property
    def published(self) -> bool:
        """Whether any version is published."""
        return any(version.published for version in self.versions)

    @property
    def latest(self) -> Version:
        """The newest version."""
        return self.versions[-1]

    def version(self, number: int) -> Version | None:
        """Return the version with this number, or None."""
        return next((v for v in self.versions if v.number == number), None)


@dataclass(frozen=True)
class LocalVersion:
    """What the sync planner needs to know of a version on this site."""

    key: Key
    digest: Digest
    published: bool
    origin: Origin
    application_id: str
    status: VersionStatus
    size: int


@dataclass(frozen=True)
class Change:
    """A change that was committed.

    `event` is `application-` created, updated or deleted; `version-` created, published, revoked,
    deleted, imported or removed.
    """

    event: str
    application_id: str
    name: str
    number: int | None = None
    """The version's; None for the application itself."""


@dataclass(frozen=True)
class Export:
    """A version as an archive that is made while it is read."""

    filename: str
    size: int | None
    """Bytes of the archive; None, since it is compressed on the way."""
    content_size: int
    """Bytes of the files in it, for a progress bar."""
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class Garbage:
    """What a garbage collection removed."""

    blobs: int
    staged: int
    """Abandoned partial files."""


def new_id() -> str:
    """Make an application's id: 20 characters of [a-v0-9], roughly ordered by time.

    Twelve bytes in base32hex like https://github.com/rs/xid; four of time, the rest random.
    """
    raw = struct.pack(">I", int(time.time()) & 0xFFFFFFFF) + os.urandom(8)
    return base64.b32hexencode(raw).decode("ascii").rstrip("=").lower()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    """Read a list of texts from an imported manifest, which another version may have written."""
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()
