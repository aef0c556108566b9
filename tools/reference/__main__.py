"""`python -m tools.reference [--check]`: writes `docs/reference`, or says what isn't current.

With `--check` nothing is written, and the exit code is 1 when a page differs from what the code
says, is missing or isn't made here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tools.reference import commands, rest, settings

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
COMMAND = "./dev docs"
NOTE = f"<!-- Made from the code by `{COMMAND}`: change it there. -->\n\n"

PAGES: dict[str, Callable[[], str]] = {
    "aar.md": commands.aar,
    "amc.md": commands.amc,
    "ams.md": commands.ams,
    "rest-api.md": rest.page,
    "settings.md": settings.page,
}


def main() -> int:
    """Write or check every page; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what isn't current")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the pages are")
    arguments = parser.parse_args()
    check, folder = arguments.check, arguments.folder
    made = {name: NOTE + make() for name, make in PAGES.items()}
    folder.mkdir(parents=True, exist_ok=True)
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    stale = sorted(name for name, text in made.items() if found.get(name) != text)
    foreign = sorted(set(found) - set(made))
    if check:
        for name in (*stale, *foreign):
            print(f"docs/reference/{name} is not what the code says: run {COMMAND} and commit it")
        return 1 if stale or foreign else 0
    for name in stale:
        (folder / name).write_text(made[name], encoding="utf-8")
        print(f"wrote {folder / name}")
    for name in foreign:
        (folder / name).unlink()
        print(f"removed {folder / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
