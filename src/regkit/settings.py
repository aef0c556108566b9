"""Strict reading of a service's `conf/main.yaml`.

A service describes its settings as a pydantic model built from the pieces here; this module
reads the file, and lists every fault at once with the key it stands at. It holds no default of
a particular service.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from regkit.errors import Invalid

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


class LogSettings(Section):
    """`log.level`."""

    level: Literal["debug", "info", "warning", "error"] = "info"


Model = TypeVar("Model", bound=BaseModel)


def load(path: Path, model: type[Model]) -> Model:
    """Read `path` into `model`; a missing or empty file gives the defaults.

    Raises Invalid with every fault, each with the key it stands at.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return model()
    except OSError as error:
        raise Invalid(f"{path} can't be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise Invalid(f"{path} is too large for a configuration file (over {MAX_BYTES} bytes)")
    try:
        content = yaml.safe_load(raw)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise Invalid(f"{path} is not valid YAML{where}: mend it and start again") from None
    if content is None:
        return model()
    if not isinstance(content, dict):
        raise Invalid(f"{path} must hold keys and values, such as 'http:' and 'storage:'")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(describe(fault) for fault in error.errors())
        raise Invalid(f"{path}: {faults}") from None


def describe(fault: ErrorDetails) -> str:
    """Say one pydantic fault as `key.path[0]: what is wrong`, without repeating secrets."""
    where = ""
    for part in fault["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if fault["type"] == "missing":
        return f"{where}: is missing"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}" if where else message
