"""Put one charm's own modules on the import path: both charms have a `charm.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def use(name: str) -> None:
    """Import `charms/<name>/src` and `lib` from here on, as the packed charm does, and its fakes.

    Raises UsageError when this process has another charm's already.
    """
    source = ROOT / "charms" / name / "src"
    for other in (ROOT / "charms").glob("*/src"):
        if other != source and str(other) in sys.path:
            raise pytest.UsageError(
                f"the charms' modules share names: run each charm's tests in a process of its "
                f"own, such as pytest tests/charms/{name}"
            )
    for path in (source, ROOT / "lib", ROOT / "tests" / "charms" / name):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))


def action_defaults(name: str, action: str) -> dict[str, Any]:
    """The parameters of an action that Juju fills in, and Scenario doesn't."""
    text = (ROOT / "charms" / name / "charmcraft.yaml").read_text(encoding="utf-8")
    parameters = yaml.safe_load(text)["actions"][action].get("params", {})
    return {key: value["default"] for key, value in parameters.items() if "default" in value}
