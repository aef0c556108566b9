"""Whatever ends the rig, nothing of it stays: processes, mounts, namespaces, control groups."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rig import isolation
from rig import keeper as keeper_module

SCRIPT = """
import sys, time
from rig import session
from rig.client import Rig
import subprocess
with session.running(seed=1):
    subprocess.run(["juju", "add-model", "m"], check=True)
    subprocess.run(["juju", "deploy", sys.argv[1]], check=True)
    while "started" not in subprocess.run(
        ["juju", "status", "--format", "json"], capture_output=True, text=True
    ).stdout:
        time.sleep(0.05)
    print("up", flush=True)
    time.sleep(600)
"""


def mentions(keeper: int) -> list[str]:
    """Processes, mounts and control groups that a rig's keeper answers for."""
    found = [
        str(g) for h in isolation.hierarchies() for g in h.glob(f"anbox-registry-rig-{keeper}-*")
    ]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if f"anbox-registry-rig-{keeper}" in words or (words and int(entry.name) == keeper):
            found.append(words)
    return found


@pytest.mark.parametrize("victim", ["caller", "keeper"])
def test_kill_9_leaves_nothing(toy_charm: Path, victim: str) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    caller = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(toy_charm)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert caller.stdout
    try:
        ready, _, _ = select.select([caller.stdout], [], [], 60)
        assert ready and caller.stdout.readline() == "up\n"
        children = Path(f"/proc/{caller.pid}/task/{caller.pid}/children").read_text().split()
        keeper = next(
            int(c) for c in children if b"rig.keeper" in Path(f"/proc/{c}/cmdline").read_bytes()
        )
        assert len(mentions(keeper)) > 3
        os.kill({"caller": caller.pid, "keeper": keeper}[victim], signal.SIGKILL)
        deadline = time.monotonic() + 15
        left = gone(keeper, victim)
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = gone(keeper, victim)
        assert not left
        assert Path("/proc/self/mountinfo").read_text() == before
    finally:
        caller.kill()
        caller.wait()
        caller.stdout.close()


def gone(keeper: int, victim: str) -> list[str]:
    """What is left; a killed keeper's empty control groups go with the next rig's start."""
    if victim == "keeper":
        keeper_module.sweep()
    return mentions(keeper)
