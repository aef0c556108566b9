"""The management services that this user knows by name, and who the user is to them.

`remotes.json` holds a URL and the pinned fingerprint of each, next to the user's own certificate
and key, in a folder that nobody else can read. The service of this machine is always there, as
`local`. What a service answers is `ams.client`'s business.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regkit.errors import Conflict, Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    from aar_interface import Fingerprint
    from regkit.identity import Identity

LOCAL = "local"
UNIX = "unix://"
DEFAULT_PORT = 8444
FILE = "remotes.json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Remote:
    """A management service. `pin` is None for one behind a unix socket."""

    name: str
    url: str
    pin: Fingerprint | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is behind a unix socket of this machine."""
        return self.url.startswith(UNIX)

    def socket(self, default: Path) -> Path:
        """Return the path of its unix socket; `default` is meant by a bare `unix://`."""
        path = self.url.removeprefix(UNIX)
        return Path(path) if path else default


def folder(environ: Mapping[str, str] | None = None) -> Path:
    """Say where the user's remotes and credentials are; nothing is created.

    `$AMC_HOME`, or else `amc` under `$XDG_CONFIG_HOME` or `~/.config` (XDG Base Directory
    Specification).
    """
    environ = os.environ if environ is None else environ
    if own := environ.get("AMC_HOME"):
        return Path(own).absolute()
    base = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config"
    return Path(base) / "amc"


def parse_url(text: str) -> str:
    """Return a remote's URL in its one spelling: `unix://[<path>]` or `https://<host>:<port>`.

    Raises Invalid.
    """
    if text.startswith(UNIX):
        path = text.removeprefix(UNIX)
        if path and not path.startswith("/"):
            raise Invalid(f"{text[:200]!r}: write an absolute path, like unix:///run/unix.socket")
        return text
    from aar_interface.addresses import Address  # noqa: PLC0415

    scheme, separator, rest = text.partition("://")
    try:
        if not separator or scheme.lower() != "https":
            raise ValueError("only https:// and unix:// lead to a management service")
        return Address.parse(rest.removesuffix("/")).url(DEFAULT_PORT)
    except ValueError as error:
        raise Invalid(
            f"{text[:200]!r} is not a remote's URL ({error}): write it like "
            f"https://192.168.178.45:{DEFAULT_PORT}"
        ) from None


class Remotes:
    """The remotes of one user; every change is on disk, atomically, when its call returns.

    Reading methods raise Invalid for a file that can't be understood, Unavailable for one that
    can't be read; changing methods also Unavailable when it can't be written.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path = home / FILE

    @property
    def default(self) -> str:
        """The name of the one that is meant when none is named."""
        return self._read()[0]

    def list(self) -> list[Remote]:
        """Return all, `local` first, the others by name."""
        return list(self._read()[1].values())

    def get(self, name: str | None = None) -> Remote:
        """Return the one called `name`, or the default. Raises NotFound."""
        default, found = self._read()
        return _one(found, default if name is None else name)

    def check_new(self, name: str) -> None:
        """Raise what `add` would raise of this name, before anybody is asked anything."""
        _require_new(self._read()[1], name)

    def add(self, remote: Remote) -> None:
        """Add one. Raises Conflict when the name is taken, Invalid for a name of wrong form."""
        with self._changing() as (default, found):
            _require_new(found, remote.name)
            self._write(default, {**found, remote.name: remote})

    def replace(self, remote: Remote) -> None:
        """Give the one of the same name another URL and pin. Raises NotFound."""
        with self._changing() as (default, found):
            _one(found, remote.name)
            self._write(default, {**found, remote.name: remote})

    def remove(self, name: str) -> None:
        """Forget one. Raises NotFound, and Conflict for the default and for `local`."""
        with self._changing() as (default, found):
            _one(found, name)
            if name == LOCAL:
                raise Conflict(f"the remote {LOCAL!r} is this machine and can't be removed")
            if name == default:
                raise Conflict(
                    f"the remote {name!r} is the default: choose another first, with "
                    f"'amc remote set-default {LOCAL}'"
                )
            self._write(default, {key: one for key, one in found.items() if key != name})

    def set_default(self, name: str) -> None:
        """Make `name` the one that is meant when none is named. Raises NotFound."""
        with self._changing() as (_, found):
            self._write(_one(found, name).name, found)

    def identity(self) -> Identity:
        """Return the user's certificate and key; they are made on first use."""
        from regkit import identity  # noqa: PLC0415 - cryptography costs 50 ms

        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a user id without a name
            user = str(os.geteuid())
        name = f"{user}@{socket.gethostname()}"[:64]
        crt, key = self._home / "client.crt", self._home / "client.key"
        return identity.ensure(crt, key, name, (), usage="client")

    def _read(self) -> tuple[str, dict[str, Remote]]:
        local = {LOCAL: Remote(LOCAL, UNIX)}
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return LOCAL, local
        except OSError as error:
            raise Unavailable(
                f"{self._path} can't be read ({error.strerror}): check its owner and mode"
            ) from None
        try:
            document = json.loads(content)
            remotes = {name: _parse(name, one) for name, one in document["remotes"].items()}
            remotes = {**local, **dict(sorted(remotes.items()))}
            return remotes[document["default"]].name, remotes
        except (ValueError, KeyError, TypeError, AttributeError, Invalid):
            raise Invalid(
                f"{self._path} is damaged: remove it, then add the remotes anew with "
                "'amc remote add'"
            ) from None

    @contextmanager
    def _changing(self) -> Iterator[tuple[str, dict[str, Remote]]]:
        """Keep other processes out; the kernel unlocks after a crash."""
        try:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield self._read()
        finally:
            os.close(descriptor)

    def _write(self, default: str, remotes: Mapping[str, Remote]) -> None:
        shown = {
            one.name: {"url": one.url, "fingerprint": str(one.pin or "")}
            for one in remotes.values()
            if one != Remote(LOCAL, UNIX)
        }
        text = json.dumps({"default": default, "remotes": shown}, indent=2) + "\n"
        temporary = self._path.with_name(f".{FILE}.new")
        try:
            temporary.unlink(missing_ok=True)  # left behind by a crash
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(self._path)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> Unavailable:
        return Unavailable(
            f"{self._home} can't be written ({error.strerror}): check its owner and the free "
            "space, or choose another folder with $AMC_HOME"
        )


def _require_new(found: Mapping[str, Remote], name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name[:80]!r} can't be a remote's name: use letters, digits, '-', '_' and '.'"
        )
    if name in found:
        raise Conflict(
            f"the remote {name!r} exists already: change where it leads with "
            "'amc remote set-url', or choose another name"
        )


def _one(found: Mapping[str, Remote], name: str) -> Remote:
    if name not in found:
        raise NotFound(f"there is no remote {name[:80]!r}: see 'amc remote list'")
    return found[name]


def _parse(name: str, document: Any) -> Remote:
    url = parse_url(document["url"])
    if url.startswith(UNIX):
        return Remote(name, url)
    from aar_interface import Fingerprint  # noqa: PLC0415

    return Remote(name, url, Fingerprint.parse(document["fingerprint"]))
