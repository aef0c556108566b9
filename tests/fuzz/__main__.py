"""`./dev fuzz [--seconds N] [parser …]`: each parser in a process of its own, led by coverage.

A parser fails when it raises anything but its documented errors, takes 10 seconds for one input or
a gigabyte of memory. The input is then left in build/fuzz, and named.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SECONDS, LONGEST, MEGABYTES = 60, 10, 1024
SIZE = 16_384
BUILD = Path(__file__).parents[2] / "build" / "fuzz"


def main() -> int:
    """Run what the command line asks for; 1 when a parser failed."""
    if os.environ.get("FUZZ_TARGET"):
        _one(os.environ["FUZZ_TARGET"])
        return 0
    # After the parent, and not in it, atheris instruments what it imports.
    from fuzz.targets import TARGETS  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each parser")
    parser.add_argument("parser", nargs="*", help=f"any of {', '.join(TARGETS)}; default: all")
    wanted = parser.parse_args()
    if unknown := set(wanted.parser) - set(TARGETS):
        parser.error(f"no such parser: {', '.join(sorted(unknown))}")
    failed, total = [], 0
    for name in wanted.parser or TARGETS:
        for number, raw in enumerate(TARGETS[name].good):
            seed = BUILD / name / f"good-{number}"
            seed.parent.mkdir(parents=True, exist_ok=True)
            seed.write_bytes(raw)
        cases, seconds, ok, said = _run(name, wanted.seconds)
        total += cases
        print(
            f"{name:16} {cases:>9} cases {seconds:4.0f} s  {'ok' if ok else 'FAILED'}", flush=True
        )
        if not ok:
            failed.append(name)
            print(said[-3000:], file=sys.stderr)
    print(f"{total} cases, {len(failed)} parsers failed")
    return bool(failed)


def _run(name: str, seconds: int) -> tuple[int, float, bool, str]:
    began = time.monotonic()
    limits = [f"-max_total_time={seconds}", f"-timeout={LONGEST}", f"-rss_limit_mb={MEGABYTES}"]
    done = subprocess.run(
        [
            sys.executable, "-m", "fuzz", *limits, f"-max_len={SIZE}", "-print_final_stats=1",
            f"-artifact_prefix={BUILD}/{name}-", str(BUILD / name),
        ],
        env={**os.environ, "FUZZ_TARGET": name},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )  # fmt: skip
    said = f"{done.stdout}{done.stderr}\nended with {done.returncode}"
    found = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    ok = done.returncode == 0 and found is not None
    return int(found[1]) if found else 0, time.monotonic() - began, ok, said


def _one(name: str) -> None:
    # By name, since it is installed for this command only.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["aar", "aar_interface", "ams", "regkit"]):
        from fuzz.targets import TARGETS  # noqa: PLC0415

    target = TARGETS[name]

    def read(raw: bytes) -> None:
        try:
            target.read(raw)
        except target.errors:
            return

    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
