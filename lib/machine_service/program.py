"""What is to run on the machine, and where its parts go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Program:
    """A service and its command lines.

    Args:
        name: of the system user, its group, the unit and the directory below `/opt`: `aar`.
        commands: linked into `/usr/local/bin`; the first is the one with `check-config`.
        home: the state root, absolute: `/var/snap/aar/common`.
        home_variable: the variable that tells the commands where it is: `AAR_HOME`.
        description: one line, for `systemctl status`.
        serve: the command line that runs the service: `("aar", "serve")`.
    """

    name: str
    commands: tuple[str, ...]
    home: Path
    home_variable: str
    description: str
    serve: tuple[str, ...]
