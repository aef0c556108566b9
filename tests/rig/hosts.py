"""What the model needs of a machine; implemented by machine.py and, for tests, in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from rig.charms import Charm


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended; output is text, undecodable bytes replaced."""

    returncode: int
    stdout: str = ""
    stderr: str = ""


class Host(Protocol):
    """A machine. Every call may block; none is made while the controller's lock is held."""

    @property
    def name(self) -> str:
        """Host name."""
        ...

    @property
    def address(self) -> str:
        """IPv4 address, without prefix length."""
        ...

    def start(self) -> None:
        """Boot; returns when the machine can run commands."""

    def stop(self) -> None:
        """Power off and remove everything of it."""

    def reboot(self, hard: bool = False) -> None:
        """Restart with the same file system; `hard` is a power failure."""

    def install_charm(self, tag: str, charm: Charm) -> None:
        """Unpack `charm` for the unit with this tag, replacing what an older one left."""

    def remove_charm(self, tag: str) -> None:
        """Remove the unit's agent directory."""

    def run_hook(self, tag: str, environment: dict[str, str], command: Sequence[str]) -> Outcome:
        """Run `command` in the unit's charm directory with exactly this environment."""
        ...

    def kill_hook(self, tag: str) -> None:
        """Kill the hook of this unit that runs now, without a chance to clean up."""

    def run(
        self,
        command: Sequence[str],
        *,
        user: str = "root",
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> Outcome:
        """Run a command as a person logged in would."""
        ...

    def read(self, path: str, user: str) -> bytes:
        """Content of a file; RigError with the reason when it can't be read."""
        ...

    def write(self, path: str, content: bytes, user: str) -> None:
        """Write a file; RigError with the reason when it can't be written."""

    def journal(self) -> str:
        """The machine's logs, as text."""
        ...

    def set_address(self, address: str) -> None:
        """Change the machine's address; the old one stops working."""

    def connect(self, connected: bool) -> None:
        """Plug the network cable in or out."""
