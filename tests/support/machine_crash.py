"""Kills `machine_service` before each change that it makes, does the work again, and compares.

Run as a program, `python -m support.machine_crash SCENARIO FOLDER`, since it forks: a JSON object
on stdout says how often it was killed and what went wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from machine_service import MachineService, Program
from support.fake_machine import FAKES_OWN, RUN, FakeMachine, check_config, write_wheels

CHANGES = {
    "open",
    "os.chmod",
    "os.chown",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    RUN,
}
"""Audit events (PEP 578) of what changes a file system, and of running a tool."""
WRITING = os.O_WRONLY | os.O_RDWR
PROGRAM = Program(
    name="aar",
    commands=("aar",),
    home=Path("/var/snap/aar/common"),
    home_variable="AAR_HOME",
    description="Application registry",
    serve=("aar", "serve"),
    shared=("server",),
)


def bring_up(service: MachineService, wheels: Path, settings: str) -> None:
    service.install(wheels)
    service.configure(settings, writable=[Path("/srv/aar")])
    service.ensure_running()


class Scenario:
    """What is there before, and the work that is interrupted."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.older = write_wheels(folder / "older")
        self.newer = write_wheels(folder / "newer", "0.2.0", content="y")
        self.template = folder / "template"
        machine, service = self.take(self.template)
        if name != "first":
            bring_up(service, self.older, "log: {level: info}\n")
        machine.ran()

    def take(self, root: Path) -> tuple[FakeMachine, MachineService]:
        """Be the machine in `root`."""
        machine = FakeMachine(root)
        machine.answers["aar"] = check_config
        machine.patch()
        return machine, MachineService(PROGRAM, root)

    def work(self, service: MachineService) -> None:
        if self.name == "remove":
            service.remove(keep_data=False)
        else:
            bring_up(service, self.newer, "log: {level: debug}\n")

    def resume(self, service: MachineService) -> None:
        """Do what comes after the crash: the same again, or back to what was before."""
        if self.name == "back":
            bring_up(service, self.older, "log: {level: info}\n")
        else:
            self.work(service)

    def copy(self, name: str) -> Path:
        """Return another machine as it is before the work."""
        root = self.folder / name
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.template, root, symlinks=True)
        return root


def kill_at(steps: int) -> None:
    """Kill this process before its `steps`-th change to the machine, by itself or by a tool."""
    left = steps

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in CHANGES or (event == "open" and not (arguments[2] or 0) & WRITING):
            return
        # What the fake keeps for itself changes in one step.
        if any(own in str(argument) for argument in arguments[:2] for own in FAKES_OWN):
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def interrupted(scenario: Scenario, root: Path, steps: int) -> bool:
    """Do the work in a process that is killed; return whether it came to its end."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _, service = scenario.take(root)
            kill_at(steps)
            scenario.work(service)
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), f"step {steps}: exit code {status}"
    return status == 0


def comparable(scenario: Scenario, machine: FakeMachine) -> dict[str, Any]:
    """Return what lasts on a machine, but for the name of its root and of the one it copies."""
    found = machine.snapshot()
    files: dict[str, str] = found["files"]
    for root in (machine.root, scenario.template):
        files = {name: content.replace(str(root), "") for name, content in files.items()}
    return {**found, "files": files}


def differences(wanted: Any, found: Any, where: str = "") -> list[str]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            line
            for key in sorted({*wanted, *found})
            for line in differences(wanted.get(key), found.get(key), f"{where}/{key}")
        ]
    return [] if wanted == found else [f"{where}: {found!r} instead of {wanted!r}"]


def main(name: str, folder: Path) -> dict[str, Any]:
    """Try every point of a scenario in a folder of its own."""
    # The kernel survives kill -9, and so does what was written; waiting for disks proves nothing.
    os.sync = os.fsync = lambda *_: None
    scenario = Scenario(name, folder)
    machine, service = scenario.take(scenario.copy("reference"))
    scenario.resume(service)
    wanted = comparable(scenario, machine)
    faults: list[str] = []
    steps, finished = 0, False
    while not finished:
        steps += 1
        root = scenario.copy("victim")
        finished = interrupted(scenario, root, steps)
        machine, service = scenario.take(root)
        if (root / "opt/aar/venv").is_symlink() and not service.installed and name != "remove":
            faults.append(f"step {steps}: the release in use isn't whole")
        scenario.resume(service)
        found = differences(wanted, comparable(scenario, machine))
        machine.ran()
        scenario.resume(service)
        found += [f"ran {command} though nothing was to do" for command in machine.ran()]
        found += differences(wanted, comparable(scenario, machine))
        faults += [f"step {steps}: {fault}" for fault in found]
    return {"kills": steps - 1, "faults": faults}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
