"""Where a database is: `database.url` as a value object. Nothing is opened or asked here.

A URL of PostgreSQL is read as libpq reads it
(https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS), strictly and
without libpq, so that settings can be checked where it isn't installed. The password is shown in
no message and no `repr`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
PARAMETERS = {
    "sslmode": SSL_MODES,
    "sslrootcert": None,
    "sslcert": None,
    "sslkey": None,
    "sslcrl": None,
    "channel_binding": ("disable", "prefer", "require"),
    "target_session_attrs": ("any", "read-write", "primary"),
    "connect_timeout": None,
    "application_name": None,
    "passfile": None,
    "host": None,
}
"""What may follow the `?`, and the words that are allowed; None: any text."""

_EXAMPLE = "postgresql://user:password@host:5432/name"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%25[\w.-]+)?\]|[^:\[\]/@]*)(?::([0-9]{1,5}))?", re.ASCII)
_FILES = ("sslcert", "sslkey", "sslcrl", "passfile")


@dataclass(frozen=True)
class File:
    """A database in one file: SQLite."""

    path: Path


@dataclass(frozen=True)
class Server:
    """A PostgreSQL database. `hosts` in the order in which they are tried, each with its port.

    A host that begins with `/` is the folder of a unix socket; none: libpq's default.
    """

    hosts: tuple[tuple[str, int], ...]
    name: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    parameters: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Return it for messages, without password and parameters."""
        places = [
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        ]
        return f"{self.name} on {','.join(places) or 'this machine'}"


class SecretUrl(str):
    """A URL whose `repr` doesn't show what is secret in it; otherwise a plain text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(masked(self))


def masked(text: str) -> str:
    """Return a URL with the password replaced by `***`."""
    return re.sub(r"(?s)^([^:/?#]+://[^:@/]*):.*@", r"\1:***@", text)


def parse_url(text: str) -> File | Server:
    """Read a database's URL. Raises ValueError, which repeats no secret, for one of no use."""
    scheme, colon, rest = text.partition("://")
    if not colon or not re.fullmatch(r"[a-z][a-z0-9+]{0,39}", scheme, re.ASCII):
        raise ValueError(
            f"this is not a URL: write it like sqlite:////path/to/file.db or {_EXAMPLE}"
        )
    if scheme == "sqlite":
        return _file(rest)
    if scheme == "postgresql":
        return _server(rest)
    raise ValueError(
        f"the engine {scheme!r} is not supported: use sqlite:////path/to/file.db or {_EXAMPLE}"
    )


def _file(rest: str) -> File:
    path = rest[1:]
    if not rest.startswith("/") or not path or path.startswith(":memory:") or "?" in path:
        raise ValueError("SQLite needs a file, and nothing else: use sqlite:////path/to/file.db")
    return File(Path(path))


def _server(rest: str) -> Server:
    rest, _, query = rest.partition("?")
    authority, slash, name = rest.partition("/")
    userinfo, at, places = authority.rpartition("@")
    user, colon, password = userinfo.partition(":")
    name = _decoded(name, "the database's name")
    if not slash or not name or "/" in name:
        raise ValueError(f"the database's name is missing, or not one: write it like {_EXAMPLE}")
    if "#" in rest or "@" in userinfo:
        raise ValueError("write '@', '#', '/', '?', ':' and '%' in a password as %40, %23, …")
    parameters = _parameters(query)
    sockets = parameters.pop("host", None)
    if sockets is not None and places:
        raise ValueError("the host is given twice: before the name, and as host=")
    hosts = _hosts(places) if places else ()
    if sockets is not None:
        hosts = tuple((host, 5432) for host in sockets.split(","))
    return Server(
        hosts,
        name,
        _decoded(user, "the user") if at and user else None,
        _decoded(password, "the password") if colon else None,
        tuple(sorted(parameters.items())),
    )


def _hosts(text: str) -> tuple[tuple[str, int], ...]:
    hosts = []
    for place in text.split(","):
        match = _HOST.fullmatch(place)
        if match is None or not match[1]:
            raise ValueError(
                "a host is not one: write them like name:5432,192.0.2.1:5432,[2001:db8::1]:5432"
            )
        port = int(match[2] or 5432)
        if not 0 < port < 65536:
            raise ValueError(f"{port} is not a port")
        hosts.append((_decoded(match[1].strip("[]"), "the host"), port))
    return tuple(hosts)


def _parameters(query: str) -> dict[str, str]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except (ValueError, UnicodeDecodeError):
        raise ValueError("what follows the ? must be key=value, separated by &") from None
    found: dict[str, str] = {}
    for key, value in pairs:
        if key not in PARAMETERS:
            raise ValueError(
                f"the parameter {key[:40]!r} is not supported: there are "
                f"{', '.join(sorted(PARAMETERS))}"
            )
        words = PARAMETERS[key]
        if key in found or not value or "\0" in value:
            raise ValueError(f"{key} is empty, or given twice")
        if words is not None and value not in words:
            raise ValueError(f"{key} must be one of {', '.join(words)}")
        if key == "connect_timeout" and not re.fullmatch(r"[1-9][0-9]{0,3}", value, re.ASCII):
            raise ValueError("connect_timeout must be a number of seconds")
        system_roots = key == "sslrootcert" and value == "system"
        if key in {*_FILES, "sslrootcert"} and not system_roots and not value.startswith("/"):
            raise ValueError(f"{key} must be an absolute path")
        found[key] = value
    return found


def _decoded(text: str, what: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"{what} is not UTF-8") from None
    if "\0" in decoded:
        raise ValueError(f"{what} holds a NUL character")
    return decoded
