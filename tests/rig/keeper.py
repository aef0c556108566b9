"""Starts the daemon in its namespaces and tidies up after it, whatever ended it.

It stays on the caller's network and in its process namespace, waits for its standard input to
end (as it does when the caller is killed), kills the daemon and removes its control groups.

usage: python -m rig.keeper BASE SEED SERIES
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from rig import isolation

GROUP = "anbox-registry-rig"


def _is_keeper(pid: int) -> bool:
    """Whether this process lives and is a keeper; one that was killed may still be a zombie."""
    try:
        return b"rig.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def sweep() -> None:
    """Remove the control groups of rigs whose keeper was killed."""
    for hierarchy in isolation.hierarchies():
        for group in hierarchy.glob(f"{GROUP}-*"):
            owner = group.name.removeprefix(f"{GROUP}-").partition("-")[0]
            if owner.isdigit() and not _is_keeper(int(owner)):
                isolation.remove_groups(f"{GROUP}-{owner}-")


def main() -> int:
    """Start, report the daemon's process id as JSON, wait, tidy up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides when it ends
    sweep()
    group = f"{GROUP}-{os.getpid()}"
    daemon = subprocess.Popen(
        isolation.apart([sys.executable, "-m", "rig.daemon", *sys.argv[1:], group]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert daemon.stdout and daemon.stdin
        ready = daemon.stdout.readline().strip()
        if ready != "ready":
            return 1
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        print(json.dumps({"daemon": int(children[0]), "keeper": os.getpid()}), flush=True)
        ended = threading.Event()
        for wait in (sys.stdin.read, daemon.wait):
            threading.Thread(target=lambda w=wait: (w(), ended.set()), daemon=True).start()
        ended.wait()
        return daemon.poll() or 0
    finally:
        daemon.kill()
        daemon.wait()
        # The groups empty as the kernel ends the machines' processes.
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            isolation.remove_groups(f"{group}-")
            if not any(any(h.glob(f"{group}-*")) for h in isolation.hierarchies()):
                break
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
