"""What `conf/main.yaml` of the registry may hold, with the defaults.

Reading it is `regkit.settings`' business.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from regkit import sizes, storage
from regkit.settings import (
    Address,
    CertificateName,
    DatabaseUrl,
    Duration,
    ListenAddress,
    LogSettings,
    Section,
)

CONFIGURATION = Path("conf/main.yaml")
CERTIFICATE = Path("certs/server.crt")
KEY = Path("certs/server.key")
"""Documented paths, under the state root."""

DEFAULT_PORT = 3000
DEFAULT_ADDRESS = Address(host="0.0.0.0", port=DEFAULT_PORT)  # noqa: S104 - a server's default


class Http(Section):
    """`http`: where and how to listen."""

    addr: ListenAddress = DEFAULT_ADDRESS
    """Address and port to listen on, such as `192.168.178.45:3000`; port 0 is any free one."""
    workers: Annotated[int, Field(ge=1, le=256)] | None = None
    """Processes that serve; not given: as many as suit the machine."""
    minimum_tls: Literal["1.2", "1.3"] = "1.3"
    """The oldest version of TLS that clients may use."""
    names: tuple[CertificateName, ...] = ()
    """Names and addresses, beside this machine's own, for the certificate that is made."""


class DatabaseSettings(Section):
    """`database`: where metadata is kept."""

    url: DatabaseUrl | None = None
    """`sqlite:////srv/aar.db`, or `postgresql://user:password@host:5432/name?sslmode=require`; not
    given: SQLite in `data` of the state root."""


class FileStorage(storage.FileStorage):
    """`storage.fs`: blobs as files."""

    root_directory: Path | None = None
    """An absolute path; not given: `data` of the state root."""

    @model_validator(mode="after")
    def _absolute(self) -> FileStorage:
        if self.root_directory is not None and not self.root_directory.is_absolute():
            raise ValueError("root-directory must be an absolute path")
        return self


class Storage(storage.Storage):
    """`storage`: where blobs are kept, as files or in a bucket."""

    # The sections are frozen, so that narrower kinds are safe.
    fs: FileStorage = FileStorage()  # type: ignore[reportIncompatibleVariableOverride]
    s3: storage.S3Storage | None = None  # type: ignore[reportIncompatibleVariableOverride]


class JanitorSettings(Section):
    """`janitor`: when left-overs go."""

    interval: Duration = timedelta(hours=1)
    """How often to look for what is left over; this and the next two at least 1m."""
    uploads_after: Duration = timedelta(hours=24)
    """How long an upload may rest before it is given up."""
    blobs_after: Duration = timedelta(hours=24)
    """How long a blob may be unused before it goes."""

    @model_validator(mode="after")
    def _sensible(self) -> JanitorSettings:
        for name in ("interval", "uploads_after", "blobs_after"):
            if getattr(self, name) < timedelta(minutes=1):
                raise ValueError(f"{name.replace('_', '-')} must be at least 1m")
        return self


def _size(value: Any) -> Any:
    return sizes.parse(value) if isinstance(value, str) else value


Size = Annotated[int, BeforeValidator(_size)]
"""Bytes, written like `500MB` or `64GiB`."""


class Limits(Section):
    """`limits`: how much one client may ask for; 0 is no limit."""

    upload_size: Annotated[Size, Field(ge=0)] = 64 * 2**30
    """The largest file that may be pushed, such as `500MB` or `64GiB`, which is the default."""
    uploads_per_certificate: Annotated[int, Field(ge=0)] = 200
    """How many uploads one publisher may have begun and not ended."""
    requests_per_second: Annotated[float, Field(ge=0, le=1_000_000)] = 10_000
    """How often one certificate may ask each process, on average; five times as much at once."""
    connections_per_client: Annotated[int, Field(ge=0)] = 5_000
    """How many connections one address, or /64 of IPv6, may have open with each process."""


class Settings(Section):
    """The whole file."""

    http: Http = Http()
    database: DatabaseSettings = DatabaseSettings()
    storage: Storage = Storage()
    log: LogSettings = LogSettings()
    janitor: JanitorSettings = JanitorSettings()
    limits: Limits = Limits()
