"""What is to run on the machine, and where its parts go."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
"""Good for a user (useradd(8)), a unit (systemd.unit(5)) and a directory alike."""
_FILE = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_HOME = re.compile(rf"(/{_FILE})+")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
"""Nothing that a unit file or a shell would take for something else."""


@dataclass(frozen=True)
class Program:
    """A service and its command lines. Raises ValueError for what can't be installed as such.

    Args:
        name: of the system user, its group, the unit and the directory below `/opt`: `aar`. Also
            the command that knows `check-config`.
        commands: linked into `/usr/local/bin`.
        home: the state root, absolute: `/var/snap/aar/common`.
        home_variable: the variable that tells the commands where it is: `AAR_HOME`.
        description: one line, for `systemctl status`.
        serve: the command line that runs the service: `("aar", "serve")`.
        shared: directories below the state root that members of the group may enter, by name;
            with any, the machine's user `ubuntu` becomes a member.
    """

    name: str
    commands: tuple[str, ...]
    home: Path
    home_variable: str
    description: str
    serve: tuple[str, ...]
    shared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} can't be the name of a user and a unit")
        if not _HOME.fullmatch(str(self.home)):
            raise ValueError(f"{self.home} can't be a state root")
        if not {self.name, self.serve[0]} <= {*self.commands}:
            raise ValueError(f"the commands of {self.name} lack {self.name} or {self.serve[0]}")
        names = (*self.commands, *self.shared)
        if not self.description.isprintable() or not _VARIABLE.fullmatch(self.home_variable):
            raise ValueError(f"{self.name}: a description is one line, a variable one word")
        if not all(re.fullmatch(_FILE, name) for name in names):
            raise ValueError(f"{self.name}: {', '.join(names)} must be file names")


@dataclass(frozen=True)
class Layout:
    """The places of a program in the file system at `root`.

    Properties are paths to work with; `seen` gives them as the machine itself calls them, which
    is the same unless `root` is a test's.
    """

    program: Program
    root: Path

    def there(self, path: Path) -> Path:
        """Return where the machine's absolute `path` is."""
        return self.root / path.relative_to("/")

    def seen(self, path: Path) -> Path:
        """Return what the machine calls `path`."""
        return Path("/") / path.relative_to(self.root)

    @property
    def base(self) -> Path:
        """`/opt/<name>`, which holds nothing but what can be made again."""
        return self.there(Path("/opt") / self.program.name)

    @property
    def releases(self) -> Path:
        """One virtual environment for each set of wheels."""
        return self.base / "releases"

    @property
    def venv(self) -> Path:
        """The link to the release in use."""
        return self.base / "venv"

    @property
    def launchers(self) -> Path:
        """The commands as people call them."""
        return self.base / "bin"

    @property
    def links(self) -> Path:
        """Where people's shells find the commands."""
        return self.there(Path("/usr/local/bin"))

    @property
    def unit(self) -> Path:
        """The unit file."""
        return self.there(Path("/etc/systemd/system") / f"{self.program.name}.service")

    @property
    def home(self) -> Path:
        """The state root."""
        return self.there(self.program.home)

    @property
    def processes(self) -> Path:
        """proc(5)."""
        return self.there(Path("/proc"))
