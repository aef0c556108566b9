"""Run a command on the rig: `python -m rig [--seed N] [--series S] COMMAND …`, or pack a charm.

`python -m rig --pack DIRECTORY [--tree DIRECTORY]` packs and prints the file's path.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from rig import isolation, pack, session
from rig.errors import RigError


def main() -> int:
    """Parse, run, return the command's exit status."""
    parser = argparse.ArgumentParser(prog="with-rig", description=__doc__)
    parser.add_argument("--seed", type=int, help="decides the order of hooks; random by default")
    parser.add_argument("--series", default="3.6", choices=["3.6", "4.0"], help="Juju version")
    parser.add_argument("--pack", type=Path, help="pack the charm in this directory instead")
    parser.add_argument("--tree", type=Path, help="what the charm's parts may reach into")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    reason = isolation.missing()
    if reason:
        sys.exit(f"with-rig: {reason}")
    try:
        if options.pack:
            print(pack.pack(options.pack, options.tree))
            return 0
        if not options.command:
            parser.error("no command")
        with session.running(options.seed, options.series) as rig:
            print(f"rig: Juju {options.series}, seed {rig.seed()}", file=sys.stderr)
            return subprocess.run(options.command, check=False).returncode
    except RigError as error:
        sys.exit(f"with-rig: {error}")


if __name__ == "__main__":
    sys.exit(main())
