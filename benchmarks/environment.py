"""The benchmarks' own Python, with pycurl and matplotlib, and what the machine is.

The environment is made once from locks/bench.txt, with hashes, into build/bench/venv; nothing is
added to the project's own. An interpreter that has pycurl already is used as it is.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "bench"
LOCK = ROOT / "locks" / "bench.txt"
PEERS = ("docker-registry", "nginx")


class Missing(RuntimeError):  # noqa: N818 - the name states the outcome
    """Something isn't installed; the message is one line and says what to do."""


@dataclass(frozen=True)
class Python:
    """Where the drivers run, and whether plots can be made there."""

    path: Path
    plots: bool


def own_python() -> Python:
    """Return the benchmarks' environment, made first where it isn't there. Raises Missing."""
    folder = FOLDER / "venv"
    stamp = folder / "stamp"
    wanted = f"{LOCK.read_text(encoding='utf-8')}{sys.version}"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"making {folder} from {LOCK.name} (once)", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        command = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [folder / "bin" / "python", *command, "--require-hashes", "-r", LOCK], check=False
        )
        if done.returncode != 0:
            raise Missing(f"{LOCK.name} couldn't be installed into {folder}: see above")
        stamp.write_text(wanted, encoding="utf-8")
    return Python(folder / "bin" / "python", plots=True)


def driver_python() -> Path | None:
    """Return an interpreter with pycurl that is there already, or None."""
    if importlib.util.find_spec("pycurl") is not None:
        return Path(sys.executable)
    made = FOLDER / "venv" / "bin" / "python"
    return made if (FOLDER / "venv" / "stamp").exists() else None


def program(name: str) -> Path:
    """Return where a program is, administrators' folders included. Raises Missing."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise Missing(f"{name} is not installed: run benchmarks/setup.sh as root")
    return Path(found)


def require_peers() -> None:
    """See that the peers are there; as root, install them. Raises Missing."""
    try:
        for name in PEERS:
            program(name)
    except Missing:
        if os.geteuid() != 0:
            raise
        print("installing what to compare with: benchmarks/setup.sh", file=sys.stderr)
        done = subprocess.run([ROOT / "benchmarks" / "setup.sh"], stdout=sys.stderr, check=False)
        if done.returncode != 0:
            raise Missing("benchmarks/setup.sh has failed: see above") from None


def describe() -> dict[str, Any]:
    """Return what a figure depends on beside the code: machine, versions, how busy it is."""
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": list(os.getloadavg()),
        "revision": _output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "versions": {
            "docker-registry": _output("docker-registry", "--version"),
            "nginx": _output("nginx", "-v"),
            "curl": _output("curl", "--version"),
        },
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _output(*command: str) -> str:
    """Return the first line that a program prints; empty where it isn't installed."""
    try:
        path = program(command[0])
    except Missing:
        return ""
    done = subprocess.run([path, *command[1:]], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]
