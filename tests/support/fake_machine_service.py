"""A MachineService in memory, for the tests of what stands on it: same verbs, same outcomes.

It outlives the objects that a charm makes of it, as a machine does. What the program's commands
do is scripted; a command without a script fails the test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from machine_service import (
    CommandFailed,
    InvalidConfiguration,
    MachineServiceError,
    NotRunning,
    Program,
)

Script = Callable[[tuple[str, ...], "str | None"], str]
"""From a command's arguments and input to its output; raises CommandFailed."""


@dataclass(frozen=True)
class Settings:
    """What the service is to be started with."""

    release: str
    content: str
    writable: tuple[Path, ...]
    low_port: bool
    files: tuple[tuple[str, str], ...] = ()


class FakeMachineService:
    """A program on a machine. Make one per test and hand it out wherever one is made."""

    def __init__(self, program: Program, root: Path = Path("/")) -> None:
        self.program = program
        self.root = root
        self.scripts: Mapping[str, Script] = {}
        """By the name of the command."""
        self.ran: list[tuple[str, ...]] = []
        """The commands that `run` was asked for, oldest first."""
        self.release: str | None = None
        self.settings: Settings | None = None
        self.running: Settings | None = None
        self.starts = 0
        self.has_data = False
        self.refuses_configuration = ""
        """Why `configure` refuses every content; empty: it doesn't."""
        self.refuses_to_start = ""

    def install(self, wheels: Path) -> bool:
        names = sorted(path.name for path in wheels.glob("*.whl")) if wheels.is_dir() else []
        release = hashlib.sha256("\0".join([str(wheels), *names]).encode()).hexdigest()
        changed, self.release, self.has_data = release != self.release, release, True
        return changed

    @property
    def installed(self) -> bool:
        return self.release is not None

    def version(self) -> str:
        self._require()
        return "0.1.0"

    def configure(
        self,
        content: str,
        *,
        beside: Mapping[str, str] | None = None,
        writable: Iterable[Path] = (),
        low_port: bool = False,
    ) -> bool:
        release = self._require()
        if self.refuses_configuration:
            raise InvalidConfiguration(self.refuses_configuration)
        files = tuple(sorted((beside or {}).items()))
        wanted = Settings(release, content, tuple(sorted(writable)), low_port, files)
        changed, self.settings = wanted != self.settings, wanted
        return changed

    def ensure_running(self) -> bool:
        if self.settings is None:
            raise NotRunning(f"{self.program.name} isn't configured yet: configure it first")
        if self.running == self.settings:
            return False
        self._start(self.settings)
        return True

    @property
    def is_running(self) -> bool:
        return self.running is not None

    def stop(self) -> None:
        self.running = None

    def restart(self) -> None:
        if self.settings is None:
            raise NotRunning(f"{self.program.name} isn't configured yet: configure it first")
        self._start(self.settings)

    def run(
        self, command: str, *arguments: str, input: str | None = None, timeout: float = 120
    ) -> str:
        self._require()
        assert timeout > 0
        assert all(isinstance(argument, str) for argument in arguments)
        if command not in self.program.commands:
            raise ValueError(f"{command} is no command of {self.program.name}")
        assert command in self.scripts, f"nothing is scripted for {command} {arguments}"
        self.ran.append((command, *arguments))
        return self.scripts[command](arguments, input)

    def remove(self, *, keep_data: bool = True) -> None:
        self.release = self.settings = self.running = None
        self.has_data = self.has_data and keep_data

    def _require(self) -> str:
        if self.release is None:
            raise MachineServiceError(f"{self.program.name} isn't installed: install it first")
        return self.release

    def _start(self, settings: Settings) -> None:
        self.running = None
        if self.refuses_to_start:
            raise NotRunning(self.refuses_to_start)
        self.running = settings
        self.starts += 1


def failing(message: str) -> Script:
    """Return the script of a command that fails with this line."""

    def fail(arguments: tuple[str, ...], stdin: str | None) -> str:
        raise CommandFailed(message)

    return fail
