"""Strict reading of a service's `conf/main.yaml`.

A service describes its settings as a pydantic model built from the pieces here; this module
reads the file, and lists every fault at once with the key it stands at. It holds no default of
a particular service.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from datetime import timedelta
from pathlib import Path
from typing import IO, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr

from regkit import documents, durations
from regkit.documents import describe
from regkit.errors import Invalid

__all__ = [
    "Address",
    "CertificateName",
    "DatabaseUrl",
    "Duration",
    "ListenAddress",
    "LogSettings",
    "Section",
    "describe",
    "load",
    "read",
]

MAX_BYTES = 256 * 1024
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*")


class Section(BaseModel):
    """A group of keys. Keys are written with hyphens; an unknown one is a fault."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )


class Address(BaseModel):
    """Where to listen: a host name or IP address, and a TCP port (0: any free one)."""

    model_config = ConfigDict(frozen=True)
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `<ip>:<port>`, `[<ipv6>]:<port>`, `<name>:<port>` or `:<port>` (all addresses).

        Raises ValueError.
        """
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if bracketed else host
        if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError(f"{text[:80]!r} is not an address: write it like 0.0.0.0:3000")
        try:
            version = ipaddress.ip_address(host or "0.0.0.0").version  # noqa: S104 - asked for
        except ValueError:
            version = None
        if (version == 6) != bracketed or (version is None and not _HOST_NAME.fullmatch(host)):
            raise ValueError(f"{host[:80]!r} is neither an IP address nor a host name")
        return cls(host=host or "0.0.0.0", port=int(port))  # noqa: S104 - asked for


def _address(value: Any) -> Any:
    return Address.parse(value) if isinstance(value, str) else value


ListenAddress = Annotated[Address, BeforeValidator(_address)]


def _certificate_name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        if not _HOST_NAME.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is neither an IP address nor a host name") from None
        return value


CertificateName = Annotated[str, BeforeValidator(_certificate_name)]
"""A host name or IP address for the subject alternative name of a certificate."""


def _database_url(text: str) -> str:
    # 0.2 s, and only where one is set.
    from regkit.database.locations import SecretUrl, parse_url  # noqa: PLC0415

    parse_url(text)
    return SecretUrl(text)


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
"""Where a database is; that it can be opened is found out by opening it."""


def _duration(value: Any) -> Any:
    return durations.parse(value) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""Written as in Go: `24h`, `1h30m`."""


class LogSettings(Section):
    """`log.level`."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least serious events that are logged."""


Model = TypeVar("Model", bound=BaseModel)


def load(path: Path, model: type[Model]) -> Model:
    """Read `path` into `model`; a missing or empty file gives the defaults.

    Raises Invalid with every fault, each with the key it stands at, and for a file that holds a
    secret and that everybody may read.
    """
    try:
        with path.open("rb") as file:
            found = read(file, str(path), model)
            if os.fstat(file.fileno()).st_mode & stat.S_IROTH and _holds_secret(found):
                raise Invalid(f"{path} holds a secret, and everybody may read it: chmod 600 it")
            return found
    except FileNotFoundError:
        return model()
    except OSError as error:
        raise Invalid(
            f"{path} can't be read ({error.strerror}): check its owner and permissions"
        ) from None


def read(file: IO[bytes], source: str, model: type[Model]) -> Model:
    """Read an open file, empty for the defaults; `source` begins every message. Raises Invalid."""
    content = documents.load(file.read(MAX_BYTES + 1), source, MAX_BYTES)
    return model() if content is None else documents.parse(content, source, model)


def _holds_secret(section: BaseModel) -> bool:
    values = [getattr(section, name) for name in type(section).model_fields]
    return any(
        isinstance(value, SecretStr) or (isinstance(value, BaseModel) and _holds_secret(value))
        for value in values
    )
