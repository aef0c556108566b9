"""The benchmarks, which aren't installed: importable from here, or run as `./dev bench` does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks import catalogue, environment, results, rounds, table  # noqa: E402
from benchmarks.content import blob, make_application  # noqa: E402
from benchmarks.drivers import DriverFailed  # noqa: E402
from benchmarks.lab import Lab  # noqa: E402
from benchmarks.simulation import capacity, release, sharing  # noqa: E402

__all__ = [
    "ROOT",
    "DriverFailed",
    "Lab",
    "blob",
    "capacity",
    "catalogue",
    "environment",
    "make_application",
    "release",
    "results",
    "rounds",
    "run",
    "sharing",
    "table",
]

SECONDS = 240


def run(folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """Run measurements with our own servers only; return what was printed, and the reports."""
    python = environment.driver_python()
    assert python is not None, "the caller must skip without pycurl"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--contenders", "aar"]
    options = ["--output", str(folder / "out"), "--work", str(folder), "--python", str(python)]
    done = subprocess.run(
        [*command, *options, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    reports = {path.stem: json.loads(path.read_text()) for path in (folder / "out").glob("*.json")}
    return done.stdout, reports
