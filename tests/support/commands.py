"""The commands of a service as a charm runs them, from this checkout instead of `/opt`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from machine_service import CommandFailed, Program

MODULES = {"aar": "aar", "amc": "ams.amc", "ams": "ams"}


class Commands:
    """What the charm's workload needs of a MachineService to talk to its service."""

    def __init__(self, program: Program, root: Path, environ: dict[str, str]) -> None:
        self.root = root
        self._program = program
        self._environ = environ

    def run(
        self, command: str, *arguments: str, input: str | None = None, timeout: float = 120
    ) -> str:
        """Run a command; CommandFailed has its last line."""
        assert command in self._program.commands
        done = subprocess.run(
            [sys.executable, "-m", MODULES[command], *arguments],
            input=input or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self._environ,
            check=False,
        )
        if done.returncode:
            raise CommandFailed(done.stderr.strip().splitlines()[-1].removeprefix("Error: "))
        return done.stdout
