"""systemd, as far as one unit needs it.

charmhelpers' `service` functions are not used: they say whether something failed, but not why;
they read a unit's state from exit codes; and they want `/etc/lsb-release`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from machine_service.processes import Finished, demand, execute
from machine_service.program import Layout
from machine_service.unit import START_SECONDS, STOP_SECONDS

SYSTEMCTL = "/usr/bin/systemctl"
JOURNALCTL = "/usr/bin/journalctl"

SECONDS = 60
"""For what doesn't wait for the service."""
JOB_SECONDS = START_SECONDS + STOP_SECONDS + SECONDS

_MOUNT_ROOT = "/run/systemd/unit-root"
"""Where systemd puts a service's file system together; it means the path below."""

_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "MainPID",
    "UnitFileState",
    "NeedDaemonReload",
    "Environment",
    "InvocationID",
    "Result",
)


@dataclass(frozen=True)
class State:
    """What systemd knows of the unit, in its own words (org.freedesktop.systemd1(5))."""

    load: str
    active: str
    pid: int
    """0: no main process."""
    enabled: bool
    stale: bool
    """The file has changed since systemd read it."""
    environment: str
    invocation: str
    result: str

    @property
    def is_up(self) -> bool:
        """Whether the service has said that it is ready, and hasn't ended since."""
        return self.active in ("active", "reloading")


class Systemd:
    """The service manager's view of the program's unit."""

    def __init__(self, layout: Layout) -> None:
        self.unit = layout.unit.name

    def state(self) -> State:
        """Return the unit's state now; a unit that doesn't exist has one too."""
        done = self._systemctl("show", f"--property={','.join(_PROPERTIES)}", self.unit)
        shown = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        return State(
            load=shown["LoadState"],
            active=shown["ActiveState"],
            pid=int(shown.get("MainPID") or 0),
            enabled=shown.get("UnitFileState") == "enabled",
            stale=shown["NeedDaemonReload"] == "yes",
            environment=shown.get("Environment", ""),
            invocation=shown.get("InvocationID", ""),
            result=shown.get("Result", ""),
        )

    def reload_files(self) -> None:
        """Have systemd read its unit files again."""
        self._systemctl("daemon-reload")

    def enable(self) -> None:
        """Have the unit started at boot."""
        self._systemctl("enable", "--quiet", self.unit)

    def disable(self) -> None:
        """Undo `enable`."""
        self._systemctl("disable", "--quiet", self.unit)

    def stop(self) -> None:
        """Stop the service and wait until it has."""
        self._systemctl("stop", self.unit, timeout=JOB_SECONDS)

    def forget_failures(self) -> None:
        """Clear the unit's failed state and the count against its start limit."""
        self._systemctl("reset-failed", self.unit)

    def start(self) -> bool:
        """Start the service unless it runs; return whether it is ready."""
        return self._job("start")

    def restart(self) -> bool:
        """Stop the service if it runs, start it; return whether it is ready."""
        return self._job("restart")

    def last_words(self, state: State) -> str:
        """Return the last line that the service itself wrote, or else what systemd says of it."""
        own: list[str] = []
        systemds: list[str] = []
        for entry in self._journal(state.invocation) if state.invocation else ():
            # systemd's own lines say which invocation they are about (systemd.journal-fields(7)).
            said = systemds if "INVOCATION_ID" in entry else own
            if isinstance(text := entry.get("MESSAGE"), str) and text.strip():
                said.append(text.strip())
        if own:
            return own[-1].removeprefix("Error: ")
        if systemds:  # the service never ran: the first complaint is the cause of the others
            return systemds[0].replace(_MOUNT_ROOT, "")
        return f"{self.unit} failed with result {state.result or 'unknown'}"

    def _journal(self, invocation: str) -> list[dict[str, Any]]:
        """Return the last lines from the processes of a start of the service, oldest first."""
        execute([JOURNALCTL, "--sync"], timeout=SECONDS)
        options = ["--quiet", "--no-pager", "--output=json", "--lines=100"]
        match = f"_SYSTEMD_INVOCATION_ID={invocation}"
        done = execute([JOURNALCTL, *options, match], timeout=SECONDS)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def _job(self, verb: str) -> bool:
        done = execute([SYSTEMCTL, verb, self.unit], timeout=JOB_SECONDS)
        return done.code == 0

    def _systemctl(self, *arguments: str, timeout: float = SECONDS) -> Finished:
        done = execute([SYSTEMCTL, *arguments], timeout=timeout)
        return demand(done, f"systemctl {arguments[0]} failed for {self.unit}")
