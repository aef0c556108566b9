"""Linux namespaces: how to be put in them, how to enter them, and whether this kernel has them.

Everything that the rig makes lives in namespaces of its own, so that the kernel removes it with
the last process in them, whatever killed that process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

CLONE_NEWNET = 0x40000000
TOOLS = ("systemd-nspawn", "mmdebstrap", "unshare", "nsenter", "setpriv", "ip", "mount")


def quick(command: Sequence[str]) -> list[str]:
    """`command` in a mount and process namespace of its own, on this machine's network.

    It and all that it starts ends when the caller does; nothing it mounts is seen elsewhere.
    """
    return _unshare(("--mount", "--pid"), command)


def apart(command: Sequence[str]) -> list[str]:
    """`command` in mount, process, network, name and IPC namespaces of its own."""
    return _unshare(("--mount", "--pid", "--net", "--uts", "--ipc"), command)


def _unshare(kinds: Sequence[str], command: Sequence[str]) -> list[str]:
    first = ["setpriv", "--pdeathsig", "KILL", "unshare", *kinds]
    return [
        *first,
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation",
        "private",
        "--",
        *command,
    ]


def missing() -> str | None:
    """Why the rig cannot run here, in one line; None when it can."""
    if os.geteuid() != 0:
        return "the rig needs root (namespaces, overlay mounts, booted machines)"
    absent = [t for t in TOOLS if shutil.which(t) is None]
    if absent:
        return f"the rig needs {', '.join(absent)}: run tests/rig/setup.sh"
    # Overlay on tmpfs, a veth pair and a bridge: what each machine is made of.
    probe = (
        "mount -t tmpfs tmpfs /mnt && mkdir /mnt/l /mnt/u /mnt/w /mnt/m"
        " && mount -t overlay overlay -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w /mnt/m"
        " && ip link add br0 type bridge && ip link add v0 type veth peer name v1"
    )
    done = subprocess.run(apart(["sh", "-c", probe]), capture_output=True, text=True, check=False)
    if done.returncode:
        line = (done.stderr.strip().splitlines() or ["unknown reason"])[-1]
        return f"the rig needs namespaces, overlay, veth and bridge of the kernel: {line}"
    return None


@contextlib.contextmanager
def network_of(pid: int) -> Iterator[None]:
    """This thread, and every process it starts, is on the network of process `pid` meanwhile."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    other = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(other)
        try:
            yield
        finally:
            _setns(own)
    finally:
        os.close(own)
        os.close(other)


def _setns(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "setns")


# ---- control groups: the one thing that outlives the processes in it


def hierarchies() -> list[Path]:
    """The control group hierarchies a machine needs one group of its own in."""
    names = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup")
    return [Path(n) for n in names if Path(n, "cgroup.procs").exists()]


def remove_groups(prefix: str) -> None:
    """Remove the empty control groups below every one called `prefix…`; busy ones stay."""
    for hierarchy in hierarchies():
        for group in hierarchy.glob(f"{prefix}*"):
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
