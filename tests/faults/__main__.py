"""`./dev faults`: real faults at random over a registry, a publisher and two clients.

As root it runs in mount and process namespaces of its own, so that its small file systems and its
processes are gone with it, however it ends. What is missing is said: without root, no file system
gets full; without libfaketime, no clock moves.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from e2e.site import short_folder
from faults.campaign import Campaign, report
from faults.services import faketime_library

SHORT, LONG = 40, 500
SHORT_SECONDS, LONG_SECONDS = 65.0, 2_400.0
ISOLATED = "REGISTRY_FAULTS_ISOLATED"


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev faults", description=__doc__)
    parser.add_argument("--long", action="store_true", help=f"{LONG} faults, not {SHORT}")
    parser.add_argument("--seed", type=int, default=1, help="what is chosen follows from it (1)")
    parser.add_argument("--faults", type=int, help="how many, in place of either")
    parser.add_argument("--seconds", type=float, help="begin no more faults after that")
    parser.add_argument("--json", type=Path, help="write the counts there")
    given = parser.parse_args()
    if os.getuid() == 0 and ISOLATED not in os.environ:
        os.environ[ISOLATED] = "1"
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = [*namespaces, sys.executable, "-m", "faults", *sys.argv[1:]]
        os.execvp("unshare", command)
    long = given.long or (given.faults or 0) > SHORT
    faults = given.faults or (LONG if long else SHORT)
    seconds = given.seconds or (LONG_SECONDS if long else SHORT_SECONDS)
    small_disks = ISOLATED in os.environ
    if not small_disks:
        say("SKIPPED, full file systems: they need root")
    if faketime_library() is None:
        say("SKIPPED, clocks: libfaketime isn't installed; as root tests/faults/setup.sh does it")
    with short_folder() as root:
        campaign = Campaign(root, given.seed, small_disks=small_disks, tell=say)
        summary = campaign.run(faults, seconds)
    report(summary, given.json)
    return 1 if summary.violations else 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
